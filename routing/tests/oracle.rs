//! The table against models that are too simple to be wrong: random edits and messages must give
//! the same bindings, the same removals and the same queues.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod model;

use std::collections::BTreeSet;

use amq_protocol_types::{AMQPValue, FieldTable};
use leveret_routing::{Destination, ExchangeKind, ExchangeOptions, NoHeaders, Routable, RouteBuffer, RoutingTable};
use proptest::{collection::vec, prelude::*, sample::select};

use model::{Model, topic_matches};

/// A key of up to five words, few enough words that patterns and keys meet often.
fn key(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec(select(words), 0..6).prop_map(|words| words.join("."))
}

fn pattern() -> impl Strategy<Value = String> {
    key(&["a", "b", "", "*", "#", "#", "a word longer than is kept in place"])
}

fn routing_key() -> impl Strategy<Value = String> {
    key(&["a", "a", "b", "", "a word longer than is kept in place"])
}

fn field_table(keys: &'static [&'static str]) -> impl Strategy<Value = FieldTable> {
    let value = select(vec![
        AMQPValue::LongInt(1),
        AMQPValue::LongLongInt(1),
        AMQPValue::LongInt(2),
        AMQPValue::Double(1.0),
        AMQPValue::LongString("1".into()),
        AMQPValue::Boolean(true),
        AMQPValue::Void,
    ]);
    vec((select(keys), value), 0..4).prop_map(|entries| {
        let mut table = FieldTable::default();
        for (key, value) in entries {
            table.insert(key.into(), value);
        }
        table
    })
}

fn headers() -> impl Strategy<Value = FieldTable> {
    field_table(&["k", "l", "m", "x-n"])
}

fn binding_arguments() -> impl Strategy<Value = FieldTable> {
    let mode = select(vec![
        None,
        Some("all"),
        Some("any"),
        Some("all-with-x"),
        Some("any-with-x"),
    ]);
    (headers(), mode).prop_map(|(mut table, mode)| {
        if let Some(mode) = mode {
            table.insert("x-match".into(), AMQPValue::LongString(mode.into()));
        }
        table
    })
}

fn exchange() -> impl Strategy<Value = String> {
    select(vec!["amq.topic", "amq.headers", "v", "w", "x", "y", "z"]).prop_map(str::to_owned)
}

fn destination() -> impl Strategy<Value = Destination<u32, String>> {
    prop_oneof![
        3 => (0..6_u32).prop_map(Destination::Queue),
        2 => exchange().prop_map(Destination::Exchange),
    ]
}

/// The kinds that send a message to every binding that matches; `choosing.rs` has those that choose one.
const KINDS: [ExchangeKind; 4] = [
    ExchangeKind::Direct,
    ExchangeKind::Fanout,
    ExchangeKind::Topic,
    ExchangeKind::Headers,
];

#[derive(Clone, Debug)]
enum Step {
    Declare(String, ExchangeOptions),
    Delete(String, bool),
    Bind(String, Destination<u32, String>, String, FieldTable),
    /// Of the bindings there are, the one with this number (modulo their count).
    Unbind(usize),
    UnbindMissing(String, Destination<u32, String>, String),
    AddQueue(u32),
    RemoveQueue(u32),
    Route(String, Vec<String>, FieldTable),
}

fn step() -> impl Strategy<Value = Step> {
    let options = (select(KINDS.to_vec()), any::<bool>(), prop::option::of(exchange())).prop_map(
        |(kind, auto_delete, alternate_exchange)| ExchangeOptions {
            auto_delete,
            alternate_exchange,
            ..ExchangeOptions::new(kind)
        },
    );
    let arguments = prop_oneof![Just(FieldTable::default()), binding_arguments()];
    prop_oneof![
        4 => (exchange(), options).prop_map(|(name, options)| Step::Declare(name, options)),
        1 => (exchange(), any::<bool>()).prop_map(|(name, unused)| Step::Delete(name, unused)),
        12 => (exchange(), destination(), pattern(), arguments)
            .prop_map(|(source, to, key, arguments)| Step::Bind(source, to, key, arguments)),
        3 => any::<usize>().prop_map(Step::Unbind),
        1 => (exchange(), destination(), pattern())
            .prop_map(|(source, to, key)| Step::UnbindMissing(source, to, key)),
        1 => (0..6_u32).prop_map(Step::AddQueue),
        1 => (0..6_u32).prop_map(Step::RemoveQueue),
        8 => (prop_oneof![4 => exchange(), 1 => Just(String::new())],
              vec(prop_oneof![routing_key(), Just("queue 1".to_owned())], 1..3), headers())
            .prop_map(|(exchange, keys, headers)| Step::Route(exchange, keys, headers)),
    ]
}

fn as_str(destination: &Destination<u32, String>) -> Destination<u32, &str> {
    match destination {
        Destination::Queue(queue) => Destination::Queue(*queue),
        Destination::Exchange(name) => Destination::Exchange(name),
    }
}

/// Takes one step in both worlds and compares what they answer.
fn take(step: &Step, table: &mut RoutingTable<u32>, model: &mut Model) {
    let before = model.clone();
    match step {
        Step::Declare(name, options) => {
            let created = table.declare_exchange(name, options.clone()).is_ok();
            assert_eq!(created, model.declare(name, options));
        }
        Step::Delete(name, if_unused) => match table.delete_exchange(name, *if_unused) {
            Ok(removed) => {
                model.delete(name);
                model.check_removed(&before, &removed);
            }
            Err(_) => assert!(model.refuses_to_delete(name, *if_unused)),
        },
        Step::Bind(source, to, key, arguments) => {
            let is_new = table.bind(source, as_str(to), key, arguments).ok();
            assert_eq!(is_new, model.bind(source, to, key, arguments));
        }
        Step::Unbind(number) => {
            let count = model.bindings.len().max(1);
            let Some(binding) = model.bindings.get(number % count).cloned() else {
                return;
            };
            let (source, to, key, arguments) = &binding;
            let removed = table.unbind(source, as_str(to), key, arguments);
            model.unbind(&binding);
            model.check_removed(&before, &removed);
        }
        Step::UnbindMissing(source, to, key) => {
            let mut arguments = FieldTable::default();
            arguments.insert("no such argument".into(), AMQPValue::Void);
            assert!(table.unbind(source, as_str(to), key, &arguments).is_empty());
        }
        Step::AddQueue(queue) => {
            assert!(table.add_queue(&format!("queue {queue}"), *queue));
            model.queues.insert(*queue);
        }
        Step::RemoveQueue(queue) => {
            let removed = table.remove_queue(*queue);
            model.remove_queue(*queue);
            model.check_removed(&before, &removed);
        }
        Step::Route(exchange, keys, headers) => {
            let keys: Vec<_> = keys.iter().map(String::as_str).collect();
            let mut buffer = RouteBuffer::new();
            let routed = table.route_by_keys(exchange, &keys, headers, &mut buffer).ok();
            let queues = routed.map(|()| distinct(buffer.queues()));
            assert_eq!(queues, model.route(exchange, &keys, headers));
        }
    }
}

fn distinct(queues: &[u32]) -> BTreeSet<u32> {
    let set: BTreeSet<_> = queues.iter().copied().collect();
    assert_eq!(set.len(), queues.len(), "a queue is in the buffer twice");
    set
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_edits_and_messages_do_as_the_model_does(steps in vec(step(), 1..120)) {
        let mut table = RoutingTable::new();
        let mut model = Model::new();
        for step in &steps {
            take(step, &mut table, &mut model);
            model.check_listing(&table);
        }
    }

    #[test]
    fn the_trie_agrees_with_the_naive_matcher(
        patterns in vec(pattern(), 1..60),
        keys in vec(routing_key(), 1..10),
        unbound in vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let mut table = RoutingTable::new();
        let none = FieldTable::default();
        let mut bound: Vec<_> = (0_u32..).zip(&patterns).collect();
        for (queue, pattern) in &bound {
            table.bind("amq.topic", Destination::Queue(*queue), pattern, &none).unwrap();
        }
        for index in unbound.iter().take(patterns.len() - 1) {
            let (queue, pattern) = bound.swap_remove(index.index(bound.len()));
            table.unbind("amq.topic", Destination::Queue(queue), pattern, &none);
        }
        let mut buffer = RouteBuffer::new();
        for key in &keys {
            buffer.clear();
            let message = Routable { routing_key: key, headers: &NoHeaders };
            table.route("amq.topic", &message, &mut buffer).unwrap();
            let expected: BTreeSet<_> = bound
                .iter()
                .filter(|(_, pattern)| topic_matches(pattern, key))
                .map(|(queue, _)| *queue)
                .collect();
            prop_assert_eq!(distinct(buffer.queues()), expected, "key {:?}", key);
        }
    }
}
