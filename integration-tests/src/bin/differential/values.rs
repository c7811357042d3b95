//! What sequences are made of: names, keys, arguments and properties. Few of each, so that they meet.

use crate::features::{Feature, Features};
use leveret_integration_tests::random::Random;
use leveret_integration_tests::raw::{AMQPValue, BasicProperties, FieldArray, FieldTable};

pub const QUEUES: [&str; 3] = ["q0", "q1", "q2"];

/// Exchanges that sequences declare, with the type that most declarations give them.
pub const EXCHANGES: [(&str, &str); 5] = [
    ("xd", "direct"),
    ("xt", "topic"),
    ("xf", "fanout"),
    ("xh", "headers"),
    ("xa", "fanout"),
];

/// Exchanges of types that are plug-ins of RabbitMQ. Those that choose have one queue at most: whom they choose is theirs to say.
pub const PLUGIN_EXCHANGES: [(&str, &str); 4] = [
    ("xr", "x-recent-history"),
    ("xc", "x-consistent-hash"),
    ("xo", "x-random"),
    ("xm", "x-modulus-hash"),
];

const ROUTING_KEYS: [&str; 9] = ["", "a", "b", "a.b", "a.b.c", "a..b", "q0", "q1", "a."];
const BINDING_KEYS: [&str; 14] = [
    "", "a", "b", "a.b", "a.b.c", "#", "*", "a.*", "a.#", "#.b", "*.b", "a.#.c", "#.#", "*.#.*",
];
const TAGS: [&str; 4] = ["t0", "t1", "t2", "t3"];

/// Milliseconds that never pass in a sequence.
const LONG_MILLIS: i64 = 3_600_000;
/// Messages that never are in a queue.
const MANY: i64 = 100_000;
/// Beyond the longest time RabbitMQ takes.
const TOO_LONG_MILLIS: i64 = 315_360_000_001;

pub fn any<T: Copy>(random: &mut Random, values: &[T]) -> T {
    values[random.below(values.len())]
}

/// The name of a queue, rarely one that cannot be.
pub fn queue(random: &mut Random) -> &'static str {
    match random.below(40) {
        0 => "missing",
        1 => "",
        2 | 3 => "gen:0",
        4 => "gen:1",
        _ => any(random, &QUEUES),
    }
}

/// The name of an exchange to publish to or to bind.
pub fn exchange(random: &mut Random) -> &'static str {
    match random.below(30) {
        0 => "missing",
        1 => "",
        2 => "amq.topic",
        3 => "amq.direct",
        4 => "amq.fanout",
        5 => "amq.headers",
        6 => "amq.match",
        _ => any(random, &EXCHANGES).0,
    }
}

pub fn routing_key(random: &mut Random) -> &'static str {
    any(random, &ROUTING_KEYS)
}

pub fn binding_key(random: &mut Random) -> &'static str {
    any(random, &BINDING_KEYS)
}

pub fn tag(random: &mut Random) -> &'static str {
    any(random, &TAGS)
}

fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// `number` as one of the types it fits into.
fn integer(random: &mut Random, number: i64) -> AMQPValue {
    match (random.below(4), i16::try_from(number), i32::try_from(number)) {
        (0, Ok(short), _) => AMQPValue::ShortInt(short),
        (0 | 1, _, Ok(long)) => AMQPValue::LongInt(long),
        _ => AMQPValue::LongLongInt(number),
    }
}

/// Arguments of a queue that are right, and change nothing that a sequence can see unless they are switched on.
pub fn queue_arguments(random: &mut Random, features: Features, queue: &str) -> FieldTable {
    let mut entries = Vec::new();
    for _ in 0..any(random, &[0, 0, 0, 1, 1, 2]) {
        entries.push(match random.below(9) {
            0 => ("x-message-ttl", integer(random, LONG_MILLIS)),
            1 => ("x-expires", integer(random, LONG_MILLIS)),
            2 => ("x-max-length", integer(random, MANY)),
            3 => ("x-max-length-bytes", integer(random, MANY * 1000)),
            4 => ("x-overflow", text(any(random, &["drop-head", "reject-publish"]))),
            5 => ("x-dead-letter-exchange", text("nowhere")),
            6 => ("x-queue-type", text("classic")),
            7 => ("x-queue-mode", text("lazy")),
            _ => ("x-unknown", AMQPValue::Boolean(random.chance(50))),
        });
    }
    entries.extend(features.queue_arguments(random, queue));
    table(entries)
}

/// Arguments of a queue of which one is wrong.
pub fn wrong_queue_arguments(random: &mut Random) -> FieldTable {
    const NUMBERS: [&str; 4] = ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes"];
    let number = any(random, &NUMBERS);
    table([match random.below(17) {
        0 | 1 => (number, text("5")),
        2 | 3 => (number, integer(random, -1)),
        4 => (number, AMQPValue::Double(5.0)),
        5 => ("x-expires", integer(random, 0)),
        6 => (
            any(random, &["x-message-ttl", "x-expires"]),
            integer(random, TOO_LONG_MILLIS),
        ),
        7 => ("x-max-priority", integer(random, 256)),
        8 => ("x-max-priority", integer(random, -1)),
        9 => ("x-max-priority", text("3")),
        10 => ("x-overflow", text("drop-tail")),
        11 => ("x-overflow", integer(random, 1)),
        12 => ("x-dead-letter-routing-key", text("a")),
        13 => ("x-dead-letter-exchange", integer(random, 1)),
        14 => ("x-single-active-consumer", integer(random, 1)),
        15 => ("x-queue-type", text("heap")),
        _ => ("x-message-ttl", AMQPValue::Boolean(true)),
    }])
}

/// Arguments of an exchange that is a plug-in's, some of them wrong.
pub fn plugin_arguments(random: &mut Random, kind: &str) -> FieldTable {
    match kind {
        "x-recent-history" => match random.below(8) {
            0..=2 => table([("x-recent-history-length", integer(random, 1))]),
            3 | 4 => table([("x-recent-history-length", integer(random, 3))]),
            5 => table([("x-recent-history-length", any_wrong_number(random))]),
            _ => FieldTable::default(),
        },
        "x-consistent-hash" => match random.below(6) {
            0 => table([("hash-header", text("h"))]),
            1 => table([("hash-property", text("message_id"))]),
            2 => table([("hash-header", text("h")), ("hash-property", text("message_id"))]),
            3 => table([("hash-property", text("priority"))]),
            _ => FieldTable::default(),
        },
        _ => FieldTable::default(),
    }
}

fn any_wrong_number(random: &mut Random) -> AMQPValue {
    match random.below(3) {
        0 => integer(random, 0),
        1 => integer(random, -1),
        _ => text("two"),
    }
}

/// A binding key, which to a consistent hash is a weight.
pub fn weight(random: &mut Random) -> &'static str {
    any(random, &["1", "1", "2", "10", "0", "-1", "a", "", "1.5"])
}

/// Arguments of an exchange, most of them right.
pub fn exchange_arguments(random: &mut Random, features: Features) -> FieldTable {
    if features.has(Feature::Alternates) {
        let alternate = any(random, &["xa", "xa", "xf", "xd", "amq.topic", "missing"]);
        return table([("alternate-exchange", text(alternate))]);
    }
    match random.below(12) {
        0 | 1 => table([("alternate-exchange", text("xa"))]),
        2 => table([("alternate-exchange", text("missing"))]),
        3 => table([("alternate-exchange", integer(random, 1))]),
        4 => table([("x-unknown", integer(random, 1))]),
        _ => FieldTable::default(),
    }
}

const HEADER_NAMES: [&str; 4] = ["h", "i", "x-h", "void"];

fn header(random: &mut Random) -> (&'static str, AMQPValue) {
    let value = match random.below(9) {
        0 | 1 => integer(random, 1),
        2 => integer(random, 2),
        3 => text("one"),
        4 => AMQPValue::Boolean(true),
        5 => AMQPValue::Void,
        6 => AMQPValue::Double(1.5),
        7 => table_value(),
        _ => text("two"),
    };
    (any(random, &HEADER_NAMES), value)
}

fn table_value() -> AMQPValue {
    AMQPValue::FieldTable(table([("inside", AMQPValue::LongInt(1))]))
}

/// Arguments of a binding to an exchange of any type.
pub fn binding_arguments(random: &mut Random) -> FieldTable {
    let mut entries = Vec::new();
    if random.chance(60) {
        let how = match random.below(12) {
            0..=3 => text("all"),
            4..=7 => text("any"),
            8 => text("all-with-x"),
            9 => text("any-with-x"),
            10 => text("some"),
            _ => AMQPValue::Boolean(true),
        };
        entries.push(("x-match", how));
    }
    for _ in 0..random.below(3) {
        entries.push(header(random));
    }
    table(entries)
}

/// Arguments of a consumer.
pub fn consumer_arguments(random: &mut Random, features: Features) -> FieldTable {
    if features.has(Feature::ConsumerPriorities) {
        let priority = any(random, &[-1, 0, 0, 1, 1, 5]);
        return table([("x-priority", integer(random, priority))]);
    }
    match random.below(14) {
        0 | 1 if !features.has(Feature::SingleActive) => table([("x-priority", integer(random, 5))]),
        2 if !features.has(Feature::SingleActive) => table([("x-priority", integer(random, -3))]),
        3 => table([("x-priority", text("5"))]),
        4 => table([("x-unknown", text("5"))]),
        _ => FieldTable::default(),
    }
}

fn keys(random: &mut Random) -> AMQPValue {
    let mut array = FieldArray::default();
    for _ in 0..random.below(3) {
        array.push(text(routing_key(random)));
    }
    AMQPValue::FieldArray(array)
}

fn headers(random: &mut Random, features: Features) -> FieldTable {
    let mut entries = Vec::new();
    if features.has(Feature::Copies) {
        for name in ["CC", "BCC"] {
            if random.chance(60) {
                entries.push((name, keys(random)));
            }
        }
        return table(entries);
    }
    for _ in 0..random.below(4) {
        entries.push(header(random));
    }
    match random.below(24) {
        0 | 1 => entries.push(("CC", keys(random))),
        2 | 3 => entries.push(("BCC", keys(random))),
        4 => entries.push(("CC", text("a"))),
        5 => entries.push(("BCC", AMQPValue::LongInt(1))),
        6 => {
            let mut array = FieldArray::default();
            array.push(AMQPValue::LongInt(1));
            entries.push(("CC", AMQPValue::FieldArray(array)));
        }
        _ => {}
    }
    table(entries)
}

/// Properties of a message, rarely ones that are refused.
pub fn properties(random: &mut Random, features: Features) -> BasicProperties {
    let mut it = BasicProperties::default();
    if random.chance(30) {
        it = it.with_delivery_mode(if random.chance(1) {
            0
        } else {
            any(random, &[1, 2, 2, 2])
        });
    }
    if random.chance(if features.has(Feature::Copies) { 80 } else { 40 }) {
        it = it.with_headers(headers(random, features));
    }
    if random.chance(10) {
        it = it
            .with_content_type("text/plain".into())
            .with_content_encoding("utf-8".into());
    }
    if random.chance(10) {
        it = it
            .with_correlation_id("1".into())
            .with_message_id("2".into())
            .with_timestamp(3);
    }
    if random.chance(8) {
        it = it
            .with_type("four".into())
            .with_app_id("five".into())
            .with_cluster_id("six".into());
    }
    if random.chance(5) {
        it = it.with_user_id(any(random, &["guest", "guest", "somebody"]).into());
    }
    if random.chance(5) {
        let expirations = ["3600000", "3600000", "abc", "5s", "-1", "", "315360000001", " 5", "1.5"];
        it = it.with_expiration(any(random, &expirations).into());
    }
    features.properties(random, it)
}
