//! Consumers that take without end and acknowledge nothing: their messages are on disk, not in memory, and come back in order.

use lapin::options::*;
use lapin::{BasicProperties, Channel};
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::Metrics;
use leveret_integration_tests::{Broker, wait};

const MESSAGES: u64 = 15_000;
const BODY_BYTES: usize = 10_000;
const BUDGET: (&str, &str) = ("QUEUE_MEMORY_BUDGET", "8MiB");
/// What buffers, the store's cache and the list of deliveries may take; all bodies are more than twice as much.
const GROWTH_BYTES_MAX: f64 = 64e6;

fn numbered(number: u64) -> Vec<u8> {
    let mut body = format!("{number} ").into_bytes();
    body.resize(BODY_BYTES, b'.');
    body
}

fn number(body: &[u8]) -> u64 {
    assert_eq!(body.len(), BODY_BYTES);
    std::str::from_utf8(body)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

async fn fill(channel: &Channel, queue: &str) {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue(queue, options).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for number in 0..MESSAGES {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let body = numbered(number);
        let options = BasicPublishOptions::default();
        let confirm = channel.basic_publish("".into(), queue.into(), options, &body, properties);
        drop(confirm.await.unwrap());
    }
    let missing = wait::within("confirms", channel.wait_for_confirms()).await.unwrap();
    assert!(missing.is_empty());
}

fn resident_bytes(broker: &Broker) -> f64 {
    Metrics::fetch(broker.metrics()).value("rabbitmq_process_resident_memory_bytes")
}

/// All messages, in order; the tag of the last one.
async fn take_all(consumer: &mut lapin::Consumer, redelivered: bool) -> u64 {
    let mut last = 0;
    for expected in 0..MESSAGES {
        let delivery = next(consumer).await;
        assert_eq!((number(&delivery.data), delivery.redelivered), (expected, redelivered));
        last = delivery.delivery_tag;
    }
    last
}

fn assert_little_growth(broker: &Broker, before: f64, what: &str) {
    let growth = resident_bytes(broker) - before;
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes more for messages {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_takes_all_and_acknowledges_nothing_costs_no_memory() {
    let Some(mut broker) = Broker::start_configured(&[BUDGET]) else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    fill(&channel, "long").await;
    let before = resident_bytes(&broker);
    let (taking, taker) = open(broker.amqp()).await;
    let mut consumer = taker.consume("long").await;
    let last = take_all(&mut consumer, false).await;
    assert_little_growth(&broker, before, "that were taken");

    let all = BasicNackOptions {
        multiple: true,
        requeue: true,
    };
    taker.basic_nack(last, all).await.unwrap();
    take_all(&mut consumer, true).await;
    assert_little_growth(&broker, before, "that were given back");

    drop(consumer);
    taking.close(200, "".into()).await.unwrap();
    channel.wait_for_messages("long", MESSAGES as u32).await;
    let mut consumer = channel.consume("long").await;
    take_all(&mut consumer, true).await;
    assert_little_growth(&broker, before, "whose consumer went away");

    broker.kill();
    drop(consumer);
    drop(connection);
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    let before = resident_bytes(&broker);
    let mut consumer = channel.consume("long").await;
    for expected in 0..MESSAGES {
        let delivery = next(&mut consumer).await;
        assert_eq!((number(&delivery.data), delivery.redelivered), (expected, true));
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
    assert_little_growth(&broker, before, "that were acknowledged");
    channel.wait_for_messages("long", 0).await;
}

/// Messages that are nowhere but in memory are not handed out without end: after 128 MiB of them a channel waits for acknowledgements.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_transient_messages_that_acknowledges_nothing_is_given_no_more_than_a_bound() {
    const BYTES_MAX: u64 = 128 << 20;
    const LARGE_BYTES: u64 = 1 << 20;
    const SENT: u64 = BYTES_MAX / LARGE_BYTES + 20;
    let Some(broker) = Broker::start_configured(&[BUDGET]) else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("passing", QueueDeclareOptions::default()).await;
    let body = vec![b'.'; LARGE_BYTES as usize];
    for _ in 0..SENT {
        let options = BasicPublishOptions::default();
        let publish = channel.basic_publish("".into(), "passing".into(), options, &body, BasicProperties::default());
        drop(publish.await.unwrap());
    }
    let (_other, taker) = open(broker.amqp()).await;
    let mut consumer = taker.consume("passing").await;
    let mut last = 0;
    for _ in 0..BYTES_MAX / LARGE_BYTES {
        last = next(&mut consumer).await.delivery_tag;
    }
    // The others stay in the queue, where another consumer can have them.
    channel.wait_for_messages("passing", (SENT - last) as u32).await;
    let got = wait::within(
        "a message",
        channel.basic_get("passing".into(), BasicGetOptions { no_ack: true }),
    );
    assert!(got.await.unwrap().is_some());
    let all = BasicAckOptions { multiple: true };
    taker.basic_ack(last, all).await.unwrap();
    for _ in last + 1..SENT {
        next(&mut consumer).await;
    }
}

/// What is rejected is read again for its dead letter, and arrives in the order of the rejections.
#[tokio::test(flavor = "multi_thread")]
async fn rejected_messages_that_are_on_disk_only_become_dead_letters_in_order() {
    const REJECTED: u64 = 2_000;
    let Some(broker) = Broker::start_configured(&[("QUEUE_MEMORY_BUDGET", "64KiB")]) else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue("letters", durable).await;
    let letters = ("x-dead-letter-routing-key", text("letters"));
    let to_letters = arguments([("x-dead-letter-exchange", text("")), letters]);
    channel.queue_declare("work".into(), durable, to_letters).await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for number in 0..REJECTED {
        // Every third one is in memory.
        let mode = if number % 3 == 0 { 1 } else { 2 };
        let properties = BasicProperties::default().with_delivery_mode(mode);
        let body = number.to_string().into_bytes();
        let publish = channel.basic_publish(
            "".into(),
            "work".into(),
            BasicPublishOptions::default(),
            &body,
            properties,
        );
        drop(publish.await.unwrap());
    }
    let mut consumer = channel.consume("work").await;
    let mut last = 0;
    for _ in 0..REJECTED {
        last = next(&mut consumer).await.delivery_tag;
    }
    let all = BasicNackOptions {
        multiple: true,
        requeue: false,
    };
    channel.basic_nack(last, all).await.unwrap();
    channel.wait_for_messages("letters", REJECTED as u32).await;
    let bodies = channel.drain("letters").await;
    let expected: Vec<_> = (0..REJECTED).map(|number| number.to_string()).collect();
    assert!(bodies == expected, "{bodies:?}");
    channel.wait_for_messages("work", 0).await;
}
