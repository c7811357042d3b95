//! Topic exchange: a trie over the words of binding keys, with `*` and `#` anywhere.
//!
//! Words are what stands between dots. `a..b` has an empty word in its middle; the empty key has
//! no words at all, so that `#` matches it and `*` does not. `*` stands for one word, `#` for any
//! number of words, none included.

mod walk;

use std::{borrow::Cow, hash::BuildHasher};

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
/// fills one cache line, so a step costs one access to far memory even in a large trie. Where only
/// one key goes on, its remaining words stay together as the **tail** of a node without children,
/// and become nodes when another key comes that way.
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
/// where `N` is the number of nodes, and of words in tails, whose path fits a part of the key; a
/// hostile pattern such as `#.a.#.a.#.a.#` costs its length times `W`, not a power of it.
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
    /// Length in bytes of the word at the start of the label.
    word_len: u32,
    /// Number of `#` from the root to here, 2 standing for more.
    hashes: u8,
    tail: Tail,
    /// The literal word that leads here from the parent (nothing if a wildcard does) and, if there
    /// is a tail, a dot and the tail.
    label: Key,
}

/// What stands behind the word in a node's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    Missing,
    /// Literal words only.
    Plain,
    /// Words with wildcards among them; a `#` is the last of all.
    Pattern,
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
        let path = path(key);
        let mut rest = path.as_deref();
        let mut id = ROOT;
        let mut may_have_tail = false;
        while let Some(node) = self.nodes.get_mut(id) {
            if may_have_tail && node.is_bare() {
                node.set_tail(rest.filter(|rest| can_be_tail(rest, node.hashes)));
            }
            if node.tail() == rest.map(str::as_bytes) {
                return node.entries.push(entry);
            }
            if node.tail != Tail::Missing {
                self.expand_tail(id);
                continue;
            }
            let Some((token, after)) = rest.map(first_of) else {
                break;
            };
            id = match self.child(id, token) {
                NONE => self.add_child(id, token),
                child => child,
            };
            rest = after;
            may_have_tail = token != Token::Hash;
        }
        // Not reached: every child exists, and without words left the tails are equal.
        0
    }

    /// Removes the entry and the nodes that nothing needs any longer.
    pub(crate) fn remove(&mut self, key: &str, slot: u32) -> Option<u32> {
        let path = path(key);
        let mut rest = path.as_deref();
        let mut id = ROOT;
        let mut steps = Vec::new();
        while self.nodes.get(id)?.tail() != rest.map(str::as_bytes) {
            let (token, after) = first_of(rest?);
            let child = self.child(id, token);
            if child == NONE {
                return None;
            }
            steps.push((id, token, child));
            id = child;
            rest = after;
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

    /// Makes a node of the first word of a node's tail, to which the entries move as they are.
    fn expand_tail(&mut self, id: u32) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let Some(tail) = node.tail().map(|tail| String::from_utf8_lossy(tail).into_owned()) else {
            return;
        };
        let entries = std::mem::replace(&mut node.entries, EntryList::Empty);
        node.set_tail(None);
        let (token, after) = first_of(&tail);
        let child = self.add_child(id, token);
        if let Some(child) = self.nodes.get_mut(child) {
            child.entries = entries;
            child.set_tail(after);
        }
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
                    .is_some_and(|node| node.parent == parent && node.word() == word)
        };
        self.edges.find(spread(hash), is_edge).map_or(NONE, |edge| edge.child)
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
                self.edges.insert_unique(spread(hash), edge, |edge| spread(edge.hash));
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
                if let Ok(edge) = self.edges.find_entry(spread(hash), |edge| edge.child == child) {
                    edge.remove();
                }
            }
        }
    }
}

impl<Q> Node<Q> {
    fn new(parent: u32, token: Token<'_>, hashes: u8) -> Self {
        let word = match token {
            Token::Literal(word) => word,
            Token::Star | Token::Hash => "",
        };
        Self {
            entries: EntryList::Empty,
            parent,
            star: NONE,
            hash: NONE,
            literals: 0,
            word_len: word.len() as u32,
            hashes,
            tail: Tail::Missing,
            label: Key::new(word.as_bytes()),
        }
    }

    #[inline]
    fn word(&self) -> &[u8] {
        self.label.as_bytes().get(..self.word_len as usize).unwrap_or_default()
    }

    #[inline]
    fn tail(&self) -> Option<&[u8]> {
        match self.tail {
            Tail::Missing => None,
            Tail::Plain | Tail::Pattern => self.label.as_bytes().get(self.word_len as usize + 1..),
        }
    }

    fn set_tail(&mut self, tail: Option<&str>) {
        let mut label = self.word().to_vec();
        self.tail = match tail {
            None => Tail::Missing,
            Some(tail) if tail.split('.').any(|word| word == "*" || word == "#") => Tail::Pattern,
            Some(_) => Tail::Plain,
        };
        if let Some(tail) = tail {
            label.push(b'.');
            label.extend_from_slice(tail.as_bytes());
        }
        self.label = Key::new(&label);
    }

    /// Whether no binding ends here or below.
    fn is_bare(&self) -> bool {
        matches!(self.entries, EntryList::Empty) && self.star == NONE && self.hash == NONE && self.literals == 0
    }

    /// Whether this node, reached by `#`, may be entered with several numbers of words.
    fn is_entered_often(&self) -> bool {
        self.hashes > 1
    }
}

/// The path of a binding key: its words with every run of wildcards in the form `*.*.#`. The empty
/// key has none.
fn path(key: &str) -> Option<Cow<'_, str>> {
    if key.is_empty() {
        return None;
    }
    if !key.contains('#') {
        return Some(key.into());
    }
    let mut words = Vec::new();
    let mut run_has_hash = false;
    for word in key.split('.') {
        if word == "#" {
            run_has_hash = true;
            continue;
        }
        if word != "*" && run_has_hash {
            words.push("#");
            run_has_hash = false;
        }
        words.push(word);
    }
    words.extend(run_has_hash.then_some("#"));
    Some(words.join(".").into())
}

fn is_dot(byte: &u8) -> bool {
    *byte == b'.'
}

/// The first step of a path and what is left of it then.
fn first_of(path: &str) -> (Token<'_>, Option<&str>) {
    let (word, rest) = match path.split_once('.') {
        Some((word, rest)) => (word, Some(rest)),
        None => (path, None),
    };
    let token = match word {
        "*" => Token::Star,
        "#" => Token::Hash,
        literal => Token::Literal(literal),
    };
    (token, rest)
}

/// Whether the rest of a path can be checked in one go: a `#` may end it, and not even that below
/// another `#`, where many states would find its bindings again and again.
fn can_be_tail(rest: &str, hashes_above: u8) -> bool {
    let hash_may_end = usize::from(hashes_above == 0);
    rest.rsplit('.').skip(hash_may_end).all(|word| word != "#")
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

    /// Number of nodes and of words in tails.
    fn size(trie: &TopicTrie<u32>) -> u64 {
        let tail_words = |node: &Node<u32>| node.tail().map_or(0, |t| t.split(is_dot).count());
        trie.nodes.values().map(|node| 1 + tail_words(node) as u64).sum()
    }

    #[test]
    fn a_node_fills_one_cache_line() {
        assert_eq!(size_of::<Option<Node<u32>>>(), 64);
    }

    #[test]
    fn runs_of_wildcards_are_brought_to_one_form() {
        for (key, expected) in [
            ("#", "#"),
            ("#.#.#", "#"),
            ("#.*.#.*", "*.*.#"),
            ("#.a.#.*.b", "#.a.*.#.b"),
            ("a..#", "a..#"),
            ("a*.#b", "a*.#b"),
            (".", "."),
        ] {
            assert_eq!(path(key).as_deref(), Some(expected), "{key}");
        }
        assert_eq!(path(""), None);
    }

    #[test]
    fn a_tail_becomes_nodes_when_another_key_comes_that_way() {
        let mut trie = trie(&["a.b.c.d.e", "a.b.*.#", "z.#"]);
        // The root, a, a.b, a.b.c with a tail, a.b.* with a tail, z with a tail.
        assert_eq!(trie.nodes.len(), 6);
        assert_eq!(matches(&trie, "a.b.c.d.e").0, [0, 1]);
        assert_eq!(matches(&trie, "a.b.c.d").0, [1]);
        assert_eq!(matches(&trie, "a.b").0, [0_u32; 0]);
        trie.insert(
            "a.b.c",
            Entry {
                target: Target::Queue(3),
                binding: 3,
            },
        );
        assert_eq!(matches(&trie, "a.b.c").0, [1, 3]);
        assert_eq!(matches(&trie, "a.b.c.d.e").0, [0, 1]);
        assert_eq!(trie.remove("a.b.c.d", 0), None);
        assert_eq!(trie.remove("a.b.c.d.e", 0), None);
        assert_eq!(matches(&trie, "a.b.c.d.e").0, [1]);
        assert_eq!(matches(&trie, "z").0, [2]);
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
        assert!(trie.nodes.len() > 7);
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
    fn a_plain_key_costs_at_most_one_step_for_each_word() {
        let patterns: Vec<_> = (0..1000).map(|n| format!("a.b{n}.c.d{n}")).collect();
        let trie = trie(&patterns.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(matches(&trie, "a.b7.c.d7"), (vec![7], 3));
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
        let bound = size(&trie) * 129;
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
        let bound = size(&trie) * 33;
        assert!(steps <= bound, "{steps} steps, {bound} states");
    }

    #[test]
    fn steps_hardly_grow_with_the_number_of_bindings() {
        let [few, many] = [100, 50_000].map(|count| {
            let mut random = Random(1);
            let patterns: Vec<_> = (0..count).map(|_| random.pattern()).collect();
            let trie = trie(&patterns.iter().map(String::as_str).collect::<Vec<_>>());
            // Half of the keys are those of bindings, with wildcards filled in, half are any.
            let any: Vec<_> = (0..100).map(|_| random.pattern()).collect();
            let keys = patterns.iter().take(100).chain(&any);
            let steps = keys.map(|key| matches(&trie, &key.replace(['*', '#'], "x")).1);
            steps.sum::<u64>()
        });
        assert!(many <= 5 * few, "{few} steps with 100 bindings, {many} with 50,000");
    }

    struct Random(u64);

    impl Random {
        /// A number below the bound (xorshift).
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) % bound
        }

        /// Four words out of 1000; in one pattern of ten one of them is `*`, one of ten ends in `#`.
        fn pattern(&mut self) -> String {
            let mut words = [(); 4].map(|()| format!("word{}", self.below(1000)));
            match self.below(10) {
                0 => words[self.below(4) as usize] = "*".to_owned(),
                1 => words[3] = "#".to_owned(),
                _ => {}
            }
            words.join(".")
        }
    }
}
