//! The exchanges that choose one binding: evenly, always the same one for the same key, and without moving what need
//! not move.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use amq_protocol_types::{AMQPValue, FieldTable};
use leveret_routing::{
    Destination, ExchangeKind, ExchangeOptions, ExchangePolicy, HASH_PROPERTY, MessageHeaders, NoHeaders, RouteBuffer,
    RoutingTable,
};
use proptest::{collection::btree_map, prelude::*, sample::Index};

const KEYS: u32 = 20_000;

fn table(kind: ExchangeKind, weights: &BTreeMap<u32, u32>) -> RoutingTable<u32> {
    let mut table = RoutingTable::new();
    table.declare_exchange("x", ExchangeOptions::new(kind)).unwrap();
    for (queue, weight) in weights {
        add(&mut table, *queue, *weight);
    }
    table
}

fn add(table: &mut RoutingTable<u32>, queue: u32, weight: u32) {
    let none = FieldTable::default();
    table.add_queue(&format!("queue {queue}"), queue);
    table
        .bind("x", Destination::Queue(queue), &weight.to_string(), &none)
        .unwrap();
}

/// Which queue each of the keys goes to.
fn owners(table: &RoutingTable<u32>) -> Vec<u32> {
    let mut buffer = RouteBuffer::new();
    let owner = |number| {
        buffer.clear();
        let key = format!("key.{number}");
        table.route_by_keys("x", &[&key], &NoHeaders, &mut buffer).unwrap();
        assert_eq!(buffer.queues().len(), 1);
        buffer.queues()[0]
    };
    (0..KEYS).map(owner).collect()
}

fn counts(owners: &[u32]) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    for owner in owners {
        *counts.entry(*owner).or_default() += 1;
    }
    counts
}

/// Six standard deviations of a binomial distribution: chance alone breaks it once in a billion.
fn is_fair(count: u32, share: f64) -> bool {
    let expected = f64::from(KEYS) * share;
    let deviation = (expected * (1.0 - share)).sqrt();
    (f64::from(count) - expected).abs() < 6.0 * deviation + 1.0
}

fn weights() -> impl Strategy<Value = BTreeMap<u32, u32>> {
    let weight = prop_oneof![Just(1), 1..10_u32, 1..=10_000_u32];
    btree_map(0..50_u32, weight, 2..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn a_consistent_hash_exchange_spreads_keys_by_weight(weights in weights()) {
        let total: u32 = weights.values().sum();
        let counts = counts(&owners(&table(ExchangeKind::ConsistentHash, &weights)));
        for (queue, weight) in &weights {
            let share = f64::from(*weight) / f64::from(total);
            let count = counts.get(queue).copied().unwrap_or_default();
            prop_assert!(is_fair(count, share), "queue {} has {} of {}, weights {:?}", queue, count, KEYS, weights);
        }
    }

    #[test]
    fn a_queue_that_goes_moves_its_own_keys_only(weights in weights(), index in any::<Index>()) {
        let mut table = table(ExchangeKind::ConsistentHash, &weights);
        let before = owners(&table);
        let (gone, weight) = index.get(&weights.iter().collect::<Vec<_>>()).to_owned();
        table.remove_queue(*gone);
        for (old, new) in before.iter().zip(owners(&table)) {
            prop_assert!(*old == new || old == gone);
            prop_assert!(new != *gone);
        }
        // And it comes back to the very same keys, as it does after a restart.
        add(&mut table, *gone, *weight);
        prop_assert_eq!(before, owners(&table));
    }

    #[test]
    fn the_order_of_bindings_and_the_ids_of_queues_do_not_matter(weights in weights(), modulus in any::<bool>()) {
        let kind = if modulus { ExchangeKind::ModulusHash } else { ExchangeKind::ConsistentHash };
        let expected = owners(&table(kind, &weights));
        let mut other = RoutingTable::new();
        other.declare_exchange("x", ExchangeOptions::new(kind)).unwrap();
        for (queue, weight) in weights.iter().rev() {
            let (name, id) = (format!("queue {queue}"), 1000 + queue);
            other.add_queue(&name, id);
            other.bind("x", Destination::Queue(id), &weight.to_string(), &FieldTable::default()).unwrap();
        }
        let found: Vec<_> = owners(&other).iter().map(|id| id - 1000).collect();
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn modulus_and_random_exchanges_spread_evenly_after_any_removal(
        weights in weights(),
        removed in prop::collection::vec(any::<Index>(), 0..5),
        modulus in any::<bool>(),
    ) {
        let kind = if modulus { ExchangeKind::ModulusHash } else { ExchangeKind::Random };
        let mut table = table(kind, &weights);
        let mut queues: Vec<_> = weights.keys().copied().collect();
        for index in removed {
            if queues.len() > 1 {
                let queue = queues.swap_remove(index.index(queues.len()));
                table.remove_queue(queue);
            }
        }
        let counts = counts(&owners(&table));
        let share = 1.0 / queues.len() as f64;
        for queue in queues {
            let count = counts.get(&queue).copied().unwrap_or_default();
            prop_assert!(is_fair(count, share), "queue {} has {} of {}", queue, count, KEYS);
        }
    }
}

/// A message with properties.
struct Properties(&'static str, u64);

impl MessageHeaders for Properties {
    fn field_table(&self) -> Option<&FieldTable> {
        None
    }

    fn correlation_id(&self) -> Option<&[u8]> {
        Some(self.0.as_bytes())
    }

    fn message_id(&self) -> Option<&[u8]> {
        Some(self.0.as_bytes())
    }

    fn timestamp(&self) -> Option<u64> {
        Some(self.1)
    }
}

#[test]
fn properties_decide_whatever_the_routing_key() {
    for property in ["correlation_id", "message_id", "timestamp"] {
        let mut table = RoutingTable::new();
        let mut arguments = FieldTable::default();
        arguments.insert(HASH_PROPERTY.into(), AMQPValue::LongString(property.into()));
        let options = ExchangeOptions::new(ExchangeKind::ConsistentHash);
        table
            .declare_exchange("x", options.with_arguments(arguments).unwrap())
            .unwrap();
        (0..10).for_each(|queue| add(&mut table, queue, 1));
        let route = |key: &str, message: &dyn MessageHeaders| {
            let mut buffer = RouteBuffer::new();
            table.route_by_keys("x", &[key], message, &mut buffer).unwrap();
            assert!(buffer.varies());
            buffer.queues()[0]
        };
        let messages =
            [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("e", 5), ("f", 6)].map(|(id, time)| Properties(id, time));
        let queues = messages.each_ref().map(|message| route("one", message));
        assert_eq!(queues, messages.each_ref().map(|message| route("two", message)));
        assert!(queues.iter().any(|queue| *queue != queues[0]), "{property}: {queues:?}");
        // Those without the property stay together.
        assert_eq!(route("one", &NoHeaders), route("two", &NoHeaders));
    }
}

#[test]
fn the_buffer_tells_what_must_not_be_remembered_and_what_keeps_a_history() {
    let mut table: RoutingTable<u32> = RoutingTable::new();
    for kind in ExchangeKind::ALL {
        table
            .declare_exchange(kind.as_str(), ExchangeOptions::new(kind))
            .unwrap();
    }
    let mut buffer = RouteBuffer::new();
    for kind in ExchangeKind::ALL {
        buffer.clear();
        table
            .route_by_keys(kind.as_str(), &["k"], &NoHeaders, &mut buffer)
            .unwrap();
        let varies = [
            ExchangeKind::Headers,
            ExchangeKind::Random,
            ExchangeKind::LocalRandom,
            ExchangeKind::Delayed,
        ];
        assert_eq!(buffer.varies(), varies.contains(&kind), "{kind}");
        let histories: Vec<_> = table.histories(&buffer).map(|exchange| exchange.name).collect();
        match kind {
            ExchangeKind::RecentHistory => assert_eq!(histories, [kind.as_str()]),
            _ => assert_eq!(histories, [""; 0]),
        }
    }
}

/// A message that asks to be delivered later, or not.
struct Later(bool);

impl MessageHeaders for Later {
    fn field_table(&self) -> Option<&FieldTable> {
        None
    }

    fn is_delayed(&self) -> bool {
        self.0
    }
}

#[test]
fn an_exchange_of_any_kind_delays_by_argument_or_by_policy() {
    let mut table = RoutingTable::<u32>::new();
    let mut arguments = FieldTable::default();
    arguments.insert("x-delayed-exchange".into(), AMQPValue::Boolean(true));
    let options = ExchangeOptions::new(ExchangeKind::Fanout);
    let asking = options.clone().with_arguments(arguments).unwrap();
    table.declare_exchange("by-argument", asking).unwrap();
    table.declare_exchange("by-policy", options).unwrap();
    let delays = |table: &RoutingTable<u32>, exchange: &str| {
        let mut buffer = RouteBuffer::new();
        table
            .route_by_keys(exchange, &["k"], &Later(true), &mut buffer)
            .unwrap();
        table.delays(&buffer).count() == 1 && buffer.varies()
    };
    assert!(delays(&table, "by-argument") && !delays(&table, "by-policy"));
    let policy = ExchangePolicy {
        delays: true,
        ..ExchangePolicy::default()
    };
    table.set_policy("by-policy", policy).unwrap();
    assert!(delays(&table, "by-policy"));
    table.set_policy("by-policy", ExchangePolicy::default()).unwrap();
    assert!(!delays(&table, "by-policy"));
}

#[test]
fn a_delayed_exchange_keeps_a_message_that_asks_for_it_and_routes_the_others() {
    let mut table = RoutingTable::new();
    let mut arguments = FieldTable::default();
    arguments.insert("x-delayed-type".into(), AMQPValue::LongString("topic".into()));
    let options = ExchangeOptions {
        alternate_exchange: Some("amq.fanout".to_owned()),
        ..ExchangeOptions::new(ExchangeKind::Delayed)
    };
    let options = options.with_arguments(arguments).unwrap();
    table.declare_exchange("later", options).unwrap();
    let none = FieldTable::default();
    for (source, to, key) in [
        ("later", Destination::Queue(1), "a.#"),
        ("amq.fanout", Destination::Queue(2), ""),
        ("amq.direct", Destination::Queue(3), "a.b"),
        ("amq.direct", Destination::Exchange("later"), "a.b"),
    ] {
        table.bind(source, to, key, &none).unwrap();
    }
    let route = |exchange: &str, key: &str, delayed: bool| {
        let mut buffer = RouteBuffer::new();
        table
            .route_by_keys(exchange, &[key], &Later(delayed), &mut buffer)
            .unwrap();
        let delays = table
            .delays(&buffer)
            .map(|exchange| exchange.name.to_owned())
            .collect::<Vec<_>>();
        (buffer.queues().to_vec(), delays)
    };
    assert_eq!(route("later", "a.b", false), (vec![1], vec![]));
    // What is delayed is routed: the alternate exchange has no part in it, not even with a key that nothing matches.
    assert_eq!(route("later", "a.b", true), (vec![], vec!["later".to_owned()]));
    assert_eq!(route("later", "b", true), (vec![], vec!["later".to_owned()]));
    assert_eq!(route("later", "b", false).1, [""; 0]);
    // Behind another exchange it delays its own share only.
    assert_eq!(route("amq.direct", "a.b", true), (vec![3], vec!["later".to_owned()]));
    assert_eq!(route("amq.direct", "a.b", false).1, [""; 0]);
}
