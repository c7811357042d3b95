//! A virtual host as a list of bindings that is searched from one end to the other.

use std::collections::{BTreeMap, BTreeSet};

use amq_protocol_types::{AMQPValue, FieldTable};
use leveret_routing::{Binding, Destination, ExchangeKind, ExchangeOptions, Removed, RoutingTable, is_predeclared};

pub type ModelBinding = (String, Destination<u32, String>, String, FieldTable);

#[derive(Clone)]
pub struct Model {
    pub exchanges: BTreeMap<String, ExchangeOptions>,
    pub bindings: Vec<ModelBinding>,
    pub queues: BTreeSet<u32>,
}

impl Model {
    /// The predeclared exchanges the tests use.
    pub fn new() -> Self {
        let durable = |kind| ExchangeOptions {
            durable: true,
            ..ExchangeOptions::new(kind)
        };
        let exchanges = [
            ("amq.topic".to_owned(), durable(ExchangeKind::Topic)),
            ("amq.headers".to_owned(), durable(ExchangeKind::Headers)),
        ];
        Self {
            exchanges: exchanges.into(),
            bindings: Vec::new(),
            queues: BTreeSet::new(),
        }
    }

    pub fn declare(&mut self, name: &str, options: &ExchangeOptions) -> bool {
        self.exchanges.entry(name.to_owned()).or_insert_with(|| options.clone()) == options
    }

    pub fn refuses_to_delete(&self, name: &str, if_unused: bool) -> bool {
        is_predeclared(name) || if_unused && self.bindings.iter().any(|b| b.0 == name)
    }

    pub fn delete(&mut self, name: &str) {
        if self.exchanges.remove(name).is_some() {
            let to = Destination::Exchange(name.to_owned());
            self.remove_bindings(|binding| binding.0 == name || binding.1 == to);
        }
    }

    pub fn bind(
        &mut self,
        source: &str,
        to: &Destination<u32, String>,
        key: &str,
        arguments: &FieldTable,
    ) -> Option<bool> {
        let exists = |name: &str| self.exchanges.contains_key(name);
        let has_target = match to {
            Destination::Queue(_) => true,
            Destination::Exchange(name) => exists(name),
        };
        if !exists(source) || !has_target {
            return None;
        }
        let binding = (source.to_owned(), to.clone(), key.to_owned(), arguments.clone());
        let is_new = !self.bindings.contains(&binding);
        if is_new {
            self.bindings.push(binding);
        }
        Some(is_new)
    }

    pub fn unbind(&mut self, binding: &ModelBinding) {
        self.remove_bindings(|other| other == binding);
    }

    pub fn remove_queue(&mut self, queue: u32) {
        self.queues.remove(&queue);
        self.remove_bindings(|binding| binding.1 == Destination::Queue(queue));
    }

    /// Removes bindings, then the auto-delete exchanges that had one as source and have none now.
    fn remove_bindings(&mut self, is_removed: impl Fn(&ModelBinding) -> bool) {
        let (gone, kept) = self.bindings.drain(..).partition(is_removed);
        self.bindings = kept;
        for (source, ..) in gone as Vec<ModelBinding> {
            let is_auto_delete = self.exchanges.get(&source).is_some_and(|x| x.auto_delete);
            if is_auto_delete && !self.bindings.iter().any(|binding| binding.0 == source) {
                self.delete(&source);
            }
        }
    }

    pub fn route(&self, from: &str, keys: &[&str], headers: &FieldTable) -> Option<BTreeSet<u32>> {
        if from.is_empty() {
            let is_named = |q: &&u32| keys.contains(&format!("queue {q}").as_str());
            return Some(self.queues.iter().filter(is_named).copied().collect());
        }
        self.exchanges.get(from)?;
        let mut queues = BTreeSet::new();
        let mut passed = vec![from.to_owned()];
        self.follow(0, &mut passed, keys, headers, &mut queues);
        let mut asked = 0;
        while queues.is_empty() && asked < passed.len() {
            let at = passed.len();
            self.add(self.exchanges[&passed[asked]].alternate_exchange.clone(), &mut passed);
            self.follow(at, &mut passed, keys, headers, &mut queues);
            asked += 1;
        }
        Some(queues)
    }

    fn follow(
        &self,
        mut at: usize,
        passed: &mut Vec<String>,
        keys: &[&str],
        headers: &FieldTable,
        queues: &mut BTreeSet<u32>,
    ) {
        while at < passed.len() {
            let options = &self.exchanges[&passed[at]];
            let matching: Vec<_> = self
                .bindings
                .iter()
                .filter(|binding| binding.0 == passed[at])
                .filter(|binding| keys.iter().any(|k| matches(options.kind, binding, k, headers)))
                .collect();
            for (_, to, ..) in &matching {
                match to {
                    Destination::Queue(queue) => drop(queues.insert(*queue)),
                    Destination::Exchange(name) => self.add(Some(name.clone()), passed),
                }
            }
            if matching.is_empty() {
                self.add(options.alternate_exchange.clone(), passed);
            }
            at += 1;
        }
    }

    fn add(&self, name: Option<String>, passed: &mut Vec<String>) {
        passed.extend(name.filter(|n| self.exchanges.contains_key(n) && !passed.contains(n)));
    }

    /// What the table says has gone is what was there before and is not now.
    pub fn check_removed(&self, before: &Self, removed: &Removed<u32>) {
        let gone: BTreeSet<_> = before
            .exchanges
            .keys()
            .filter(|name| !self.exchanges.contains_key(*name))
            .collect();
        let said: Vec<_> = removed.exchanges.iter().map(|x| x.name.to_string()).collect();
        assert_eq!(said.iter().collect::<BTreeSet<_>>(), gone);
        assert_eq!(said.len(), gone.len());
        let gone = before.bindings.iter().filter(|b| !self.bindings.contains(b));
        assert_eq!(
            sorted(gone.map(text_of_model)),
            sorted(removed.bindings.iter().map(text))
        );
    }

    pub fn check_listing(&self, table: &RoutingTable<u32>) {
        let texts = |bindings: &mut dyn Iterator<Item = Binding<u32>>| sorted(bindings.map(|binding| text(&binding)));
        let filtered = |is_wanted: &dyn Fn(&ModelBinding) -> bool| {
            sorted(self.bindings.iter().filter(|b| is_wanted(b)).map(text_of_model))
        };
        assert_eq!(texts(&mut table.bindings()), filtered(&|_| true));
        assert_eq!(table.binding_count(), self.bindings.len());
        for (name, options) in &self.exchanges {
            let listed = table.exchange(name).unwrap();
            assert_eq!(listed.options, options);
            let to = Destination::Exchange(name.clone());
            let (from_here, to_here) = (filtered(&|b| b.0 == *name), filtered(&|b| b.1 == to));
            assert_eq!(listed.bindings_from, from_here.len());
            assert_eq!(listed.bindings_to, to_here.len());
            assert_eq!(texts(&mut table.bindings_from(name)), from_here);
            assert_eq!(texts(&mut table.bindings_to(Destination::Exchange(name))), to_here);
        }
        for queue in 0..6 {
            let to_here = filtered(&|b| b.1 == Destination::Queue(queue));
            assert_eq!(texts(&mut table.bindings_to(Destination::Queue(queue))), to_here);
        }
        let other = table
            .exchanges()
            .filter(|x| !self.exchanges.contains_key(x.name))
            .count();
        assert_eq!(other, 5, "the predeclared exchanges the model leaves out");
        assert_eq!(table.queue_count(), self.queues.len());
    }
}

fn text(binding: &Binding<u32>) -> String {
    let to = match &binding.destination {
        Destination::Queue(queue) => Destination::Queue(*queue),
        Destination::Exchange(name) => Destination::Exchange(name.to_string()),
    };
    let (source, key) = (binding.source.to_string(), binding.routing_key.to_string());
    text_of_model(&(source, to, key, (*binding.arguments).clone()))
}

fn text_of_model(binding: &ModelBinding) -> String {
    format!("{binding:?}")
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort();
    texts
}

fn matches(kind: ExchangeKind, binding: &ModelBinding, key: &str, headers: &FieldTable) -> bool {
    match kind {
        ExchangeKind::Direct => binding.2 == key,
        ExchangeKind::Fanout => true,
        ExchangeKind::Topic => topic_matches(&binding.2, key),
        ExchangeKind::Headers => headers_match(&binding.3, headers),
        chosen => panic!("{chosen} chooses one binding, which this model cannot"),
    }
}

pub fn topic_matches(pattern: &str, key: &str) -> bool {
    fn words_match(pattern: &[&str], words: &[&str]) -> bool {
        match (pattern, words) {
            ([], []) => true,
            (["#", rest @ ..], []) => words_match(rest, &[]),
            (["#", rest @ ..], [_, more @ ..]) => words_match(rest, words) || words_match(pattern, more),
            ([p, rest @ ..], [w, more @ ..]) => (*p == "*" || p == w) && words_match(rest, more),
            _ => false,
        }
    }
    let split = |key| {
        if str::is_empty(key) {
            Vec::new()
        } else {
            str::split(key, '.').collect()
        }
    };
    words_match(&split(pattern), &split(key))
}

fn headers_match(arguments: &FieldTable, headers: &FieldTable) -> bool {
    let mode = match arguments.inner().get("x-match") {
        Some(AMQPValue::LongString(mode)) => mode.to_string(),
        _ => "all".to_owned(),
    };
    let mut tests = arguments
        .into_iter()
        .filter(|(key, _)| key.as_str() != "x-match")
        .filter(|(key, _)| mode.ends_with("-with-x") || !key.as_str().starts_with("x-"))
        .map(|(key, wanted)| match (wanted, headers.inner().get(key.as_str())) {
            (_, None) => false,
            (AMQPValue::Void, Some(_)) => true,
            (AMQPValue::LongInt(n), Some(AMQPValue::LongLongInt(m))) => i64::from(*n) == *m,
            (AMQPValue::LongLongInt(n), Some(AMQPValue::LongInt(m))) => *n == i64::from(*m),
            (wanted, Some(actual)) => wanted == actual,
        });
    if mode.starts_with("all") {
        tests.all(|met| met)
    } else {
        tests.any(|met| met)
    }
}
