//! Matching a routing key: the walk through a trie and its working memory.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use super::{NONE, Node, ROOT, Tail, TopicTrie, is_dot};
use crate::buffer::Found;

/// Working memory of a match, reused from message to message.
#[derive(Debug)]
pub(crate) struct Scratch {
    words: Vec<Word>,
    /// States still to be visited.
    pending: Vec<State>,
    /// For nodes that may be entered with several numbers of words: the smallest so far.
    entered: HashMap<u32, u32, RandomState>,
    /// Steps taken since the scratch was made.
    pub(super) steps: u64,
}

/// A word of the routing key, as a range of its bytes.
#[derive(Clone, Copy, Debug)]
struct Word {
    start: u32,
    end: u32,
    /// Computed when first needed.
    hash: Option<u64>,
}

/// A node, and how many words led to it.
#[derive(Clone, Copy, Debug)]
struct State {
    node: u32,
    word: u32,
}

/// A scratch that a hostile pattern has made larger than this many states is made small again.
const KEPT_STATES: usize = 1024;

impl Scratch {
    pub(crate) fn new() -> Self {
        Self {
            words: Vec::new(),
            pending: Vec::new(),
            entered: HashMap::default(),
            steps: 0,
        }
    }

    fn split(&mut self, key: &str) {
        self.words.clear();
        if key.is_empty() {
            return;
        }
        let mut start = 0;
        for (end, byte) in (0..).zip(key.as_bytes()) {
            if *byte == b'.' {
                self.words.push(Word { start, end, hash: None });
                start = end + 1;
            }
        }
        self.words.push(Word {
            start,
            end: key.len() as u32,
            hash: None,
        });
    }

    fn forget_states(&mut self) {
        self.pending.clear();
        self.pending.shrink_to(KEPT_STATES);
        if !self.entered.is_empty() {
            self.entered.clear();
            self.entered.shrink_to(KEPT_STATES);
        }
    }
}

impl<Q: Copy + Eq + Hash> TopicTrie<Q> {
    pub(crate) fn matches(&self, key: &str, scratch: &mut Scratch, found: &mut Found<Q>) {
        scratch.split(key);
        let mut walk = Walk {
            trie: self,
            key: key.as_bytes(),
            scratch,
            found,
        };
        let mut next = Some(State { node: ROOT, word: 0 });
        while let Some(state) = next {
            next = walk.visit(state).or_else(|| walk.scratch.pending.pop());
        }
        scratch.forget_states();
    }
}

/// One match under way.
struct Walk<'a, Q> {
    trie: &'a TopicTrie<Q>,
    key: &'a [u8],
    scratch: &'a mut Scratch,
    found: &'a mut Found<Q>,
}

impl<Q: Copy + Eq + Hash> Walk<'_, Q> {
    /// Gives out the bindings of a state and notes the states that follow from it; one of them is
    /// returned instead, to be the next.
    fn visit(&mut self, state: State) -> Option<State> {
        self.scratch.steps += 1;
        let node = self.trie.nodes.get(state.node)?;
        if node.tail != Tail::Missing {
            if self.tail_matches(node, state.word as usize) {
                self.found.reach(node.entries.as_slice());
            }
            return None;
        }
        if node.hash != NONE {
            self.visit_hash(State {
                node: node.hash,
                ..state
            });
        }
        if state.word as usize == self.scratch.words.len() {
            self.found.reach(node.entries.as_slice());
            return None;
        }
        let word = state.word + 1;
        if node.literals > 0 {
            let child = self.literal_child(state);
            if child != NONE {
                if node.star != NONE {
                    self.scratch.pending.push(State { node: node.star, word });
                }
                return Some(State { node: child, word });
            }
        }
        (node.star != NONE).then_some(State { node: node.star, word })
    }

    /// Lets a `#` take any number of the words from here on. What may follow it is literal words.
    fn visit_hash(&mut self, state: State) {
        let Some(node) = self.trie.nodes.get(state.node) else {
            return;
        };
        let mut end = self.scratch.words.len() as u32;
        let mut is_first = true;
        if node.is_entered_often() {
            let smallest = self.scratch.entered.entry(state.node).or_insert(u32::MAX);
            is_first = *smallest == u32::MAX;
            end = end.min(*smallest);
            *smallest = state.word.min(*smallest);
        }
        if is_first {
            self.found.reach(node.entries.as_slice());
        }
        if node.literals == 0 {
            return;
        }
        for word in state.word..end {
            self.scratch.steps += 1;
            let child = self.literal_child(State { word, ..state });
            if child != NONE {
                self.scratch.pending.push(State {
                    node: child,
                    word: word + 1,
                });
            }
        }
    }

    /// Whether the words from number `at` on are as a node's tail wants them.
    fn tail_matches(&mut self, node: &Node<Q>, mut at: usize) -> bool {
        let tail = node.tail().unwrap_or_default();
        if node.tail == Tail::Plain {
            let start = self.scratch.words.get(at).map(|word| word.start as usize);
            return start.is_some_and(|start| self.key.get(start..) == Some(tail));
        }
        for wanted in tail.split(is_dot) {
            self.scratch.steps += 1;
            if wanted == b"#" {
                return true;
            }
            let Some(word) = self.scratch.words.get(at) else {
                return false;
            };
            if wanted != b"*" && self.key.get(word.start as usize..word.end as usize) != Some(wanted) {
                return false;
            }
            at += 1;
        }
        at == self.scratch.words.len()
    }

    /// The child of the state's node by the state's next word.
    #[inline]
    fn literal_child(&mut self, state: State) -> u32 {
        let Some(word) = self.scratch.words.get_mut(state.word as usize) else {
            return NONE;
        };
        let bytes = self.key.get(word.start as usize..word.end as usize).unwrap_or_default();
        let hash = *word.hash.get_or_insert_with(|| self.trie.hasher.hash_one(bytes));
        self.trie.literal_child(state.node, bytes, hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        buffer::RouteBuffer,
        entry::{Entry, Target},
    };

    #[test]
    fn a_scratch_grown_by_a_hostile_pattern_is_made_small_again() {
        // Binary trees over {a, b} with a # before each word: each node of depth d is entered by
        // all ways to take d words out of the key.
        let mut patterns = vec![String::from("#")];
        for _ in 0..12 {
            let longer = patterns.iter().flat_map(|p| ["a", "b"].map(|w| format!("{p}.{w}.#")));
            patterns = longer.collect();
        }
        let mut trie = TopicTrie::new();
        for (queue, pattern) in (0_u32..).zip(&patterns) {
            let target = Target::Queue(queue);
            trie.insert(pattern, Entry { target, binding: queue });
        }
        let mut buffer = RouteBuffer::new();
        for _ in 0..2 {
            trie.matches(&["a.b"; 64].join("."), &mut buffer.topic, &mut buffer.found);
            assert_eq!(buffer.queues().len(), 1 << 12);
            assert!(buffer.topic.entered.is_empty() && buffer.topic.pending.is_empty());
            assert!(buffer.topic.entered.capacity() <= 2 * KEPT_STATES);
        }
    }
}
