//! Message priorities, as a client sees them.

use lapin::options::*;
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel};
use leveret_integration_tests::Broker;
use leveret_integration_tests::client::*;

async fn publish(channel: &Channel, priority: u8, body: &str) {
    let properties = BasicProperties::default().with_delivery_mode(2).with_priority(priority);
    let options = BasicPublishOptions::default();
    let publish = channel.basic_publish("".into(), "jobs".into(), options, body.as_bytes(), properties);
    let confirmation = publish.await.unwrap().await.unwrap();
    assert!(confirmation.is_ack(), "{confirmation:?}");
}

#[tokio::test]
async fn priorities_hold_in_memory_on_disk_and_over_a_crash() {
    for budget in ["134217728", "0"] {
        let Some(mut broker) = Broker::start_configured(&[("QUEUE_MEMORY_BUDGET", budget)]) else {
            return;
        };
        let (_connection, channel) = open(broker.amqp()).await;
        let arguments = arguments([("x-max-priority", AMQPValue::LongInt(200))]);
        let options = QueueDeclareOptions::durable();
        channel.queue_declare("jobs".into(), options, arguments).await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        // 300 messages of 1 KiB, of ten priorities in turn.
        let body = |number: u32| format!("{number:03} {}", "x".repeat(1020));
        for number in 0..300 {
            publish(&channel, (number % 10 * 20) as u8, &body(number)).await;
        }
        let expected = |priority: u32| (0..30).map(move |round| round * 10 + priority);
        let in_order: Vec<u32> = (0..10).rev().flat_map(expected).collect();
        for number in &in_order[..45] {
            assert_eq!(number_of(&channel.get("jobs").await.expect("a message")), *number);
        }
        broker.kill();
        broker.start_again();
        let (_connection, channel) = open(broker.amqp()).await;
        assert_eq!(channel.counts("jobs").await.0, 300);
        for number in in_order {
            assert_eq!(number_of(&channel.get("jobs").await.expect("a message")), number);
        }
        assert!(channel.get("jobs").await.is_none());
    }
}

/// The number with which a body begins.
fn number_of(message: &lapin::message::BasicGetMessage) -> u32 {
    body(message)[..3].parse().unwrap()
}
