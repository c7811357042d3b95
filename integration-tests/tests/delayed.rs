//! Delayed messages, seen from outside.

use std::time::{Duration, Instant};

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use leveret_integration_tests::Broker;
use leveret_integration_tests::client::*;

const LONG_MILLIS: i64 = 3_600_000;

async fn delayed_exchange(channel: &Channel, name: &str) {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let kind = ExchangeKind::Custom("x-delayed-message".to_owned());
    let arguments = arguments([("x-delayed-type", text("direct"))]);
    let declare = channel.exchange_declare(name.into(), kind, options, arguments);
    declare.await.expect("exchange.declare");
}

/// The exchange `later`, and the queue `q` behind it; both durable.
async fn delayed_exchange_with_queue(channel: &Channel) {
    delayed_exchange(channel, "later").await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue("q", durable).await;
    channel.bind("q", "later", "k").await;
}

/// Publishes a persistent message and waits for its confirm.
async fn publish(channel: &Channel, exchange: &str, body: &str, delay_millis: i64) {
    publish_with_mode(channel, exchange, body, delay_millis, 2).await;
}

async fn publish_with_mode(channel: &Channel, exchange: &str, body: &str, delay_millis: i64, delivery_mode: u8) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("x-delay".into(), AMQPValue::LongLongInt(delay_millis));
    let properties = BasicProperties::default();
    let properties = properties.with_delivery_mode(delivery_mode).with_headers(headers);
    let options = BasicPublishOptions::default();
    let publish = channel.basic_publish(exchange.into(), "k".into(), options, body.as_bytes(), properties);
    assert!(publish.await.unwrap().await.unwrap().is_ack());
}

#[tokio::test]
async fn an_exchange_of_any_type_delays_by_argument_and_by_policy() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let options = ExchangeDeclareOptions::default();
    let delays = arguments([("x-delayed-exchange", AMQPValue::Boolean(true))]);
    for (name, arguments) in [("by argument", delays), ("by policy", FieldTable::default())] {
        let declare = channel.exchange_declare(name.into(), ExchangeKind::Direct, options, arguments);
        declare.await.unwrap();
        let queue = channel.own_queue().await;
        channel.bind(&queue, name, "k").await;
        if name == "by policy" {
            publish(&channel, name, "at once", 200).await;
            assert_eq!(channel.counts(&queue).await.0, 1);
            let policy = r#"{"delayed-message": true}"#;
            let command = ["set_policy", "later", "^by policy$", policy, "--apply-to", "exchanges"];
            broker.ctl().run(&command);
            channel.drain(&queue).await;
        }
        let before = Instant::now();
        publish(&channel, name, "later", 200).await;
        channel.wait_for_messages(&queue, 1).await;
        assert!(before.elapsed() >= Duration::from_millis(200), "{name}");
    }
    // What waits is delivered, whatever the policy becomes.
    let queue = channel.own_queue().await;
    channel.bind(&queue, "by policy", "k").await;
    publish(&channel, "by policy", "later", 300).await;
    broker.ctl().run(&["clear_policy", "later"]);
    publish(&channel, "by policy", "at once", 3_600_000).await;
    channel.wait_for_messages(&queue, 2).await;
    assert_eq!(channel.drain(&queue).await, ["at once", "later"]);
}

#[tokio::test]
async fn delayed_messages_come_in_the_order_of_their_times_and_not_before() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    delayed_exchange(&channel, "later").await;
    let queue = channel.own_queue().await;
    channel.bind(&queue, "later", "k").await;
    let mut consumer = channel.consume_no_ack(&queue).await;
    let start = Instant::now();
    for (body, delay_millis) in [("600", 600), ("300", 300), ("none", 0), ("long", LONG_MILLIS)] {
        publish(&channel, "later", body, delay_millis).await;
    }
    for (body, at_least) in [("none", 0), ("300", 300), ("600", 600)] {
        let delivery = next(&mut consumer).await;
        assert_eq!(String::from_utf8_lossy(&delivery.data), body);
        assert!(start.elapsed() >= Duration::from_millis(at_least), "{body} came early");
    }
}

#[tokio::test]
async fn delayed_messages_survive_a_kill_and_can_be_listed_and_cancelled() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    {
        let (_connection, channel) = open(broker.amqp()).await;
        delayed_exchange_with_queue(&channel).await;
        for (body, delay_millis) in [("cancelled", LONG_MILLIS), ("soon", 100), ("kept", LONG_MILLIS)] {
            publish(&channel, "later", body, delay_millis).await;
        }
    }
    broker.kill();
    broker.start_again();
    {
        let (_connection, channel) = open(broker.amqp()).await;
        channel.wait_for_messages("q", 1).await;
        assert_eq!(channel.drain("q").await, ["soon"]);
    }
    let ctl = broker.ctl();
    let list = || {
        let printed = ctl.run(&["-s", "list_delayed_messages", "later"]);
        printed.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let lines = list();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("\tk\t9\ttrue"), "{lines:?}");
    let id = lines[0].split('\t').next().unwrap();
    ctl.run(&["cancel_delayed_message", "later", id]);
    assert!(
        ctl.refuse(&["cancel_delayed_message", "later", id])
            .contains("keeps no message")
    );
    assert!(
        ctl.refuse(&["list_delayed_messages", "nowhere"])
            .contains("no exchange 'nowhere'")
    );
    assert_eq!(list(), lines[1..]);
    broker.kill();
    broker.start_again();
    assert_eq!(
        broker
            .ctl()
            .run(&["-s", "list_delayed_messages", "later"])
            .lines()
            .count(),
        1
    );
}

#[tokio::test]
async fn far_more_messages_than_memory_holds_wait_and_come_in_time() {
    const MESSAGES: usize = 400;
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let body = "x".repeat(64 << 10);
    {
        let (_connection, channel) = open(broker.amqp()).await;
        delayed_exchange_with_queue(&channel).await;
        // Those that come first are due last.
        for number in 0..MESSAGES {
            let delay_millis = 4_000 + (MESSAGES - number) as i64;
            publish(&channel, "later", &format!("{number:3}{body}"), delay_millis).await;
        }
        publish(&channel, "later", "far", LONG_MILLIS).await;
    }
    let counted = |broker: &Broker| {
        let printed = broker.ctl().run(&["-s", "list_exchanges", "name", "messages_delayed"]);
        let line = printed.lines().find_map(|line| line.strip_prefix("later\t"));
        line.unwrap().parse::<usize>().unwrap()
    };
    broker.kill();
    broker.start_again();
    assert!(counted(&broker) <= MESSAGES + 1);
    let (_connection, channel) = open(broker.amqp()).await;
    channel.wait_for_messages("q", MESSAGES as u32).await;
    assert_eq!(counted(&broker), 1);
    let mut seen: Vec<usize> = Vec::new();
    while let Some(message) = channel.get("q").await {
        seen.push(
            String::from_utf8_lossy(&message.delivery.data[..3])
                .trim()
                .parse()
                .unwrap(),
        );
        message.delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>());
}

/// They need not outlive the broker, but there are more of them than memory may hold.
#[tokio::test]
async fn messages_that_need_not_be_stored_come_in_time_too() {
    const MESSAGES: usize = 150;
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    delayed_exchange_with_queue(&channel).await;
    let body = "x".repeat(64 << 10);
    for number in 0..MESSAGES {
        let delay_millis = 3_000 + (MESSAGES - number) as i64;
        publish_with_mode(&channel, "later", &format!("{number:3}{body}"), delay_millis, 1).await;
    }
    let mut consumer = channel.consume_no_ack("q").await;
    let mut seen = Vec::new();
    for _ in 0..MESSAGES {
        let delivery = next(&mut consumer).await;
        seen.push(
            String::from_utf8_lossy(&delivery.data[..3])
                .trim()
                .parse::<usize>()
                .unwrap(),
        );
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..MESSAGES).collect::<Vec<_>>());
}
