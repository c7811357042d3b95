//! CC and BCC: further routing keys in the headers of a message.

use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::*;

fn list(keys: &[&str]) -> AMQPValue {
    let mut array = FieldArray::default();
    for key in keys {
        array.push(text(key));
    }
    AMQPValue::FieldArray(array)
}

async fn publish(channel: &Channel, exchange: &str, key: &str, headers: FieldTable) -> bool {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default().with_headers(headers);
    let publish = channel.basic_publish(exchange.into(), key.into(), options, b"m", properties);
    let confirmation = publish.await.unwrap().await.unwrap();
    confirmation.take_message().is_none()
}

fn header(delivery: &Delivery, name: &str) -> Option<AMQPValue> {
    delivery.properties.headers().as_ref()?.inner().get(name).cloned()
}

#[tokio::test]
async fn copies_go_to_further_queues_and_nobody_learns_of_the_blind_ones() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let [to, cc, bcc] = [
        channel.own_queue().await,
        channel.own_queue().await,
        channel.own_queue().await,
    ];
    let headers = arguments([
        // A queue that is named twice has one copy.
        ("CC", list(&[&cc, &to, &cc])),
        ("BCC", list(&[&bcc, "nobody"])),
        ("kept", text("yes")),
    ]);
    assert!(publish(&channel, "", &to, headers).await);
    for queue in [&to, &cc, &bcc] {
        let got = channel.get(queue).await.expect("a copy");
        assert_eq!(
            got.delivery.routing_key.as_str(),
            to,
            "a copy keeps the message's own key"
        );
        assert_eq!(header(&got, "CC"), Some(list(&[&cc, &to, &cc])));
        assert_eq!(header(&got, "BCC"), None);
        assert_eq!(header(&got, "kept"), Some(text("yes")));
        assert!(channel.get(queue).await.is_none());
    }
}

#[tokio::test]
async fn each_key_is_matched_by_the_bindings_and_one_that_matches_is_enough() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let exchange = broker.unique("copies");
    channel.exchange(&exchange, ExchangeKind::Topic).await;
    let [eu, paid] = [channel.own_queue().await, channel.own_queue().await];
    channel.bind(&eu, &exchange, "eu.#").await;
    channel.bind(&paid, &exchange, "*.paid").await;
    assert!(publish(&channel, &exchange, "eu.new", arguments([("CC", list(&["us.paid"]))])).await);
    assert!(publish(&channel, &exchange, "nothing", arguments([("BCC", list(&["us.paid"]))])).await);
    assert!(!publish(&channel, &exchange, "nothing", arguments([("CC", list(&["neither"]))])).await);
    assert_eq!((channel.counts(&eu).await.0, channel.counts(&paid).await.0), (1, 2));
}

#[tokio::test]
async fn a_dead_letter_goes_to_its_copies_unless_it_gets_a_key_of_its_own() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let exchange = broker.unique("dead");
    channel.exchange(&exchange, ExchangeKind::Direct).await;
    let [own, copy, renamed] = [
        channel.own_queue().await,
        channel.own_queue().await,
        channel.own_queue().await,
    ];
    for (queue, key) in [(&copy, "copy"), (&renamed, "renamed")] {
        channel.bind(queue, &exchange, key).await;
    }
    let exclusive = QueueDeclareOptions::exclusive();
    let keeps = arguments([("x-dead-letter-exchange", text(&exchange))]);
    let keeping = channel
        .queue_declare("".into(), exclusive, keeps)
        .await
        .unwrap()
        .name()
        .to_string();
    let renames = arguments([
        ("x-dead-letter-exchange", text(&exchange)),
        ("x-dead-letter-routing-key", text("renamed")),
    ]);
    let renaming = channel
        .queue_declare("".into(), exclusive, renames)
        .await
        .unwrap()
        .name()
        .to_string();
    channel.bind(&own, &exchange, &keeping).await;

    for queue in [&keeping, &renaming] {
        assert!(publish(&channel, "", queue, arguments([("CC", list(&["copy"]))])).await);
        let got = channel.get(queue).await.expect("the message");
        got.delivery
            .reject(BasicRejectOptions { requeue: false })
            .await
            .unwrap();
    }
    for queue in [&own, &copy, &renamed] {
        channel.wait_for_messages(queue, 1).await;
    }
    let dead = channel.get(&copy).await.expect("the copy");
    let Some(AMQPValue::FieldArray(deaths)) = header(&dead, "x-death") else {
        panic!("no x-death in {dead:?}");
    };
    let [AMQPValue::FieldTable(death)] = deaths.as_slice() else {
        panic!("{deaths:?}");
    };
    assert_eq!(death.inner().get("routing-keys"), Some(&list(&[&keeping, "copy"])));
    // With a key of the queue's own, CC is gone: it would lead the message to the same queues again.
    let dead = channel.get(&renamed).await.expect("the renamed one");
    assert_eq!(header(&dead, "CC"), None);
}
