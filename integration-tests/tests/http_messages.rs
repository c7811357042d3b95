//! Messages over the management API where they are not simply in memory: got from a queue that is on disk, published to an
//! exchange that keeps them until later.

use lapin::options::*;
use lapin::{BasicProperties, ExchangeKind};
use leveret_integration_tests::Broker;
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::ask;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// `guest:guest`.
const GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

#[track_caller]
fn post(address: SocketAddr, path: &str, body: &Value) -> Value {
    let (head, body) = ask(address, "POST", path, GUEST, &body.to_string());
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}\n{body}");
    serde_json::from_str(&body).unwrap()
}

/// The numbers of messages got from `long`, and whether all or none of them had been handed out before.
#[track_caller]
fn get(address: SocketAddr, count: usize, ackmode: &str) -> (Vec<u64>, bool) {
    let take = json!({ "count": count, "ackmode": ackmode, "encoding": "auto", "truncate": 12 });
    let messages = post(address, "/api/queues/%2F/long/get", &take);
    let messages = messages.as_array().unwrap();
    let redelivered = messages[0]["redelivered"].as_bool().unwrap();
    let numbers = messages.iter().map(|message| {
        assert_eq!(message["redelivered"], redelivered);
        assert_eq!(message["payload_bytes"], BODY_BYTES);
        let payload = message["payload"].as_str().unwrap();
        payload.split(' ').next().unwrap().parse().unwrap()
    });
    (numbers.collect(), redelivered)
}

const MESSAGES: u64 = 1_000;
const BODY_BYTES: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_on_disk_is_looked_into_and_emptied_in_order() {
    let Some(mut broker) = Broker::start_configured(&[("QUEUE_MEMORY_BUDGET", "64KiB")]) else {
        return;
    };
    {
        let (_connection, channel) = open(broker.amqp()).await;
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel.queue("long", durable).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for number in 0..MESSAGES {
            let mut body = format!("{number} ").into_bytes();
            body.resize(BODY_BYTES, b'.');
            let properties = BasicProperties::default().with_delivery_mode(2);
            let publish = channel.basic_publish(
                "".into(),
                "long".into(),
                BasicPublishOptions::default(),
                &body,
                properties,
            );
            drop(publish.await.unwrap());
        }
        assert!(channel.wait_for_confirms().await.unwrap().is_empty());
    }
    let api = broker.management();
    // Looking changes nothing but the flag, however often and however far into what is on disk only.
    assert_eq!(get(api, 300, "ack_requeue_true"), ((0..300).collect(), false));
    assert_eq!(get(api, 300, "ack_requeue_true"), ((0..300).collect(), true));
    assert_eq!(get(api, 200, "ack_requeue_false"), ((0..200).collect(), true));
    assert_eq!(get(api, 100, "reject_requeue_false"), ((200..300).collect(), true));
    assert_eq!(get(api, 400, "ack_requeue_false"), ((300..700).collect(), false));
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    // What was taken may come back after a kill, but nothing that was left is gone.
    let left = u64::from(channel.counts("long").await.0);
    assert!((300..=MESSAGES).contains(&left), "{left}");
    let (numbers, _) = get(broker.management(), 1, "ack_requeue_true");
    assert_eq!(numbers, [MESSAGES - left]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_over_http_to_a_delayed_exchange_waits_there() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    {
        let (_connection, channel) = open(broker.amqp()).await;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let kind = ExchangeKind::Custom("x-delayed-message".to_owned());
        let direct = arguments([("x-delayed-type", text("direct"))]);
        channel
            .exchange_declare("later".into(), kind, options, direct)
            .await
            .unwrap();
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel.queue("due", durable).await;
        channel.bind("due", "later", "k").await;
    }
    let publish = |broker: &Broker, payload: &str, delay_millis: u64| {
        let message = json!({
            "routing_key": "k",
            "payload": payload,
            "properties": { "delivery_mode": 2, "headers": { "x-delay": delay_millis } },
        });
        post(broker.management(), "/api/exchanges/%2F/later/publish", &message)
    };
    assert_eq!(publish(&broker, "in an hour", 3_600_000), json!({ "routed": true }));
    assert_eq!(publish(&broker, "soon", 1), json!({ "routed": true }));
    let (_connection, channel) = open(broker.amqp()).await;
    channel.wait_for_messages("due", 1).await;
    assert_eq!(channel.drain("due").await, ["soon"]);
    broker.kill();
    broker.start_again();
    let waiting = broker.ctl().run(&["list_delayed_messages", "later"]);
    let waiting: Vec<&str> = waiting
        .lines()
        .filter(|line| line.split('\t').nth(2) == Some("k"))
        .collect();
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    let (_connection, channel) = open(broker.amqp()).await;
    // What was taken may come back after a kill; what is not due may not.
    assert!(!channel.drain("due").await.contains(&"in an hour".to_owned()));
}
