//! `/metrics` under load, read with a parser of the Prometheus text format: the counters add up to what the clients did.

use lapin::options::*;
use lapin::{BasicProperties, Channel};
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::{Metrics, get};
use leveret_integration_tests::{Broker, wait};

/// Waits until each metric has grown by what is expected since `before`, and fails when one of them grows further.
#[track_caller]
fn assert_grown(broker: &Broker, before: &Metrics, expected: &[(&str, f64)]) {
    for (name, growth) in expected {
        let name = format!("rabbitmq_{name}");
        let grown = || Metrics::fetch(broker.metrics()).value(&name) - before.value_or_zero(&name);
        wait::until(&format!("{name} grows by {growth}"), || {
            let grown = grown();
            assert!(grown <= *growth, "{name} grew by {grown}, expected {growth}");
            (grown == *growth).then_some(())
        });
    }
}

/// Waits until each gauge has the value.
#[track_caller]
fn assert_gauges(broker: &Broker, expected: &[(&str, f64)]) {
    for (name, value) in expected {
        let name = format!("rabbitmq_{name}");
        wait::until(&format!("{name} is {value}"), || {
            (Metrics::fetch(broker.metrics()).value(&name) == *value).then_some(())
        });
    }
}

async fn publish(channel: &Channel, exchange: &str, key: &str, mandatory: bool) {
    let options = BasicPublishOptions {
        mandatory,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default().with_delivery_mode(2);
    let publish = channel
        .basic_publish(exchange.into(), key.into(), options, b"0123456789", properties)
        .await
        .unwrap();
    wait::within("a confirm, if any", publish).await.unwrap();
}

#[tokio::test]
async fn message_counters_add_up_to_what_the_clients_did() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    let queue = "counted";
    channel.queue(queue, QueueDeclareOptions::durable()).await;
    channel.queue("second", QueueDeclareOptions::durable()).await;
    for name in [queue, "second"] {
        channel.bind(name, "amq.fanout", "").await;
    }
    let before = Metrics::fetch(broker.metrics());

    // 30 without and 50 with confirms to one queue, 20 of those to two; 4 to nobody and 3 of them returned.
    for _ in 0..30 {
        publish(&channel, "", queue, false).await;
    }
    let confirming = connection.create_channel().await.unwrap();
    confirming
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    for number in 0..50 {
        let exchange = if number < 20 { "amq.fanout" } else { "" };
        publish(&confirming, exchange, queue, false).await;
    }
    for number in 0..4 {
        publish(&confirming, "amq.direct", "nobody", number < 3).await;
    }
    let published = [
        ("global_messages_received_total", 84.0),
        ("global_messages_received_confirm_total", 54.0),
        ("global_messages_confirmed_total", 54.0),
        ("global_messages_routed_total", 100.0),
        ("global_messages_unroutable_returned_total", 3.0),
        ("global_messages_unroutable_dropped_total", 1.0),
    ];
    assert_grown(&broker, &before, &published);
    assert_gauges(
        &broker,
        &[("queue_messages_ready", 100.0), ("queue_messages_unacked", 0.0)],
    );

    // Of the 80 in the first queue: 10 by get with and 5 without ack, 25 by consumer with ack of which 7 are sent back.
    for number in 0..15 {
        let options = BasicGetOptions { no_ack: number >= 10 };
        let message = channel
            .basic_get(queue.into(), options)
            .await
            .unwrap()
            .expect("a message");
        if number < 10 {
            message.ack(BasicAckOptions::default()).await.unwrap();
        }
    }
    channel.basic_qos(25, BasicQosOptions::default()).await.unwrap();
    let mut consumer = channel.consume(queue).await;
    let mut held = Vec::new();
    for _ in 0..25 {
        held.push(next(&mut consumer).await);
    }
    channel
        .basic_cancel(consumer.tag(), BasicCancelOptions::default())
        .await
        .unwrap();
    assert_gauges(
        &broker,
        &[("queue_messages_ready", 60.0), ("queue_messages_unacked", 25.0)],
    );
    for (number, delivery) in held.iter().enumerate() {
        match number < 7 {
            true => delivery.reject(BasicRejectOptions { requeue: true }).await.unwrap(),
            false => delivery.ack(BasicAckOptions::default()).await.unwrap(),
        };
    }
    channel.wait_for_messages(queue, 47).await;
    // The 7 come again, now by a consumer that does not acknowledge, with the 40 others.
    let mut consumer = channel.consume_no_ack(queue).await;
    next_bodies(&mut consumer, 47).await;
    for _ in 0..2 {
        assert!(channel.get(queue).await.is_none());
    }
    let delivered = [
        ("global_messages_delivered_get_manual_ack_total", 10.0),
        ("global_messages_delivered_get_auto_ack_total", 5.0),
        ("global_messages_delivered_consume_manual_ack_total", 25.0),
        ("global_messages_delivered_consume_auto_ack_total", 47.0),
        ("global_messages_delivered_total", 87.0),
        ("global_messages_redelivered_total", 7.0),
        ("global_messages_acknowledged_total", 28.0),
        ("global_messages_get_empty_total", 2.0),
    ];
    assert_grown(&broker, &before, &delivered);
    assert_gauges(
        &broker,
        &[("queue_messages_ready", 20.0), ("queue_messages_unacked", 0.0)],
    );
}

#[tokio::test]
async fn counters_stay_exact_under_load_from_several_clients() {
    const CLIENTS: usize = 4;
    const MESSAGES_EACH: usize = 2_000;
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let before = Metrics::fetch(broker.metrics());
    let amqp = broker.amqp();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            tokio::spawn(async move {
                let (_connection, channel) = open(amqp).await;
                let queue = channel.own_queue().await;
                let mut consumer = channel.consume_no_ack(&queue).await;
                for _ in 0..MESSAGES_EACH {
                    channel.publish("", &queue, b"load").await;
                }
                next_bodies(&mut consumer, MESSAGES_EACH).await;
            })
        })
        .collect();
    let scrapes = tokio::task::spawn_blocking({
        let metrics = broker.metrics();
        move || {
            (0..20)
                .map(|_| Metrics::fetch(metrics).value("rabbitmq_connections"))
                .fold(0.0, f64::max)
        }
    });
    for client in clients {
        client.await.unwrap();
    }
    assert!(scrapes.await.unwrap() <= CLIENTS as f64);
    let all = (CLIENTS * MESSAGES_EACH) as f64;
    let expected = [
        ("global_messages_received_total", all),
        ("global_messages_routed_total", all),
        ("global_messages_delivered_consume_auto_ack_total", all),
        ("connections_opened_total", CLIENTS as f64),
        ("channels_opened_total", CLIENTS as f64),
        ("queues_declared_total", CLIENTS as f64),
        ("queues_created_total", CLIENTS as f64),
    ];
    assert_grown(&broker, &before, &expected);
}

#[tokio::test]
async fn gauges_follow_connections_channels_queues_and_consumers() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let before = Metrics::fetch(broker.metrics());
    let (connection, channel) = open(broker.amqp()).await;
    let other = connection.create_channel().await.unwrap();
    let queue = channel.own_queue().await;
    let _second_queue = channel.own_queue().await;
    let consumers = [
        channel.consume(&queue).await,
        other.consume(&queue).await,
        other.consume(&queue).await,
    ];
    assert_gauges(
        &broker,
        &[
            ("connections", 1.0),
            ("channels", 2.0),
            ("queues", 2.0),
            ("consumers", 3.0),
        ],
    );

    channel
        .basic_cancel(consumers[0].tag(), BasicCancelOptions::default())
        .await
        .unwrap();
    other.close(200, "Goodbye".into()).await.unwrap();
    channel
        .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    assert_gauges(
        &broker,
        &[
            ("connections", 1.0),
            ("channels", 1.0),
            ("queues", 1.0),
            ("consumers", 0.0),
        ],
    );

    connection.close(200, "Goodbye".into()).await.unwrap();
    assert_gauges(&broker, &[("connections", 0.0), ("channels", 0.0), ("queues", 0.0)]);
    let expected = [
        ("connections_opened_total", 1.0),
        ("connections_closed_total", 1.0),
        ("channels_opened_total", 2.0),
        ("channels_closed_total", 2.0),
        ("queues_created_total", 2.0),
        ("queues_deleted_total", 2.0),
    ];
    assert_grown(&broker, &before, &expected);
}

/// What the official RabbitMQ-Overview dashboard asks for.
const OVERVIEW_METRICS: [&str; 36] = [
    "build_info",
    "identity_info",
    "channels",
    "channels_opened_total",
    "channels_closed_total",
    "connections",
    "connections_opened_total",
    "connections_closed_total",
    "queues",
    "queues_declared_total",
    "queues_created_total",
    "queues_deleted_total",
    "queue_messages_ready",
    "queue_messages_unacked",
    "disk_space_available_bytes",
    "disk_space_available_limit_bytes",
    "process_open_fds",
    "process_max_fds",
    "process_resident_memory_bytes",
    "resident_memory_limit_bytes",
    "erlang_uptime_seconds",
    "global_publishers",
    "global_consumers",
    "global_messages_received_total",
    "global_messages_received_confirm_total",
    "global_messages_routed_total",
    "global_messages_confirmed_total",
    "global_messages_unroutable_dropped_total",
    "global_messages_unroutable_returned_total",
    "global_messages_delivered_total",
    "global_messages_delivered_consume_manual_ack_total",
    "global_messages_delivered_consume_auto_ack_total",
    "global_messages_delivered_get_manual_ack_total",
    "global_messages_delivered_get_auto_ack_total",
    "global_messages_redelivered_total",
    "global_messages_acknowledged_total",
];

#[tokio::test]
async fn every_name_that_the_overview_dashboard_asks_for_is_there() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    // A message has to pass before a counter with labels may be seen.
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    channel.publish_confirmed("", &queue, b"hello").await;
    channel.drain(&queue).await;
    let metrics = Metrics::fetch(broker.metrics());
    let missing: Vec<&str> = OVERVIEW_METRICS
        .into_iter()
        .filter(|name| !metrics.has(&format!("rabbitmq_{name}")))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn information_metrics_carry_the_labels_that_dashboards_join_on() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let metrics = Metrics::fetch(broker.metrics());
    for name in ["rabbitmq_identity_info", "rabbitmq_build_info"] {
        assert_eq!(metrics.value(name), 1.0, "{name}");
    }
    let identity = ["rabbitmq_node", "rabbitmq_cluster", "rabbitmq_cluster_permanent_id"];
    for label in identity {
        assert!(!metrics.label("rabbitmq_identity_info", label).is_empty(), "{label}");
    }
    assert_eq!(
        metrics.label("rabbitmq_identity_info", "rabbitmq_endpoint"),
        "aggregated"
    );
    let build = [
        "rabbitmq_version",
        "prometheus_plugin_version",
        "prometheus_client_version",
        "erlang_version",
        "product_name",
        "product_version",
    ];
    for label in build {
        assert!(!metrics.label("rabbitmq_build_info", label).is_empty(), "{label}");
    }
}

#[tokio::test]
async fn labels_and_histogram_bounds_are_written_as_rabbitmq_writes_them() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    for size in [10, 150, 2_000_000] {
        channel.publish_confirmed("", &queue, &vec![0; size]).await;
    }
    assert_eq!(channel.drain(&queue).await.len(), 3);
    let metrics = Metrics::fetch(broker.metrics());
    let received = "rabbitmq_global_messages_received_total";
    assert_eq!(metrics.label(received, "protocol"), "amqp091");
    let delivered = "rabbitmq_global_messages_delivered_total";
    assert_eq!(metrics.label(delivered, "queue_type"), "rabbit_classic_queue");

    let (_, text) = get(broker.metrics(), "/metrics");
    let bucket = |bound: &str| {
        let line = text.lines().find(|line| {
            line.starts_with("rabbitmq_message_size_bytes_bucket") && line.contains(&format!("le=\"{bound}\""))
        });
        let line = line.unwrap_or_else(|| panic!("no bucket {bound}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let bounds = [
        "100.0", "1000.0", "10000.0", "100000.0", "1e+06", "1e+07", "5e+07", "1e+08", "+Inf",
    ];
    assert_eq!(bounds.map(bucket), [1.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0]);
}

#[tokio::test]
async fn detailed_and_per_object_pages_follow_each_queue_and_channel() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let strange = "quoted \"name\"";
    channel.queue("orders", QueueDeclareOptions::durable()).await;
    channel.queue(strange, QueueDeclareOptions::durable()).await;
    for _ in 0..5 {
        publish(&channel, "", "orders", false).await;
    }
    publish(&channel, "", strange, false).await;
    channel.wait_for_messages("orders", 5).await;
    channel.wait_for_messages(strange, 1).await;
    channel.basic_qos(2, BasicQosOptions::default()).await.unwrap();
    let mut consumer = channel.consume("orders").await;
    next(&mut consumer).await.ack(BasicAckOptions::default()).await.unwrap();
    let orders = [("vhost", "/"), ("queue", "orders")];
    let detailed =
        "/metrics/detailed?family=queue_coarse_metrics&family=queue_consumer_count&family=queue_delivery_metrics";
    let metrics = wait::until("one message is acked, and two others are out", || {
        let metrics = Metrics::fetch_page(broker.metrics(), detailed);
        let acked = metrics.value_of("rabbitmq_detailed_queue_messages_acked_total", &orders);
        let unacked = metrics.value_of("rabbitmq_detailed_queue_messages_unacked", &orders);
        ((acked, unacked) == (1.0, 2.0)).then_some(metrics)
    });
    let value = |name: &str| metrics.value_of(&format!("rabbitmq_detailed_{name}"), &orders);
    assert_eq!(value("queue_messages_ready"), 2.0);
    assert_eq!(value("queue_messages"), 4.0);
    assert_eq!(value("queue_consumers"), 1.0);
    assert_eq!(value("queue_messages_delivered_ack_total"), 3.0);
    assert_eq!(metrics.label("rabbitmq_identity_info", "rabbitmq_endpoint"), "detailed");
    assert!(!metrics.has("rabbitmq_queues") && !metrics.has("rabbitmq_detailed_channel_consumers"));

    let metrics = Metrics::fetch_page(broker.metrics(), "/metrics/per-object");
    assert_eq!(metrics.value_of("rabbitmq_queue_messages_ready", &orders), 2.0);
    assert_eq!(metrics.value_of("leveret_queue_messages_published_total", &orders), 5.0);
    assert_eq!(metrics.value_of("rabbitmq_channel_messages_unacked", &[]), 2.0);
    assert_eq!(metrics.value_of("rabbitmq_consumer_prefetch", &[]), 2.0);
    assert_eq!(metrics.value_of("rabbitmq_connection_channels", &[]), 1.0);
    assert_eq!(metrics.value("rabbitmq_queues"), 2.0);
    assert_eq!(metrics.value("rabbitmq_global_messages_received_total"), 6.0);
    let (_, text) = get(broker.metrics(), "/metrics/per-object");
    let line = r#"rabbitmq_queue_messages_ready{vhost="/",queue="quoted \"name\""} 1"#;
    assert!(text.lines().any(|found| found == line), "{text}");

    let elsewhere = "/metrics/detailed?family=queue_coarse_metrics&vhost=elsewhere";
    assert!(!Metrics::fetch_page(broker.metrics(), elsewhere).has("rabbitmq_detailed_queue_messages"));
    let here = "/metrics/detailed?family=vhost_status&vhost=%2F";
    let status =
        Metrics::fetch_page(broker.metrics(), here).value_of("rabbitmq_cluster_vhost_status", &[("vhost", "/")]);
    assert_eq!(status, 1.0);
    let memory = Metrics::fetch_page(broker.metrics(), "/metrics/memory-breakdown");
    assert!(memory.value("rabbitmq_memory_other_system_bytes") > 1e6);
}

#[test]
fn unknown_paths_are_not_found() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (head, _) = get(broker.metrics(), "/no-such-page");
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
}

#[test]
fn process_metrics_are_plausible() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let metrics = Metrics::fetch(broker.metrics());
    let memory = metrics.value("rabbitmq_process_resident_memory_bytes");
    assert!((1e6..1e10).contains(&memory), "{memory}");
    let (open_fds, max_fds) = (
        metrics.value("rabbitmq_process_open_fds"),
        metrics.value("rabbitmq_process_max_fds"),
    );
    let counted = std::fs::read_dir(format!("/proc/{}/fd", broker.process_id()))
        .unwrap()
        .count() as f64;
    assert!(
        (open_fds - counted).abs() <= 10.0,
        "{open_fds} reported, {counted} counted"
    );
    assert!(open_fds < max_fds);
}
