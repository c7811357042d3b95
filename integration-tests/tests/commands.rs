//! Commands of rabbitmqctl and rabbitmq-diagnostics against the real binary: what an operator's scripts call.

use std::time::{Duration, Instant};

use leveret_integration_tests::Broker;
use leveret_integration_tests::raw::RawClient;
use leveret_integration_tests::scrape::ask;

/// `guest:guest`.
const GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

#[test]
fn checks_succeed_at_a_healthy_broker_and_name_a_port_that_nobody_serves() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (ctl, port) = (broker.ctl(), broker.amqp().port().to_string());
    for check in [
        &["check_running"][..],
        &["check_alarms"],
        &["check_local_alarms"],
        &["check_virtual_hosts"],
        &["check_port_listener", &port],
        &["check_port_connectivity"],
        &["check_protocol_listener", "amqp"],
        &["check_protocol_listener", "http"],
        &["check_protocol_listener", "http/prometheus"],
        &["ping"],
    ] {
        ctl.run(check);
    }
    let refused = ctl.refuse(&["check_protocol_listener", "amqp/ssl"]);
    assert!(refused.contains("check_protocol_listener failed"), "{refused}");
    let refused = ctl.refuse(&["check_port_listener", "1"]);
    assert!(refused.contains("check_port_listener failed"), "{refused}");
}

#[test]
fn all_connections_of_a_virtual_host_are_closed_with_the_reason() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let mut clients = [(); 3].map(|()| RawClient::with_channel(broker.amqp()));
    broker.ctl().run(&["close_all_connections", "we move"]);
    for client in &mut clients {
        client.expect_connection_close(320, (0, 0), "CONNECTION_FORCED - we move");
    }
}

#[test]
fn connections_are_closed_one_by_one_if_that_is_asked_for() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let mut clients = [(); 3].map(|()| RawClient::with_channel(broker.amqp()));
    let two = [
        "close_all_connections",
        "--per-connection-delay",
        "20",
        "--limit",
        "2",
        "we move",
    ];
    let begun = Instant::now();
    assert_eq!(broker.ctl().run(&two), "2 connections closed\n");
    assert!(begun.elapsed() >= Duration::from_millis(20));
    for client in &mut clients[..2] {
        client.expect_connection_close(320, (0, 0), "CONNECTION_FORCED - we move");
    }
    let elsewhere = [
        "close_all_connections",
        "--per-connection-delay",
        "1",
        "--vhost",
        "nowhere",
        "x",
    ];
    let refused = broker.ctl().refuse(&elsewhere);
    assert!(refused.contains("virtual host 'nowhere' does not exist"), "{refused}");
}

#[test]
fn a_password_is_looked_at() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    broker.ctl().run(&["authenticate_user", "guest", "guest"]);
    let refused = broker.ctl().refuse(&["authenticate_user", "guest", "wrong"]);
    assert!(refused.contains("authenticate_user failed"), "{refused}");
}

#[test]
fn a_hashed_password_is_taken_by_the_api_and_lets_its_user_in() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let hash = broker
        .ctl()
        .run(&["hash_password", "--hashing-algorithm", "sha256", "secret"]);
    let user = serde_json::json!({
        "password_hash": hash.trim(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": "management",
    });
    let (head, body) = ask(
        broker.management(),
        "PUT",
        "/api/users/hashed",
        GUEST,
        &user.to_string(),
    );
    assert!(head.starts_with("HTTP/1.1 201"), "{head}\n{body}");
    // `hashed:secret`.
    let login = "Authorization: Basic aGFzaGVkOnNlY3JldA==\r\n";
    let (head, body) = ask(broker.management(), "GET", "/api/whoami", login, "");
    assert!(
        head.starts_with("HTTP/1.1 200") && body.contains("hashed"),
        "{head}\n{body}"
    );
}

#[test]
fn a_list_without_figures_has_totals_if_they_are_asked_for() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (head, _) = ask(broker.management(), "PUT", "/api/queues/%2F/plain", GUEST, "{}");
    assert!(head.starts_with("HTTP/1.1 201"), "{head}");
    for (parameters, totals) in [
        ("disable_stats=true", false),
        ("disable_stats=true&enable_queue_totals=true", true),
    ] {
        let (_, body) = ask(
            broker.management(),
            "GET",
            &format!("/api/queues?{parameters}"),
            GUEST,
            "",
        );
        let queues: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(queues[0]["name"], "plain");
        assert_eq!(queues[0].get("messages_ready").is_some(), totals, "{body}");
        assert!(queues[0].get("message_bytes").is_none(), "{body}");
    }
}
