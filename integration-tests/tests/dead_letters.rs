//! Dead letters, as a client sees them.

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use leveret_integration_tests::Broker;
use leveret_integration_tests::client::*;

async fn declare(channel: &lapin::Channel, name: &str, arguments: FieldTable) {
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel.queue_declare(name.into(), options, arguments).await.unwrap();
}

#[tokio::test]
async fn a_retry_loop_over_dead_letters_counts_its_rounds() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let dead_letters_to = |queue| {
        let key = ("x-dead-letter-routing-key", text(queue));
        arguments([("x-dead-letter-exchange", text("")), key])
    };
    declare(&channel, "work", dead_letters_to("parking")).await;
    declare(&channel, "parking", dead_letters_to("work")).await;

    channel.publish_confirmed("", "work", b"order 1").await;
    let reject = BasicRejectOptions { requeue: false };
    for _ in 0..3 {
        for queue in ["work", "parking"] {
            let message = channel.get(queue).await.expect("a message");
            message.delivery.reject(reject).await.unwrap();
        }
    }
    // What is declared durable is on disk before it is answered, and with it all that came before on the channel.
    declare(&channel, "barrier", FieldTable::default()).await;
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    let message = channel.get("work").await.expect("the message");
    assert_eq!(body(&message), "order 1");
    assert!(channel.get("parking").await.is_none());
    let headers = message.properties.headers().clone().unwrap();
    let deaths = headers.inner().get("x-death").and_then(AMQPValue::as_array).unwrap();
    let rounds: Vec<_> = deaths
        .as_slice()
        .iter()
        .map(|death| death.as_field_table().unwrap().inner())
        .map(|death| (death["queue"].clone(), death["reason"].clone(), death["count"].clone()))
        .collect();
    let three = AMQPValue::LongLongInt(3);
    assert_eq!(
        rounds,
        [
            (text("parking"), text("rejected"), three.clone()),
            (text("work"), text("rejected"), three)
        ]
    );
    assert_eq!(headers.inner()["x-first-death-queue"], text("work"));
    assert_eq!(headers.inner()["x-last-death-queue"], text("parking"));
}

/// Two connections drive messages out of one queue, each also those of the other.
#[tokio::test(flavor = "multi_thread")]
async fn what_two_publishers_drive_out_of_a_queue_arrives_in_the_order_of_the_queue() {
    const MESSAGES: u64 = 10_000;
    const KEPT: u64 = 10;
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let limit = ("x-max-length", AMQPValue::LongLongInt(KEPT as i64));
    let key = ("x-dead-letter-routing-key", text("letters"));
    let short = arguments([("x-dead-letter-exchange", text("")), key, limit]);
    declare(&channel, "letters", FieldTable::default()).await;
    declare(&channel, "short", short).await;
    let address = broker.amqp();
    let publishers = ["left", "right"].map(|publisher| {
        tokio::spawn(async move {
            let (_connection, channel) = open(address).await;
            for number in 0..MESSAGES {
                let body = format!("{publisher} {number}");
                channel.publish("", "short", body.as_bytes()).await;
            }
            // Whoever is answered has been heard before.
            channel.queue("barrier", QueueDeclareOptions::default()).await;
        })
    });
    for publisher in publishers {
        publisher.await.unwrap();
    }
    let letters = 2 * MESSAGES - KEPT;
    channel.wait_for_messages("letters", letters as u32).await;
    let mut consumer = channel.consume_no_ack("letters").await;
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..letters {
        let letter = next(&mut consumer).await;
        let text = String::from_utf8(letter.data).unwrap();
        let (publisher, number) = text.split_once(' ').unwrap();
        let next = seen.entry(publisher.to_owned()).or_insert(0);
        assert_eq!(number.parse(), Ok(*next), "of the {publisher} one");
        *next += 1;
    }
}
