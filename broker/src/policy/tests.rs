use serde_json::json;

use super::*;
use crate::queue::ByPolicy;

fn spec(name: &str, pattern: &str, definition: Value) -> PolicySpec {
    PolicySpec {
        name: name.to_owned(),
        pattern: pattern.to_owned(),
        definition: definition.as_object().unwrap().clone(),
        ..PolicySpec::default()
    }
}

fn refusal(kind: PolicyKind, definition: Value) -> String {
    Policy::new(kind, spec("p", "", definition)).unwrap_err().to_string()
}

fn applied(policies: &Policies, name: &str, target: Target) -> (String, String) {
    policies.matching(name, target).names()
}

const CLASSIC: Target = Target::Queue(QueueType::Classic);
const QUORUM: Target = Target::Queue(QueueType::Quorum);

#[test]
fn the_matching_policy_of_the_highest_priority_applies() {
    let mut policies = Policies::default();
    let ttl = || json!({"message-ttl": 1});
    for (name, pattern, priority) in [
        ("low", "", -5),
        ("orders", "^orders\\.", 10),
        ("b", "x$", 0),
        ("a", "x$", 0),
    ] {
        let spec = PolicySpec {
            priority,
            ..spec(name, pattern, ttl())
        };
        policies.set(PolicyKind::User, Policy::new(PolicyKind::User, spec).unwrap());
    }
    for (queue, policy) in [
        ("orders.x", "orders"),
        ("other", "low"),
        ("x", "a"),
        ("my-orders.y", "low"),
    ] {
        assert_eq!(applied(&policies, queue, CLASSIC), (policy.to_owned(), String::new()));
    }
    // A policy of the same name is replaced, and what it hid comes back when it goes.
    let replacement = Policy::new(PolicyKind::User, spec("orders", "^none", ttl())).unwrap();
    policies.set(PolicyKind::User, replacement);
    assert_eq!(policies.of(PolicyKind::User).len(), 4);
    assert_eq!(applied(&policies, "orders.x", CLASSIC).0, "a");
    assert!(policies.clear(PolicyKind::User, "a"));
    assert!(!policies.clear(PolicyKind::User, "a"));
    assert!(!policies.clear(PolicyKind::Operator, "b"));
    assert_eq!(applied(&policies, "orders.x", CLASSIC).0, "b");
}

#[test]
fn a_policy_applies_to_what_it_is_for() {
    for (apply_to, exchange, classic, quorum) in [
        ("all", true, true, true),
        ("exchanges", true, false, false),
        ("queues", false, true, true),
        ("classic_queues", false, true, false),
        ("quorum_queues", false, false, true),
        ("streams", false, false, false),
    ] {
        let spec = PolicySpec {
            apply_to: ApplyTo::parse(apply_to).unwrap(),
            ..spec("p", "", json!({"max-length": 1}))
        };
        assert_eq!(spec.apply_to.name(), apply_to);
        let stored = serde_json::to_value(&spec).unwrap();
        assert_eq!(stored["apply-to"], apply_to);
        let mut policies = Policies::default();
        policies.set(PolicyKind::User, Policy::new(PolicyKind::User, spec).unwrap());
        let applies = |target| !applied(&policies, "any", target).0.is_empty();
        assert_eq!(
            [Target::Exchange, CLASSIC, QUORUM].map(applies),
            [exchange, classic, quorum],
            "{apply_to}"
        );
    }
    assert!(
        ApplyTo::parse("Queues")
            .unwrap_err()
            .to_string()
            .starts_with("unknown apply-to 'Queues'")
    );
}

#[test]
fn every_key_has_its_check() {
    for definition in [
        json!({"message-ttl": 60000, "expires": 1, "max-length": 0, "max-length-bytes": 5, "overflow": "reject-publish"}),
        json!({"dead-letter-exchange": "dlx", "dead-letter-routing-key": "k", "dead-letter-strategy": "at-least-once"}),
        json!({"dead-letter-routing-key": "the exchange may come from the queue"}),
        json!({"delivery-limit": -1, "consumer-timeout": 1000}),
        json!({"delayed-retry-type": "failed", "delayed-retry-min": 1, "delayed-retry-max": 2}),
        json!({"alternate-exchange": "ae"}),
        json!({"delayed-message": true}),
        json!({"queue-mode": "lazy", "queue-version": 2, "ha-mode": "all", "max-age": "1D"}),
    ] {
        Policy::new(PolicyKind::User, spec("p", "", definition)).unwrap();
    }
    for (definition, reason) in [
        (
            json!({"message-ttl": -1}),
            "-1 is not a valid value of 'message-ttl': {value_negative,-1}",
        ),
        (
            json!({"expires": 0}),
            "0 is not a valid value of 'expires': {value_zero,0}",
        ),
        (
            json!({"max-length": "5"}),
            "\"5\" is not a valid value of 'max-length': \"expected integer, got longstr\"",
        ),
        (
            json!({"overflow": "burst"}),
            "\"burst\" is not a valid value of 'overflow': invalid_overflow",
        ),
        (
            json!({"delayed-message": "yes"}),
            "\"yes\" is not a valid value of 'delayed-message': expected a boolean",
        ),
        (
            json!({"alternate-exchange": 1}),
            "1 is not a valid value of 'alternate-exchange': expected a string",
        ),
        (
            json!({"max-lenght": 1}),
            "[{<<\"max-lenght\">>,1}] are not recognised policy settings",
        ),
        (
            json!({"max-priority": 1}),
            "[{<<\"max-priority\">>,1}] are not recognised policy settings",
        ),
        (json!({}), "no policy provided"),
    ] {
        assert_eq!(refusal(PolicyKind::User, definition), reason);
    }
    assert_eq!(
        Policy::new(PolicyKind::User, spec("p", "(", json!({"expires": 1})))
            .unwrap_err()
            .to_string(),
        "bad regular expression '(': unclosed group"
    );
    assert!(Policy::new(PolicyKind::User, spec("", "", json!({"expires": 1}))).is_err());
}

#[test]
fn operators_bound_queues_and_nothing_else() {
    for (key, support, policy) in policy_keys() {
        let value = match key {
            "overflow" => json!("drop-head"),
            "queue-version" => json!(2),
            _ => json!(5),
        };
        let definition = Value::Object([(key.to_owned(), value)].into_iter().collect());
        let result = Policy::new(PolicyKind::Operator, spec("p", "", definition));
        let may = policy == ByPolicy::UsersAndOperators;
        assert_eq!(result.is_ok(), may, "{key} {support:?}: {result:?}");
    }
    assert_eq!(
        refusal(PolicyKind::Operator, json!({"dead-letter-exchange": "dlx"})),
        "'dead-letter-exchange' is not a recognised operator policy setting"
    );
}

#[test]
fn the_effective_definition_has_the_smaller_limits_and_the_operators_overflow() {
    let mut policies = Policies::default();
    let user = json!({
        "message-ttl": 10, "max-length": 100, "overflow": "drop-head", "delivery-limit": -1,
        "dead-letter-exchange": "dlx",
    });
    let operator = json!({
        "message-ttl": 20, "max-length": 50, "overflow": "reject-publish", "delivery-limit": 7, "expires": 1000,
    });
    policies.set(
        PolicyKind::User,
        Policy::new(PolicyKind::User, spec("u", "", user)).unwrap(),
    );
    policies.set(
        PolicyKind::Operator,
        Policy::new(PolicyKind::Operator, spec("o", "^q", operator)).unwrap(),
    );
    let applied = policies.matching("q", CLASSIC);
    assert_eq!(
        Value::Object(applied.definition()),
        json!({
            "message-ttl": 10, "max-length": 50, "overflow": "reject-publish", "delivery-limit": 7,
            "dead-letter-exchange": "dlx", "expires": 1000,
        })
    );
    let effective = applied.effective_arguments(&QueueArguments::default());
    assert_eq!(effective.message_ttl_ms, Some(10));
    assert_eq!(effective.max_length, Some(50));
    assert_eq!(effective.delivery_limit, Some(7));
    assert_eq!(effective.expires_ms, Some(1000));
    let other = policies.matching("other", CLASSIC);
    assert_eq!(
        other.effective_arguments(&QueueArguments::default()).max_length,
        Some(100)
    );
}
