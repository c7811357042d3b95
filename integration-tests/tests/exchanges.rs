//! Exchanges of every kind, and what they route where.

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, ExchangeKind};
use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::*;

#[tokio::test]
async fn the_default_exchange_routes_by_queue_name() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let (queue, other) = (channel.own_queue().await, channel.own_queue().await);
    channel.publish_confirmed("", &queue, b"hello").await;
    assert_eq!(channel.drain(&queue).await, ["hello"]);
    assert_eq!(channel.drain(&other).await, [""; 0]);
}

#[tokio::test]
async fn a_direct_exchange_routes_by_exact_key_and_once_to_each_queue() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let exchange = broker.unique("direct");
    channel.exchange(&exchange, ExchangeKind::Direct).await;
    let (both, second) = (channel.own_queue().await, channel.own_queue().await);
    for (queue, key) in [(&both, "a"), (&both, "b"), (&both, "b"), (&second, "b")] {
        channel.bind(queue, &exchange, key).await;
    }
    for key in ["a", "b", "A", "a.b", ""] {
        channel.publish_confirmed(&exchange, key, key.as_bytes()).await;
    }
    assert_eq!(channel.drain(&both).await, ["a", "b"]);
    assert_eq!(channel.drain(&second).await, ["b"]);
}

#[tokio::test]
async fn a_fanout_exchange_ignores_the_routing_key() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let exchange = broker.unique("fanout");
    channel.exchange(&exchange, ExchangeKind::Fanout).await;
    let queues = [channel.own_queue().await, channel.own_queue().await];
    channel.bind(&queues[0], &exchange, "some").await;
    channel.bind(&queues[1], &exchange, "other").await;
    channel.publish_confirmed(&exchange, "none", b"for all").await;
    for queue in &queues {
        assert_eq!(channel.drain(queue).await, ["for all"]);
    }
}

#[tokio::test]
async fn a_topic_exchange_matches_words_and_wildcards() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let exchange = broker.unique("topic");
    channel.exchange(&exchange, ExchangeKind::Topic).await;
    let cases: [(&str, &[&str]); 9] = [
        ("#", &["", "a", "a.b", "a.b.c", "a..c", "b.a"]),
        ("*", &["a"]),
        ("a", &["a"]),
        ("a.*", &["a.b"]),
        ("a.#", &["a", "a.b", "a.b.c", "a..c"]),
        ("#.c", &["a.b.c", "a..c"]),
        ("a.*.c", &["a.b.c", "a..c"]),
        ("*.#.*", &["a.b", "a.b.c", "a..c", "b.a"]),
        ("", &[""]),
    ];
    let mut queues = Vec::new();
    for (pattern, _) in &cases {
        let queue = channel.own_queue().await;
        channel.bind(&queue, &exchange, pattern).await;
        queues.push(queue);
    }
    for key in ["", "a", "a.b", "a.b.c", "a..c", "b.a"] {
        channel.publish_confirmed(&exchange, key, key.as_bytes()).await;
    }
    for ((pattern, expected), queue) in cases.iter().zip(&queues) {
        assert_eq!(channel.drain(queue).await, *expected, "{pattern:?}");
    }
}

#[tokio::test]
async fn overlapping_topic_bindings_still_give_one_copy() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let exchange = broker.unique("topic");
    channel.exchange(&exchange, ExchangeKind::Topic).await;
    let queue = channel.own_queue().await;
    for pattern in ["#", "a.#", "*.b", "a.b", "#.b"] {
        channel.bind(&queue, &exchange, pattern).await;
    }
    channel.publish_confirmed(&exchange, "a.b", b"once").await;
    assert_eq!(channel.drain(&queue).await, ["once"]);

    // Taking one of the bindings away leaves the others in force.
    channel
        .queue_unbind(
            queue.as_str().into(),
            exchange.as_str().into(),
            "#".into(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    channel.publish_confirmed(&exchange, "a.b", b"still once").await;
    channel.publish_confirmed(&exchange, "c", b"not any more").await;
    assert_eq!(channel.drain(&queue).await, ["still once"]);
}

/// Binds a fresh queue to a headers exchange.
async fn bind_headers<const N: usize>(channel: &Channel, exchange: &str, entries: [(&str, AMQPValue); N]) -> String {
    let queue = channel.own_queue().await;
    let (name, options) = (queue.as_str().into(), QueueBindOptions::default());
    channel
        .queue_bind(name, exchange.into(), "".into(), options, arguments(entries))
        .await
        .unwrap();
    queue
}

async fn publish_headers(channel: &Channel, exchange: &str, body: &str, headers: FieldTable) {
    let properties = BasicProperties::default().with_headers(headers);
    let (options, body) = (BasicPublishOptions::default(), body.as_bytes());
    let publish = channel
        .basic_publish(exchange.into(), "".into(), options, body, properties)
        .await;
    publish.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_headers_exchange_matches_all_or_any_of_its_arguments() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let exchange = broker.unique("headers");
    channel.exchange(&exchange, ExchangeKind::Headers).await;
    let (a, b) = (("a", AMQPValue::LongInt(1)), ("b", text("two")));
    let all = bind_headers(&channel, &exchange, [("x-match", text("all")), a.clone(), b.clone()]).await;
    let by_default = bind_headers(&channel, &exchange, [a.clone(), b.clone()]).await;
    let any = bind_headers(&channel, &exchange, [("x-match", text("any")), a.clone(), b.clone()]).await;
    let present = bind_headers(&channel, &exchange, [("a", AMQPValue::Void)]).await;

    publish_headers(&channel, &exchange, "both", arguments([a.clone(), b.clone()])).await;
    publish_headers(&channel, &exchange, "a", arguments([a])).await;
    publish_headers(
        &channel,
        &exchange,
        "another a",
        arguments([("a", AMQPValue::LongInt(2))]),
    )
    .await;
    publish_headers(
        &channel,
        &exchange,
        "wide a",
        arguments([("a", AMQPValue::LongLongInt(1))]),
    )
    .await;
    publish_headers(&channel, &exchange, "none", FieldTable::default()).await;

    assert_eq!(channel.drain(&all).await, ["both"]);
    assert_eq!(channel.drain(&by_default).await, ["both"]);
    assert_eq!(channel.drain(&any).await, ["both", "a", "wide a"]);
    assert_eq!(channel.drain(&present).await, ["both", "a", "another a", "wide a"]);
}

#[tokio::test]
async fn arguments_that_begin_with_x_count_only_when_asked_for() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let exchange = broker.unique("headers");
    channel.exchange(&exchange, ExchangeKind::Headers).await;
    let (x, y) = (("x-custom", text("1")), ("y", text("1")));
    let mut queues = Vec::new();
    for kind in ["all", "any", "all-with-x", "any-with-x"] {
        queues.push(bind_headers(&channel, &exchange, [("x-match", text(kind)), x.clone(), y.clone()]).await);
    }
    publish_headers(&channel, &exchange, "x", arguments([x.clone()])).await;
    publish_headers(&channel, &exchange, "y", arguments([y.clone()])).await;
    publish_headers(&channel, &exchange, "both", arguments([x, y])).await;

    let expected: [&[&str]; 4] = [&["y", "both"], &["y", "both"], &["both"], &["x", "y", "both"]];
    for (queue, expected) in queues.iter().zip(expected) {
        assert_eq!(channel.drain(queue).await, expected);
    }
}

async fn bind_exchange(channel: &Channel, destination: &str, source: &str, routing_key: &str) {
    let (options, arguments) = (ExchangeBindOptions::default(), FieldTable::default());
    channel
        .exchange_bind(
            destination.into(),
            source.into(),
            routing_key.into(),
            options,
            arguments,
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn exchanges_bound_to_exchanges_pass_messages_on_without_loops_or_copies() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let [front, middle, back] = ["front", "middle", "back"].map(|name| broker.unique(name));
    channel.exchange(&front, ExchangeKind::Topic).await;
    channel.exchange(&middle, ExchangeKind::Fanout).await;
    channel.exchange(&back, ExchangeKind::Direct).await;
    bind_exchange(&channel, &middle, &front, "a.*").await;
    bind_exchange(&channel, &back, &middle, "").await;
    bind_exchange(&channel, &front, &back, "a.b").await;
    let queue = channel.own_queue().await;
    channel.bind(&queue, &front, "a.b").await;
    channel.bind(&queue, &middle, "").await;
    channel.bind(&queue, &back, "a.b").await;

    channel.publish_confirmed(&front, "a.b", b"through all three").await;
    channel.publish_confirmed(&front, "b.b", b"matched by none").await;
    channel.publish_confirmed(&middle, "b.b", b"in the middle").await;
    assert_eq!(channel.drain(&queue).await, ["through all three", "in the middle"]);

    channel
        .exchange_unbind(
            middle.as_str().into(),
            front.as_str().into(),
            "a.*".into(),
            ExchangeUnbindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let last = channel.own_queue().await;
    channel.bind(&last, &middle, "").await;
    channel.publish_confirmed(&front, "a.c", b"no longer passed on").await;
    assert_eq!(channel.drain(&last).await, [""; 0]);
}

async fn exchange_with_alternate(channel: &Channel, name: &str, alternate: &str) {
    let arguments = arguments([("alternate-exchange", text(alternate))]);
    let options = ExchangeDeclareOptions {
        auto_delete: true,
        ..ExchangeDeclareOptions::default()
    };
    channel
        .exchange_declare(name.into(), ExchangeKind::Direct, options, arguments)
        .await
        .unwrap();
}

#[tokio::test]
async fn unrouted_messages_go_to_the_alternate_exchange() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let [first, second, last] = ["first", "second", "last"].map(|name| broker.unique(name));
    channel.exchange(&last, ExchangeKind::Fanout).await;
    exchange_with_alternate(&channel, &second, &last).await;
    exchange_with_alternate(&channel, &first, &second).await;
    let (routed, caught) = (channel.own_queue().await, channel.own_queue().await);
    channel.bind(&routed, &first, "known").await;
    channel.bind(&caught, &last, "").await;

    channel.publish_confirmed(&first, "known", b"routed").await;
    channel.publish_confirmed(&first, "unknown", b"caught").await;
    assert_eq!(channel.drain(&routed).await, ["routed"]);
    assert_eq!(channel.drain(&caught).await, ["caught"]);

    // What an alternate exchange takes is not returned.
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let (exchange, properties) = (first.as_str().into(), BasicProperties::default());
    let confirm = channel
        .basic_publish(exchange, "unknown".into(), mandatory, b"mandatory", properties)
        .await
        .unwrap();
    assert_eq!(confirm.await.unwrap().take_message(), None);
    assert_eq!(channel.drain(&caught).await, ["mandatory"]);
}

#[tokio::test]
async fn alternate_exchanges_that_point_at_each_other_or_nowhere_drop_the_message() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let [one, two, lost] = ["one", "two", "lost"].map(|name| broker.unique(name));
    exchange_with_alternate(&channel, &one, &two).await;
    exchange_with_alternate(&channel, &two, &one).await;
    exchange_with_alternate(&channel, &lost, &broker.unique("missing")).await;
    for exchange in [one, lost] {
        channel.publish_confirmed(&exchange, "", b"dropped").await;
    }
}

#[tokio::test]
async fn an_auto_delete_exchange_goes_with_its_last_binding_but_not_before_the_first() {
    let broker = TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let exchange = broker.unique("auto-delete");
    channel.exchange(&exchange, ExchangeKind::Direct).await;
    channel.publish_confirmed(&exchange, "a", b"still there").await;
    let queue = channel.own_queue().await;
    channel.bind(&queue, &exchange, "a").await;
    channel.bind(&queue, &exchange, "b").await;
    let unbind = |key: &str| {
        channel.queue_unbind(
            queue.as_str().into(),
            exchange.as_str().into(),
            key.into(),
            FieldTable::default(),
        )
    };
    unbind("a").await.unwrap();
    channel.publish_confirmed(&exchange, "b", b"still there").await;
    unbind("b").await.unwrap();

    let channel = connection.create_channel().await.unwrap();
    let passive = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    let error = channel
        .exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Direct,
            passive,
            FieldTable::default(),
        )
        .await;
    assert_eq!(refusal(&error.unwrap_err()).0, 404);
}

#[tokio::test]
async fn the_predeclared_exchanges_exist_and_may_be_declared_again_as_they_are() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let predeclared = [
        ("amq.direct", ExchangeKind::Direct),
        ("amq.fanout", ExchangeKind::Fanout),
        ("amq.topic", ExchangeKind::Topic),
        ("amq.headers", ExchangeKind::Headers),
        ("amq.match", ExchangeKind::Headers),
    ];
    for (name, kind) in predeclared {
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let passive = ExchangeDeclareOptions {
            passive: true,
            ..ExchangeDeclareOptions::default()
        };
        for options in [durable, passive] {
            channel
                .exchange_declare(name.into(), kind.clone(), options, FieldTable::default())
                .await
                .unwrap();
        }
    }
}

#[tokio::test]
async fn removing_what_is_not_there_is_no_error() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let (queue, missing) = (channel.own_queue().await, broker.unique("missing"));
    let missing = missing.as_str();
    let none = FieldTable::default;
    channel
        .exchange_delete(missing.into(), ExchangeDeleteOptions::default())
        .await
        .unwrap();
    channel
        .queue_unbind(queue.as_str().into(), "amq.direct".into(), "k".into(), none())
        .await
        .unwrap();
    channel
        .queue_unbind(missing.into(), "amq.direct".into(), "k".into(), none())
        .await
        .unwrap();
    channel
        .queue_unbind(queue.as_str().into(), missing.into(), "k".into(), none())
        .await
        .unwrap();
    let options = ExchangeUnbindOptions::default();
    channel
        .exchange_unbind(missing.into(), "amq.direct".into(), "k".into(), options, none())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deleted_exchange_takes_its_bindings_along() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let (exchange, queue) = (broker.unique("rebuilt"), channel.own_queue().await);
    channel.exchange(&exchange, ExchangeKind::Fanout).await;
    channel.bind(&queue, &exchange, "").await;
    channel
        .exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default())
        .await
        .unwrap();
    channel.exchange(&exchange, ExchangeKind::Fanout).await;
    channel
        .publish_confirmed(&exchange, "", b"nobody is bound any more")
        .await;
    assert_eq!(channel.counts(&queue).await.0, 0);
}

/// A connection may remember where its messages went. It must not remember that for too long.
#[tokio::test]
async fn other_connections_see_every_change_of_the_topology_at_once() {
    let broker = TestBroker::get();
    let (_publishing, publisher) = open(broker.amqp()).await;
    let (_changing, channel) = open(broker.amqp()).await;
    let (exchange, key) = (broker.unique("changing"), "key");
    channel.exchange(&exchange, ExchangeKind::Direct).await;
    let keeper = channel.own_queue().await;
    channel.bind(&keeper, &exchange, "keeps the exchange").await;
    for _ in 0..20 {
        let queue = channel.own_queue().await;
        publisher.publish_confirmed(&exchange, key, b"before").await;
        channel.bind(&queue, &exchange, key).await;
        publisher.publish_confirmed(&exchange, key, b"bound").await;
        assert_eq!(channel.drain(&queue).await, ["bound"]);

        let unbind = channel.queue_unbind(
            queue.as_str().into(),
            exchange.as_str().into(),
            key.into(),
            FieldTable::default(),
        );
        unbind.await.unwrap();
        publisher.publish_confirmed(&exchange, key, b"after").await;
        assert_eq!(channel.counts(&queue).await.0, 0);

        // Through the default exchange, and then to a new queue of the same name.
        let name = broker.unique("same name");
        for body in ["first", "second"] {
            channel.queue(&name, QueueDeclareOptions::exclusive()).await;
            publisher.publish_confirmed("", &name, body.as_bytes()).await;
            assert_eq!(channel.drain(&name).await, [body]);
            channel
                .queue_delete(name.as_str().into(), QueueDeleteOptions::default())
                .await
                .unwrap();
            publisher.publish_confirmed("", &name, b"to nobody").await;
        }
    }
}

#[tokio::test]
async fn a_consistent_hash_exchange_spreads_keys_and_keeps_each_in_order_with_one_queue() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let exchange = broker.unique("hashed");
    channel
        .exchange(&exchange, ExchangeKind::Custom("x-consistent-hash".to_owned()))
        .await;
    let mut queues = Vec::new();
    for _ in 0..4 {
        let queue = channel.own_queue().await;
        channel.bind(&queue, &exchange, "1").await;
        queues.push(queue);
    }
    for round in 0..2 {
        for key in 0..200 {
            let body = format!("{key}/{round}");
            channel.publish(&exchange, &format!("key-{key}"), body.as_bytes()).await;
        }
    }
    channel.publish_confirmed(&exchange, "key-0", b"0/2").await;
    let mut keys = 0;
    for queue in &queues {
        let bodies = channel.drain(queue).await;
        let count = bodies.iter().filter(|body| body.ends_with("/0")).count();
        assert!(
            (20..=80).contains(&count),
            "{count} of 200 keys went to one of four queues"
        );
        for body in bodies.iter().filter(|body| body.ends_with("/0")) {
            let second = body.replace("/0", "/1");
            assert!(bodies.contains(&second), "{second} went elsewhere than {body}");
        }
        keys += count;
    }
    assert_eq!(keys, 200);
}

#[tokio::test]
async fn a_queue_bound_to_a_recent_history_gets_what_was_published_before() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let exchange = broker.unique("history");
    let (kind, options) = (
        ExchangeKind::Custom("x-recent-history".to_owned()),
        ExchangeDeclareOptions::default(),
    );
    let length = arguments([("x-recent-history-length", AMQPValue::LongInt(2))]);
    let declare = channel.exchange_declare(exchange.as_str().into(), kind, options, length);
    declare.await.expect("exchange.declare");
    for body in ["1", "2", "3"] {
        channel.publish_confirmed(&exchange, "key", body.as_bytes()).await;
    }
    let queue = channel.own_queue().await;
    channel.bind(&queue, &exchange, "").await;
    channel.publish_confirmed(&exchange, "key", b"4").await;
    assert_eq!(channel.drain(&queue).await, ["2", "3", "4"]);
    let delete = channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default());
    delete.await.expect("exchange.delete");
}
