//! Queues of which one consumer at a time is active, as clients and the management API see them.

use std::net::SocketAddr;

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use leveret_integration_tests::Broker;
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::ask;
use serde_json::{Value, json};

/// `guest:guest`.
const GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

fn get(address: SocketAddr, path: &str) -> Value {
    serde_json::from_str(&ask(address, "GET", path, GUEST, "").1).unwrap()
}

async fn consume(channel: &lapin::Channel, tag: &str, arguments: FieldTable) -> lapin::Consumer {
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume("work".into(), tag.into(), options, arguments);
    consumer.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn work_moves_from_one_consumer_to_the_next() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (first_connection, first_channel) = open(broker.amqp()).await;
    let (_second_connection, second_channel) = open(broker.amqp()).await;
    let single = arguments([("x-single-active-consumer", AMQPValue::Boolean(true))]);
    let options = QueueDeclareOptions::durable();
    first_channel
        .queue_declare("work".into(), options, single)
        .await
        .unwrap();
    let mut first = consume(&first_channel, "first", FieldTable::default()).await;
    let mut second = consume(&second_channel, "second", FieldTable::default()).await;
    for number in 1..=3 {
        let body = format!("order {number}");
        second_channel.publish_confirmed("", "work", body.as_bytes()).await;
    }
    let delivery = next(&mut first).await;
    delivery.ack(BasicAckOptions::default()).await.unwrap();
    assert_eq!(next_bodies(&mut first, 2).await, ["order 2", "order 3"]);
    let api = broker.management();
    let activity = |columns: &str| get(api, &format!("/api/consumers?columns=consumer_tag,{columns}"));
    assert_eq!(
        activity("active,activity_status"),
        json!([
            {"consumer_tag": "first", "active": true, "activity_status": "single_active"},
            {"consumer_tag": "second", "active": false, "activity_status": "waiting"},
        ])
    );
    assert_eq!(get(api, "/api/queues/%2F/work")["single_active_consumer_tag"], "first");

    // The connection goes with two messages in hand.
    first_connection.close(200, "bye".into()).await.unwrap();
    second_channel.publish_confirmed("", "work", b"order 4").await;
    assert_eq!(next_bodies(&mut second, 3).await, ["order 2", "order 3", "order 4"]);

    // One of a higher priority waits until these are settled.
    let higher = arguments([("x-priority", AMQPValue::LongInt(10))]);
    let mut third = consume(&second_channel, "third", higher).await;
    second_channel.publish_confirmed("", "work", b"order 5").await;
    let ack_all = BasicAckOptions { multiple: true };
    second_channel.basic_ack(0, ack_all).await.unwrap();
    assert_eq!(next_bodies(&mut third, 1).await, ["order 5"]);
    assert_eq!(get(api, "/api/queues/%2F/work")["single_active_consumer_tag"], "third");
}
