//! Policies, set and cleared over the management API of both brokers.

use crate::features::TTL_MILLIS;
use crate::operations::{Operation, Request};
use crate::values::any;
use leveret_integration_tests::random::Random;
use serde_json::{Map, Value, json};

/// Names of policies and operator policies. No two of a kind ever have the same priority, because which of them counts then is
/// nobody's.
pub const NAMES: [&str; 3] = ["p0", "p1", "p2"];
const KINDS: [&str; 2] = ["policies", "operator-policies"];

/// Stands in a path for the virtual host of the stage.
pub const VIRTUAL_HOST: &str = "VHOST";

fn path(kind: &str, name: &str) -> String {
    format!("/api/{kind}/{VIRTUAL_HOST}/{name}")
}

/// Sets a policy of clients or of operators.
pub fn set(random: &mut Random) -> Operation {
    let kind = any(random, &["policies", "policies", "policies", "operator-policies"]);
    let number = random.below(NAMES.len());
    let patterns = ["^q", "^q0$", "^q[12]", "^x", "^(q0|xd)$", "", "nothing", "("];
    let patterns = if random.chance(5) {
        &patterns[..]
    } else {
        &patterns[..7]
    };
    let applies_to = if kind == "policies" {
        any(random, &["queues", "queues", "all", "all", "exchanges"])
    } else {
        "queues"
    };
    let body = json!({
        "pattern": any(random, patterns),
        "apply-to": applies_to,
        "priority": number + 3 * random.below(3),
        "definition": definition(random, kind == "policies"),
    });
    Operation::Request(Request {
        method: "PUT",
        path: path(kind, NAMES[number]),
        body: body.to_string(),
    })
}

/// Gives `q0` and `q1` another time to live, which is over when a step has rested. None of these policies is ever cleared: a
/// message that lives for ever would shield at RabbitMQ those behind it.
pub fn set_ttl(random: &mut Random) -> Operation {
    if random.chance(70) {
        return set_ttl_of_clients(random);
    }
    let definition = json!({"message-ttl": any(random, &TTL_MILLIS)});
    ttl_request(KINDS[1], definition)
}

/// The same by a policy of clients, which may say where dead letters go.
pub fn set_ttl_of_clients(random: &mut Random) -> Operation {
    let mut definition = json!({"message-ttl": any(random, &TTL_MILLIS)});
    if random.chance(70) {
        definition["dead-letter-exchange"] = "".into();
        if random.chance(80) {
            let key = any(random, &["q0", "q1", "q1", "q2", "q2", "missing"]);
            definition["dead-letter-routing-key"] = key.into();
        }
    }
    ttl_request(KINDS[0], definition)
}

fn ttl_request(kind: &str, definition: Value) -> Operation {
    let body = json!({"pattern": "^q[01]$", "apply-to": "queues", "definition": definition});
    Operation::Request(Request {
        method: "PUT",
        path: path(kind, NAMES[0]),
        body: body.to_string(),
    })
}

/// Clears a policy that may be there.
pub fn clear(random: &mut Random) -> Operation {
    Operation::Request(clearing(any(random, &KINDS), any(random, &NAMES)))
}

fn clearing(kind: &str, name: &str) -> Request {
    Request {
        method: "DELETE",
        path: path(kind, name),
        body: String::new(),
    }
}

/// What clears all that a sequence can set.
pub fn clear_all() -> impl Iterator<Item = Request> {
    KINDS
        .into_iter()
        .flat_map(|kind| NAMES.into_iter().map(move |name| clearing(kind, name)))
}

/// One to three keys. Operators have fewer to choose from.
fn definition(random: &mut Random, of_clients: bool) -> Map<String, Value> {
    let mut definition = Map::new();
    for _ in 0..=random.below(3) {
        let (key, value) = match random.below(if of_clients { 9 } else { 4 }) {
            0 => ("max-length", json!(random.below(4))),
            1 => ("max-length-bytes", json!(3 * random.below(4))),
            2 => ("message-ttl", json!(3_600_000)),
            3 => ("expires", json!(3_600_000)),
            4 => (
                "overflow",
                json!(any(random, &["drop-head", "reject-publish", "reject-publish-dlx"])),
            ),
            5 | 6 => ("dead-letter-exchange", json!(any(random, &["", "xf", "xd", "missing"]))),
            7 => ("dead-letter-routing-key", json!(any(random, &["q1", "q2", "a.b"]))),
            _ => ("alternate-exchange", json!(any(random, &["xa", "xf", "missing"]))),
        };
        definition.insert(key.into(), value);
    }
    if random.chance(5) {
        let (key, value) = any(random, &[("max-length", -1), ("message-ttl", -1), ("unknown", 1)]);
        definition.insert(key.into(), json!(value));
    }
    definition
}
