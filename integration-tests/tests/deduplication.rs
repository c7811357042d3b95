//! Duplicates, seen from outside: they are acked, go nowhere, and are known for what they are after kill -9.

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use leveret_integration_tests::Broker;
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
