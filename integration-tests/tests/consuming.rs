//! Consuming, getting and settling.

use lapin::message::Delivery;
use lapin::options::*;
use lapin::types::AMQPValue;
use lapin::{Channel, Consumer};
use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::*;

const REQUEUE: BasicNackOptions = BasicNackOptions {
    multiple: false,
    requeue: true,
};

async fn publish_numbers(channel: &Channel, queue: &str, count: u32) {
    for number in 1..=count {
        channel
            .publish_confirmed("", queue, number.to_string().as_bytes())
            .await;
    }
}

fn numbers(range: impl IntoIterator<Item = u32>) -> Vec<String> {
    range.into_iter().map(|number| number.to_string()).collect()
}

async fn ack(delivery: &Delivery) {
    delivery.ack(BasicAckOptions::default()).await.unwrap();
}

#[tokio::test]
async fn acked_messages_are_gone_and_unacked_ones_come_back_redelivered_in_order() {
    let broker = TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    publish_numbers(&channel, &queue, 5).await;

    let worker = connection.create_channel().await.unwrap();
    let mut consumer = worker.consume(&queue).await;
    for number in 1..=5 {
        let delivery = next(&mut consumer).await;
        assert!(!delivery.redelivered);
        if number == 2 || number == 4 {
            ack(&delivery).await;
        }
    }
    worker.close(200, "Goodbye".into()).await.unwrap();

    for expected in ["1", "3", "5"] {
        let message = channel.get(&queue).await.expect("a message");
        assert_eq!((body(&message).as_str(), message.redelivered), (expected, true));
    }
    assert!(channel.get(&queue).await.is_none());
}

#[tokio::test]
async fn a_lost_connection_gives_its_unacked_messages_back() {
    use leveret_integration_tests::raw::{RawClient, basic, queue};
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let name = broker.unique("lost");
    channel.queue(&name, QueueDeclareOptions::default().auto_delete()).await;
    publish_numbers(&channel, &name, 3).await;

    let mut client = RawClient::with_channel(broker.amqp());
    let passive = queue::Declare {
        queue: name.as_str().into(),
        passive: true,
        ..Default::default()
    };
    assert_eq!(client.call(1, passive).message_count, 3);
    for _ in 0..3 {
        let get = basic::Get {
            queue: name.as_str().into(),
            no_ack: false,
        };
        client.send(1, get);
        client.expect_content(1);
    }
    assert_eq!(channel.counts(&name).await.0, 0);

    drop(client);
    let mut consumer = channel.consume(&name).await;
    for expected in ["1", "2", "3"] {
        let delivery = next(&mut consumer).await;
        assert_eq!((body(&delivery).as_str(), delivery.redelivered), (expected, true));
    }
}

#[tokio::test]
async fn requeued_messages_return_to_their_place() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    publish_numbers(&channel, &queue, 6).await;
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.push(channel.get(&queue).await.expect("a message"));
    }
    // Back in an order of their own, and one of them not at all.
    taken[2].nack(REQUEUE).await.unwrap();
    taken[0].reject(BasicRejectOptions { requeue: true }).await.unwrap();
    taken[1].nack(BasicNackOptions::default()).await.unwrap();
    taken[3].nack(REQUEUE).await.unwrap();

    let mut order = Vec::new();
    while let Some(message) = channel.get(&queue).await {
        order.push((body(&message), message.redelivered));
        ack(&message).await;
    }
    let expected = [("1", true), ("3", true), ("4", true), ("5", false), ("6", false)];
    assert_eq!(
        order,
        expected.map(|(body, redelivered)| (body.to_owned(), redelivered))
    );
}

#[tokio::test]
async fn settling_multiple_settles_everything_up_to_the_tag() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    publish_numbers(&channel, &queue, 9).await;
    let mut tags = Vec::new();
    for _ in 0..9 {
        tags.push(channel.get(&queue).await.expect("a message").delivery.delivery_tag);
    }
    assert_eq!(tags, (1..=9).collect::<Vec<u64>>());
    channel.basic_ack(3, BasicAckOptions { multiple: true }).await.unwrap();
    let requeue_all = BasicNackOptions {
        multiple: true,
        requeue: true,
    };
    channel.basic_nack(6, requeue_all).await.unwrap();
    channel.wait_for_messages(&queue, 3).await;
    // Tag 0 means all that is outstanding.
    channel.basic_nack(0, requeue_all).await.unwrap();
    channel.wait_for_messages(&queue, 6).await;
    assert_eq!(channel.drain(&queue).await, numbers(4..=9));
    channel.basic_ack(0, BasicAckOptions { multiple: true }).await.unwrap();
    assert_eq!(
        channel.counts(&queue).await,
        (0, 0),
        "and nothing outstanding is no error"
    );
}

#[tokio::test]
async fn recover_delivers_again_what_is_not_acked() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    publish_numbers(&channel, &queue, 3).await;
    let mut consumer = channel.consume(&queue).await;
    let first = next(&mut consumer).await;
    next_bodies(&mut consumer, 2).await;
    ack(&first).await;
    channel
        .basic_recover(BasicRecoverOptions { requeue: true })
        .await
        .unwrap();
    for expected in ["2", "3"] {
        let delivery = next(&mut consumer).await;
        assert_eq!((body(&delivery).as_str(), delivery.redelivered), (expected, true));
    }
}

#[tokio::test]
async fn recover_async_does_the_same_without_an_answer() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    publish_numbers(&channel, &queue, 2).await;
    for _ in 0..2 {
        channel.get(&queue).await.expect("a message");
    }
    channel
        .basic_recover_async(BasicRecoverAsyncOptions { requeue: true })
        .await
        .unwrap();
    channel.wait_for_messages(&queue, 2).await;
    assert_eq!(channel.drain(&queue).await, ["1", "2"]);
}

#[tokio::test]
async fn get_tells_how_many_messages_are_left() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    publish_numbers(&channel, &queue, 3).await;
    for left in [2, 1, 0] {
        assert_eq!(channel.get(&queue).await.expect("a message").message_count, left);
    }
    assert!(channel.get(&queue).await.is_none());
}

#[tokio::test]
async fn without_acks_a_message_is_gone_when_it_is_sent() {
    let broker = TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    publish_numbers(&channel, &queue, 100).await;
    let reader = connection.create_channel().await.unwrap();
    // A prefetch count does not hold back a consumer that never acknowledges.
    reader.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let mut consumer = reader.consume_no_ack(&queue).await;
    assert_eq!(next_bodies(&mut consumer, 100).await, numbers(1..=100));
    reader.close(200, "Goodbye".into()).await.unwrap();
    assert_eq!(channel.counts(&queue).await, (0, 0));
}

#[tokio::test]
async fn equal_consumers_take_exact_turns() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = broker.unique("turns");
    channel
        .queue(&queue, QueueDeclareOptions::default().auto_delete())
        .await;
    let mut connections = Vec::new();
    let mut consumers = Vec::new();
    for _ in 0..3 {
        let (connection, channel) = open(broker.amqp()).await;
        consumers.push(channel.consume(&queue).await);
        connections.push((connection, channel));
    }
    publish_numbers(&channel, &queue, 300).await;

    let mut seen = Vec::new();
    for consumer in &mut consumers {
        let bodies = next_bodies(consumer, 100).await;
        let first: u32 = bodies[0].parse().unwrap();
        assert_eq!(bodies, numbers((first..=300).step_by(3)), "every third message");
        seen.push(first);
    }
    seen.sort();
    assert_eq!(seen, [1, 2, 3]);
}

#[tokio::test]
async fn prefetch_is_counted_for_each_consumer() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    channel.basic_qos(2, BasicQosOptions::default()).await.unwrap();
    let mut first = channel.consume(&queue).await;
    channel.basic_qos(3, BasicQosOptions::default()).await.unwrap();
    let mut second = channel.consume(&queue).await;
    publish_numbers(&channel, &queue, 10).await;

    // 2 for the first and 3 for the second; the other five wait.
    channel.wait_for_messages(&queue, 5).await;
    assert_eq!(next_bodies(&mut second, 3).await, ["2", "4", "5"]);
    let held = next(&mut first).await;
    assert_eq!(body(&held), "1");
    assert_eq!(next_bodies(&mut first, 1).await, ["3"]);

    ack(&held).await;
    assert_eq!(next_bodies(&mut first, 1).await, ["6"]);
    channel.wait_for_messages(&queue, 4).await;
}

/// The next `count` deliveries of two consumers, whichever gets them, in the order of their numbers.
async fn next_of_both(consumers: &mut [Consumer; 2], count: usize) -> Vec<u32> {
    let mut received = Vec::new();
    while received.len() < count {
        let [first, second] = &mut *consumers;
        let delivery = tokio::select! {
            delivery = next(first) => delivery,
            delivery = next(second) => delivery,
        };
        received.push(body(&delivery).parse().unwrap());
    }
    received.sort();
    received
}

#[tokio::test]
async fn global_prefetch_is_shared_by_the_consumers_of_a_channel() {
    let broker = TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    let worker = connection.create_channel().await.unwrap();
    worker.basic_qos(3, BasicQosOptions { global: true }).await.unwrap();
    let mut consumers = [worker.consume(&queue).await, worker.consume(&queue).await];
    publish_numbers(&channel, &queue, 10).await;

    for first in [1, 4] {
        assert_eq!(
            next_of_both(&mut consumers, 3).await,
            (first..first + 3).collect::<Vec<_>>()
        );
        channel.wait_for_messages(&queue, 10 - (first + 2)).await;
        worker.basic_ack(0, BasicAckOptions { multiple: true }).await.unwrap();
    }
    assert_eq!(next_of_both(&mut consumers, 3).await, [7, 8, 9]);
    channel.wait_for_messages(&queue, 1).await;
    worker.basic_qos(0, BasicQosOptions { global: true }).await.unwrap();
    assert_eq!(next_of_both(&mut consumers, 1).await, [10], "a limit of 0 is none");
}

#[tokio::test]
async fn a_cancelled_consumer_keeps_what_it_has_and_gets_no_more() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    publish_numbers(&channel, &queue, 1).await;
    let mut consumer = channel.consume(&queue).await;
    let held = next(&mut consumer).await;
    channel
        .basic_cancel(consumer.tag(), BasicCancelOptions::default())
        .await
        .unwrap();
    publish_numbers(&channel, &queue, 2).await;
    assert_eq!(channel.counts(&queue).await, (2, 0));
    ack(&held).await;
    assert_eq!(channel.drain(&queue).await, ["1", "2"]);
}

#[tokio::test]
async fn server_made_consumer_tags_are_fresh() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    let (first, second) = (channel.consume(&queue).await, channel.consume(&queue).await);
    assert_ne!(first.tag(), second.tag());
    for tag in [first.tag(), second.tag()] {
        let random = tag.as_str().strip_prefix("amq.ctag-").expect("the prefix amq.ctag-");
        assert_eq!(random.len(), 22, "{tag}");
    }
}

#[tokio::test]
async fn deleting_a_queue_cancels_its_consumers() {
    let broker = TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    let mut consumer = channel.consume(&queue).await;
    let other = connection.create_channel().await.unwrap();
    other
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    wait_for_cancel(&mut consumer).await;
    assert!(channel.status().connected(), "the channel lives on");
}

async fn consume_with(channel: &Channel, queue: &str, options: BasicConsumeOptions) -> lapin::Result<Consumer> {
    channel
        .basic_consume(queue.into(), "".into(), options, arguments([]))
        .await
}

#[tokio::test]
async fn an_exclusive_consumer_is_alone_until_it_leaves() {
    let broker = TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    let exclusive = BasicConsumeOptions {
        exclusive: true,
        ..BasicConsumeOptions::default()
    };
    let alone = consume_with(&channel, &queue, exclusive).await.unwrap();
    for options in [exclusive, BasicConsumeOptions::default()] {
        let other = connection.create_channel().await.unwrap();
        let (code, text) = refusal(&consume_with(&other, &queue, options).await.unwrap_err());
        assert_eq!(code, 403);
        assert!(text.contains("in exclusive use"), "{text}");
    }
    channel
        .basic_cancel(alone.tag(), BasicCancelOptions::default())
        .await
        .unwrap();
    let _shared = consume_with(&channel, &queue, BasicConsumeOptions::default())
        .await
        .unwrap();
    let other = connection.create_channel().await.unwrap();
    let error = consume_with(&other, &queue, exclusive).await.unwrap_err();
    assert_eq!(refusal(&error).0, 403, "exclusive asked while another consumes");
}

async fn consume_with_priority(channel: &Channel, queue: &str, priority: i32) -> Consumer {
    let arguments = arguments([("x-priority", AMQPValue::LongInt(priority))]);
    let options = BasicConsumeOptions::default();
    channel
        .basic_consume(queue.into(), "".into(), options, arguments)
        .await
        .unwrap()
}

#[tokio::test]
async fn lower_priorities_are_served_only_while_all_higher_ones_are_busy() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    channel.basic_qos(2, BasicQosOptions::default()).await.unwrap();
    let mut low = consume_with_priority(&channel, &queue, -1).await;
    let mut normal = channel.consume(&queue).await;
    let mut high = consume_with_priority(&channel, &queue, 10).await;
    publish_numbers(&channel, &queue, 5).await;

    let busy = next(&mut high).await;
    assert_eq!(body(&busy), "1");
    assert_eq!(next_bodies(&mut high, 1).await, ["2"]);
    assert_eq!(next_bodies(&mut normal, 2).await, ["3", "4"]);
    assert_eq!(next_bodies(&mut low, 1).await, ["5"]);

    ack(&busy).await;
    publish_numbers(&channel, &queue, 1).await;
    assert_eq!(next_bodies(&mut high, 1).await, ["1"], "free again, so first in line");
}

#[tokio::test]
async fn one_consumer_gets_the_messages_of_a_channel_in_publishing_order() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    let mut consumer = channel.consume_no_ack(&queue).await;
    for number in 1..=2000_u32 {
        channel.publish("", &queue, number.to_string().as_bytes()).await;
    }
    assert_eq!(next_bodies(&mut consumer, 2000).await, numbers(1..=2000));
}
