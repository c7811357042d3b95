//! A message to many queues: its body is on disk once, as long as one of them has it.

use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ExchangeKind};
use leveret_integration_tests::client::*;
use leveret_integration_tests::random::Random;
use leveret_integration_tests::{Broker, wait};
use std::path::Path;

const QUEUES: usize = 50;
const MESSAGES: u64 = 1_000;
const BODY_BYTES: usize = 100 << 10;
const EXCHANGE: &str = "to-all";
/// Queues that are consumed; the others are purged.
const CONSUMED: usize = 3;

/// A body that begins with its number and does not compress.
fn body_of(number: u64) -> Vec<u8> {
    let mut body = Random::new(number + 1).bytes(BODY_BYTES);
    body[..8].copy_from_slice(&number.to_be_bytes());
    body
}

fn queue_name(index: usize) -> String {
    format!("copy.{index}")
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_in(&entry.path()),
        Ok(found) => found.len(),
        // RocksDB has deleted it meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}

async fn declare_all(channel: &Channel) {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let declare = channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Fanout, durable, FieldTable::default());
    declare.await.unwrap();
    for index in 0..QUEUES {
        let name = queue_name(index);
        channel.queue(&name, QueueDeclareOptions::durable()).await;
        channel.bind(&name, EXCHANGE, "").await;
    }
}

async fn publish_all(channel: &Channel) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for number in 0..MESSAGES {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (options, body) = (BasicPublishOptions::default(), body_of(number));
        let publish = channel.basic_publish(EXCHANGE.into(), "".into(), options, &body, properties);
        let confirm = publish.await.unwrap();
        if number % 20 == 19 {
            assert!(wait::within("a confirm", confirm).await.unwrap().is_ack());
        }
    }
    let missing = wait::within("confirms", channel.wait_for_confirms()).await.unwrap();
    assert!(missing.is_empty());
}

async fn consume_all(channel: &Channel, queue: &str) {
    channel.basic_qos(20, BasicQosOptions::default()).await.unwrap();
    let mut consumer = channel.consume(queue).await;
    for number in 0..MESSAGES {
        let delivery = next(&mut consumer).await;
        assert!(delivery.data == body_of(number), "message {number} of {queue}");
        delivery.ack(BasicAckOptions::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_for_fifty_queues_is_on_disk_once_survives_kill_9_and_goes_with_the_last_of_them() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    declare_all(&channel).await;
    publish_all(&channel).await;
    let published = MESSAGES * BODY_BYTES as u64;
    let on_disk = bytes_in(broker.data_dir());
    // The log has what is not in tables yet, and for a moment what is.
    assert!(on_disk < 3 * published, "{on_disk} bytes for {published}");
    broker.kill();
    broker.start_again();

    let (_connection, channel) = open(broker.amqp()).await;
    for index in 0..QUEUES {
        assert_eq!(channel.counts(&queue_name(index)).await.0, MESSAGES as u32);
    }
    for index in CONSUMED..QUEUES {
        let purge = channel.queue_purge(queue_name(index).as_str().into(), QueuePurgeOptions::default());
        assert_eq!(purge.await.unwrap(), MESSAGES as u32);
    }
    for index in 0..CONSUMED {
        consume_all(&channel, &queue_name(index)).await;
    }
    wait::until_async("the disk comes back", || async {
        (bytes_in(broker.data_dir()) < published / 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn large_dead_letters_and_transactions_of_several_queues_survive_kill_9() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let durable = QueueDeclareOptions::durable;
    let to_graves = || {
        arguments([
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text("graves")),
        ])
    };
    for name in ["one", "two"] {
        channel
            .queue_declare(name.into(), durable(), to_graves())
            .await
            .unwrap();
        channel.bind(name, "amq.fanout", "").await;
    }
    channel.queue("graves", durable()).await;
    channel.tx_select().await.unwrap();
    for number in 0..3 {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (options, body) = (BasicPublishOptions::default(), body_of(number));
        let publish = channel.basic_publish("amq.fanout".into(), "".into(), options, &body, properties);
        drop(publish.await.unwrap());
    }
    channel.tx_commit().await.unwrap();
    broker.kill();
    broker.start_again();

    let (_connection, channel) = open(broker.amqp()).await;
    let rejected = BasicRejectOptions { requeue: false };
    for queue in ["one", "two"] {
        let first = channel.get(queue).await.unwrap();
        assert!(first.data == body_of(0));
        first.delivery.reject(rejected).await.unwrap();
    }
    // What is declared durable is on disk before it is answered, and with it all that came before on the channel.
    channel.queue("barrier", durable()).await;
    broker.kill();
    broker.start_again();

    let (_connection, channel) = open(broker.amqp()).await;
    for (queue, numbers) in [("one", 1..3), ("two", 1..3)] {
        for number in numbers {
            assert!(channel.get(queue).await.unwrap().data == body_of(number), "{queue}");
        }
        assert!(channel.get(queue).await.is_none());
    }
    for _ in 0..2 {
        assert!(channel.get("graves").await.unwrap().data == body_of(0));
    }
    assert!(channel.get("graves").await.is_none());
}
