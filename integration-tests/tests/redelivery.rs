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
