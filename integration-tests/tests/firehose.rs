//! The firehose: copies of what is published and delivered, in RabbitMQ's form.

use std::collections::BTreeMap;

use lapin::message::BasicGetMessage;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, ExchangeKind};
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::ask;
use leveret_integration_tests::{Broker, wait};

/// `guest:guest`.
const GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

/// A queue of all copies with these keys.
async fn copies(channel: &Channel, binding_key: &str) -> String {
    let queue = channel.own_queue().await;
    channel.bind(&queue, "amq.rabbitmq.trace", binding_key).await;
    queue
}

async fn take(channel: &Channel, queue: &str) -> BasicGetMessage {
    channel.wait_for_messages(queue, 1).await;
    channel.get(queue).await.expect("a copy")
}

fn headers(copy: &BasicGetMessage) -> &BTreeMap<ShortString, AMQPValue> {
    let headers = copy.properties.headers().as_ref().expect("headers");
    headers.inner()
}

fn texts(value: &AMQPValue) -> Vec<String> {
    let AMQPValue::FieldArray(values) = value else {
        panic!("{value:?}")
    };
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => text.to_string(),
        other => panic!("{other:?}"),
    };
    values.as_slice().iter().map(text).collect()
}

fn table(value: &AMQPValue) -> &FieldTable {
    let AMQPValue::FieldTable(table) = value else {
        panic!("{value:?}")
    };
    table
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_tell_what_was_published_and_what_was_delivered() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let (published, delivered) = (copies(&channel, "publish.#").await, copies(&channel, "deliver.#").await);
    channel.exchange("x", ExchangeKind::Direct).await;
    channel.queue("q", QueueDeclareOptions::default()).await;
    channel.bind("q", "x", "k").await;
    // A route that is remembered must be seen, too.
    channel.publish_confirmed("x", "k", b"before").await;
    broker.ctl().run(&["trace_on"]);

    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_type("order".into())
        .with_headers(arguments([("CC", AMQPValue::FieldArray(vec![text("k2")].into()))]));
    let options = BasicPublishOptions::default();
    let publish = channel.basic_publish("x".into(), "k".into(), options, b"body", properties);
    publish.await.unwrap().await.unwrap();
    let copy = take(&channel, &published).await;
    assert_eq!(copy.routing_key.as_str(), "publish.x");
    assert_eq!(copy.exchange.as_str(), "amq.rabbitmq.trace");
    assert_eq!(copy.data, b"body");
    let told = headers(&copy);
    assert_eq!(told["exchange_name"], text("x"));
    assert_eq!(texts(&told["routing_keys"]), ["k", "k2"]);
    assert_eq!(texts(&told["routed_queues"]), ["q"]);
    assert_eq!((&told["vhost"], &told["user"]), (&text("/"), &text("guest")));
    assert_eq!(told["channel"], AMQPValue::LongInt(channel.id().into()));
    let AMQPValue::LongString(connection) = &told["connection"] else {
        panic!("{told:?}")
    };
    assert!(connection.to_string().contains(" -> "), "{connection}");
    assert!(told.contains_key("node"));
    let properties = table(&told["properties"]).inner();
    assert_eq!(properties["delivery_mode"], AMQPValue::LongInt(2));
    assert_eq!(properties["type"], text("order"));
    assert!(table(&properties["headers"]).inner().contains_key("CC"));

    // What is got and what is consumed is seen, and whether that was so before.
    assert_eq!(channel.get("q").await.unwrap().data, b"before");
    let copy = take(&channel, &delivered).await;
    assert_eq!((copy.routing_key.as_str(), &*copy.data), ("deliver.q", &b"before"[..]));
    assert_eq!(headers(&copy)["redelivered"], AMQPValue::LongInt(0));
    assert_eq!(headers(&copy)["exchange_name"], text("x"));
    assert!(!headers(&copy).contains_key("routed_queues"));
    let mut consumer = channel.consume("q").await;
    let delivery = next(&mut consumer).await;
    let copy = take(&channel, &delivered).await;
    assert_eq!((copy.routing_key.as_str(), &*copy.data), ("deliver.q", &b"body"[..]));
    assert_eq!(texts(&headers(&copy)["routing_keys"]), ["k", "k2"]);
    let requeue = BasicNackOptions {
        requeue: true,
        ..BasicNackOptions::default()
    };
    delivery.nack(requeue).await.unwrap();
    next(&mut consumer).await;
    let copy = take(&channel, &delivered).await;
    assert_eq!(headers(&copy)["redelivered"], AMQPValue::LongInt(1));

    // The copies themselves are nothing to see, and nothing is afterwards.
    broker.ctl().run(&["trace_off"]);
    channel.publish_confirmed("x", "k", b"after").await;
    next(&mut consumer).await;
    assert_eq!(
        (channel.counts(&published).await.0, channel.counts(&delivered).await.0),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_of_a_burst_is_seen_in_its_order_in_its_virtual_host_only() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let published = copies(&channel, "publish.").await;
    broker.ctl().run(&["add_vhost", "other"]);
    broker.ctl().run(&["trace_on", "-p", "other"]);
    channel.publish_confirmed("", "nowhere", b"unseen").await;
    let (head, _) = ask(
        broker.management(),
        "PUT",
        "/api/vhosts/%2F",
        GUEST,
        r#"{"tracing":true}"#,
    );
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    let listed = broker.ctl().run(&["-s", "list_vhosts", "name", "tracing"]);
    assert_eq!(
        listed.lines().filter(|line| line.ends_with("true")).count(),
        2,
        "{listed}"
    );
    const MESSAGES: u32 = 10_000;
    for number in 0..MESSAGES {
        channel.publish("", "nowhere", number.to_string().as_bytes()).await;
    }
    channel.wait_for_messages(&published, MESSAGES).await;
    let seen = channel.drain(&published).await;
    let expected: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    wait::until("all are there", || (seen == expected).then_some(()));
    // Over HTTP, too.
    let body = r#"{"routing_key":"nowhere","payload":"h","payload_encoding":"string","properties":{}}"#;
    ask(
        broker.management(),
        "POST",
        "/api/exchanges/%2F/amq.default/publish",
        GUEST,
        body,
    );
    let copy = take(&channel, &published).await;
    assert_eq!((&*copy.data, &headers(&copy)["user"]), (&b"h"[..], &text("guest")));
}
