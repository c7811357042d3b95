//! What queue.declare accepts and how it refuses the rest.

use amq_protocol::types::{AMQPValue, FieldTable};
use leveret_routing::Deduplication;

use crate::queue::MAX_EXPIRY_MS;
use crate::queue::arguments::*;

fn table(arguments: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn number(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

fn refusal(arguments: &[(&str, AMQPValue)]) -> String {
    QueueArguments::parse(table(arguments)).unwrap_err().explain("Q", "/")
}

/// The refusal of one argument, without the words that are the same for all.
fn reason(name: &str, value: AMQPValue) -> String {
    let refusal = refusal(&[(name, value)]);
    let start = format!("invalid arg '{name}' for queue 'Q' in vhost '/': ");
    refusal
        .strip_prefix(&start)
        .unwrap_or_else(|| panic!("{refusal}"))
        .to_owned()
}

#[test]
fn every_argument_lands_in_its_field() {
    let all = table(&[
        ("x-message-ttl", AMQPValue::LongInt(60_000)),
        ("x-expires", AMQPValue::ShortShortUInt(200)),
        ("x-max-length", AMQPValue::LongUInt(10)),
        ("x-max-length-bytes", number(20)),
        ("x-overflow", text("reject-publish-dlx")),
        ("x-dead-letter-exchange", text("dlx")),
        ("x-dead-letter-routing-key", text("dead")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-max-priority", AMQPValue::ShortInt(255)),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("x-delivery-limit", number(-1)),
        ("x-consumer-timeout", number(1_800_000)),
        ("x-delayed-retry-type", text("returned")),
        ("x-delayed-retry-min", number(5)),
        ("x-delayed-retry-max", number(50)),
        ("x-queue-type", text("quorum")),
        ("x-message-deduplication", AMQPValue::Boolean(true)),
        ("x-cache-size", number(5)),
        ("x-cache-ttl", number(6)),
        ("x-deduplication-header", text("x-id")),
    ]);
    let expected = QueueArguments {
        message_ttl_ms: Some(60_000),
        expires_ms: Some(200),
        max_length: Some(10),
        max_length_bytes: Some(20),
        overflow: Overflow::RejectPublishDlx,
        dead_letter_exchange: Some("dlx".to_owned()),
        dead_letter_routing_key: Some("dead".to_owned()),
        dead_letter_strategy: DeadLetterStrategy::AtLeastOnce,
        max_priority: Some(255),
        single_active_consumer: true,
        delivery_limit: Some(-1),
        consumer_timeout_ms: Some(1_800_000),
        delayed_retry: DelayedRetry::Returned,
        delayed_retry_min_ms: Some(5),
        delayed_retry_max_ms: Some(50),
        queue_type: QueueType::Quorum,
        deduplicates: true,
        deduplication: Deduplication {
            header: "x-id".to_owned(),
            keys: 5,
            ttl_millis: Some(6),
        },
        table: all.clone(),
    };
    assert_eq!(QueueArguments::parse(all), Ok(expected));
}

#[test]
fn a_queue_without_arguments_is_classic_without_limits() {
    let arguments = QueueArguments::parse(FieldTable::default()).unwrap();
    assert_eq!(arguments, QueueArguments::default());
    assert_eq!(arguments.queue_type.name(), "classic");
}

#[test]
fn numbers_must_be_integers() {
    for name in [
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-consumer-timeout",
        "x-max-priority",
        "x-delivery-limit",
        "x-queue-version",
    ] {
        assert_eq!(reason(name, text("1")), r#""expected integer, got longstr""#);
        assert_eq!(
            reason(name, AMQPValue::Double(1.0)),
            r#""expected integer, got double""#
        );
    }
}

#[test]
fn numbers_must_not_be_negative() {
    for name in [
        "x-message-ttl",
        "x-expires",
        "x-max-length",
        "x-max-length-bytes",
        "x-consumer-timeout",
    ] {
        assert_eq!(reason(name, AMQPValue::LongInt(-1)), "{value_negative,-1}");
    }
    assert_eq!(reason("x-max-priority", number(-5)), "{value_negative,-5}");
}

#[test]
fn times_end_after_ten_years() {
    for name in ["x-message-ttl", "x-expires"] {
        assert!(QueueArguments::parse(table(&[(name, number(MAX_EXPIRY_MS))])).is_ok());
        assert_eq!(
            reason(name, number(MAX_EXPIRY_MS + 1)),
            "{value_too_large,315360000001}"
        );
    }
    assert_eq!(reason("x-expires", number(0)), "{value_zero,0}");
    assert!(QueueArguments::parse(table(&[("x-message-ttl", number(0))])).is_ok());
    assert_eq!(reason("x-max-priority", number(256)), "{max_value_exceeded,256}");
}

#[test]
fn words_must_be_known() {
    assert_eq!(reason("x-overflow", text("explode")), "invalid_overflow");
    assert_eq!(
        reason("x-overflow", AMQPValue::LongInt(1)),
        "{unacceptable_type,signedint}"
    );
    assert_eq!(reason("x-dead-letter-strategy", text("maybe")), "invalid_dlx_strategy");
    assert_eq!(
        reason("x-single-active-consumer", AMQPValue::LongInt(1)),
        "{unacceptable_type,signedint}"
    );
    assert_eq!(reason("x-queue-type", text("foo")), r#""unsupported queue type 'foo'""#);
    assert_eq!(
        reason("x-queue-type", AMQPValue::Boolean(true)),
        "{unacceptable_type,bool}"
    );
    assert_eq!(
        reason("x-queue-version", AMQPValue::LongInt(1)),
        r#""unsupported queue version '1'""#
    );
}

#[test]
fn a_dead_letter_routing_key_needs_its_exchange() {
    assert_eq!(
        reason("x-dead-letter-routing-key", text("key")),
        "routing_key_but_no_dlx_defined"
    );
    assert_eq!(
        reason("x-dead-letter-routing-key", number(1)),
        "{unacceptable_type,long}"
    );
}

#[test]
fn the_dead_letter_exchange_is_checked_before_all_others() {
    let refusal = refusal(&[
        ("x-dead-letter-exchange", AMQPValue::LongInt(1)),
        ("x-queue-type", text("foo")),
    ]);
    assert_eq!(
        refusal,
        "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'Q' in vhost '/'"
    );
    let exchange = dead_letter_exchange(&table(&[("x-dead-letter-exchange", text("dlx"))]));
    assert_eq!(exchange, Ok(Some("dlx".to_owned())));
    assert_eq!(dead_letter_exchange(&FieldTable::default()), Ok(None));
}

#[test]
fn the_first_mistake_in_rabbitmqs_order_is_told() {
    let mistakes = [
        ("x-expires", number(-1)),
        ("x-max-age", text("1Y")),
        ("x-message-ttl", number(-2)),
        ("x-queue-type", text("foo")),
    ];
    assert!(refusal(&mistakes).contains("unsupported queue type"));
    assert!(refusal(&mistakes[..3]).contains("value_negative,-1"));
    assert!(refusal(&mistakes[1..3]).contains("value_negative,-2"));
}

#[test]
fn arguments_of_streams_are_refused_on_queues() {
    assert_eq!(
        refusal(&[("x-max-age", text("1Y"))]),
        "invalid arg 'x-max-age' for queue 'Q' in vhost '/' of queue type rabbit_classic_queue"
    );
    let quorum = [
        ("x-queue-type", text("quorum")),
        ("x-stream-max-segment-size-bytes", number(1)),
    ];
    assert!(refusal(&quorum).ends_with("of queue type rabbit_quorum_queue"));
}

#[test]
fn arguments_without_meaning_here_and_unknown_ones_are_kept_and_ignored() {
    let ignored = table(&[
        ("x-queue-mode", text("lazy")),
        ("x-queue-version", number(2)),
        ("x-queue-leader-locator", text("balanced")),
        ("x-quorum-initial-group-size", number(3)),
        ("x-my-own", AMQPValue::Void),
    ]);
    let arguments = QueueArguments::parse(ignored.clone()).unwrap();
    assert_eq!(arguments.table(), &ignored);
    assert_eq!(arguments.get("x-my-own"), Some(&AMQPValue::Void));
    assert_eq!(
        QueueArguments {
            table: FieldTable::default(),
            ..arguments
        },
        QueueArguments::default()
    );
}
