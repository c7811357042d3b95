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
