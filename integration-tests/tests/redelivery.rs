//! What becomes of messages that come back, as a client sees it.

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

fn header(delivery: &lapin::message::Delivery, name: &str) -> Option<AMQPValue> {
    delivery.properties.headers().as_ref()?.inner().get(name).cloned()
}

#[tokio::test]
async fn a_message_that_fails_before_and_after_a_crash_reaches_its_limit() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let limited = arguments([
        ("x-delivery-limit", AMQPValue::LongInt(2)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("parking")),
    ]);
    declare(&channel, "work", limited).await;
    declare(&channel, "parking", FieldTable::default()).await;
    channel.publish_confirmed("", "work", b"poison").await;

    let reject = BasicRejectOptions { requeue: true };
    let first = channel.get("work").await.expect("a message");
    assert_eq!(header(&first.delivery, "x-delivery-count"), None);
    first.delivery.reject(reject).await.unwrap();
    // What is declared durable is on disk before it is answered, and with it all that came before on the channel.
    declare(&channel, "barrier", FieldTable::default()).await;
    broker.kill();
    broker.start_again();

    // A connection that ends is a failure too.
    let (connection, channel) = open(broker.amqp()).await;
    let second = channel.get("work").await.expect("a message");
    assert!(second.delivery.redelivered);
    assert_eq!(
        header(&second.delivery, "x-delivery-count"),
        Some(AMQPValue::LongLongInt(1))
    );
    connection.close(200, "bye".into()).await.unwrap();

    let (_connection, channel) = open(broker.amqp()).await;
    let third = channel.get("work").await.expect("a message");
    assert_eq!(
        header(&third.delivery, "x-delivery-count"),
        Some(AMQPValue::LongLongInt(2))
    );
    third.delivery.reject(reject).await.unwrap();
    assert!(channel.get("work").await.is_none());
    let parked = channel.get("parking").await.expect("the dead letter");
    assert_eq!(body(&parked), "poison");
    assert_eq!(
        header(&parked.delivery, "x-first-death-reason"),
        Some(text("delivery_limit"))
    );
}

#[tokio::test]
async fn a_delivery_that_an_orderly_stop_interrupts_has_not_failed() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let limited = arguments([("x-delivery-limit", AMQPValue::LongInt(0))]);
    declare(&channel, "work", limited).await;
    channel.publish_confirmed("", "work", b"order").await;
    assert!(channel.get("work").await.is_some());
    broker.stop();
    broker.start_again();

    let (_connection, channel) = open(broker.amqp()).await;
    let again = channel.get("work").await.expect("the message");
    assert!(again.delivery.redelivered);
    assert_eq!(header(&again.delivery, "x-delivery-count"), None);
}

#[tokio::test]
async fn a_message_waits_longer_after_each_failure() {
    let broker = leveret_integration_tests::TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let retry = arguments([
        ("x-delayed-retry-type", text("failed")),
        ("x-delayed-retry-min", AMQPValue::LongInt(200)),
    ]);
    let exclusive = QueueDeclareOptions::exclusive();
    let declared = channel.queue_declare("".into(), exclusive, retry).await.unwrap();
    let queue = declared.name().to_string();
    channel.publish_confirmed("", &queue, b"order").await;
    let mut consumer = channel.consume(&queue).await;
    let reject = BasicRejectOptions { requeue: true };
    let mut began = std::time::Instant::now();
    for failures in 0..3 {
        let delivery = next(&mut consumer).await;
        let waited = began.elapsed();
        assert!(waited.as_millis() + 20 >= failures * 200, "{failures}: {waited:?}");
        if failures == 1 {
            // While it waits, others go on.
            channel.publish_confirmed("", &queue, b"another").await;
            assert_eq!(next_bodies(&mut consumer, 1).await, ["another"]);
        }
        began = std::time::Instant::now();
        delivery.reject(reject).await.unwrap();
    }
}

#[tokio::test]
async fn a_polite_return_is_no_failure_and_a_lost_channel_is_one() {
    let broker = leveret_integration_tests::TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let limited = arguments([("x-delivery-limit", AMQPValue::LongInt(1))]);
    let exclusive = QueueDeclareOptions::exclusive();
    let declared = channel.queue_declare("".into(), exclusive, limited).await.unwrap();
    let queue = declared.name().to_string();
    channel.publish_confirmed("", &queue, b"work").await;
    let back = BasicNackOptions {
        multiple: false,
        requeue: true,
    };
    for round in 0..5 {
        let got = channel.get(&queue).await.expect("a message");
        assert_eq!(
            (got.delivery.redelivered, header(&got.delivery, "x-delivery-count")),
            (round > 0, None)
        );
        got.delivery.nack(back).await.unwrap();
    }
    for count in [None, Some(AMQPValue::LongLongInt(1))] {
        let lost = connection.create_channel().await.unwrap();
        let got = lost.get(&queue).await.expect("a message");
        assert_eq!(header(&got.delivery, "x-delivery-count"), count);
        lost.close(200, "OK".into()).await.unwrap();
    }
    assert!(
        channel.get(&queue).await.is_none(),
        "it failed twice, and once is the limit"
    );
}

#[tokio::test]
async fn a_consumer_has_the_time_that_it_asks_for_and_its_channel_lives_on() {
    let broker = leveret_integration_tests::TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let hours = arguments([("x-consumer-timeout", AMQPValue::LongInt(36_000_000))]);
    let exclusive = QueueDeclareOptions::exclusive();
    let declared = channel.queue_declare("".into(), exclusive, hours).await.unwrap();
    let queue = declared.name().to_string();
    let hasty = arguments([("x-consumer-timeout", AMQPValue::LongInt(100))]);
    let consumed = channel.basic_consume(queue.as_str().into(), "hasty".into(), Default::default(), hasty);
    let mut consumer = consumed.await.unwrap();
    channel.publish_confirmed("", &queue, b"order").await;
    let late = next(&mut consumer).await;
    let again = next(&mut consumer).await;
    assert!(!late.redelivered && again.redelivered);
    late.ack(BasicAckOptions::default()).await.unwrap();
    again.ack(BasicAckOptions::default()).await.unwrap();
    channel.publish_confirmed("", &queue, b"another").await;
    assert_eq!(next_bodies(&mut consumer, 1).await, ["another"]);
}
