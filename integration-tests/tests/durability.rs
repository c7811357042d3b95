//! What survives `kill -9`, and what an orderly stop keeps.

use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, ExchangeKind};
use leveret_integration_tests::client::*;
use leveret_integration_tests::{Broker, wait};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many publishes may wait for their confirms.
const WINDOW_MESSAGES: usize = 200;

const EXCHANGE: &str = "orders";
const QUEUES: [&str; 2] = ["orders.shipping", "orders.billing"];

/// Numbered, persistent messages from one publisher; each must reach both queues.
struct Publisher {
    /// The next number. Never reused, so that a message is known by it for ever.
    next: u64,
}

/// What one run of the publisher knows when its broker is dead.
struct Published {
    first: u64,
    /// All numbers below it are confirmed.
    confirmed_end: u64,
    /// All numbers from here on were never sent.
    sent_end: u64,
}

impl Publisher {
    /// Publishes without a pause, calls `kill` when `confirms` messages are confirmed, and goes on until it notices.
    async fn publish_until_killed(&mut self, amqp: SocketAddr, confirms: u64, kill: impl FnOnce()) -> Published {
        let first = self.next;
        let (connection, channel) = open(amqp).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let confirmed_end = Arc::new(AtomicU64::new(first));
        let (outstanding, mut unconfirmed) = tokio::sync::mpsc::channel(WINDOW_MESSAGES);
        let publishing = tokio::spawn(async move {
            let mut number = first;
            while let Ok(confirm) = publish_number(&channel, number).await {
                number += 1;
                if outstanding.send(confirm).await.is_err() {
                    break;
                }
            }
            number + 1
        });
        let confirming = tokio::spawn({
            let confirmed_end = Arc::clone(&confirmed_end);
            async move {
                // In order, so that the count is also the end of the confirmed range.
                while let Some(confirm) = unconfirmed.recv().await {
                    match confirm.await {
                        Ok(confirmation) => assert!(confirmation.is_ack(), "{confirmation:?}"),
                        Err(_killed) => break,
                    }
                    confirmed_end.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let enough = || async { (confirmed_end.load(Ordering::SeqCst) >= first + confirms).then_some(()) };
        wait::until_async("enough confirms", enough).await;
        kill();
        wait::within("the publisher notices", confirming).await.unwrap();
        self.next = wait::within("the publisher ends", publishing).await.unwrap();
        drop(connection);
        Published {
            first,
            confirmed_end: confirmed_end.load(Ordering::SeqCst),
            sent_end: self.next,
        }
    }
}

async fn publish_number(channel: &Channel, number: u64) -> lapin::Result<lapin::PublisherConfirm> {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    channel
        .basic_publish(EXCHANGE.into(), "".into(), options, &message(number), properties)
        .await
}

/// The number and a filling that depends on it, from nothing to 20 KB.
fn message(number: u64) -> Vec<u8> {
    let filling = match number % 10 {
        0 => (number * 7919 % 20_000) as usize,
        digit => digit as usize * 10,
    };
    let mut message = number.to_be_bytes().to_vec();
    message.resize(8 + filling, number as u8);
    message
}

async fn declare_orders(channel: &Channel) {
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(EXCHANGE.into(), ExchangeKind::Fanout, durable, FieldTable::default())
        .await
        .unwrap();
    for queue in QUEUES {
        channel.queue(queue, QueueDeclareOptions::durable()).await;
        channel.bind(queue, EXCHANGE, "").await;
    }
}

/// Takes and acknowledges all messages of a queue. Returns number and redelivered flag, and checks every body.
async fn take_all(channel: &Channel, queue: &str) -> Vec<(u64, bool)> {
    let mut taken = Vec::new();
    while let Some(got) = channel.get(queue).await {
        let number = u64::from_be_bytes(got.data[..8].try_into().unwrap());
        assert!(got.data == message(number), "the body of {number} is damaged");
        taken.push((number, got.redelivered));
        got.ack(BasicAckOptions::default()).await.unwrap();
    }
    taken
}

/// Asserts that a queue gave what it owed after a kill.
fn assert_nothing_lost(queue: &str, round: u32, taken: &[(u64, bool)], published: &Published, acked: &HashSet<u64>) {
    let numbers: Vec<u64> = taken.iter().map(|(number, _)| *number).collect();
    assert!(
        numbers.is_sorted_by(|a, b| a < b),
        "round {round}, {queue}: out of order or twice: {numbers:?}"
    );
    let present: HashSet<u64> = numbers.iter().copied().collect();
    let lost: Vec<u64> = (published.first..published.confirmed_end)
        .filter(|number| !present.contains(number))
        .collect();
    assert!(lost.is_empty(), "round {round}, {queue}: confirmed and lost: {lost:?}");
    for (number, redelivered) in taken {
        assert!(
            *number < published.sent_end,
            "round {round}, {queue}: {number} was never sent"
        );
        let seen_before = *number < published.first;
        assert!(
            !seen_before || acked.contains(number),
            "round {round}, {queue}: {number} comes from nowhere"
        );
        // An ack may have been on its way to the disk. Then the message comes again, but it says so.
        assert!(
            !seen_before || *redelivered,
            "round {round}, {queue}: {number} comes again without the flag"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_kills_in_mid_publish_lose_no_confirmed_message() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    declare_orders(&channel).await;
    drop((connection, channel));
    let mut publisher = Publisher { next: 1 };
    let mut acked = QUEUES.map(|_| HashSet::new());
    let mut confirmed_in_all = 0;
    for round in 1..=30 {
        let confirms = 10 + u64::from(round) * 37 % 400;
        let amqp = broker.amqp();
        let published = publisher.publish_until_killed(amqp, confirms, || broker.kill()).await;
        confirmed_in_all += published.confirmed_end - published.first;

        broker.start_again();
        let (connection, channel) = open(broker.amqp()).await;
        for (queue, acked) in QUEUES.iter().zip(&mut acked) {
            let taken = take_all(&channel, queue).await;
            assert_nothing_lost(queue, round, &taken, &published, acked);
            acked.extend(taken.iter().map(|(number, _)| *number));
        }
        connection.close(200, "Goodbye".into()).await.unwrap();
    }
    assert!(confirmed_in_all >= 30 * 10);
    broker.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orderly_stops_in_mid_publish_lose_no_confirmed_message() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    declare_orders(&channel).await;
    drop((connection, channel));
    let mut publisher = Publisher { next: 1 };
    for round in 1..=5 {
        let published = publisher
            .publish_until_killed(broker.amqp(), 200, || broker.stop())
            .await;
        broker.start_again();
        let (connection, channel) = open(broker.amqp()).await;
        for queue in QUEUES {
            let taken = take_all(&channel, queue).await;
            // What is acknowledged before an orderly stop does not come again.
            assert_nothing_lost(queue, round, &taken, &published, &HashSet::new());
        }
        connection.close(200, "Goodbye".into()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_grows_over_many_kills_and_keeps_its_order() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    declare_orders(&channel).await;
    drop((connection, channel));
    let mut publisher = Publisher { next: 1 };
    let mut confirmed = Vec::new();
    for _ in 0..5 {
        let published = publisher
            .publish_until_killed(broker.amqp(), 300, || broker.kill())
            .await;
        confirmed.extend(published.first..published.confirmed_end);
        broker.start_again();
    }
    let (_connection, channel) = open(broker.amqp()).await;
    for queue in QUEUES {
        let numbers: Vec<u64> = take_all(&channel, queue)
            .await
            .iter()
            .map(|(number, _)| *number)
            .collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{queue}: out of order or twice");
        let present: HashSet<u64> = numbers.into_iter().collect();
        assert!(
            confirmed.iter().all(|number| present.contains(number)),
            "{queue}: a confirmed message is lost"
        );
    }
}

#[tokio::test]
async fn definitions_survive_a_kill_and_transient_ones_do_not() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    declare_orders(&channel).await;
    let arguments = arguments([("x-max-length", lapin::types::AMQPValue::LongInt(1000))]);
    let durable = QueueDeclareOptions::durable();
    channel
        .queue_declare("with arguments".into(), durable, arguments.clone())
        .await
        .unwrap();
    let durable_exchange = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let none = FieldTable::default;
    channel
        .exchange_declare("front".into(), ExchangeKind::Topic, durable_exchange, none())
        .await
        .unwrap();
    let options = ExchangeBindOptions::default();
    channel
        .exchange_bind(EXCHANGE.into(), "front".into(), "order.#".into(), options, none())
        .await
        .unwrap();
    channel.queue("deleted", durable).await;
    channel
        .queue_delete("deleted".into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    channel
        .queue_unbind(QUEUES[1].into(), EXCHANGE.into(), "".into(), none())
        .await
        .unwrap();
    channel.queue("transient", QueueDeclareOptions::default()).await;
    let exclusive = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::exclusive()
    };
    channel.queue("exclusive", exclusive).await;
    let auto_delete = QueueDeclareOptions::durable().auto_delete();
    channel.queue("auto-delete", auto_delete).await;
    let transient = ExchangeDeclareOptions::default();
    channel
        .exchange_declare("transient".into(), ExchangeKind::Fanout, transient, none())
        .await
        .unwrap();
    channel.bind(QUEUES[1], "transient", "").await;

    broker.kill();
    broker.start_again();
    let (connection, channel) = open(broker.amqp()).await;
    channel.publish_confirmed("front", "order.new", b"hello").await;
    assert_eq!(channel.drain(QUEUES[0]).await, ["hello"]);
    assert_eq!(channel.drain(QUEUES[1]).await, [""; 0], "unbound before the kill");
    channel
        .queue_declare("with arguments".into(), durable, arguments)
        .await
        .unwrap();
    channel.queue("auto-delete", auto_delete).await;
    for missing in ["deleted", "transient", "exclusive"] {
        let channel = connection.create_channel().await.unwrap();
        let passive = QueueDeclareOptions::default().passive();
        let error = channel
            .queue_declare(missing.into(), passive, none())
            .await
            .unwrap_err();
        assert_eq!(refusal(&error).0, 404, "{missing}");
    }
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let error = channel
        .exchange_declare("transient".into(), ExchangeKind::Fanout, passive, none())
        .await;
    assert_eq!(refusal(&error.unwrap_err()).0, 404);
}

#[tokio::test]
async fn acked_messages_do_not_come_back_after_an_orderly_stop() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("work", QueueDeclareOptions::durable()).await;
    for number in 0..300 {
        channel
            .publish_confirmed("", "work", number.to_string().as_bytes())
            .await;
    }
    let mut consumer = channel.consume("work").await;
    let mut expected = Vec::new();
    for number in 0..300 {
        let delivery = next(&mut consumer).await;
        match number % 3 {
            0 => {
                delivery.ack(BasicAckOptions::default()).await.unwrap();
            }
            1 => {
                delivery.nack(BasicNackOptions::default()).await.unwrap();
            }
            _ => expected.push((number.to_string(), true)),
        }
    }
    // The answer to this comes after the acks have been handled.
    assert_eq!(channel.counts("work").await, (0, 1));
    broker.stop();
    broker.start_again();

    let (_connection, channel) = open(broker.amqp()).await;
    let mut left = Vec::new();
    while let Some(message) = channel.get("work").await {
        left.push((body(&message), message.redelivered));
    }
    assert_eq!(left, expected);
}

#[tokio::test]
async fn unacked_messages_come_back_redelivered_after_a_kill() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("work", QueueDeclareOptions::durable()).await;
    for body in ["one", "two"] {
        channel.publish_confirmed("", "work", body.as_bytes()).await;
    }
    let held = channel.get("work").await.expect("a message");
    assert!(!held.redelivered);
    // That a message was handed out is written with the next commit; this one is over when it is answered.
    channel.queue("barrier", QueueDeclareOptions::durable()).await;
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    let first = channel.get("work").await.expect("the message that was held");
    assert_eq!((body(&first).as_str(), first.redelivered), ("one", true));
    assert_eq!(body(&channel.get("work").await.expect("the other")), "two");
}

#[tokio::test]
async fn transient_messages_do_not_outlive_the_broker() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("work", QueueDeclareOptions::durable()).await;
    channel.publish("", "work", b"transient").await;
    channel.publish_confirmed("", "work", b"persistent").await;
    channel.publish("", "work", b"transient").await;
    channel.wait_for_messages("work", 3).await;
    broker.stop();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    assert_eq!(channel.drain("work").await, ["persistent"]);
}

#[tokio::test]
async fn a_committed_transaction_survives_a_kill() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    declare_orders(&channel).await;
    channel.tx_select().await.unwrap();
    for number in 1..=20 {
        publish_number(&channel, number).await.unwrap();
    }
    channel.tx_commit().await.unwrap();
    publish_number(&channel, 21).await.unwrap();
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    for queue in QUEUES {
        let numbers: Vec<u64> = take_all(&channel, queue)
            .await
            .iter()
            .map(|(number, _)| *number)
            .collect();
        assert_eq!(numbers, (1..=20).collect::<Vec<_>>(), "{queue}");
    }
}

#[tokio::test]
async fn large_messages_survive_a_kill() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("large", QueueDeclareOptions::durable()).await;
    let large: Vec<u8> = (0..5 * 1024 * 1024_u32)
        .map(|position| (position % 253) as u8)
        .collect();
    channel.publish_confirmed("", "large", &large).await;
    channel.publish_confirmed("", "large", b"small").await;
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    let got = channel.get("large").await.expect("the large message");
    assert!(got.data == large);
    assert_eq!(body(&channel.get("large").await.expect("the small message")), "small");
}

/// A start that is itself killed, at one log line after the other.
#[tokio::test]
async fn kills_during_the_start_lose_nothing() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("work", QueueDeclareOptions::durable()).await;
    for number in 0..50 {
        channel
            .publish_confirmed("", "work", number.to_string().as_bytes())
            .await;
    }
    broker.kill();
    for lines in 0..10 {
        broker.kill_while_starting(lines);
    }
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(channel.drain("work").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deep_queue_is_whole_and_in_order_after_a_kill() {
    const MESSAGES: u64 = 30_000;
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    declare_orders(&channel).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut confirms = Vec::new();
    for number in 1..=MESSAGES {
        confirms.push(publish_number(&channel, number).await.unwrap());
    }
    for confirm in confirms {
        assert!(wait::within("a confirm", confirm).await.unwrap().is_ack());
    }
    drop((connection, channel));
    broker.kill();
    broker.start_again();

    let (_connection, channel) = open(broker.amqp()).await;
    for queue in QUEUES {
        assert_eq!(channel.counts(queue).await.0, MESSAGES as u32);
        channel.basic_qos(500, BasicQosOptions::default()).await.unwrap();
        let mut consumer = channel.consume(queue).await;
        for number in 1..=MESSAGES {
            let delivery = next(&mut consumer).await;
            assert!(delivery.data == message(number), "{queue}: not message {number}");
            if number % 100 == 0 {
                delivery.ack(BasicAckOptions { multiple: true }).await.unwrap();
            }
        }
        channel
            .basic_cancel(consumer.tag(), BasicCancelOptions::default())
            .await
            .unwrap();
        assert_eq!(channel.counts(queue).await, (0, 0));
    }
}
