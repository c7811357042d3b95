//! The catalogue (ERRORS.md in this package), section 8, without permissions, alarms and streams. Test names begin with the row.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::{arguments, text};
use leveret_integration_tests::raw::{AMQPValue, BasicProperties, FieldArray, RawClient, basic, exchange, make};

/// Publishes with `properties` to nobody and expects the channel to be closed with 406.
fn assert_properties_refused(client: &mut RawClient, properties: BasicProperties, explanation: &str) {
    client.publish(1, make::basic_publish("", "nobody"), properties, b"body");
    client.expect_channel_close(1, 406, (60, 40), format!("PRECONDITION_FAILED - {explanation}"));
}

#[test]
fn row_128_immediate() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let publish = basic::Publish {
        immediate: true,
        ..make::basic_publish("", "nobody")
    };
    client.publish(1, publish, BasicProperties::default(), b"body");
    client.expect_connection_close(540, (60, 40), "NOT_IMPLEMENTED - immediate=true");
}

/// Only the header is sent: the size is known from it, and nobody should have to take in such a body first.
#[test]
fn row_129_a_body_above_the_configured_maximum() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, make::basic_publish("", "nobody"));
    client.send_header(1, BasicProperties::default(), 134_217_729);
    let text = "PRECONDITION_FAILED - message size 134217729 is larger than configured max size 134217728";
    client.expect_channel_close(1, 406, (60, 40), text);
}

#[test]
fn row_132_an_internal_exchange() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let name = broker.unique("internal");
    let declare = exchange::Declare {
        internal: true,
        ..make::exchange_declare(&name, "fanout")
    };
    let _ok = client.call(1, declare);
    client.publish_to(1, &name, "", b"body");
    let text = format!("ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'");
    client.expect_channel_close(1, 403, (60, 40), text);

    // From another exchange it takes messages.
    let queue = client.call(1, make::queue_declare("")).queue;
    let _ok = client.call(1, make::queue_bind(queue.as_str(), &name, ""));
    let front = broker.unique("front");
    let _ok = client.call(1, make::exchange_declare(&front, "fanout"));
    let _ok = client.call(1, make::exchange_bind(&name, &front));
    let _ok = client.call(1, make::basic_consume(queue.as_str()));
    client.publish_to(1, &front, "", b"through the front");
    assert_eq!(client.expect_content(1).body, b"through the front");
    for exchange in [&name, &front] {
        let _ok = client.call(1, make::exchange_delete(exchange));
    }
}

#[test]
fn row_133_an_expiration_that_is_no_number_of_milliseconds() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let cases = [
        ("abc", "no_integer"),
        ("", "no_integer"),
        ("5s", r#"{leftover_string,"s"}"#),
        ("-1", "{value_negative,-1}"),
        ("315360000001", "{value_too_large,315360000001}"),
    ];
    for (expiration, explanation) in cases {
        let properties = BasicProperties::default().with_expiration(expiration.into());
        let explanation = format!("invalid expiration '{expiration}': {explanation}");
        assert_properties_refused(&mut client, properties, &explanation);
    }
}

#[test]
fn row_134_cc_or_bcc_that_is_no_array() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    for header in ["CC", "BCC"] {
        let properties = BasicProperties::default().with_headers(arguments([(header, text("key"))]));
        let explanation = format!(r#"invalid message: {{unacceptable_type_in_header,"{header}",longstr}}"#);
        assert_properties_refused(&mut client, properties, &explanation);
    }
}

#[test]
fn row_134_cc_and_bcc_are_further_routing_keys() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queues: Vec<String> = (0..3)
        .map(|_| client.call(1, make::queue_declare("")).queue.to_string())
        .collect();
    let keys = |queue: &str| AMQPValue::FieldArray(FieldArray::from(vec![text(queue)]));
    let headers = arguments([("CC", keys(&queues[1])), ("BCC", keys(&queues[2]))]);
    let properties = BasicProperties::default().with_headers(headers);
    client.publish(1, make::basic_publish("", &queues[0]), properties, b"to three");
    for queue in &queues {
        let consume = basic::Consume {
            no_ack: true,
            ..make::basic_consume(queue)
        };
        let _ok = client.call(1, consume);
        let content = client.expect_content(1);
        assert_eq!(content.body, b"to three");
        let headers = content.properties.headers().clone().unwrap_or_default();
        assert!(headers.contains_key("CC"), "{headers:?}");
        assert!(
            !headers.contains_key("BCC"),
            "who else got it blind is nobody's business: {headers:?}"
        );
    }
}

#[test]
fn row_135_a_user_id_of_somebody_else() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let properties = BasicProperties::default().with_user_id("somebody".into());
    let explanation = "user_id property set to 'somebody' but authenticated user was 'guest'";
    assert_properties_refused(&mut client, properties, explanation);
}

#[test]
fn row_136_a_direct_reply_to_without_a_consumer() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let properties = BasicProperties::default().with_reply_to("amq.rabbitmq.reply-to".into());
    assert_properties_refused(&mut client, properties, "fast reply consumer does not exist");
}

fn reply_consumer(no_ack: bool) -> basic::Consume {
    basic::Consume {
        no_ack,
        ..make::basic_consume("amq.rabbitmq.reply-to")
    }
}

#[test]
fn row_137_a_reply_consumer_that_acknowledges_or_is_the_second() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, reply_consumer(false));
    client.expect_channel_close(
        1,
        406,
        (60, 20),
        "PRECONDITION_FAILED - reply consumer cannot acknowledge",
    );
    let _ok = client.call(1, reply_consumer(true));
    client.send(1, reply_consumer(true));
    client.expect_channel_close(1, 406, (60, 20), "PRECONDITION_FAILED - reply consumer already set");
}

#[test]
fn row_138_a_reply_queue_that_is_gone() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let name = "amq.rabbitmq.reply-to.gone.for.good";
    client.send(1, make::queue_declare_passive(name));
    client.expect_channel_close(1, 404, (50, 10), format!("NOT_FOUND - no queue '{name}' in vhost '/'"));
}

/// The order of checks decides which of several mistakes is named.
#[test]
fn the_first_of_several_mistakes_is_named() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let name = broker.unique("missing");
    let everything_wrong = BasicProperties::default()
        .with_reply_to("amq.rabbitmq.reply-to".into())
        .with_expiration("abc".into())
        .with_headers(arguments([("CC", text("key"))]))
        .with_user_id("somebody".into());
    client.publish(1, make::basic_publish(&name, "key"), everything_wrong.clone(), b"body");
    client.expect_channel_close(
        1,
        404,
        (60, 40),
        format!("NOT_FOUND - no exchange '{name}' in vhost '/'"),
    );

    assert_properties_refused(
        &mut client,
        everything_wrong.clone(),
        "fast reply consumer does not exist",
    );
    let properties = everything_wrong.with_reply_to("elsewhere".into());
    assert_properties_refused(&mut client, properties.clone(), "invalid expiration 'abc': no_integer");
    let properties = properties.with_expiration("1000".into());
    let explanation = r#"invalid message: {unacceptable_type_in_header,"CC",longstr}"#;
    assert_properties_refused(&mut client, properties, explanation);
}
