//! Commands of rabbitmqctl and rabbitmq-diagnostics against the real binary: what an operator's scripts call.

use std::time::{Duration, Instant};

use leveret_integration_tests::Broker;
use leveret_integration_tests::raw::{Login, RawClient, connection, make};
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

#[test]
fn publishers_are_blocked_by_a_command_until_the_configuration_is_read_again() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let login = Login::default().with_capability("connection.blocked");
    let mut publisher = RawClient::connect_as(broker.amqp(), &login);
    publisher.open_channel(1);
    let _ok = publisher.call(1, make::queue_declare("work"));
    let done = broker.ctl().run(&["set_vm_memory_high_watermark", "0"]);
    assert!(done.contains("until the broker restarts"), "{done}");
    publisher.publish_to(1, "", "work", b"waits");
    let blocked: connection::Blocked = publisher.expect(0);
    assert_eq!(blocked.reason.as_str(), "low on memory");
    let alarms = broker.ctl().run(&["alarms"]);
    assert!(alarms.starts_with("Memory alarm on node "), "{alarms}");
    let environment = broker.ctl().run(&["environment"]);
    assert!(
        environment.contains("memory_high_watermark = 0.0  # leveret ctl\n"),
        "{environment}"
    );
    broker.wait_for_log("ctl: SetVmMemoryHighWatermark");

    broker.hang_up();
    let _unblocked: connection::Unblocked = publisher.expect(0);
    let alarms = broker.ctl().run(&["--formatter", "json", "alarms"]);
    let alarms: serde_json::Value = serde_json::from_str(&alarms).unwrap();
    assert_eq!(alarms["alarms"], serde_json::json!([]));

    let free = broker.ctl().run(&["set_disk_free_limit", "mem_relative", "1000000"]);
    assert!(free.contains("of the disk are free"), "{free}");
    publisher.publish_to(1, "", "work", b"waits");
    let blocked: connection::Blocked = publisher.expect(0);
    assert_eq!(blocked.reason.as_str(), "low on disk");
    for wrong in [
        &["set_vm_memory_high_watermark", "2GiB"][..],
        &["set_vm_memory_high_watermark", "relative", "0.5"],
        &["set_disk_free_limit", "mem_relative"],
        &["set_disk_free_limit", "much"],
    ] {
        broker.ctl().refuse(wrong);
    }
}

#[test]
fn the_broker_tells_of_itself_what_rabbitmqctl_asks_for() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let ctl = broker.ctl();
    let json = |command: &str| -> serde_json::Value {
        serde_json::from_str(&ctl.run(&["--formatter", "json", command])).unwrap()
    };
    assert_eq!(ctl.run(&["version"]), ctl.run(&["server_version"]));
    let port = broker.amqp().port();
    let line = format!("Interface: 127.0.0.1, port: {port}, protocol: amqp, purpose: AMQP 0-9-1\n");
    let listeners = ctl.run(&["listeners"]);
    assert!(listeners.contains(&line), "{listeners}");
    let listeners = json("listeners");
    assert_eq!(listeners["listeners"][0]["port"], port);
    let node = listeners["node"].as_str().unwrap();
    let cluster = json("cluster_status");
    assert_eq!(cluster["running_nodes"], serde_json::json!([node]));
    assert_eq!(cluster["maintenance_status"][node], "not under maintenance");
    assert!(ctl.run(&["cluster_status"]).starts_with("Basics\n\nCluster name: "));
    let environment = json("environment");
    assert!(environment["leveret"]["data_dir"].is_string(), "{environment}");
}

#[test]
fn a_connection_is_listed_with_all_that_its_client_says_of_itself() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let login = Login::default()
        .with_capability("connection.blocked")
        .with_property("connection_name", "till 7")
        .with_property("platform", "abacus");
    let _client = RawClient::connect_as(broker.amqp(), &login);
    let listed = broker
        .ctl()
        .run(&["--formatter", "json", "list_connections", "client_properties"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let properties = &listed[0]["client_properties"];
    assert_eq!(properties["connection_name"], "till 7");
    assert_eq!(properties["platform"], "abacus");
    assert_eq!(properties["capabilities"]["connection.blocked"], true);
}
