//! Policies and limits in session scripts: what an operator would set with `leveret ctl`.

use leveret::broker::Broker;
use leveret::policy::{ApplyTo, PolicyKind, PolicySpec};
use leveret::vhost::Actor;
use leveret::vhost::redeclare::RedeclareRule;
use serde_json::{Map, Value};

use crate::virtual_broker::words::Words;

/// Executes a command in the virtual host `/`; what it says.
pub fn run(broker: &Broker, command: &str, words: &Words) -> String {
    let vhost = broker.vhost("/").unwrap();
    let kind = if words.has("operator") {
        PolicyKind::Operator
    } else {
        PolicyKind::User
    };
    let failure = match command {
        "policy" => vhost
            .set_policy(kind, policy(words))
            .err()
            .map(|error| error.to_string()),
        "clear-policy" => vhost
            .clear_policy(kind, words.at(0))
            .err()
            .map(|error| error.to_string()),
        "alter" => {
            let mut changes = json(words).as_object().unwrap().clone();
            changes
                .values_mut()
                .filter(|value| **value == "none")
                .for_each(|value| *value = Value::Null);
            let altered = vhost.alter_queue(&Actor::operator(), words.at(0), &changes);
            altered.err().map(|error| error.to_string())
        }
        "redeclare-rule" => {
            let rule = RedeclareRule::parse(words.at(0));
            let described = broker.describe_vhost("/", |about| about.redeclare_rule = rule);
            described.err().map(|error| error.to_string())
        }
        "vhost-limits" => {
            let limits = vhost.limits().updated(&json(words).to_string()).unwrap();
            vhost.set_limits(limits).err().map(|error| error.to_string())
        }
        "user-limits" => {
            let limits = broker
                .user_limits(words.at(0))
                .updated(&json(words).to_string())
                .unwrap();
            let set = broker.set_user_limits(words.at(0), limits);
            set.err().map(|error| error.to_string())
        }
        _ => return in_force(broker, words.at(0)),
    };
    failure.map(|text| format!("refused: {text}\n")).unwrap_or_default()
}

fn policy(words: &Words) -> PolicySpec {
    PolicySpec {
        name: words.at(0).to_owned(),
        pattern: words.at(1).to_owned(),
        apply_to: ApplyTo::parse(words.value("apply-to").unwrap_or("all")).unwrap(),
        priority: words.value_or("priority", 0),
        definition: match json(words) {
            Value::Object(definition) => definition,
            other => panic!("{other}"),
        },
    }
}

/// All `key=value` words but those that say something about the policy itself.
fn json(words: &Words) -> Value {
    let value = |text: &str| {
        text.parse()
            .map_or_else(|_| Value::from(text), |number: i64| Value::from(number))
    };
    let pairs = words.pairs().filter(|(key, _)| !["apply-to", "priority"].contains(key));
    let map: Map<String, Value> = pairs.map(|(key, text)| (key.to_owned(), value(text))).collect();
    Value::Object(map)
}

/// The policies of a queue, and what is in force by them and its arguments.
fn in_force(broker: &Broker, queue: &str) -> String {
    let queue = broker.vhost("/").unwrap().find_queue(queue).unwrap();
    let in_force = queue.in_force();
    let (policy, operator_policy) = in_force.policies.names();
    let definition = Value::Object(in_force.policies.definition());
    let arguments = &in_force.arguments;
    let limits = [
        ("ttl", arguments.message_ttl_ms),
        ("expires", arguments.expires_ms),
        ("max-length", arguments.max_length),
        ("max-length-bytes", arguments.max_length_bytes),
        ("delivery-limit", arguments.delivery_limit),
    ];
    let mut effective: String = limits
        .iter()
        .filter_map(|(name, limit)| Some(format!(" {name}={}", (*limit)?)))
        .collect();
    effective += &format!(" {:?}", arguments.overflow);
    for name in [&arguments.dead_letter_exchange, &arguments.dead_letter_routing_key]
        .into_iter()
        .flatten()
    {
        effective += &format!(" dead-letter={name}");
    }
    format!(
        "{} policy='{policy}' operator='{operator_policy}' {definition} in force:{effective}\n",
        queue.name
    )
}
