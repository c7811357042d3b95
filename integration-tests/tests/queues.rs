//! Declaring, purging and deleting queues.

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use leveret_integration_tests::client::*;
use leveret_integration_tests::{TestBroker, wait};

#[tokio::test]
async fn declaring_a_queue_again_tells_its_messages_and_consumers() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    assert_eq!(channel.counts(&queue).await, (0, 0));

    channel.publish_confirmed("", &queue, b"one").await;
    channel.publish_confirmed("", &queue, b"two").await;
    assert_eq!(channel.counts(&queue).await, (2, 0));

    let mut consumer = channel.consume(&queue).await;
    assert_eq!(next_bodies(&mut consumer, 2).await, ["one", "two"]);
    assert_eq!(channel.counts(&queue).await, (0, 1));
}

#[tokio::test]
async fn server_named_queues_get_fresh_names() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let (first, second) = (channel.own_queue().await, channel.own_queue().await);
    assert_ne!(first, second);
    for name in [first, second] {
        let random = name.strip_prefix("amq.gen-").expect("the prefix amq.gen-");
        assert_eq!(random.len(), 22, "{name}");
    }
}

#[tokio::test]
async fn an_empty_queue_name_means_the_queue_declared_last_on_the_channel() {
    let broker = TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let other = connection.create_channel().await.unwrap();
    let queue = channel.own_queue().await;
    let _unrelated = other.own_queue().await;

    channel.bind("", "amq.direct", "").await;
    channel
        .publish_confirmed("amq.direct", &queue, b"bound by its own name")
        .await;
    assert_eq!(channel.drain("").await, ["bound by its own name"]);
}

#[tokio::test]
async fn an_exclusive_queue_is_locked_for_others_and_gone_before_its_connection_is_closed() {
    let broker = TestBroker::get();
    let (owner, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;

    let other = connect(broker.amqp()).await;
    let passive = QueueDeclareOptions::default().passive();
    let stranger = other.create_channel().await.unwrap();
    let error = stranger
        .queue_declare(queue.as_str().into(), passive, FieldTable::default())
        .await;
    assert_eq!(refusal(&error.unwrap_err()).0, 405);

    owner.close(200, "Goodbye".into()).await.unwrap();
    let stranger = other.create_channel().await.unwrap();
    let error = stranger
        .queue_declare(queue.as_str().into(), passive, FieldTable::default())
        .await;
    assert_eq!(refusal(&error.unwrap_err()).0, 404);
}

#[tokio::test]
async fn an_exclusive_queue_goes_when_its_connection_is_lost() {
    use leveret_integration_tests::raw::{RawClient, queue};
    let broker = TestBroker::get();
    let name = broker.unique("exclusive");
    let mut owner = RawClient::with_channel(broker.amqp());
    let declare = queue::Declare {
        queue: name.as_str().into(),
        exclusive: true,
        ..Default::default()
    };
    let _ok = owner.call(1, declare.clone());

    drop(owner);
    let mut heir = RawClient::with_channel(broker.amqp());
    wait::until("the name is free again", || {
        heir.send(1, declare.clone());
        match heir.next_method().1 {
            leveret_integration_tests::raw::AMQPClass::Queue(_) => Some(()),
            _locked => {
                heir.send(1, leveret_integration_tests::raw::channel::CloseOk {});
                heir.open_channel(1);
                None
            }
        }
    });
}

#[tokio::test]
async fn an_auto_delete_queue_goes_with_its_last_consumer_but_not_before_the_first() {
    let broker = TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let queue = broker.unique("auto-delete");
    channel
        .queue(&queue, QueueDeclareOptions::default().auto_delete())
        .await;
    channel.publish_confirmed("", &queue, b"a get is no consumer").await;
    let message = channel.get(&queue).await.expect("a message");
    message.ack(BasicAckOptions::default()).await.unwrap();
    assert_eq!(channel.counts(&queue).await, (0, 0));

    let first = channel.consume(&queue).await;
    let second = channel.consume(&queue).await;
    channel
        .basic_cancel(first.tag(), BasicCancelOptions::default())
        .await
        .unwrap();
    assert_eq!(channel.counts(&queue).await, (0, 1));
    channel
        .basic_cancel(second.tag(), BasicCancelOptions::default())
        .await
        .unwrap();

    let channel = connection.create_channel().await.unwrap();
    let passive = QueueDeclareOptions::default().passive();
    let error = channel
        .queue_declare(queue.as_str().into(), passive, FieldTable::default())
        .await;
    assert_eq!(refusal(&error.unwrap_err()).0, 404);
}

#[tokio::test]
async fn purge_removes_what_is_ready_and_leaves_what_is_unacked() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    for body in [b"one", b"two", b"six"] {
        channel.publish_confirmed("", &queue, body).await;
    }
    let unacked = channel.get(&queue).await.expect("a message");

    let purged = channel
        .queue_purge(queue.as_str().into(), QueuePurgeOptions::default())
        .await
        .unwrap();
    assert_eq!(purged, 2);
    assert_eq!(channel.counts(&queue).await, (0, 0));

    let requeue = BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    };
    unacked.nack(requeue).await.unwrap();
    assert_eq!(channel.drain(&queue).await, ["one"]);
}

#[tokio::test]
async fn delete_counts_the_messages_it_removes() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    channel.publish_confirmed("", &queue, b"one").await;
    channel.publish_confirmed("", &queue, b"two").await;

    let deleted = channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(deleted, 2);
    let deleted = channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    assert_eq!(deleted, 0, "deleting a missing queue is no error");
}

#[tokio::test]
async fn delete_with_conditions_deletes_when_they_hold() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    let options = QueueDeleteOptions {
        if_unused: true,
        if_empty: true,
        ..QueueDeleteOptions::default()
    };
    channel.queue_delete(queue.as_str().into(), options).await.unwrap();
    let queue = channel.own_queue().await;
    channel.publish_confirmed("", &queue, b"not empty, but unused").await;
    let options = QueueDeleteOptions {
        if_unused: true,
        ..QueueDeleteOptions::default()
    };
    assert_eq!(channel.queue_delete(queue.as_str().into(), options).await.unwrap(), 1);
}

#[tokio::test]
async fn a_deleted_queue_takes_its_bindings_along() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = broker.unique("rebuilt");
    let exclusive = QueueDeclareOptions::exclusive();
    channel.queue(&queue, exclusive).await;
    channel.bind(&queue, "amq.direct", &queue).await;
    channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();

    channel.queue(&queue, exclusive).await;
    channel
        .publish_confirmed("amq.direct", &queue, b"nobody is bound any more")
        .await;
    assert_eq!(channel.counts(&queue).await, (0, 0));
}

#[tokio::test]
async fn queue_names_may_be_any_text_of_up_to_255_bytes() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let unique = broker.unique("queue");
    let longest = format!("{unique}-{}", "x".repeat(254 - unique.len()));
    for name in [format!("{unique} with spaces & ümläuts 🐇"), longest] {
        channel.queue(&name, QueueDeclareOptions::exclusive()).await;
        channel.publish_confirmed("", &name, b"hello").await;
        assert_eq!(channel.drain(&name).await, ["hello"], "{name}");
    }
}

#[tokio::test]
async fn arguments_are_the_same_whatever_integer_type_they_have() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = broker.unique("integers");
    for length in [
        AMQPValue::LongInt(1000),
        AMQPValue::LongLongInt(1000),
        AMQPValue::ShortInt(1000),
    ] {
        let arguments = arguments([("x-max-length", length.clone())]);
        let declared = channel
            .queue_declare(queue.as_str().into(), QueueDeclareOptions::exclusive(), arguments)
            .await;
        assert!(declared.is_ok(), "{length:?}: {declared:?}");
    }
}

#[tokio::test]
async fn nowait_declares_and_binds_without_an_answer() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = broker.unique("nowait");
    let options = QueueDeclareOptions {
        nowait: true,
        ..QueueDeclareOptions::exclusive()
    };
    channel
        .queue_declare(queue.as_str().into(), options, FieldTable::default())
        .await
        .unwrap();
    let (name, key) = (queue.as_str(), queue.as_str());
    let options = QueueBindOptions { nowait: true };
    channel
        .queue_bind(
            name.into(),
            "amq.direct".into(),
            key.into(),
            options,
            FieldTable::default(),
        )
        .await
        .unwrap();
    channel.publish_confirmed("amq.direct", key, b"bound").await;
    assert_eq!(channel.drain(name).await, ["bound"]);
}
