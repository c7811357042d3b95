//! Connections and channels: what is negotiated, and how they end.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use leveret_integration_tests::client::*;
use leveret_integration_tests::raw::{AMQPValue, FieldTable, Login, RawClient, channel, connection};
use leveret_integration_tests::{Broker, TestBroker, wait};

#[test]
fn connection_start_names_the_product_the_mechanisms_and_what_the_broker_can_do() {
    let broker = TestBroker::get();
    let (_client, start) = RawClient::started(broker.amqp());
    assert_eq!((start.version_major, start.version_minor), (0, 9));
    assert_eq!(start.locales.to_string(), "en_US");
    let mechanisms = start.mechanisms.to_string();
    let mechanisms: Vec<&str> = mechanisms.split(' ').collect();
    assert!(
        mechanisms.contains(&"PLAIN") && mechanisms.contains(&"AMQPLAIN"),
        "{mechanisms:?}"
    );
    assert!(
        !mechanisms.contains(&"EXTERNAL"),
        "needs a client certificate: {mechanisms:?}"
    );
    assert!(
        !mechanisms.contains(&"ANONYMOUS"),
        "nobody said who that is: {mechanisms:?}"
    );
    for property in ["product", "version", "platform", "cluster_name"] {
        assert!(
            matches!(property_of(&start, property), AMQPValue::LongString(_)),
            "{property}"
        );
    }
    let AMQPValue::FieldTable(capabilities) = property_of(&start, "capabilities") else {
        panic!("capabilities are a table")
    };
    assert_all_capabilities(capabilities);
}

fn property_of<'a>(start: &'a connection::Start, name: &str) -> &'a AMQPValue {
    let properties = start.server_properties.inner();
    properties
        .get(name)
        .unwrap_or_else(|| panic!("no {name} in {properties:?}"))
}

fn assert_all_capabilities(capabilities: &FieldTable) {
    let expected = [
        "authentication_failure_close",
        "basic.nack",
        "connection.blocked",
        "consumer_cancel_notify",
        "consumer_priorities",
        "direct_reply_to",
        "exchange_exchange_bindings",
        "per_consumer_qos",
        "publisher_confirms",
    ];
    for name in expected {
        assert_eq!(
            capabilities.inner().get(name),
            Some(&AMQPValue::Boolean(true)),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_password_is_whom_the_configuration_takes_it_for() {
    let Some(broker) = Broker::start_configured(&[("ANONYMOUS_LOGIN_USER", "guest")]) else {
        return;
    };
    let url = format!("amqp://nobody:nothing@{}/%2f?auth_mechanism=anonymous", broker.amqp());
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default());
    let connection = wait::within("a connection opens", connection).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = channel.own_queue().await;
    // Its name is the one that counts for user_id.
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let properties = lapin::BasicProperties::default().with_user_id("guest".into());
    let options = BasicPublishOptions::default();
    let publish = channel.basic_publish("".into(), queue.as_str().into(), options, b"hello", properties);
    publish.await.unwrap().await.unwrap();
    assert_eq!(channel.drain(&queue).await, ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_let_in_without_a_password_unless_the_configuration_says_as_whom() {
    let broker = TestBroker::get();
    let url = format!("amqp://guest:guest@{}/%2f?auth_mechanism=anonymous", broker.amqp());
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default());
    wait::within("it ends", connection).await.unwrap_err();
}

#[test]
fn tune_offers_what_rabbitmq_offers() {
    let broker = TestBroker::get();
    let (mut client, _start) = RawClient::started(broker.amqp());
    client.send_start_ok(&Login::default());
    let tune: connection::Tune = client.expect(0);
    assert_eq!((tune.channel_max, tune.frame_max, tune.heartbeat), (2047, 131_072, 60));
}

#[test]
fn close_is_answered_and_the_socket_closed() {
    let broker = TestBroker::get();
    RawClient::connect(broker.amqp()).close();
    let mut client = RawClient::with_channel(broker.amqp());
    let close = channel::Close {
        reply_code: 200,
        ..Default::default()
    };
    let _ok = client.call(1, close);
    client.close();
}

#[tokio::test]
async fn all_channels_of_a_connection_work_side_by_side() {
    let broker = TestBroker::get();
    let connection = connect(broker.amqp()).await;
    let mut channels = Vec::new();
    for _ in 0..500 {
        channels.push(connection.create_channel().await.unwrap());
    }
    let queue = channels[0].own_queue().await;
    let mut consumer = channels[499].consume_no_ack(&queue).await;
    for (number, channel) in channels.iter().enumerate() {
        channel.publish("", &queue, number.to_string().as_bytes()).await;
    }
    let mut received: Vec<usize> = next_bodies(&mut consumer, 500)
        .await
        .iter()
        .map(|body| body.parse().unwrap())
        .collect();
    received.sort();
    assert_eq!(received, (0..500).collect::<Vec<_>>());
    connection.close(200, "Goodbye".into()).await.unwrap();
}

#[test]
fn as_many_channels_as_negotiated_may_be_open() {
    let broker = TestBroker::get();
    let mut client = RawClient::connect(broker.amqp());
    for number in 1..=2047 {
        client.open_channel(number);
    }
    client.close();
}

#[tokio::test]
async fn a_channel_error_leaves_the_other_channels_alone() {
    let broker = TestBroker::get();
    let (connection, healthy) = open(broker.amqp()).await;
    let queue = healthy.own_queue().await;
    let mut consumer = healthy.consume_no_ack(&queue).await;
    for _ in 0..20 {
        let broken = connection.create_channel().await.unwrap();
        broken.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let (options, missing) = (BasicPublishOptions::default(), broker.unique("missing"));
        let publish = broken.basic_publish(missing.as_str().into(), "".into(), options, b"x", Default::default());
        let confirm = wait::within("the publish is refused", publish.await.unwrap()).await;
        assert_eq!(refusal(&confirm.unwrap_err()).0, 404);
    }
    healthy.publish("", &queue, b"alive").await;
    assert_eq!(next_bodies(&mut consumer, 1).await, ["alive"]);
    assert!(connection.status().connected());
}

#[test]
fn a_password_has_nothing_to_renew() {
    let broker = TestBroker::get();
    let update = |secret: &str| connection::UpdateSecret {
        new_secret: secret.into(),
        reason: "it is time".into(),
    };
    let mut client = RawClient::with_channel(broker.amqp());
    for secret in ["guest", "another"] {
        let _ok = client.call(0, update(secret));
    }
}

#[test]
fn row_023_an_orderly_shutdown_tells_the_clients_and_succeeds() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let mut client = RawClient::with_channel(broker.amqp());
    broker.terminate();
    let text = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    client.expect_connection_close(320, (0, 0), text);
    let status = broker.wait_for_exit();
    assert!(status.success(), "{status}");
}

#[test]
fn a_client_that_does_not_answer_cannot_keep_the_broker_from_stopping() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let mute: Vec<RawClient> = (0..10).map(|_| RawClient::with_channel(broker.amqp())).collect();
    broker.stop();
    drop(mute);
}

#[tokio::test]
async fn lapin_sees_the_shutdown_as_connection_forced() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    let mut consumer = channel.consume(&queue).await;
    broker.terminate();
    use futures_lite::StreamExt;
    let ended = wait::within("the consumer ends", consumer.next())
        .await
        .expect("an error");
    assert_eq!(refusal(&ended.unwrap_err()).0, 320);
    wait::until("the connection is no longer connected", || {
        (!connection.status().connected()).then_some(())
    });
    assert!(broker.wait_for_exit().success());
}

#[test]
fn a_data_folder_in_use_is_one_clear_line_and_a_failure() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let second = leveret_integration_tests::broker::serve_command(broker.data_dir(), "127.0.0.1:0")
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = [second.stdout, second.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let folder = broker.data_dir().to_string_lossy().into_owned();
    assert!(said.lines().any(|line| line.contains(&folder)), "{said}");
}
