//! Bounds that an operator sets, and what a client sees of them. Test names begin with the row of ERRORS.md.

use leveret_integration_tests::Broker;
use leveret_integration_tests::raw::{
    AMQPFrame, BasicProperties, HEARTBEAT, Login, RawClient, connection, make, open_virtual_host,
};
use leveret_integration_tests::scrape::Metrics;

#[test]
fn row_017_more_connections_than_configured() {
    let Some(broker) = Broker::start_configured(&[("CONNECTION_MAX", "2")]) else {
        return;
    };
    let first = RawClient::connect(broker.amqp());
    let _second = RawClient::connect(broker.amqp());
    let mut third = RawClient::tuned(broker.amqp(), &Login::default());
    third.send(0, open_virtual_host("/"));
    let text = "NOT_ALLOWED - connection refused: node connection limit (2) is reached";
    third.expect_connection_close(530, (10, 40), text);
    // The place is free before the answer to connection.close.
    first.close();
    let _third = RawClient::connect(broker.amqp());
}

#[test]
fn sockets_that_are_not_open_connections_are_not_counted_as_such() {
    let Some(broker) = Broker::start_configured(&[("CONNECTION_MAX", "1")]) else {
        return;
    };
    let _in_its_handshake = RawClient::tuned(broker.amqp(), &Login::default());
    let mut refused = RawClient::started(broker.amqp()).0;
    refused.send_start_ok(&Login::of("guest", "wrong", "/"));
    let connections = || Metrics::fetch(broker.metrics()).value("rabbitmq_connections");
    assert_eq!(connections(), 0.0);
    let client = RawClient::connect(broker.amqp());
    assert_eq!(connections(), 1.0);
    client.close();
    assert_eq!(connections(), 0.0);
}

#[test]
fn row_129_a_body_above_the_configured_maximum() {
    let Some(broker) = Broker::start_configured(&[("MAX_MESSAGE_SIZE", "1000")]) else {
        return;
    };
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue;
    client.publish_to(1, "", queue.as_str(), &[7; 1001]);
    let text = "PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000";
    client.expect_channel_close(1, 406, (60, 40), text);
    client.publish_to(1, "", queue.as_str(), &[7; 1000]);
    let _ok = client.call(1, make::basic_consume(queue.as_str()));
    assert_eq!(client.expect_content(1).body.len(), 1000);
}

#[test]
fn row_141_publishers_are_blocked_while_memory_is_low_and_others_are_not() {
    let Some(broker) = Broker::start_configured(&[("MEMORY_HIGH_WATERMARK", "1MiB")]) else {
        return;
    };
    let login = Login::default().with_capability("connection.blocked");
    let mut consumer = RawClient::connect_as(broker.amqp(), &login);
    consumer.open_channel(1);
    let queue = consumer.call(1, make::queue_declare("")).queue;

    let mut publisher = RawClient::connect_as(broker.amqp(), &login);
    publisher.open_channel(1);
    publisher.publish_to(1, "", queue.as_str(), b"one too many");
    let blocked: connection::Blocked = publisher.expect(0);
    assert_eq!(blocked.reason.as_str(), "low on memory");

    // Somebody who only consumes may still do as he likes.
    let _ok = consumer.call(1, make::basic_consume(queue.as_str()));
    assert_eq!(consumer.expect_content(1).body, b"one too many");
    for number in 0..5 {
        let name = format!("declared while others are blocked {number}");
        let _ok = consumer.call(1, make::queue_declare(&name));
    }
    assert_eq!(Metrics::fetch(broker.metrics()).value("rabbitmq_queues"), 6.0);

    // What the publisher sends now stays where it is: it arrives neither here nor anywhere else.
    publisher.publish_to(1, "", queue.as_str(), b"not taken");
    let _ok = consumer.call(1, make::queue_declare("and one more answer"));
    assert_eq!(
        Metrics::fetch(broker.metrics()).value("rabbitmq_global_messages_received_total"),
        1.0
    );
    consumer.close();
}

#[test]
fn frame_max_channel_max_and_heartbeat_are_offered_as_configured() {
    let settings = [("FRAME_MAX", "8192"), ("CHANNEL_MAX", "10"), ("HEARTBEAT", "1s")];
    let Some(broker) = Broker::start_configured(&settings) else {
        return;
    };
    let (mut client, _start) = RawClient::started(broker.amqp());
    client.send_start_ok(&Login::default());
    let tune: connection::Tune = client.expect(0);
    assert_eq!((tune.channel_max, tune.frame_max, tune.heartbeat), (10, 8192, 1));
    let login = Login {
        tune_ok: Some(connection::TuneOk {
            channel_max: 10,
            frame_max: 8192,
            heartbeat: 1,
        }),
        ..Login::default()
    };
    client.send_tune_ok(&login, &tune);
    let _ok = client.call(0, open_virtual_host("/"));
    client.open_channel(1);
    client.send(1, make::basic_publish("", "nobody"));
    client.send_header(1, BasicProperties::default(), 20_000);
    client.send_frame(leveret_integration_tests::raw::BODY, 1, &[7; 8184]);
    client.send_frame(HEARTBEAT, 0, &[]);
    assert_eq!(client.next_frame(), Some(AMQPFrame::Heartbeat));
    client.send_bytes(&[3, 0, 1, 0, 0, 0x20, 1]);
    let text = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,8193,8184}";
    client.expect_connection_close(501, (0, 0), text);
}

#[test]
fn the_handshake_timeout_is_configured() {
    let Some(broker) = Broker::start_configured(&[("HANDSHAKE_TIMEOUT", "1s")]) else {
        return;
    };
    let started = std::time::Instant::now();
    let (mut client, _start) = RawClient::started(broker.amqp());
    client.expect_end_of_stream();
    assert!(
        started.elapsed() < std::time::Duration::from_secs(9),
        "the default is ten seconds"
    );
}

#[test]
fn the_product_is_announced_as_configured() {
    let settings = [("PRODUCT", "RabbitMQ"), ("PRODUCT_VERSION", "3.13.7")];
    let Some(broker) = Broker::start_configured(&settings) else {
        return;
    };
    let (_client, start) = RawClient::started(broker.amqp());
    let properties = start.server_properties.inner();
    for (name, expected) in [("product", "RabbitMQ"), ("version", "3.13.7")] {
        let value = properties
            .get(name)
            .and_then(|value| value.as_long_string())
            .expect(name);
        assert_eq!(value.to_string(), expected);
    }
}

#[test]
fn row_112_more_consumers_on_a_channel_than_configured() {
    let Some(broker) = Broker::start_configured(&[("CONSUMER_MAX_PER_CHANNEL", "2")]) else {
        return;
    };
    let mut client = RawClient::with_channel(broker.amqp());
    client.open_channel(2);
    let queue = client.call(1, make::queue_declare("")).queue.to_string();
    for channel in [1, 1, 2, 2] {
        let _ok = client.call(channel, make::basic_consume(&queue));
    }
    client.send(2, make::basic_consume(&queue));
    let text = "NOT_ALLOWED - reached maximum (2) of consumers per channel";
    client.expect_connection_close(530, (60, 20), text);
}
