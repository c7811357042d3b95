//! Topic exchange: a trie over the words of binding keys, with `*` and `#` anywhere.
//!
//! Words are what stands between dots. `a..b` has an empty word in its middle; the empty key has
//! no words at all, so that `#` matches it and `*` does not. `*` stands for one word, `#` for any
//! number of words, none included.

mod walk;

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::{
    arena::Arena,
    entry::{Entry, EntryList},
    key::Key,
};

pub(crate) use walk::Scratch;

/// The bindings of one topic exchange.
///
/// A node is a prefix of binding keys; its edges are literal words, `*` and `#`. Literal edges of
/// all nodes live in one table under (node, word), which holds ids only: a node knows its word and
/// fills one cache line, so a step costs one access to far memory even in a large trie.
///
/// Before a key becomes a path, each run of wildcards in it is brought to the form `*.*.#`, which
/// matches the same (`#.*` and `*.#` both want one word or more), so a `#` is only ever followed
/// by a literal word or by nothing. Nodes that no binding needs are removed with the binding.
///
/// # Cost
///
/// Matching walks states (node, number of words consumed) and keeps those to be visited on a list,
/// not on the stack. Bindings whose path does not fit the routing key are never looked at. For a
/// routing key of `W` words (at most 256, as it has at most 255 bytes):
///
/// - Up to the first `#` of a path, and below it, one way leads to a state, because a node has one
///   parent: no state is visited twice. Without wildcards that makes `W + 1` states.
/// - The second `#` of a path, and every further one, may be entered with several numbers of words.
///   Entered with `n` words it tries all words from the `n`th on, so the smallest `n` so far is
///   remembered for each such node and a later entry tries only the words before that one.
///
/// Hence every state is visited at most once and no route takes more than `N * (W + 1)` steps,
/// where `N` is the number of nodes whose path fits a part of the key; a hostile pattern such as
/// `#.a.#.a.#.a.#` costs its length times `W`, not a power of it.
#[derive(Debug)]
pub(crate) struct TopicTrie<Q> {
    nodes: Arena<Node<Q>>,
    edges: HashTable<Edge>,
    hasher: RandomState,
}

#[derive(Debug)]
#[repr(align(64))]
struct Node<Q> {
    /// The bindings whose key ends here.
    entries: EntryList<Q>,
    parent: u32,
    /// The child by `*`, or [`NONE`].
    star: u32,
    /// The child by `#`, or [`NONE`].
    hash: u32,
    /// Number of children by literal words.
    literals: u32,
    /// Number of `#` from the root to here, 2 standing for more.
    hashes: u8,
    /// The literal word that leads here from the parent; empty if a wildcard does.
    word: Key,
}

/// A child by a literal word, under the [`edge_hash`] of its parent and that word.
#[derive(Clone, Copy, Debug)]
struct Edge {
    hash: u32,
    child: u32,
}

/// Id of the node that every path starts from.
const ROOT: u32 = 0;
/// No child; the root is nobody's child, so its id is free to say so.
const NONE: u32 = 0;

/// One step of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    Literal(&'a str),
    Star,
    Hash,
}

impl<Q: Copy> TopicTrie<Q> {
    pub(crate) fn new() -> Self {
        let mut nodes = Arena::new();
        nodes.insert(Node::new(NONE, Token::Star, 0));
        Self {
            nodes,
            edges: HashTable::new(),
            hasher: RandomState::default(),
        }
    }

    pub(crate) fn insert(&mut self, key: &str, entry: Entry<Q>) -> u32 {
        let mut id = ROOT;
        for token in path(key) {
            id = match self.child(id, token) {
                NONE => self.add_child(id, token),
                child => child,
            };
        }
        self.nodes
            .get_mut(id)
            .map_or(0, |node| node.entries.push(entry))
    }

    /// Removes the entry and the nodes that nothing needs any longer.
    pub(crate) fn remove(&mut self, key: &str, slot: u32) -> Option<u32> {
        let mut id = ROOT;
        let mut steps = Vec::new();
        for token in path(key) {
            let child = self.child(id, token);
            if child == NONE {
                return None;
            }
            steps.push((id, token, child));
            id = child;
        }
        let moved = self.nodes.get_mut(id)?.entries.remove(slot);
        while let Some((parent, token, child)) = steps.pop() {
            if !self.nodes.get(child).is_some_and(Node::is_bare) {
                break;
            }
            self.remove_child(parent, token, child);
        }
        moved
    }

    fn child(&self, parent: u32, token: Token<'_>) -> u32 {
        let Some(node) = self.nodes.get(parent) else {
            return NONE;
        };
        match token {
            Token::Star => node.star,
            Token::Hash => node.hash,
            Token::Literal(word) => {
                let word = word.as_bytes();
                self.literal_child(parent, word, self.hasher.hash_one(word))
            }
        }
    }

    #[inline]
    fn literal_child(&self, parent: u32, word: &[u8], word_hash: u64) -> u32 {
        let hash = edge_hash(parent, word_hash);
        let is_edge = |edge: &Edge| {
            edge.hash == hash
                && self
                    .nodes
                    .get(edge.child)
                    .is_some_and(|node| node.parent == parent && node.word.as_bytes() == word)
        };
        self.edges
            .find(spread(hash), is_edge)
            .map_or(NONE, |edge| edge.child)
    }

    fn add_child(&mut self, parent: u32, token: Token<'_>) -> u32 {
        let above = self.nodes.get(parent).map_or(0, |node| node.hashes);
        let hashes = (above + u8::from(token == Token::Hash)).min(2);
        let child = self.nodes.insert(Node::new(parent, token, hashes));
        let Some(node) = self.nodes.get_mut(parent) else {
            return child;
        };
        match token {
            Token::Star => node.star = child,
            Token::Hash => node.hash = child,
            Token::Literal(word) => {
                node.literals += 1;
                let hash = edge_hash(parent, self.hasher.hash_one(word.as_bytes()));
                let edge = Edge { hash, child };
                self.edges
                    .insert_unique(spread(hash), edge, |edge| spread(edge.hash));
            }
        }
        child
    }

    fn remove_child(&mut self, parent: u32, token: Token<'_>, child: u32) {
        self.nodes.remove(child);
        let Some(node) = self.nodes.get_mut(parent) else {
            return;
        };
        match token {
            Token::Star => node.star = NONE,
            Token::Hash => node.hash = NONE,
            Token::Literal(word) => {
                node.literals -= 1;
                let hash = edge_hash(parent, self.hasher.hash_one(word.as_bytes()));
                if let Ok(edge) = self
                    .edges
                    .find_entry(spread(hash), |edge| edge.child == child)
                {
                    edge.remove();
                }
            }
        }
    }
}

impl<Q> Node<Q> {
    fn new(parent: u32, token: Token<'_>, hashes: u8) -> Self {
        let word = match token {
            Token::Literal(word) => Key::new(word.as_bytes()),
            Token::Star | Token::Hash => Key::new(b""),
        };
        let entries = EntryList::Empty;
        Self {
            entries,
            parent,
            star: NONE,
            hash: NONE,
            literals: 0,
            hashes,
            word,
        }
    }

    /// Whether no binding ends here or below.
    fn is_bare(&self) -> bool {
        matches!(self.entries, EntryList::Empty)
            && self.star == NONE
            && self.hash == NONE
            && self.literals == 0
    }

    /// Whether this node, reached by `#`, may be entered with several numbers of words.
    fn is_entered_often(&self) -> bool {
        self.hashes > 1
    }
}

/// The words of a key: none if it is empty.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').filter(move |_| !key.is_empty())
}

/// The path of a binding key, with every run of wildcards in the form `*.*.#`.
fn path(key: &str) -> Vec<Token<'_>> {
    let mut path = Vec::new();
    let mut run_has_hash = false;
    for word in words(key) {
        match word {
            "*" => path.push(Token::Star),
            "#" => run_has_hash = true,
            literal => {
                path.extend(run_has_hash.then_some(Token::Hash));
                run_has_hash = false;
                path.push(Token::Literal(literal));
            }
        }
    }
    path.extend(run_has_hash.then_some(Token::Hash));
    path
}

/// The fractional part of the golden ratio: odd, and its bits follow no pattern.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Mixes a parent's id into the hash of a word, by a wide multiplication folded to a quarter.
#[inline]
fn edge_hash(parent: u32, word_hash: u64) -> u32 {
    let seed = word_hash ^ u64::from(parent).wrapping_mul(FACTOR);
    let product = u128::from(seed) * u128::from(FACTOR);
    ((product >> 64) ^ (product >> 32)) as u32
}

/// An edge's hash over all the bits that the table looks at.
#[inline]
fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(FACTOR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{buffer::RouteBuffer, entry::Target};

    /// A trie with its bindings: queue `n` is bound by the `n`th pattern.
    fn trie(patterns: &[&str]) -> TopicTrie<u32> {
        let mut trie = TopicTrie::new();
        for (queue, pattern) in (0..).zip(patterns) {
            trie.insert(
                pattern,
                Entry {
                    target: Target::Queue(queue),
                    binding: queue,
                },
            );
        }
        trie
    }

    fn matches(trie: &TopicTrie<u32>, key: &str) -> (Vec<u32>, u64) {
        let mut buffer = RouteBuffer::new();
        trie.matches(key, &mut buffer.topic, &mut buffer.found);
        let mut queues = buffer.queues().to_vec();
        queues.sort_unstable();
        (queues, buffer.topic.steps)
    }

    #[test]
    fn a_node_fills_one_cache_line() {
        assert_eq!(size_of::<Option<Node<u32>>>(), 64);
    }

    #[test]
    fn runs_of_wildcards_are_brought_to_one_form() {
        use Token::{Hash, Literal, Star};
        for (key, expected) in [
            ("", vec![]),
            ("#", vec![Hash]),
            ("#.#.#", vec![Hash]),
            ("#.*.#.*", vec![Star, Star, Hash]),
            (
                "#.a.#.*.b",
                vec![Hash, Literal("a"), Star, Hash, Literal("b")],
            ),
            ("a..#", vec![Literal("a"), Literal(""), Hash]),
            ("a*.#b", vec![Literal("a*"), Literal("#b")]),
        ] {
            assert_eq!(path(key), expected, "{key}");
        }
    }

    #[test]
    fn words_may_be_empty_and_the_empty_key_has_none() {
        let trie = trie(&["#", "*", "*.*", "a..b", "a.*.b", "a.#.b", ""]);
        assert_eq!(matches(&trie, "").0, [0, 6]);
        assert_eq!(matches(&trie, "x").0, [0, 1]);
        assert_eq!(matches(&trie, ".").0, [0, 2]);
        assert_eq!(matches(&trie, "a..b").0, [0, 3, 4, 5]);
        assert_eq!(matches(&trie, "a.b").0, [0, 2, 5]);
    }

    #[test]
    fn wildcards_in_a_routing_key_are_plain_words() {
        let trie = trie(&["a.b", "*.b", "#.b"]);
        assert_eq!(matches(&trie, "*.b").0, [1, 2]);
        assert_eq!(matches(&trie, "#").0, [0_u32; 0]);
    }

    #[test]
    fn removing_the_last_binding_prunes_the_trie_to_its_root() {
        let patterns = ["a.b.c", "a.b", "a.*.c", "#.c", "#", "a.#.b.#", ""];
        let mut trie = trie(&patterns);
        assert!(trie.nodes.len() > 10);
        for (round, pattern) in patterns.iter().enumerate() {
            assert_eq!(trie.remove(pattern, 0), None);
            let (queues, _) = matches(&trie, "a.b.c");
            assert!(queues.iter().all(|queue| *queue > round as u32));
        }
        assert_eq!(trie.nodes.len(), 1);
        assert!(trie.edges.is_empty());
        assert_eq!(trie.remove("a.b", 0), None);
    }

    #[test]
    fn a_plain_key_costs_one_step_for_each_word() {
        let patterns: Vec<_> = (0..1000).map(|n| format!("a.b{n}.c.d{n}")).collect();
        let trie = trie(&patterns.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(matches(&trie, "a.b7.c.d7"), (vec![7], 5));
        assert_eq!(matches(&trie, "a.x.c.d7"), (vec![], 2));
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_steps_than_nodes_times_words() {
        // Key and patterns as long as AMQP allows: 255 bytes, that is 128 words.
        let key = vec!["a"; 128].join(".");
        let hostile = [
            vec!["#.a"; 64].join("."),
            vec!["#"; 128].join("."),
            vec!["#.*"; 64].join("."),
            vec!["#.a.*"; 42].join("."),
            format!("{}.b", vec!["#.a"; 63].join(".")),
            format!("#.{}", vec!["a"; 127].join(".")),
        ];
        assert!(hostile.iter().all(|pattern| pattern.len() <= 255));
        let trie = trie(&hostile.iter().map(String::as_str).collect::<Vec<_>>());
        let bound = trie.nodes.len() as u64 * 129;
        let (queues, steps) = matches(&trie, &key);
        assert_eq!(queues, [0, 1, 2, 3, 5]);
        assert!(steps <= bound, "{steps} steps, {bound} states");
    }

    #[test]
    fn a_dense_trie_of_wildcards_visits_each_state_once() {
        // Every pattern of up to 8 words of {a, *, #}: 9,841 of them.
        let mut patterns = vec![String::new()];
        let mut last = vec![String::new()];
        for _ in 0..8 {
            last = last
                .iter()
                .flat_map(|prefix| ["a", "*", "#"].map(|word| format!("{prefix}.{word}")))
                .map(|pattern| pattern.trim_start_matches('.').to_owned())
                .collect();
            patterns.extend(last.iter().cloned());
        }
        let trie = trie(&patterns.iter().map(String::as_str).collect::<Vec<_>>());
        let key = vec!["a"; 32].join(".");
        let (_, steps) = matches(&trie, &key);
        let bound = trie.nodes.len() as u64 * 33;
        assert!(steps <= bound, "{steps} steps, {bound} states");
    }
}
