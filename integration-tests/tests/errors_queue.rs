//! The catalogue (ERRORS.md in this package), section 6, without permissions, limits and streams. Test names begin with the row.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::{arguments, text};
use leveret_integration_tests::raw::{AMQPClass, AMQPValue, Method, RawClient, make, queue};

/// A client with channel 1, and a name for a queue of this test.
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

#[test]
fn row_068_a_queue_that_does_not_exist() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "missing");
    let methods = vec![
        make::queue_declare_passive(&name).wrap(),
        make::basic_consume(&name).wrap(),
        make::basic_get(&name).wrap(),
        make::queue_purge(&name).wrap(),
        make::queue_bind(&name, "amq.direct", "key").wrap(),
    ];
    let text = format!("NOT_FOUND - no queue '{name}' in vhost '/'");
    assert_all_refused(&mut client, methods, 404, &text);

    client.send(1, make::queue_bind(&name, "no exchange either", "key"));
    let text = "NOT_FOUND - no exchange 'no exchange either' in vhost '/'";
    client.expect_channel_close(1, 404, (50, 20), text);
}

#[test]
fn row_069_a_reserved_name() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "amq.custom");
    client.send(1, make::queue_declare(&name));
    let text = format!("ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'");
    client.expect_channel_close(1, 403, (50, 10), text);
}

fn locked(name: &str) -> String {
    let full = format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be \
         originally declared on another connection or the exclusive property value does not match that of the \
         original declaration."
    );
    full.chars().take(255).collect()
}

#[test]
fn row_070_an_exclusive_queue_of_another_connection() {
    let broker = TestBroker::get();
    let (mut owner, name) = client_and_name(&broker, "x");
    let _ok = owner.call(1, make::queue_declare(&name));

    let mut other = RawClient::with_channel(broker.amqp());
    let methods = vec![
        make::queue_declare(&name).wrap(),
        make::queue_declare_passive(&name).wrap(),
        make::queue_bind(&name, "amq.direct", "key").wrap(),
        make::queue_purge(&name).wrap(),
        make::queue_delete(&name).wrap(),
        make::basic_consume(&name).wrap(),
        make::basic_get(&name).wrap(),
    ];
    assert_all_refused(&mut other, methods, 405, &locked(&name));
    // Publishing to it is everybody's right.
    other.publish_to(1, "", &name, b"from a stranger");
    let _ok = owner.call(1, make::basic_consume(&name));
    assert_eq!(owner.expect_content(1).body, b"from a stranger");
}

#[test]
fn row_071_the_exclusive_flag_changed() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "x");
    let exclusive = make::queue_declare(&name);
    let shared = queue::Declare {
        exclusive: false,
        ..exclusive.clone()
    };
    for (first, second) in [(&exclusive, &shared), (&shared, &exclusive)] {
        let _ok = client.call(1, first.clone());
        client.send(1, second.clone());
        client.expect_channel_close(1, 405, (50, 10), locked(&name));
        let _ok = client.call(1, make::queue_delete(&name));
    }
}

fn inequivalent(name: &str, argument: &str, received: &str, current: &str) -> String {
    format!(
        "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{name}' in vhost '/': \
         received {received} but current is {current}"
    )
}

#[test]
fn rows_072_and_073_a_queue_declared_again_with_other_flags() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "declared");
    let plain = queue::Declare {
        exclusive: false,
        ..make::queue_declare(&name)
    };
    let durable = queue::Declare {
        durable: true,
        ..plain.clone()
    };
    let auto_delete = queue::Declare {
        auto_delete: true,
        ..plain.clone()
    };
    for (first, second, argument) in [(&plain, &durable, "durable"), (&plain, &auto_delete, "auto_delete")] {
        for (first, second, received, current) in [(first, second, "true", "false"), (second, first, "false", "true")] {
            let _ok = client.call(1, first.clone());
            client.send(1, second.clone());
            let text = inequivalent(&name, argument, &format!("'{received}'"), &format!("'{current}'"));
            client.expect_channel_close(1, 406, (50, 10), text);
            let _ok = client.call(1, make::queue_delete(&name));
        }
    }
}

#[test]
fn rows_074_075_and_076_a_queue_declared_again_with_other_arguments() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "declared");
    let with = |ttl: i32| make::queue_declare_with(&name, arguments([("x-message-ttl", AMQPValue::LongInt(ttl))]));
    let without = make::queue_declare(&name);
    let typed = |ttl: i32| format!("the value '{ttl}' of type 'signedint'");
    let cases = [
        (with(1000), with(60_000), "'60000'".to_owned(), "'1000'".to_owned()),
        (without.clone(), with(60_000), typed(60_000), "none".to_owned()),
        (with(1000), without, "none".to_owned(), typed(1000)),
    ];
    for (first, second, received, current) in cases {
        let _ok = client.call(1, first);
        client.send(1, second);
        let text = inequivalent(&name, "x-message-ttl", &received, &current);
        client.expect_channel_close(1, 406, (50, 10), text);
        let _ok = client.call(1, make::queue_delete(&name));
    }
}

#[test]
fn row_077_absent_classic_and_quorum_are_the_same_queue_type() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "typed");
    let of_type = |kind: &str| make::queue_declare_with(&name, arguments([("x-queue-type", text(kind))]));
    let declares = [make::queue_declare(&name), of_type("classic"), of_type("quorum")];
    for first in &declares {
        let _ok = client.call(1, first.clone());
        for second in &declares {
            let _ok = client.call(1, second.clone());
        }
        let _ok = client.call(1, make::queue_delete(&name));
    }
}

#[test]
fn row_078_a_queue_that_is_neither_durable_nor_exclusive_is_taken() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "transient");
    let declare = queue::Declare {
        exclusive: false,
        ..make::queue_declare(&name)
    };
    let _ok = client.call(1, declare);
    let _ok = client.call(1, make::queue_delete(&name));
}

/// Declares a queue with one argument and expects the explanation.
fn assert_argument_refused(client: &mut RawClient, name: &str, argument: &str, value: AMQPValue, explanation: &str) {
    client.send(1, make::queue_declare_with(name, arguments([(argument, value)])));
    let text = format!("PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/'{explanation}");
    client.expect_channel_close(1, 406, (50, 10), text);
}

const INTEGER_ARGUMENTS: [&str; 4] = ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes"];

#[test]
fn row_079_an_argument_that_is_no_integer() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    for argument in INTEGER_ARGUMENTS {
        let explanation = r#": "expected integer, got longstr""#;
        assert_argument_refused(&mut client, &name, argument, text("1000"), explanation);
    }
}

#[test]
fn row_080_a_negative_argument() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    for argument in INTEGER_ARGUMENTS {
        let minus_one = AMQPValue::LongInt(-1);
        assert_argument_refused(&mut client, &name, argument, minus_one, ": {value_negative,-1}");
    }
}

#[test]
fn row_081_x_expires_of_zero() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    assert_argument_refused(
        &mut client,
        &name,
        "x-expires",
        AMQPValue::LongInt(0),
        ": {value_zero,0}",
    );
}

#[test]
fn row_082_more_than_ten_years() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    let ten_years_and_one_milliseconds = 315_360_000_001_i64;
    for argument in ["x-message-ttl", "x-expires"] {
        let value = AMQPValue::LongLongInt(ten_years_and_one_milliseconds);
        assert_argument_refused(&mut client, &name, argument, value, ": {value_too_large,315360000001}");
    }
}

#[test]
fn row_083_x_max_priority_above_255() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    let value = AMQPValue::LongInt(256);
    assert_argument_refused(
        &mut client,
        &name,
        "x-max-priority",
        value,
        ": {max_value_exceeded,256}",
    );
}

#[test]
fn row_084_x_overflow_unknown_or_no_string() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    assert_argument_refused(
        &mut client,
        &name,
        "x-overflow",
        text("drop-tail"),
        ": invalid_overflow",
    );
    let value = AMQPValue::LongInt(1);
    assert_argument_refused(
        &mut client,
        &name,
        "x-overflow",
        value,
        ": {unacceptable_type,signedint}",
    );
}

#[test]
fn row_085_a_dead_letter_key_without_an_exchange() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    let explanation = ": routing_key_but_no_dlx_defined";
    assert_argument_refused(
        &mut client,
        &name,
        "x-dead-letter-routing-key",
        text("key"),
        explanation,
    );
}

#[test]
fn row_086_a_dead_letter_exchange_that_is_no_string() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    let value = AMQPValue::LongInt(1);
    client.send(
        1,
        make::queue_declare_with(&name, arguments([("x-dead-letter-exchange", value)])),
    );
    let text = format!(
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue '{name}' in vhost '/'"
    );
    client.expect_channel_close(1, 406, (50, 10), text);
}

#[test]
fn row_088_x_single_active_consumer_that_is_no_boolean() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    let (argument, value) = ("x-single-active-consumer", AMQPValue::LongInt(1));
    assert_argument_refused(&mut client, &name, argument, value, ": {unacceptable_type,signedint}");
}

#[test]
fn row_089_an_unknown_queue_type() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    let explanation = r#": "unsupported queue type 'foo'""#;
    assert_argument_refused(&mut client, &name, "x-queue-type", text("foo"), explanation);
}

#[test]
fn row_090_queue_version_1() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    let explanation = r#": "unsupported queue version '1'""#;
    assert_argument_refused(
        &mut client,
        &name,
        "x-queue-version",
        AMQPValue::LongInt(1),
        explanation,
    );
    let declare = make::queue_declare_with(&name, arguments([("x-queue-version", AMQPValue::LongInt(2))]));
    let _ok = client.call(1, declare);
}

#[test]
fn rows_093_and_094_queues_of_type_quorum_take_any_flags_and_names() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "quorum");
    let quorum = make::queue_declare_with(&name, arguments([("x-queue-type", text("quorum"))]));
    let declares = [
        quorum.clone(),
        queue::Declare {
            exclusive: false,
            auto_delete: true,
            ..quorum.clone()
        },
        queue::Declare {
            queue: "".into(),
            ..quorum
        },
    ];
    for declare in declares {
        let declared = client.call(1, declare).queue;
        let _ok = client.call(1, make::queue_delete(declared.as_str()));
    }
}

#[test]
fn an_argument_that_nobody_knows_is_taken_and_not_compared() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    let _ok = client.call(
        1,
        make::queue_declare_with(&name, arguments([("x-unheard-of", text("value"))])),
    );
    let _ok = client.call(1, make::queue_declare(&name));
}

#[test]
fn row_099_deleting_a_queue_in_use_or_with_messages() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "q");
    client.open_channel(2);
    let _ok = client.call(1, make::queue_declare(&name));
    let _ok = client.call(2, make::basic_consume(&name));
    let if_unused = queue::Delete {
        if_unused: true,
        ..make::queue_delete(&name)
    };
    client.send(1, if_unused);
    let text = format!("PRECONDITION_FAILED - queue '{name}' in vhost '/' in use");
    client.expect_channel_close(1, 406, (50, 40), text);

    let name = broker.unique("q");
    let _ok = client.call(1, make::queue_declare(&name));
    client.publish_to(1, "", &name, b"a message");
    let if_empty = queue::Delete {
        if_empty: true,
        ..make::queue_delete(&name)
    };
    client.send(1, if_empty);
    let text = format!("PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty");
    client.expect_channel_close(1, 406, (50, 40), text);
}

#[test]
fn row_100_conditions_of_a_delete_are_honoured_for_quorum_queues() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "quorum");
    let declare = make::queue_declare_with(&name, arguments([("x-queue-type", text("quorum"))]));
    let _ok = client.call(1, declare);
    client.publish_to(1, "", &name, b"a message");
    let if_empty = queue::Delete {
        if_unused: true,
        if_empty: true,
        ..make::queue_delete(&name)
    };
    client.send(1, if_empty.clone());
    let text = format!("PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty");
    client.expect_channel_close(1, 406, (50, 40), text);
    assert_eq!(client.call(1, make::queue_purge(&name)).message_count, 1);
    assert_eq!(client.call(1, if_empty).message_count, 0);
}

#[test]
fn row_102_deleting_a_missing_queue_is_no_error() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "missing");
    assert_eq!(client.call(1, make::queue_delete(&name)).message_count, 0);
}

#[test]
fn row_103_an_empty_name_where_no_queue_was_declared() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let methods = vec![
        make::queue_bind("", "amq.direct", "key").wrap(),
        make::queue_unbind("", "amq.direct", "key").wrap(),
        make::queue_purge("").wrap(),
        make::queue_delete("").wrap(),
        make::basic_consume("").wrap(),
        make::basic_get("").wrap(),
    ];
    assert_all_refused(&mut client, methods, 404, "NOT_FOUND - no previously declared queue");
}

#[test]
fn row_106_binding_a_reply_queue() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, make::queue_bind("amq.rabbitmq.reply-to", "amq.direct", "key"));
    let text = "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue";
    client.expect_channel_close(1, 403, (50, 20), text);
}

#[test]
fn row_107_unbinding_what_is_not_bound_is_no_error() {
    let broker = TestBroker::get();
    let (mut client, name) = client_and_name(&broker, "missing");
    let queue = client.call(1, make::queue_declare("")).queue;
    let _ok = client.call(1, make::queue_unbind(queue.as_str(), "amq.direct", "key"));
    let _ok = client.call(1, make::queue_unbind(&name, "amq.direct", "key"));
    let _ok = client.call(1, make::queue_unbind(queue.as_str(), &name, "key"));
    let _ok = client.call(1, make::exchange_unbind(&name, "amq.direct"));
}
