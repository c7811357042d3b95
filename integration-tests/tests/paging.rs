//! Queues longer than the memory for them: what is on disk only comes out as if it had never left memory.

use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Consumer};
use leveret_integration_tests::client::*;
use leveret_integration_tests::{Broker, wait};

const MESSAGES: u64 = 5_000;
const BODY_BYTES: usize = 1_000;
const BUDGET: (&str, &str) = ("QUEUE_MEMORY_BUDGET", "64KiB");

/// A body that begins with its number.
fn numbered(number: u64) -> Vec<u8> {
    let mut body = format!("{number} ").into_bytes();
    body.resize(BODY_BYTES, b'.');
    body
}

fn number(body: &[u8]) -> u64 {
    let text = std::str::from_utf8(body).unwrap();
    assert_eq!(text.len(), BODY_BYTES);
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Publishes numbered messages and waits for their confirms; every third is transient.
async fn publish(channel: &Channel, queue: &str, numbers: std::ops::Range<u64>) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for number in numbers {
        let mode = if number % 3 == 0 { 1 } else { 2 };
        let properties = BasicProperties::default().with_delivery_mode(mode);
        let body = numbered(number);
        let options = BasicPublishOptions::default();
        let confirm = channel.basic_publish("".into(), queue.into(), options, &body, properties);
        drop(confirm.await.unwrap());
    }
    let missing = wait::within("confirms", channel.wait_for_confirms()).await.unwrap();
    assert!(missing.is_empty());
}

async fn declare(channel: &Channel, queue: &str, durable: bool) -> u32 {
    let options = QueueDeclareOptions {
        durable,
        ..QueueDeclareOptions::default()
    };
    let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
    declared.await.unwrap().message_count()
}

async fn consume(channel: &Channel, queue: &str, prefetch: u16) -> Consumer {
    let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
    qos.await.unwrap();
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default());
    consumer.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_longer_than_its_memory_is_consumed_in_order_while_it_is_published_to() {
    let Some(broker) = Broker::start_configured(&[BUDGET]) else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    for (queue, durable) in [("durable", true), ("transient", false)] {
        declare(&channel, queue, durable).await;
        publish(&channel, queue, 0..MESSAGES).await;
        assert_eq!(u64::from(declare(&channel, queue, durable).await), MESSAGES);
        let (_another, consuming) = open(broker.amqp()).await;
        let mut consumer = consume(&consuming, queue, 100).await;
        let more = publish(&channel, queue, MESSAGES..2 * MESSAGES);
        let all = async {
            for expected in 0..2 * MESSAGES {
                let delivery = next(&mut consumer).await;
                assert_eq!(number(&delivery.data), expected);
                assert!(!delivery.redelivered);
                delivery.ack(BasicAckOptions::default()).await.unwrap();
            }
        };
        tokio::join!(more, all);
        drop(consumer);
        assert_eq!(declare(&channel, queue, durable).await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_on_disk_are_got_one_by_one_purged_and_counted() {
    let Some(broker) = Broker::start_configured(&[BUDGET]) else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    declare(&channel, "long", true).await;
    publish(&channel, "long", 0..1_000).await;
    for expected in 0..500 {
        let got = channel.basic_get("long".into(), BasicGetOptions { no_ack: true });
        let got = wait::within("a message", got).await.unwrap().unwrap();
        assert_eq!(
            (number(&got.data), got.message_count),
            (expected, 999 - expected as u32)
        );
    }
    let purged = channel.queue_purge("long".into(), QueuePurgeOptions::default());
    assert_eq!(purged.await.unwrap(), 500);
    let got = channel.basic_get("long".into(), BasicGetOptions { no_ack: true });
    assert!(got.await.unwrap().is_none());
    publish(&channel, "long", 0..1_000).await;
    let deleted = channel.queue_delete("long".into(), QueueDeleteOptions::default());
    assert_eq!(deleted.await.unwrap(), 1_000);
}

/// Messages go back in the middle of the loads, and their broker is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_keeps_order_and_flags_when_its_broker_is_killed() {
    let Some(mut broker) = Broker::start_configured(&[BUDGET]) else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    declare(&channel, "long", true).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut confirms = Vec::new();
    for number in 0..MESSAGES {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let body = numbered(number);
        let options = BasicPublishOptions::default();
        let confirm = channel.basic_publish("".into(), "long".into(), options, &body, properties);
        confirms.push(confirm.await.unwrap());
    }
    for confirm in confirms {
        assert!(wait::within("a confirm", confirm).await.unwrap().is_ack());
    }
    let (other, consuming) = open(broker.amqp()).await;
    let mut consumer = consume(&consuming, "long", 200).await;
    for _ in 0..200 {
        next(&mut consumer).await;
    }
    // All of them return, and go out again with their flag.
    drop(consumer);
    other.close(200, "".into()).await.unwrap();
    let (_other, consuming) = open(broker.amqp()).await;
    let mut consumer = consume(&consuming, "long", 300).await;
    for expected in 0..300 {
        let delivery = next(&mut consumer).await;
        assert_eq!(
            (number(&delivery.data), delivery.redelivered),
            (expected, expected < 200)
        );
    }
    broker.kill();
    drop(connection);
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    assert_eq!(u64::from(declare(&channel, "long", true).await), MESSAGES);
    let mut consumer = consume(&channel, "long", 1_000).await;
    for expected in 0..MESSAGES {
        let delivery = next(&mut consumer).await;
        assert_eq!(number(&delivery.data), expected);
        // What was on its way when the broker died may have been seen.
        assert!(delivery.redelivered || expected >= 300, "{expected}");
        assert!(!delivery.redelivered || expected < 300, "{expected}");
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
}

/// 20 MB in queues that may hold 64 KiB, and the process hardly notices.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_takes_disk_and_no_memory() {
    let Some(broker) = Broker::start_configured(&[BUDGET]) else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    declare(&channel, "long", false).await;
    publish(&channel, "long", 0..MESSAGES).await;
    let columns = ["list_queues", "messages", "messages_paged_out", "memory", "--quiet"];
    let listed = broker.ctl().run(&columns);
    let row = listed.lines().last().unwrap();
    let numbers: Vec<u64> = row.split_whitespace().map(|word| word.parse().unwrap()).collect();
    assert_eq!(numbers[0], MESSAGES, "{listed}");
    assert!(numbers[1] > MESSAGES - 100 && numbers[2] < 100 << 10, "{listed}");
}
