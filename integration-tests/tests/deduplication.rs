//! Duplicates, seen from outside: they are acked, go nowhere, and are known for what they are after kill -9.

use std::process::Command;

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use leveret_integration_tests::Broker;
use leveret_integration_tests::broker::binary;
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::Metrics;
use leveret_integration_tests::wait::within;

const EXCHANGE: &str = "orders";
const QUEUE: &str = "q";

async fn declare(channel: &Channel) {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let arguments = arguments([
        ("x-message-deduplication", AMQPValue::Boolean(true)),
        ("x-cache-size", AMQPValue::LongInt(1_000)),
    ]);
    let declare = channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Direct, durable, arguments);
    within("exchange.declare", declare).await.unwrap();
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue(QUEUE, durable).await;
    channel.bind(QUEUE, EXCHANGE, "k").await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
}

/// Publishes one persistent message for each key, the keys being their bodies, and waits for the confirms, which must be acks.
async fn publish(channel: &Channel, keys: std::ops::Range<u32>) {
    for key in keys {
        let mut headers = FieldTable::default();
        headers.insert("x-deduplication-header".into(), text(&format!("order-{key}")));
        let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
        let body = key.to_string();
        let options = BasicPublishOptions::default();
        let publish = channel.basic_publish(EXCHANGE.into(), "k".into(), options, body.as_bytes(), properties);
        drop(within("basic.publish", publish).await.unwrap());
    }
    let returned = within("confirms", channel.wait_for_confirms()).await.unwrap();
    assert!(returned.is_empty());
}

#[tokio::test]
async fn a_store_with_keys_of_duplicates_is_sound() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    declare(&channel).await;
    publish(&channel, 0..300).await;
    connection.close(200, "Goodbye".into()).await.unwrap();
    // An orderly stop and start writes what the index has of them.
    broker.stop();
    let checked = Command::new(binary())
        .arg("check")
        .arg(broker.data_dir())
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{printed}");
    assert!(
        printed.contains("300 messages") && printed.contains("300 keys"),
        "{printed}"
    );
}

#[tokio::test]
async fn what_was_confirmed_before_a_kill_is_a_duplicate_after_it() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    {
        let (_connection, channel) = open(broker.amqp()).await;
        declare(&channel).await;
        publish(&channel, 0..200).await;
        publish(&channel, 100..200).await;
    }
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    declare(&channel).await;
    publish(&channel, 0..300).await;
    let expected: Vec<String> = (0..300).map(|key| key.to_string()).collect();
    assert_eq!(channel.drain(QUEUE).await, expected);
    let counted = Metrics::fetch(broker.metrics()).value("leveret_messages_deduplicated_total");
    assert!((counted - 200.0).abs() < 0.5, "{counted}");
}

/// A queue drops what it had, and another queue of the same publish gets it all the same. A header of another name, a time.
#[tokio::test]
async fn a_queue_drops_duplicates_that_its_neighbour_gets() {
    let broker = leveret_integration_tests::TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let neighbour = channel.own_queue().await;
    let picky = arguments([
        ("x-message-deduplication", AMQPValue::Boolean(true)),
        ("x-deduplication-header", text("order")),
        ("x-cache-size", AMQPValue::LongInt(2)),
    ]);
    let declared = channel
        .queue_declare("".into(), QueueDeclareOptions::exclusive(), picky)
        .await;
    let picky = declared.unwrap().name().to_string();
    channel.bind(&picky, "amq.fanout", "").await;
    channel.bind(&neighbour, "amq.fanout", "").await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let publish = async |order: &str, body: &str| {
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let headers = arguments([("order", text(order))]);
        let properties = BasicProperties::default().with_headers(headers);
        let publish = channel.basic_publish("amq.fanout".into(), "".into(), mandatory, body.as_bytes(), properties);
        let confirmation = publish.await.unwrap().await.unwrap();
        assert!(confirmation.is_ack() && confirmation.take_message().is_none());
    };
    for (order, body) in [("a", "1"), ("a", "2"), ("b", "3"), ("c", "4"), ("a", "5"), ("c", "6")] {
        publish(order, body).await;
    }
    // Two keys are remembered, so the first one may come again after two others.
    assert_eq!(channel.drain(&picky).await, ["1", "3", "4", "5"]);
    let all = channel.drain(&neighbour).await;
    assert!(
        ["1", "2", "3", "4", "5", "6"]
            .iter()
            .all(|body| all.contains(&(*body).to_owned())),
        "{all:?}"
    );
    // What comes back is no duplicate of itself.
    publish("d", "7").await;
    let got = channel.get(&picky).await.expect("a message");
    got.delivery
        .nack(BasicNackOptions {
            multiple: false,
            requeue: true,
        })
        .await
        .unwrap();
    assert_eq!(channel.drain(&picky).await, ["7"]);
}

#[tokio::test]
async fn a_key_is_forgotten_when_its_time_is_over() {
    let broker = leveret_integration_tests::TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let forgetful = arguments([
        ("x-message-deduplication", AMQPValue::Boolean(true)),
        ("x-cache-ttl", AMQPValue::LongInt(300)),
    ]);
    let declared = channel
        .queue_declare("".into(), QueueDeclareOptions::exclusive(), forgetful)
        .await;
    let queue = declared.unwrap().name().to_string();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let publish = async || {
        let headers = arguments([("x-deduplication-header", text("same"))]);
        let properties = BasicProperties::default().with_headers(headers);
        let publish = channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            BasicPublishOptions::default(),
            b"",
            properties,
        );
        assert!(publish.await.unwrap().await.unwrap().is_ack());
        channel.counts(&queue).await.0
    };
    assert_eq!(publish().await, 1);
    let again = leveret_integration_tests::wait::until_async("it is taken again", || async {
        (publish().await == 2).then_some(())
    });
    again.await;
}
