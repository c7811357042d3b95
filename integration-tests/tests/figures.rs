//! What exchanges, channels and connections tell of themselves, over HTTP and to Prometheus, adds up to what clients did.

use std::net::SocketAddr;

use lapin::BasicProperties;
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::{Metrics, ask};
use leveret_integration_tests::{Broker, wait};
use serde_json::{Value, json};

/// `guest:guest`.
const GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

fn get(address: SocketAddr, path: &str) -> Value {
    let (head, body) = ask(address, "GET", path, GUEST, "");
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}\n{body}");
    serde_json::from_str(&body).unwrap()
}

/// These fields of an object.
fn fields<const N: usize>(object: &Value, names: [&str; N]) -> Vec<Value> {
    names.iter().map(|name| object[*name].clone()).collect()
}

/// The only channel, by itself.
fn one_channel(address: SocketAddr) -> Value {
    let name = get(address, "/api/channels")[0]["name"].as_str().unwrap().to_owned();
    get(
        address,
        &format!("/api/channels/{}", name.replace(' ', "%20").replace('>', "%3E")),
    )
}

async fn publish(channel: &lapin::Channel, exchange: &str, key: &str, mandatory: bool) {
    let options = BasicPublishOptions {
        mandatory,
        ..BasicPublishOptions::default()
    };
    let publish = channel.basic_publish(exchange.into(), key.into(), options, b"x", BasicProperties::default());
    wait::within("a confirm, if any", publish.await.unwrap()).await.unwrap();
}

fn find<'a>(list: &'a Value, field: &str, value: u64) -> &'a Value {
    let mut rows = list.as_array().unwrap().iter();
    rows.find(|row| row[field] == value)
        .unwrap_or_else(|| panic!("no {field} {value} in {list}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_and_channels_count_what_is_published_through_them() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (connection, plain) = open(broker.amqp()).await;
    let confirming = connection.create_channel().await.unwrap();
    confirming
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    for queue in ["a", "b"] {
        plain.queue(queue, QueueDeclareOptions::default()).await;
        plain.bind(queue, "amq.fanout", "").await;
    }
    // Two channels and three exchanges take turns, so that no batch is of one channel or exchange alone.
    for _ in 0..10 {
        publish(&plain, "", "a", false).await;
        publish(&confirming, "amq.fanout", "", false).await;
        publish(&plain, "amq.fanout", "", false).await;
        publish(&confirming, "amq.direct", "nobody", true).await;
        publish(&plain, "amq.direct", "nobody", false).await;
    }
    let stats = wait::until("the last publishes are counted", || {
        let stats = get(api, "/api/exchanges/%2F/amq.direct")["message_stats"].clone();
        (stats["publish_in"] == 20).then_some(stats)
    });
    let names = ["publish_out", "return_unroutable", "drop_unroutable"];
    assert_eq!(fields(&stats, names), [json!(0), json!(10), json!(10)]);
    assert!(stats["publish_in_details"]["rate"].is_number(), "{stats}");
    let mut incoming = get(api, "/api/exchanges/%2F/amq.direct")["incoming"].clone();
    let incoming = incoming.as_array_mut().unwrap();
    incoming.sort_by_key(|row| row["channel_details"]["number"].as_u64());
    let counts = |returned: u64, dropped: u64| json!({"publish": 10, "confirm": returned, "return_unroutable": returned, "drop_unroutable": dropped});
    let shown: Vec<_> = incoming.iter().map(|row| row["stats"].clone()).collect();
    assert_eq!(shown, [counts(0, 10), counts(10, 0)]);
    assert_eq!(get(api, "/api/exchanges/%2F/amq.topic")["incoming"], json!([]));
    let fanout = &get(api, "/api/exchanges/%2F/amq.fanout")["message_stats"];
    assert_eq!(fields(fanout, ["publish_in", "publish_out"]), [json!(20), json!(40)]);
    let exchanges = get(api, "/api/exchanges/%2F");
    let default = exchanges
        .as_array()
        .unwrap()
        .iter()
        .find(|exchange| exchange["name"] == "");
    assert_eq!(default.unwrap()["message_stats"]["publish_in"], 10);
    assert!(get(api, "/api/exchanges/%2F/amq.topic").get("message_stats").is_none());
    let without = get(api, "/api/exchanges/%2F/amq.fanout?disable_stats=true");
    assert!(without.get("message_stats").is_none());

    let channels = get(api, "/api/channels");
    let stats = &find(&channels, "number", u64::from(confirming.id()))["message_stats"];
    let names = ["publish", "confirm", "return_unroutable", "drop_unroutable"];
    assert_eq!(fields(stats, names), [json!(20), json!(20), json!(10), json!(0)]);
    let row = find(&channels, "number", u64::from(plain.id()));
    let stats = &row["message_stats"];
    assert_eq!(fields(stats, names), [json!(30), json!(0), json!(0), json!(10)]);
    assert!(row.get("publishes").is_none(), "{row}");
    let name = row["name"].as_str().unwrap().replace(' ', "%20").replace('>', "%3E");
    let channel = get(api, &format!("/api/channels/{name}"));
    let mut publishes = channel["publishes"].as_array().unwrap().clone();
    publishes.sort_by_key(|row| row["exchange"]["name"].to_string());
    let row = |name: &str, publish: u64, dropped: u64| {
        json!({
            "exchange": {"name": name, "vhost": "/"},
            "stats": {"publish": publish, "confirm": 0, "return_unroutable": 0, "drop_unroutable": dropped},
        })
    };
    let expected = [row("", 10, 0), row("amq.direct", 10, 10), row("amq.fanout", 10, 0)];
    assert_eq!(publishes, expected);

    let page = "/metrics/detailed?family=exchange_metrics&family=channel_exchange_metrics";
    let metrics = Metrics::fetch_page(broker.metrics(), page);
    let fanout = [("vhost", "/"), ("exchange", "amq.fanout")];
    assert_eq!(
        metrics.value_of("rabbitmq_detailed_exchange_messages_published_total", &fanout),
        20.0
    );
    assert_eq!(
        metrics.value_of("leveret_exchange_messages_routed_total", &fanout),
        40.0
    );
    let plain_name = channel["name"].as_str().unwrap();
    let direct = [("channel", plain_name), ("exchange", "amq.direct")];
    assert_eq!(
        metrics.value_of("rabbitmq_detailed_channel_messages_unroutable_dropped_total", &direct),
        10.0
    );
    let objects = Metrics::fetch_page(broker.metrics(), "/metrics/per-object");
    assert_eq!(
        objects.value_of("rabbitmq_exchange_messages_published_total", &fanout),
        20.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_counts_what_it_gets() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("q", QueueDeclareOptions::default()).await;
    for _ in 0..10 {
        channel.publish("", "q", b"x").await;
    }
    channel.wait_for_messages("q", 10).await;
    // 2 by get, of which one needs no acknowledgement; 3 by a consumer that acknowledges two; 6 by one that does not.
    for no_ack in [true, false] {
        let message = channel
            .basic_get("q".into(), BasicGetOptions { no_ack })
            .await
            .unwrap()
            .unwrap();
        if !no_ack {
            message.ack(BasicAckOptions::default()).await.unwrap();
        }
    }
    channel.basic_qos(3, BasicQosOptions::default()).await.unwrap();
    let mut consumer = channel.consume("q").await;
    let held = [
        next(&mut consumer).await,
        next(&mut consumer).await,
        next(&mut consumer).await,
    ];
    channel
        .basic_cancel(consumer.tag(), BasicCancelOptions::default())
        .await
        .unwrap();
    held[0].ack(BasicAckOptions::default()).await.unwrap();
    held[1].ack(BasicAckOptions::default()).await.unwrap();
    held[2].reject(BasicRejectOptions { requeue: true }).await.unwrap();
    channel.wait_for_messages("q", 6).await;
    let mut consumer = channel.consume_no_ack("q").await;
    next_bodies(&mut consumer, 6).await;
    assert!(channel.get("q").await.is_none());
    let expected = [
        ("publish", 10),
        ("get_no_ack", 1),
        ("get", 1),
        ("get_empty", 1),
        ("deliver", 3),
        ("deliver_no_ack", 6),
        ("deliver_get", 11),
        ("redeliver", 1),
        ("ack", 3),
    ];
    let stats = wait::until("all is counted", || {
        let channels = get(api, "/api/channels");
        let stats = channels[0]["message_stats"].clone();
        (stats["ack"] == 3 && stats["get_empty"] == 1).then_some(stats)
    });
    for (name, count) in expected {
        assert_eq!(stats[name], count, "{name} in {stats}");
        assert!(
            stats[format!("{name}_details")]["rate"].is_number(),
            "{name} in {stats}"
        );
    }
    // The same by queue, of consumers that are gone, that are there, and of gets.
    let shown = one_channel(api);
    let counts = json!({
        "ack": 3, "deliver": 3, "deliver_get": 11, "deliver_no_ack": 6, "get": 1, "get_empty": 1, "get_no_ack": 1, "redeliver": 1,
    });
    let by_queue = json!([{"queue": {"name": "q", "vhost": "/"}, "stats": counts}]);
    assert_eq!(shown["deliveries"], by_queue);
    let by_channel = &get(api, "/api/queues/%2F/q")["deliveries"];
    assert_eq!(by_channel[0]["stats"], counts, "{by_channel}");
    assert_eq!(by_channel[0]["channel_details"]["name"], shown["name"]);
    assert_eq!(by_channel.as_array().unwrap().len(), 1);
    let metrics = Metrics::fetch_page(broker.metrics(), "/metrics/detailed?family=channel_queue_metrics");
    let of_queue = [("vhost", "/"), ("queue", "q")];
    assert_eq!(
        metrics.value_of("rabbitmq_detailed_channel_messages_acked_total", &of_queue),
        3.0
    );
    assert_eq!(
        metrics.value_of("rabbitmq_detailed_channel_messages_delivered_total", &[]),
        6.0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_counts_its_octets_and_they_stay_counted_when_it_is_gone() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (connection, channel) = open(broker.amqp()).await;
    channel.queue("q", QueueDeclareOptions::default()).await;
    let body = vec![0; 10_000];
    for _ in 0..10 {
        channel.publish("", "q", &body).await;
    }
    channel.wait_for_messages("q", 10).await;
    channel.get("q").await.unwrap();
    let row = wait::until("the answer is counted", || {
        let row = get(api, "/api/connections")[0].clone();
        (row["send_oct"].as_u64() > Some(10_000)).then_some(row)
    });
    assert!(row["recv_oct"].as_u64() > Some(100_000), "{row}");
    assert!(
        row["recv_cnt"].as_u64() > Some(1) && row["send_cnt"].as_u64() > Some(1),
        "{row}"
    );
    assert_eq!(row["send_pend"], 0);
    for rate in ["recv_oct_details", "send_oct_details"] {
        assert!(row[rate]["rate"].is_number(), "{row}");
    }
    let properties = &row["client_properties"];
    assert_eq!(properties["capabilities"]["basic.nack"], true, "{properties}");
    assert!(
        properties["platform"].is_string() && properties["version"].is_string(),
        "{properties}"
    );
    let name = row["name"].as_str().unwrap();
    let objects = Metrics::fetch_page(broker.metrics(), "/metrics/per-object");
    let received = objects.value_of("rabbitmq_connection_incoming_bytes_total", &[("connection", name)]);
    assert!(received > 100_000.0);
    let before = Metrics::fetch(broker.metrics()).value("rabbitmq_connection_incoming_bytes_total");
    assert!(before >= received);
    connection.close(200, "".into()).await.unwrap();
    wait::until("the connection is gone", || {
        get(api, "/api/connections")
            .as_array()
            .unwrap()
            .is_empty()
            .then_some(())
    });
    let after = Metrics::fetch(broker.metrics()).value("rabbitmq_connection_incoming_bytes_total");
    assert!(after >= before, "{after} after {before}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_host_counts_the_octets_of_its_connections_and_keeps_those_of_the_closed() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    ask(api, "PUT", "/api/vhosts/other", GUEST, "");
    let octets = |vhost: &str| {
        let vhost = get(api, &format!("/api/vhosts/{vhost}"));
        assert!(vhost["recv_oct_details"]["rate"].is_number() && vhost["send_oct_details"]["rate"].is_number());
        [&vhost["recv_oct"], &vhost["send_oct"]].map(|count| count.as_u64().unwrap())
    };
    assert_eq!(octets("%2F"), [0, 0]);
    let (connection, channel) = open(broker.amqp()).await;
    channel.queue("q", QueueDeclareOptions::default()).await;
    channel.publish("", "q", &[0; 10_000]).await;
    channel.wait_for_messages("q", 1).await;
    let [received, sent] = octets("%2F");
    assert!(received > 10_000 && sent > 100, "{received} {sent}");
    assert_eq!(get(api, "/api/connections")[0]["auth_mechanism"], "PLAIN");
    connection.close(200, "".into()).await.unwrap();
    wait::until("the connection is gone", || {
        (get(api, "/api/connections") == json!([])).then_some(())
    });
    let [received_in_all, sent_in_all] = octets("%2F");
    assert!(received_in_all > received && sent_in_all > sent, "a sum never shrinks");
    assert_eq!(octets("other"), [0, 0]);
    assert!(get(api, "/api/vhosts/%2F?disable_stats=true").get("recv_oct").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_is_shown_with_all_the_arguments_that_it_gave() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("q", QueueDeclareOptions::default()).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-priority".into(), AMQPValue::LongInt(3));
    arguments.insert("x-shop".into(), AMQPValue::LongString("till".into()));
    let mut long = arguments.clone();
    long.insert("x-long".into(), AMQPValue::LongString("x".repeat(5000).into()));
    let mut consumers = Vec::new();
    for (tag, arguments) in [("a", arguments), ("b", long), ("c", FieldTable::default())] {
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume("q".into(), tag.into(), options, arguments).await;
        consumers.push(consumer.unwrap());
    }
    // Too much to be kept: what means something is shown all the same.
    let expected = [
        json!({"x-priority": 3, "x-shop": "till"}),
        json!({"x-priority": 3}),
        json!({}),
    ];
    let shown = get(api, "/api/consumers/%2F?columns=arguments");
    assert_eq!(
        shown,
        json!(expected.clone().map(|arguments| json!({ "arguments": arguments })))
    );
    let ctl = broker.ctl().run(&["list_consumers", "arguments"]);
    assert!(ctl.contains("till"), "{ctl}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_shows_what_its_transaction_has_collected() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("q", QueueDeclareOptions::default()).await;
    channel.publish("", "q", b"x").await;
    channel.wait_for_messages("q", 1).await;
    channel.tx_select().await.unwrap();
    let options = BasicGetOptions { no_ack: false };
    let message = channel.basic_get("q".into(), options).await.unwrap().unwrap();
    let shown = |uncommitted: [u64; 2]| {
        wait::until("what is uncommitted is shown", || {
            let channel = &get(api, "/api/channels")[0];
            let names = ["messages_uncommitted", "acks_uncommitted"];
            (fields(channel, names) == uncommitted.map(|count| json!(count))).then_some(())
        });
    };
    shown([0, 0]);
    for _ in 0..3 {
        publish(&channel, "", "q", false).await;
    }
    message.ack(BasicAckOptions::default()).await.unwrap();
    shown([3, 1]);
    let page = "/metrics/detailed?family=channel_metrics";
    let metrics = Metrics::fetch_page(broker.metrics(), page);
    assert_eq!(
        metrics.value_of("rabbitmq_detailed_channel_messages_uncommitted", &[]),
        3.0
    );
    assert_eq!(metrics.value_of("rabbitmq_detailed_channel_acks_uncommitted", &[]), 1.0);
    channel.tx_commit().await.unwrap();
    shown([0, 0]);
    publish(&channel, "", "q", false).await;
    shown([1, 0]);
    channel.tx_rollback().await.unwrap();
    shown([0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_tells_of_so_many_queues_and_forgets_those_that_are_deleted() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (_connection, channel) = open(broker.amqp()).await;
    for number in 0..40 {
        channel
            .queue(&format!("q{number}"), QueueDeclareOptions::default())
            .await;
        assert!(channel.get(&format!("q{number}")).await.is_none());
    }
    let told = || one_channel(api)["deliveries"].as_array().unwrap().clone();
    assert_eq!(told().len(), 32);
    let stats = &one_channel(api)["message_stats"];
    assert_eq!(stats["get_empty"], 40, "the sum has them all");
    for number in 0..40 {
        let options = QueueDeleteOptions::default();
        channel
            .queue_delete(format!("q{number}").into(), options)
            .await
            .unwrap();
    }
    assert_eq!(told().len(), 0);
    channel.queue("new", QueueDeclareOptions::default()).await;
    assert!(channel.get("new").await.is_none());
    assert_eq!(told()[0]["queue"]["name"], "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn confirms_are_counted_for_the_exchange_of_their_publish() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (_connection, channel) = open(broker.amqp()).await;
    let durable = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue("kept", durable).await;
    channel.queue("passing", QueueDeclareOptions::default()).await;
    for exchange in ["amq.direct", "amq.topic"] {
        channel.bind("kept", exchange, "kept").await;
        channel.bind("passing", exchange, "passing").await;
    }
    // Before the channel confirms, to the exchange that it goes on with.
    publish(&channel, "amq.direct", "kept", false).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut confirms = Vec::new();
    for _ in 0..20 {
        for (exchange, key, times) in [
            ("amq.direct", "kept", 2),
            ("amq.topic", "passing", 1),
            ("amq.topic", "kept", 3),
            ("amq.direct", "passing", 1),
        ] {
            for _ in 0..times {
                let persistent = BasicProperties::default().with_delivery_mode(2);
                let options = BasicPublishOptions::default();
                let publish = channel.basic_publish(exchange.into(), key.into(), options, b"x", persistent);
                confirms.push(publish.await.unwrap());
            }
        }
    }
    for confirm in confirms {
        wait::within("a confirm", confirm).await.unwrap();
    }
    wait::until("all confirms are counted", || {
        (get(api, "/api/channels")[0]["message_stats"]["confirm"] == 140).then_some(())
    });
    for (exchange, published, confirmed) in [("amq.direct", 61, 60), ("amq.topic", 80, 80)] {
        let shown = get(api, &format!("/api/exchanges/%2F/{exchange}"));
        let stats = &shown["message_stats"];
        assert_eq!(
            fields(stats, ["publish_in", "confirm"]),
            [json!(published), json!(confirmed)]
        );
        assert!(stats["confirm_details"]["rate"].is_number(), "{stats}");
        assert_eq!(shown["incoming"][0]["stats"]["confirm"], confirmed);
    }
    let metrics = Metrics::fetch_page(
        broker.metrics(),
        "/metrics/detailed?family=exchange_metrics&family=channel_exchange_metrics",
    );
    let topic = [("vhost", "/"), ("exchange", "amq.topic")];
    for object in ["exchange", "channel"] {
        let name = format!("rabbitmq_detailed_{object}_messages_confirmed_total");
        assert_eq!(metrics.value_of(&name, &topic), 80.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_from_an_exchange_to_a_queue_stays_counted_when_its_publisher_is_gone() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (_connection, consumer) = open(broker.amqp()).await;
    for queue in ["a", "b"] {
        consumer.queue(queue, QueueDeclareOptions::default()).await;
        consumer.bind(queue, "amq.fanout", "").await;
    }
    let page = "/metrics/detailed?family=queue_exchange_metrics&family=channel_queue_exchange_metrics";
    // Through the default exchange to a, through amq.fanout to both.
    let expect = |directly: u64, to_both: u64| {
        wait::until("all is counted", || {
            (get(api, "/api/exchanges/%2F/amq.fanout")["message_stats"]["publish_in"] == to_both).then_some(())
        });
        let metrics = Metrics::fetch_page(broker.metrics(), page);
        for (exchange, queue, count) in [
            ("", "a", directly),
            ("amq.fanout", "a", to_both),
            ("amq.fanout", "b", to_both),
        ] {
            let labels = [("vhost", "/"), ("exchange", exchange), ("queue", queue)];
            let name = "rabbitmq_detailed_queue_exchange_messages_published_total";
            assert_eq!(metrics.value_of(name, &labels), count as f64, "{labels:?}");
        }
        let incoming = [("", directly), ("amq.fanout", to_both)]
            .map(|(name, publish)| json!({"exchange": {"name": name, "vhost": "/"}, "stats": {"publish": publish}}));
        assert_eq!(get(api, "/api/queues/%2F/a")["incoming"], json!(incoming));
        let outgoing =
            ["a", "b"].map(|name| json!({"queue": {"name": name, "vhost": "/"}, "stats": {"publish": to_both}}));
        assert_eq!(get(api, "/api/exchanges/%2F/amq.fanout")["outgoing"], json!(outgoing));
        metrics
    };
    for round in 1..=2 {
        let (connection, publisher) = open(broker.amqp()).await;
        for _ in 0..5 {
            publish(&publisher, "", "a", false).await;
            publish(&publisher, "amq.fanout", "", false).await;
        }
        let metrics = expect(5 * round, 5 * round);
        let of_channel = [
            ("queue_vhost", "/"),
            ("queue", "b"),
            ("exchange_vhost", "/"),
            ("exchange", "amq.fanout"),
        ];
        let name = "rabbitmq_detailed_queue_messages_published_total";
        assert_eq!(metrics.value_of(name, &of_channel), 5.0, "of this channel alone");
        connection.close(200, "".into()).await.unwrap();
        wait::until("the publisher is gone", || {
            (get(api, "/api/connections").as_array().unwrap().len() == 1).then_some(())
        });
        expect(5 * round, 5 * round);
    }
    let body = r#"{"routing_key":"","properties":{},"payload":"x","payload_encoding":"string"}"#;
    ask(api, "POST", "/api/exchanges/%2F/amq.fanout/publish", GUEST, body);
    expect(10, 11);
    consumer
        .queue_delete("b".into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    let outgoing = &get(api, "/api/exchanges/%2F/amq.fanout")["outgoing"];
    assert_eq!(
        outgoing.as_array().unwrap().len(),
        1,
        "of what is gone nothing is told: {outgoing}"
    );
}
