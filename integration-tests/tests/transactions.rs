//! Transactions: what a commit makes happen and a rollback forgets.

use lapin::Channel;
use lapin::options::*;
use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::*;
use leveret_integration_tests::raw::{AMQPClass, BasicProperties, RawClient, basic, make, tx};

async fn open_transaction(broker: &TestBroker) -> (lapin::Connection, Channel, Channel, String) {
    let (connection, observer) = open(broker.amqp()).await;
    let queue = observer.own_queue().await;
    let channel = connection.create_channel().await.unwrap();
    channel.tx_select().await.unwrap();
    (connection, observer, channel, queue)
}

#[tokio::test]
async fn published_messages_appear_with_the_commit_and_in_order() {
    let broker = TestBroker::get();
    let (_connection, observer, channel, queue) = open_transaction(&broker).await;
    for body in ["one", "two", "three"] {
        channel.publish("", &queue, body.as_bytes()).await;
    }
    assert_eq!(
        channel.counts(&queue).await.0,
        0,
        "declared on the same channel, so after the publishes"
    );
    channel.tx_commit().await.unwrap();
    assert_eq!(observer.drain(&queue).await, ["one", "two", "three"]);
    channel.tx_commit().await.unwrap();
    assert_eq!(
        observer.counts(&queue).await.0,
        0,
        "an empty commit publishes nothing again"
    );
}

#[tokio::test]
async fn a_rollback_forgets_published_messages() {
    let broker = TestBroker::get();
    let (_connection, observer, channel, queue) = open_transaction(&broker).await;
    channel.publish("", &queue, b"forgotten").await;
    channel.tx_rollback().await.unwrap();
    channel.publish("", &queue, b"kept").await;
    channel.tx_commit().await.unwrap();
    assert_eq!(observer.drain(&queue).await, ["kept"]);
}

#[tokio::test]
async fn closing_the_channel_forgets_what_was_not_committed() {
    let broker = TestBroker::get();
    let (_connection, observer, channel, queue) = open_transaction(&broker).await;
    observer.publish_confirmed("", &queue, b"before").await;
    let message = channel.get(&queue).await.expect("a message");
    message.ack(BasicAckOptions::default()).await.unwrap();
    channel.publish("", &queue, b"forgotten").await;
    channel.close(200, "Goodbye".into()).await.unwrap();
    let message = observer.get(&queue).await.expect("a message");
    assert_eq!((body(&message).as_str(), message.redelivered), ("before", true));
    assert!(observer.get(&queue).await.is_none());
}

#[tokio::test]
async fn acks_count_with_the_commit_and_a_rollback_leaves_the_message_unacked() {
    let broker = TestBroker::get();
    let (_connection, observer, channel, queue) = open_transaction(&broker).await;
    for body in ["committed", "rolled back"] {
        observer.publish_confirmed("", &queue, body.as_bytes()).await;
    }
    let committed = channel.get(&queue).await.expect("a message");
    committed.ack(BasicAckOptions::default()).await.unwrap();
    channel.tx_commit().await.unwrap();

    let rolled_back = channel.get(&queue).await.expect("a message");
    let tag = rolled_back.delivery.delivery_tag;
    channel.basic_ack(tag, BasicAckOptions::default()).await.unwrap();
    channel.tx_rollback().await.unwrap();
    // It is outstanding as before: neither ready nor gone, and it may be settled again.
    assert_eq!(observer.counts(&queue).await.0, 0);
    let requeue = BasicNackOptions {
        multiple: false,
        requeue: true,
    };
    channel.basic_nack(tag, requeue).await.unwrap();
    assert_eq!(observer.counts(&queue).await.0, 0, "not before the commit");
    channel.tx_commit().await.unwrap();
    observer.wait_for_messages(&queue, 1).await;
    assert_eq!(observer.drain(&queue).await, ["rolled back"]);
}

#[tokio::test]
async fn one_commit_may_publish_to_many_queues() {
    let broker = TestBroker::get();
    let (_connection, observer, channel, first) = open_transaction(&broker).await;
    let second = observer.own_queue().await;
    for queue in [&first, &second] {
        observer.bind(queue, "amq.direct", &first).await;
    }
    channel.publish("amq.direct", &first, b"to both").await;
    channel.publish("", &second, b"to one").await;
    channel.tx_commit().await.unwrap();
    assert_eq!(observer.drain(&first).await, ["to both"]);
    assert_eq!(observer.drain(&second).await, ["to both", "to one"]);
}

#[test]
fn unroutable_mandatory_messages_are_returned_with_the_commit_and_not_before() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let _ok = client.call(1, tx::Select {});
    let publish = basic::Publish {
        mandatory: true,
        ..make::basic_publish("", &broker.unique("nobody"))
    };
    client.publish(1, publish.clone(), BasicProperties::default(), b"rolled back");
    // `call` fails when anything but the answer comes first.
    let _ok = client.call(1, tx::Rollback {});
    client.publish(1, publish, BasicProperties::default(), b"committed");
    let _ok = client.call(1, make::queue_declare(""));
    client.send(1, tx::Commit {});
    let returned = client.expect_content(1);
    assert!(
        matches!(returned.method, AMQPClass::Basic(basic::AMQPMethod::Return(_))),
        "{returned:?}"
    );
    assert_eq!(returned.body, b"committed");
    let _ok: tx::CommitOk = client.expect(1);
}

#[test]
fn a_publish_that_is_refused_costs_the_channel_and_the_transaction() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue;
    let missing = broker.unique("missing");
    let _ok = client.call(1, tx::Select {});
    client.publish_to(1, "", queue.as_str(), b"goes with the transaction");
    client.publish_to(1, &missing, "", b"refused");
    client.expect_channel_close(
        1,
        404,
        (60, 40),
        format!("NOT_FOUND - no exchange '{missing}' in vhost '/'"),
    );
    let counts = client.call(1, make::queue_declare_passive(queue.as_str()));
    assert_eq!(counts.message_count, 0);
}
