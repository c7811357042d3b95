//! Length limits, as a client sees them.

use lapin::BasicProperties;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use leveret_integration_tests::Broker;
use leveret_integration_tests::client::*;
use leveret_integration_tests::wait;
use std::collections::BTreeSet;

async fn declare(channel: &lapin::Channel, name: &str, arguments: FieldTable) {
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel.queue_declare(name.into(), options, arguments).await.unwrap();
}

/// Publishes a persistent message; whether it was acked.
async fn is_taken(channel: &lapin::Channel, queue: &str, body: &str) -> bool {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let publish = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
    let confirm = wait::within("basic.publish", publish).await.unwrap();
    wait::within("a confirm", confirm).await.unwrap().is_ack()
}

#[tokio::test]
async fn a_full_queue_nacks_until_there_is_room() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let overflow = ("x-overflow", text("reject-publish"));
    declare(
        &channel,
        "q",
        arguments([("x-max-length", AMQPValue::LongInt(2)), overflow]),
    )
    .await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut taken = Vec::new();
    for number in 0..4 {
        taken.push(is_taken(&channel, "q", &number.to_string()).await);
    }
    assert_eq!(taken, [true, true, false, false]);
    let got = channel.get("q").await.expect("a message");
    assert_eq!(body(&got), "0");
    // What is handed out does not count.
    assert!(is_taken(&channel, "q", "4").await);
    got.delivery.ack(BasicAckOptions::default()).await.unwrap();
    assert!(!is_taken(&channel, "q", "5").await);
    assert_eq!(channel.drain("q").await, ["1", "4"]);
}

/// A queue that is far too long for memory, cut by a policy, and a broker that is killed while its oldest messages move.
#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_messages_of_a_queue_on_disk_move_exactly_once() {
    let Some(mut broker) = Broker::start_configured(&[("QUEUE_MEMORY_BUDGET", "64KiB")]) else {
        return;
    };
    const MESSAGES: usize = 20_000;
    let (connection, channel) = open(broker.amqp()).await;
    declare(&channel, "dead", FieldTable::default()).await;
    let dead = ("x-dead-letter-routing-key", text("dead"));
    declare(&channel, "q", arguments([("x-dead-letter-exchange", text("")), dead])).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for number in 0..MESSAGES {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (options, body) = (BasicPublishOptions::default(), number.to_string());
        let publish = channel.basic_publish("".into(), "q".into(), options, body.as_bytes(), properties);
        wait::within("basic.publish", publish).await.unwrap();
    }
    wait::within("confirms", channel.wait_for_confirms()).await.unwrap();
    let definition = "{\"max-length\": 10}";
    broker
        .ctl()
        .run(&["set_policy", "--apply-to", "queues", "short", "^q$", definition]);
    drop(connection);
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    channel.wait_for_messages("q", 10).await;
    channel.wait_for_messages("dead", MESSAGES as u32 - 10).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    assert!(is_taken(&channel, "q", "last").await);
    assert_eq!(channel.counts("q").await.0, 10);
    let letters = channel.drain("dead").await;
    assert_eq!(letters.len(), MESSAGES - 9);
    assert_eq!(letters.iter().collect::<BTreeSet<_>>().len(), MESSAGES - 9);
    let left = channel.drain("q").await;
    assert_eq!(left.first().map(String::as_str), Some("19991"));
    assert_eq!(left.last().map(String::as_str), Some("last"));
}
