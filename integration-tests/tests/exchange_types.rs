//! The exchange types beyond AMQP's own, as a client sees them: whom they choose, and how evenly.

use lapin::options::*;
use lapin::{Channel, ExchangeKind};
use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::*;

/// An exchange of `kind`, with a queue of this connection for each binding key.
async fn exchange_with_queues(
    broker: &TestBroker,
    channel: &Channel,
    kind: &str,
    keys: &[&str],
) -> (String, Vec<String>) {
    let exchange = broker.unique(kind);
    channel.exchange(&exchange, ExchangeKind::Custom(kind.to_owned())).await;
    let mut queues = Vec::new();
    for key in keys {
        let queue = channel.own_queue().await;
        channel.bind(&queue, &exchange, key).await;
        queues.push(queue);
    }
    (exchange, queues)
}

/// Publishes a message for each of so many routing keys and waits until the last is confirmed.
async fn publish_keys(channel: &Channel, exchange: &str, count: usize) {
    for key in 0..count {
        channel.publish(exchange, &format!("order-{key}"), b"").await;
    }
    channel.publish_confirmed(exchange, "order-0", b"").await;
}

async fn ready(channel: &Channel, queues: &[String]) -> Vec<u32> {
    let mut counts = Vec::new();
    for queue in queues {
        counts.push(channel.counts(queue).await.0);
    }
    counts
}

#[tokio::test]
async fn a_consistent_hash_spreads_keys_as_evenly_as_its_weights_say() {
    const KEYS: usize = 10_000;
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    for weights in [["10", "10", "10", "10", "10"], ["10", "10", "20", "20", "40"]] {
        let (exchange, queues) = exchange_with_queues(&broker, &channel, "x-consistent-hash", &weights).await;
        publish_keys(&channel, &exchange, KEYS).await;
        let sum: usize = weights.iter().map(|weight| weight.parse::<usize>().unwrap()).sum();
        let counts = ready(&channel, &queues).await;
        println!("weights {weights:?} got {counts:?}");
        for (weight, count) in weights.iter().zip(&counts) {
            let share = KEYS * weight.parse::<usize>().unwrap() / sum;
            let off = share.abs_diff(*count as usize);
            assert!(off * 100 <= share * 30, "weights {weights:?} got {counts:?}");
        }
        assert_eq!(counts.iter().sum::<u32>() as usize, KEYS + 1);
    }
}

/// RabbitMQ's arguments and LavinMQ's: the key to hash is in a header or a property, and the routing key does not matter.
#[tokio::test]
async fn a_consistent_hash_hashes_a_header_or_a_property_instead() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    for (argument, value) in [
        ("hash-header", "customer"),
        ("x-hash-on", "customer"),
        ("hash-property", "message_id"),
    ] {
        let exchange = broker.unique("hashed");
        let (kind, options) = (
            ExchangeKind::Custom("x-consistent-hash".to_owned()),
            ExchangeDeclareOptions {
                auto_delete: true,
                ..ExchangeDeclareOptions::default()
            },
        );
        let declare = channel.exchange_declare(
            exchange.as_str().into(),
            kind,
            options,
            arguments([(argument, text(value))]),
        );
        declare.await.unwrap();
        let mut queues = Vec::new();
        for _ in 0..3 {
            let queue = channel.own_queue().await;
            channel.bind(&queue, &exchange, "10").await;
            queues.push(queue);
        }
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for number in 0..120 {
            let customer = format!("customer {}", number % 30);
            let properties = lapin::BasicProperties::default()
                .with_message_id(customer.as_str().into())
                .with_headers(arguments([("customer", text(&customer))]));
            let (key, body) = (format!("key {number}"), customer.as_bytes());
            let options = BasicPublishOptions::default();
            let publish =
                channel.basic_publish(exchange.as_str().into(), key.as_str().into(), options, body, properties);
            assert!(publish.await.unwrap().await.unwrap().is_ack());
        }
        let mut used = 0;
        for queue in &queues {
            let mut customers = channel.drain(queue).await;
            used += usize::from(!customers.is_empty());
            customers.sort();
            assert!(
                customers
                    .chunk_by(|one, other| one == other)
                    .all(|same| same.len() == 4),
                "{argument}: a customer has messages in several queues: {customers:?}"
            );
        }
        assert!(used > 1, "{argument}: all went to one queue");
    }
}

#[tokio::test]
async fn a_queue_that_leaves_a_consistent_hash_takes_no_key_from_the_others() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let (exchange, queues) = exchange_with_queues(&broker, &channel, "x-consistent-hash", &["5"; 4]).await;
    let where_keys_are = async || {
        for key in 0..300 {
            let key = format!("order-{key}");
            channel.publish_confirmed(&exchange, &key, key.as_bytes()).await;
        }
        let mut bodies = Vec::new();
        for queue in &queues[..3] {
            bodies.push(channel.drain(queue).await);
        }
        bodies
    };
    let before = where_keys_are().await;
    let delete = channel.queue_delete(queues[3].as_str().into(), QueueDeleteOptions::default());
    delete.await.unwrap();
    let after = where_keys_are().await;
    for (before, after) in before.iter().zip(&after) {
        assert!(
            before.iter().all(|key| after.contains(key)),
            "keys moved that had a queue"
        );
    }
    assert_eq!(after.iter().map(Vec::len).sum::<usize>(), 300);
}

#[tokio::test]
async fn a_random_exchange_gives_each_message_to_one_queue_and_none_to_few() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    for (kind, keys) in [("x-random", ["", "ignored", "order-0"]), ("x-local-random", [""; 3])] {
        let (exchange, queues) = exchange_with_queues(&broker, &channel, kind, &keys).await;
        publish_keys(&channel, &exchange, 599).await;
        let counts = ready(&channel, &queues).await;
        assert_eq!(counts.iter().sum::<u32>(), 600, "{kind}: {counts:?}");
        // Less than half of its share would be more than eight times the deviation that chance explains.
        assert!(counts.iter().all(|count| *count >= 100), "{kind}: {counts:?}");
    }
}

#[tokio::test]
async fn a_modulus_hash_keeps_a_key_with_its_queue() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let (exchange, queues) = exchange_with_queues(&broker, &channel, "x-modulus-hash", &["", "ignored", "3"]).await;
    for round in 0..3 {
        for key in 0..90 {
            let body = format!("{key}/{round}");
            channel
                .publish(&exchange, &format!("order-{key}"), body.as_bytes())
                .await;
        }
    }
    channel.publish_confirmed(&exchange, "order-0", b"0/3").await;
    let mut keys = 0;
    for queue in &queues {
        let bodies = channel.drain(queue).await;
        let first: Vec<&String> = bodies.iter().filter(|body| body.ends_with("/0")).collect();
        assert!(first.len() >= 10, "one of three queues has {} of 90 keys", first.len());
        for body in &first {
            let at = |round: &str| bodies.iter().position(|it| *it == body.replace("/0", round));
            assert!(
                at("/0") < at("/1") && at("/1") < at("/2"),
                "{body} is elsewhere, or late"
            );
        }
        keys += first.len();
    }
    assert_eq!(keys, 90);
}
