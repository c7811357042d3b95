//! Time to live, as a client sees it.

use lapin::BasicProperties;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use leveret_integration_tests::Broker;
use leveret_integration_tests::client::*;
use leveret_integration_tests::wait::{self, until_async};
use std::collections::BTreeSet;

async fn declare(channel: &lapin::Channel, name: &str, arguments: FieldTable) {
    let options = QueueDeclareOptions {
        durable: true,
        ..Default::default()
    };
    channel.queue_declare(name.into(), options, arguments).await.unwrap();
}

fn expiring_to(queue: &str, millis: i32) -> FieldTable {
    arguments([
        ("x-message-ttl", AMQPValue::LongInt(millis)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(queue)),
    ])
}

async fn publish(channel: &lapin::Channel, queue: &str, body: &str, expiration: Option<&str>, persistent: bool) {
    let mut properties = BasicProperties::default().with_delivery_mode(if persistent { 2 } else { 1 });
    if let Some(expiration) = expiration {
        properties = properties.with_expiration(expiration.into());
    }
    let options = BasicPublishOptions::default();
    let publish = channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), properties);
    wait::within("basic.publish", publish).await.unwrap();
}

#[tokio::test]
async fn a_message_with_a_short_life_does_not_wait_for_the_one_before_it() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    declare(&channel, "dead", FieldTable::default()).await;
    declare(&channel, "q", expiring_to("dead", 600_000)).await;
    publish(&channel, "q", "long", None, true).await;
    publish(&channel, "q", "short", Some("50"), true).await;
    publish(&channel, "q", "fleeting", Some("0"), false).await;
    channel.wait_for_messages("dead", 2).await;
    assert_eq!(channel.counts("q").await.0, 1);

    let mut letters = Vec::new();
    while let Some(letter) = channel.get("dead").await {
        assert!(letter.properties.expiration().is_none());
        let headers = letter.properties.headers().clone().unwrap();
        let deaths = headers
            .inner()
            .get("x-death")
            .and_then(AMQPValue::as_array)
            .unwrap()
            .clone();
        let death = deaths.as_slice()[0].as_field_table().unwrap().inner().clone();
        assert_eq!(death["reason"], text("expired"));
        assert_eq!(death["queue"], text("q"));
        letters.push((body(&letter), death["original-expiration"].clone()));
    }
    let expected = [("fleeting", "0"), ("short", "50")];
    assert_eq!(letters, expected.map(|(body, millis)| (body.to_owned(), text(millis))));
}

#[tokio::test]
async fn a_time_of_zero_is_enough_for_a_consumer_that_waits() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    declare(&channel, "q", arguments([("x-message-ttl", AMQPValue::LongInt(0))])).await;
    publish(&channel, "q", "nobody is there", None, false).await;
    let mut consumer = channel.consume("q").await;
    publish(&channel, "q", "somebody is", None, true).await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.data, b"somebody is");
    // It comes back when its time is over.
    let requeue = BasicNackOptions {
        requeue: true,
        ..Default::default()
    };
    delivery.nack(requeue).await.unwrap();
    assert_eq!(channel.counts("q").await.0, 0);
}

/// The dead letters of a queue in memory and of one on disk, with a broker that is killed again and again while they move.
#[tokio::test(flavor = "multi_thread")]
async fn expired_messages_move_exactly_once_whenever_the_broker_is_killed() {
    for budget in ["64MiB", "8KiB"] {
        let Some(mut broker) = Broker::start_configured(&[("QUEUE_MEMORY_BUDGET", budget)]) else {
            return;
        };
        let (connection, channel) = open(broker.amqp()).await;
        declare(&channel, "dead", FieldTable::default()).await;
        declare(&channel, "q", expiring_to("dead", 600_000)).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        const MESSAGES: usize = 3000;
        for number in 0..MESSAGES {
            let millis = (1000 + number).to_string();
            // Every tenth one outlives the test.
            let expiration = (number % 10 > 0).then_some(millis.as_str());
            publish(&channel, "q", &number.to_string(), expiration, true).await;
        }
        wait::within("confirms", channel.wait_for_confirms()).await.unwrap();
        drop(connection);
        let expired = MESSAGES / 10 * 9;
        for at_least in [1, expired as u32 / 3, expired as u32 / 3 * 2] {
            broker.kill();
            broker.start_again();
            let (_connection, channel) = open(broker.amqp()).await;
            let moved = || async { (channel.counts("dead").await.0 >= at_least).then_some(()) };
            until_async("some have expired", moved).await;
        }
        broker.kill();
        broker.start_again();
        let (_connection, channel) = open(broker.amqp()).await;
        channel.wait_for_messages("dead", expired as u32).await;
        assert_eq!(channel.counts("q").await.0 as usize, MESSAGES / 10);
        let letters: BTreeSet<usize> = channel
            .drain("dead")
            .await
            .iter()
            .map(|body| body.parse().unwrap())
            .collect();
        assert_eq!(letters.len(), expired);
        assert!(letters.iter().all(|number| number % 10 > 0));
    }
}

#[tokio::test]
async fn a_policy_gives_messages_a_time_that_arrive_from_then_on() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    declare(&channel, "q", FieldTable::default()).await;
    publish(&channel, "q", "before", None, true).await;
    assert_eq!(channel.counts("q").await.0, 1);
    let definition = "{\"message-ttl\": 20}";
    broker
        .ctl()
        .run(&["set_policy", "--apply-to", "queues", "ttl", "^q$", definition]);
    publish(&channel, "q", "after", None, true).await;
    channel.wait_for_messages("q", 1).await;
    assert_eq!(channel.drain("q").await, ["before"]);
}

#[tokio::test]
async fn a_queue_that_nobody_uses_goes_and_does_not_come_back_after_a_crash() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let expires = arguments([("x-expires", AMQPValue::LongInt(2000))]);
    declare(&channel, "unused", expires.clone()).await;
    declare(&channel, "used", expires).await;
    let _consumer = channel.consume_no_ack("used").await;
    // Looking at it over AMQP would be a use.
    let names = |broker: &Broker| broker.ctl().run(&["list_queues", "name", "--silent"]);
    wait::until("the unused queue is gone", || {
        (!names(&broker).contains("unused")).then_some(())
    });
    assert!(names(&broker).contains("used"));
    broker.kill();
    broker.start_again();
    assert!(!names(&broker).contains("unused"));
    wait::until("after the crash nobody uses the other either", || {
        (!names(&broker).contains("used")).then_some(())
    });
}
