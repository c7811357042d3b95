//! `leveret ctl alter_queue`: each argument that can be altered, on a live queue with a real client, undone, and after a kill.

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use leveret_integration_tests::client::*;
use leveret_integration_tests::{Broker, wait};

const DURABLE: QueueDeclareOptions = QueueDeclareOptions {
    passive: false,
    durable: true,
    exclusive: false,
    auto_delete: false,
    nowait: false,
};

/// A broker with a durable queue `work` and a queue `graves`, and a channel with confirms.
async fn broker_with_queues() -> Option<(Broker, lapin::Connection, Channel)> {
    let broker = Broker::start_unless_external()?;
    let (connection, channel) = open(broker.amqp()).await;
    channel.queue("work", DURABLE).await;
    channel.queue("graves", DURABLE).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    Some((broker, connection, channel))
}

fn alter(broker: &Broker, arguments: &str) {
    broker.ctl().run(&["alter_queue", "work", arguments]);
}

/// Publishes a persistent message to `work`; whether it was acked.
async fn publish(channel: &Channel, body: &str) -> bool {
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions::default();
    let publish = channel.basic_publish("".into(), "work".into(), options, body.as_bytes(), properties);
    publish.await.unwrap().await.unwrap().is_ack()
}

/// Gets a message and rejects it.
async fn reject(channel: &Channel, requeue: bool) {
    let got = channel.get("work").await.expect("a message");
    got.delivery.reject(BasicRejectOptions { requeue }).await.unwrap();
}

#[tokio::test]
async fn limits_of_length_cut_refuse_and_go() {
    let Some((broker, _connection, channel)) = broker_with_queues().await else {
        return;
    };
    for body in ["1", "22", "333", "4444"] {
        assert!(publish(&channel, body).await);
    }
    alter(&broker, r#"{"max-length": 3}"#);
    assert_eq!(channel.counts("work").await.0, 3, "the oldest is gone at once");
    alter(&broker, r#"{"x-max-length-bytes": 7}"#);
    assert_eq!(channel.counts("work").await.0, 2);
    alter(&broker, r#"{"overflow": "reject-publish"}"#);
    assert!(!publish(&channel, "5").await);
    alter(
        &broker,
        r#"{"overflow": "reject-publish-dlx", "dead-letter-exchange": "", "dead-letter-routing-key": "graves"}"#,
    );
    assert!(!publish(&channel, "6").await);
    channel.wait_for_messages("graves", 1).await;
    // One limit after the other is taken back.
    alter(&broker, r#"{"max-length-bytes": null}"#);
    assert!(publish(&channel, "7").await);
    assert!(!publish(&channel, "8").await);
    alter(&broker, r#"{"max-length": null, "overflow": null}"#);
    assert!(publish(&channel, "9").await);
    assert_eq!(channel.drain("work").await, ["333", "4444", "7", "9"]);
    assert_eq!(channel.drain("graves").await, ["6", "8"]);
}

#[tokio::test]
async fn the_time_to_live_and_where_the_dead_go_change_while_messages_come() {
    let Some((broker, _connection, channel)) = broker_with_queues().await else {
        return;
    };
    assert!(publish(&channel, "before").await);
    alter(
        &broker,
        r#"{"message-ttl": 1, "dead-letter-exchange": "", "dead-letter-routing-key": "graves", "dead-letter-strategy": "at-least-once"}"#,
    );
    assert!(publish(&channel, "short-lived").await);
    channel.wait_for_messages("graves", 1).await;
    assert_eq!(channel.drain("graves").await, ["short-lived"]);
    alter(&broker, r#"{"message-ttl": null}"#);
    assert!(publish(&channel, "after").await);
    assert_eq!(
        channel.counts("work").await.0,
        2,
        "messages keep the time they came with"
    );
    reject(&channel, false).await;
    channel.wait_for_messages("graves", 1).await;
    alter(
        &broker,
        r#"{"dead-letter-exchange": null, "dead-letter-routing-key": null, "dead-letter-strategy": null}"#,
    );
    reject(&channel, false).await;
    assert_eq!(channel.counts("work").await.0, 0);
    assert_eq!(channel.drain("graves").await, ["before"]);
}

#[tokio::test]
async fn what_becomes_of_failures_and_of_slow_consumers_changes() {
    let Some((broker, _connection, channel)) = broker_with_queues().await else {
        return;
    };
    assert!(publish(&channel, "poison").await);
    for _ in 0..3 {
        reject(&channel, true).await;
    }
    alter(&broker, r#"{"delivery-limit": 3}"#);
    reject(&channel, true).await;
    assert_eq!(channel.counts("work").await.0, 0, "failures of before count");
    alter(&broker, r#"{"delivery-limit": null}"#);

    alter(
        &broker,
        r#"{"delayed-retry-type": "failed", "delayed-retry-min": 3600000, "delayed-retry-max": 3600000}"#,
    );
    assert!(publish(&channel, "later").await);
    reject(&channel, true).await;
    assert_eq!(channel.counts("work").await.0, 1, "what waits counts");
    assert!(channel.get("work").await.is_none());
    channel
        .queue_purge("work".into(), QueuePurgeOptions::default())
        .await
        .unwrap();
    alter(
        &broker,
        r#"{"delayed-retry-type": null, "delayed-retry-min": null, "delayed-retry-max": null}"#,
    );
    assert!(publish(&channel, "at once").await);
    reject(&channel, true).await;
    let mut slow = channel.consume("work").await;
    assert!(next(&mut slow).await.redelivered);

    // The delivery that the consumer has is from before; the next one has a time.
    alter(&broker, r#"{"consumer-timeout": 100}"#);
    assert!(publish(&channel, "late").await);
    let late = next(&mut slow).await;
    assert_eq!((body(&late).as_str(), late.redelivered), ("late", false));
    let again = next(&mut slow).await;
    assert_eq!((body(&again).as_str(), again.redelivered), ("late", true));
    alter(&broker, r#"{"consumer-timeout": null}"#);
}

#[tokio::test]
async fn a_queue_that_nobody_uses_ends_after_it_was_told_to() {
    let Some((broker, connection, channel)) = broker_with_queues().await else {
        return;
    };
    let consumer = channel.consume("work").await;
    alter(&broker, r#"{"expires": 1}"#);
    alter(&broker, r#"{"expires": null}"#);
    let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
    cancel.await.unwrap();
    assert_eq!(channel.counts("work").await, (0, 0), "it was taken back in time");
    alter(&broker, r#"{"expires": 1}"#);
    wait::until("the queue is gone", || {
        (!broker.ctl().run(&["list_queues", "name"]).contains("work")).then_some(())
    });
    drop(connection);
}

#[tokio::test]
async fn every_argument_survives_a_kill_and_must_be_asked_for_from_then_on() {
    let Some((mut broker, _connection, channel)) = broker_with_queues().await else {
        return;
    };
    let long = |value: i64| AMQPValue::LongLongInt(value);
    let everything = arguments([
        ("x-message-ttl", long(3_600_000)),
        ("x-expires", long(3_600_000)),
        ("x-max-length", long(10)),
        ("x-max-length-bytes", long(1000)),
        ("x-overflow", text("reject-publish")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("graves")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-delivery-limit", long(3)),
        ("x-consumer-timeout", long(60_000)),
        ("x-delayed-retry-type", text("all")),
        ("x-delayed-retry-min", long(100)),
        ("x-delayed-retry-max", long(200)),
    ]);
    let json: serde_json::Map<String, serde_json::Value> = everything
        .inner()
        .iter()
        .map(|(name, value)| {
            let value = match value {
                AMQPValue::LongLongInt(number) => (*number).into(),
                AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
                other => panic!("{other:?}"),
            };
            (name.to_string(), value)
        })
        .collect();
    assert!(publish(&channel, "kept").await);
    alter(&broker, &serde_json::Value::Object(json).to_string());
    broker.kill();
    broker.start_again();

    let (_connection, channel) = open(broker.amqp()).await;
    let declare = |arguments| channel.queue_declare("work".into(), DURABLE, arguments);
    let declared = declare(everything.clone()).await.unwrap();
    assert_eq!(declared.message_count(), 1);
    let (code, said) = refusal(&declare(FieldTable::default()).await.unwrap_err());
    assert_eq!(code, 406, "{said}");
    assert!(said.contains("received none but current is the value"), "{said}");

    // And undone, after a kill again.
    let nothing: serde_json::Map<String, serde_json::Value> = everything
        .inner()
        .keys()
        .map(|name| (name.to_string(), serde_json::Value::Null))
        .collect();
    alter(&broker, &serde_json::Value::Object(nothing).to_string());
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("work", DURABLE).await;
    assert_eq!(channel.drain("work").await, ["kept"]);
}

#[tokio::test]
async fn what_cannot_be_altered_is_said_and_changes_nothing() {
    let Some((broker, _connection, channel)) = broker_with_queues().await else {
        return;
    };
    for (arguments, reason) in [
        (r#"{"max-priority": 5}"#, "'max-priority' cannot be altered"),
        (r#"{"max-length": 1, "overflow": "explode"}"#, "invalid_overflow"),
        (r#"{"max-length": 1, "message-ttl": -1}"#, "value_negative"),
        (r#"{"max-length": "many"}"#, "expected integer"),
        ("[]", "JSON object"),
    ] {
        let said = broker.ctl().refuse(&["alter_queue", "work", arguments]);
        assert!(said.contains(reason), "{arguments}: {said}");
    }
    for body in ["1", "2"] {
        assert!(publish(&channel, body).await);
    }
    assert_eq!(channel.counts("work").await.0, 2);
    channel.queue("work", DURABLE).await;
}
