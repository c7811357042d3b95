//! The catalogue (ERRORS.md in this package), section 5, without permissions and plug-ins. Test names begin with the row.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::{arguments, text};
use leveret_integration_tests::raw::{AMQPClass, AMQPValue, BasicProperties, Method, RawClient, exchange, make, queue};

/// A client with channel 1, and a name for an exchange or queue of this test.
fn client_and_name(broker: &TestBroker, name: &str) -> (RawClient, String) {
    (RawClient::with_channel(broker.amqp()), broker.unique(name))
}

/// Sends each method and expects the same channel close for all of them.
fn assert_all_refused(client: &mut RawClient, methods: Vec<AMQPClass>, code: u16, text: &str) {
    for method in methods {
        let ids = (method.get_amqp_class_id(), method.get_amqp_method_id());
        client.send(1, method);
        client.expect_channel_close(1, code, ids, text);
    }
}

fn passive(name: &str) -> exchange::Declare {
    exchange::Declare {
        passive: true,
        ..make::exchange_declare(name, "direct")
    }
}

#[test]
fn row_049_an_exchange_that_does_not_exist() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "missing");
    let queue = client.call(1, make::queue_declare("")).queue;
    let methods = vec![
        passive(&name).wrap(),
        make::queue_bind(queue.as_str(), &name, "key").wrap(),
        make::exchange_bind("amq.direct", &name).wrap(),
        make::exchange_bind(&name, "amq.direct").wrap(),
    ];
    let text = format!("NOT_FOUND - no exchange '{name}' in vhost '/'");
    assert_all_refused(&mut client, methods, 404, &text);
    client.publish_to(1, &name, "key", b"a body that is read before the refusal");
    client.expect_channel_close(1, 404, (60, 40), text);
}

#[test]
fn row_050_a_reserved_name() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "amq.custom");
    client.send(1, make::exchange_declare(&name, "direct"));
    let text = format!("ACCESS_REFUSED - exchange name '{name}' contains reserved prefix 'amq.*'");
    client.expect_channel_close(1, 403, (40, 10), text);
    // Asking whether it exists is another matter.
    client.send(1, passive(&name));
    client.expect_channel_close(
        1,
        404,
        (40, 10),
        format!("NOT_FOUND - no exchange '{name}' in vhost '/'"),
    );
}

#[test]
fn row_051_operations_on_the_default_exchange() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue;
    let queue = queue.as_str();
    let methods = vec![
        make::exchange_declare("", "direct").wrap(),
        passive("").wrap(),
        make::exchange_delete("").wrap(),
        make::queue_bind(queue, "", "key").wrap(),
        make::queue_unbind(queue, "", "key").wrap(),
        make::exchange_bind("amq.fanout", "").wrap(),
        make::exchange_bind("", "amq.fanout").wrap(),
        make::exchange_unbind("amq.fanout", "").wrap(),
        make::exchange_unbind("", "amq.fanout").wrap(),
    ];
    let text = "ACCESS_REFUSED - operation not permitted on the default exchange";
    assert_all_refused(&mut client, methods, 403, text);
}

#[test]
fn row_052_an_unknown_exchange_type() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "odd");
    client.send(1, make::exchange_declare(&name, "no-such-type"));
    let text = "PRECONDITION_FAILED - unknown exchange type 'no-such-type'";
    client.expect_channel_close(1, 406, (40, 10), text);
}

#[test]
fn rows_053_and_054_an_exchange_declared_again_otherwise() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "declared");
    let first = make::exchange_declare(&name, "direct");
    let _ok = client.call(1, first.clone());
    let cases = [
        (make::exchange_declare(&name, "fanout"), "type", "fanout", "direct"),
        (
            exchange::Declare {
                durable: true,
                ..first.clone()
            },
            "durable",
            "true",
            "false",
        ),
        (
            exchange::Declare {
                auto_delete: true,
                ..first.clone()
            },
            "auto_delete",
            "true",
            "false",
        ),
        (
            exchange::Declare {
                internal: true,
                ..first.clone()
            },
            "internal",
            "true",
            "false",
        ),
    ];
    for (declare, argument, received, current) in cases {
        client.send(1, declare);
        let text = format!(
            "PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange '{name}' in vhost '/': \
             received '{received}' but current is '{current}'"
        );
        client.expect_channel_close(1, 406, (40, 10), text);
    }
    let _ok = client.call(1, first);
}

fn with_alternate(name: &str, alternate: AMQPValue) -> exchange::Declare {
    exchange::Declare {
        arguments: arguments([("alternate-exchange", alternate)]),
        ..make::exchange_declare(name, "direct")
    }
}

#[test]
fn row_055_another_alternate_exchange() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "declared");
    let _ok = client.call(1, with_alternate(&name, text("ae")));
    let prefix = format!(
        "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange '{name}' in vhost '/': received "
    );
    client.send(1, make::exchange_declare(&name, "direct"));
    let text_of_none = format!("{prefix}none but current is the value 'ae' of type 'longstr'");
    client.expect_channel_close(1, 406, (40, 10), text_of_none);
    client.send(1, with_alternate(&name, text("other")));
    client.expect_channel_close(1, 406, (40, 10), format!("{prefix}'other' but current is 'ae'"));

    // Arguments that mean nothing are not compared.
    let unknown = exchange::Declare {
        arguments: arguments([("alternate-exchange", text("ae")), ("x-unknown", text("value"))]),
        ..make::exchange_declare(&name, "direct")
    };
    let _ok = client.call(1, unknown);
}

#[test]
fn row_056_an_alternate_exchange_that_is_no_string() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "declared");
    client.send(1, with_alternate(&name, AMQPValue::LongInt(1)));
    let text = format!(
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange '{name}' in vhost '/'"
    );
    client.expect_channel_close(1, 406, (40, 10), text);
}

#[test]
fn row_057_deleting_a_predeclared_exchange() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    for name in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"] {
        client.send(1, make::exchange_delete(name));
        let text = format!("ACCESS_REFUSED - deletion of system exchange '{name}' in vhost '/' not allowed");
        client.expect_channel_close(1, 403, (40, 20), text);
    }
}

#[test]
fn row_058_deleting_an_exchange_in_use() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "used");
    let _ok = client.call(1, make::exchange_declare(&name, "direct"));
    let queue = client.call(1, make::queue_declare("")).queue;
    let _ok = client.call(1, make::queue_bind(queue.as_str(), &name, "key"));
    let if_unused = exchange::Delete {
        if_unused: true,
        ..make::exchange_delete(&name)
    };
    client.send(1, if_unused.clone());
    let text = format!("PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use");
    client.expect_channel_close(1, 406, (40, 20), text);
    let _ok = client.call(1, make::queue_unbind(queue.as_str(), &name, "key"));
    let _ok = client.call(1, if_unused);
    let _ok = client.call(1, make::exchange_delete(&name));
}

#[test]
fn row_059_deleting_a_missing_exchange_is_no_error() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "missing");
    let _ok = client.call(1, make::exchange_delete(&name));
}

#[test]
fn row_063_a_headers_binding_with_a_bad_x_match() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue;
    let cases = [
        (
            text("foo"),
            "Invalid x-match field value <<\"foo\">>; expected all, any, all-with-x, or any-with-x",
        ),
        (
            AMQPValue::Boolean(true),
            "Invalid x-match field type bool (value true); expected longstr",
        ),
    ];
    for (x_match, explanation) in cases {
        let bind = queue::Bind {
            arguments: arguments([("x-match", x_match)]),
            ..make::queue_bind(queue.as_str(), "amq.headers", "")
        };
        client.send(1, bind);
        client.expect_channel_close(1, 406, (50, 20), format!("PRECONDITION_FAILED - {explanation}"));
    }
}

#[test]
fn row_064_any_number_of_hash_wildcards_may_be_bound() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue;
    let pattern = "#.a.#.b.#.c.#";
    let _ok = client.call(1, make::queue_bind(queue.as_str(), "amq.topic", pattern));
    let _ok = client.call(1, make::basic_consume(queue.as_str()));
    client.publish_to(1, "amq.topic", "x.c.b.a", b"the words are there, but in another order");
    client.publish_to(1, "amq.topic", "x.a.y.b.z.z.c", b"matches");
    assert_eq!(client.expect_content(1).body, b"matches");
}

/// A pattern that makes a naive matcher try every way to spread the words over the wildcards.
#[test]
fn row_064_hostile_patterns_are_matched_at_once() {
    let broker = TestBroker::get();
    if broker.is_external() {
        // RabbitMQ before 4.3 spends hours on this.
        return;
    }
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue;
    let pattern = format!("{}b", "#.a.".repeat(40));
    let _ok = client.call(1, make::queue_bind(queue.as_str(), "amq.topic", &pattern));
    let _ok = client.call(1, make::queue_bind(queue.as_str(), "amq.topic", "end"));
    let _ok = client.call(1, make::basic_consume(queue.as_str()));
    for _ in 0..10 {
        client.publish_to(1, "amq.topic", &vec!["a"; 100].join("."), b"does not end in b");
    }
    client.publish_to(1, "amq.topic", "end", b"still quick");
    assert_eq!(client.expect_content(1).body, b"still quick");
}

#[test]
fn the_arguments_are_part_of_a_binding() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue;
    let bind = |value: i32| queue::Bind {
        arguments: arguments([("key", AMQPValue::LongInt(value))]),
        ..make::queue_bind(queue.as_str(), "amq.headers", "")
    };
    let _ok = client.call(1, bind(1));
    let _ok = client.call(1, bind(1));
    let _ok = client.call(1, bind(2));
    let unbind = queue::Unbind {
        arguments: arguments([("key", AMQPValue::LongInt(1))]),
        ..make::queue_unbind(queue.as_str(), "amq.headers", "")
    };
    let _ok = client.call(1, unbind);
    let _ok = client.call(1, make::basic_consume(queue.as_str()));
    for value in [1, 2] {
        let headers = arguments([("key", AMQPValue::LongInt(value))]);
        let properties = BasicProperties::default().with_headers(headers);
        client.publish(1, make::basic_publish("amq.headers", ""), properties, &[value as u8]);
    }
    assert_eq!(
        client.expect_content(1).body,
        [2],
        "the binding for 2 is still there, and only that"
    );
}

#[test]
fn row_065_a_weight_that_is_none() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "hashed");
    let _ok = client.call(1, make::exchange_declare(&name, "x-consistent-hash"));
    let queue = client.call(1, make::queue_declare("")).queue;
    for (key, explanation) in [
        ("abc", "The binding key must be an integer: <<\"abc\">>"),
        ("0", "The binding key must be greater than 0"),
        ("10001", "The binding key must not exceed 10000"),
    ] {
        client.send(1, make::queue_bind(queue.as_str(), &name, key));
        client.expect_channel_close(1, 406, (50, 20), format!("PRECONDITION_FAILED - {explanation}"));
    }
}

/// Declares an exchange with one or two arguments that are refused.
fn assert_argument_refused<const N: usize>(kind: &str, given: [(&str, AMQPValue); N], explanation: &str) {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "refused");
    let declare = exchange::Declare {
        arguments: arguments(given),
        ..make::exchange_declare(&name, kind)
    };
    client.send(1, declare);
    client.expect_channel_close(1, 406, (40, 10), format!("PRECONDITION_FAILED - {explanation}"));
}

#[test]
fn row_066_a_consistent_hash_over_too_much_or_nothing() {
    let kind = "x-consistent-hash";
    let both = [("hash-header", text("a")), ("hash-property", text("message_id"))];
    assert_argument_refused(kind, both, "hash-header and hash-property are mutually exclusive");
    let unknown = [("hash-property", text("app_id"))];
    assert_argument_refused(kind, unknown, "Unsupported property: app_id");
}

#[test]
fn row_067_a_recent_history_without_length() {
    let explanation = "Invalid argument 0, 'x-recent-history-length' must be a positive integer";
    let length = [("x-recent-history-length", AMQPValue::LongInt(0))];
    assert_argument_refused("x-recent-history", length, explanation);
}
