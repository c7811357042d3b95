//! Keys of the configuration that no other test turns, by what they change at the real binary.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lapin::options::QueueDeclareOptions;
use leveret_integration_tests::certificates::Certificates;
use leveret_integration_tests::client::{Shortcuts as _, open, try_connect};
use leveret_integration_tests::raw::RawClient;
use leveret_integration_tests::scrape::ask;
use leveret_integration_tests::tokens::{Issuer, now_seconds};
use leveret_integration_tests::{Broker, wait};
use serde_json::{Value, json};

/// The answer to a GET with this header, and its status.
fn get(address: SocketAddr, path: &str, authorization: &str) -> (String, Value) {
    let header = format!("Authorization: {authorization}\r\n");
    let (head, body) = ask(address, "GET", path, &header, "");
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, serde_json::from_str(&body).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_user_and_virtual_host_are_those_of_the_configuration() {
    let settings = [
        ("DEFAULT_USER", "app"),
        ("DEFAULT_PASS", "secret"),
        ("DEFAULT_VHOST", "shop"),
        ("NODE_NAME", "rabbit@elsewhere"),
    ];
    let Some(broker) = Broker::start_configured(&settings) else {
        return;
    };
    assert_eq!(broker.ctl().run(&["-s", "list_users"]), "app\t[administrator]\n");
    assert_eq!(broker.ctl().run(&["-s", "list_vhosts"]), "shop\n");
    let connection = try_connect(broker.amqp(), "app", "secret", "shop").await.unwrap();
    connection.create_channel().await.unwrap();
    // app:secret
    let (status, overview) = get(broker.management(), "/api/overview", "Basic YXBwOnNlY3JldA==");
    assert_eq!(
        (status.as_str(), &overview["node"]),
        ("200", &json!("rabbit@elsewhere"))
    );
}

#[test]
fn new_passwords_are_hashed_as_the_configuration_says() {
    for (setting, algorithm) in [
        ("sha512", "rabbit_password_hashing_sha512"),
        ("sha256", "rabbit_password_hashing_sha256"),
    ] {
        let Some(broker) = Broker::start_configured(&[("PASSWORD_HASHING", setting)]) else {
            return;
        };
        broker.ctl().run(&["add_user", "app", "secret"]);
        let definitions: Value = serde_json::from_str(&broker.ctl().run(&["export_definitions"])).unwrap();
        let users = definitions["users"].as_array().unwrap();
        let app = users.iter().find(|user| user["name"] == "app").unwrap();
        assert_eq!(app["hashing_algorithm"], algorithm);
    }
}

#[test]
fn tokens_have_the_issuer_the_prefix_and_the_name_that_the_configuration_says() {
    let Some(issuer) = Issuer::new() else { return };
    let key_set = issuer.key_set();
    let settings = [
        ("OAUTH_RESOURCE_SERVER_ID", "rabbitmq"),
        ("OAUTH_JWKS_FILE", key_set.to_str().unwrap()),
        ("OAUTH_ISSUER", "https://id.example.com"),
        ("OAUTH_SCOPE_PREFIX", "api:"),
        ("OAUTH_USERNAME_CLAIMS", "email,sub"),
    ];
    let Some(broker) = Broker::start_configured(&settings) else {
        return;
    };
    let whoami = |from: &str| {
        let token = issuer.sign(&json!({
            "iss": from, "aud": "rabbitmq", "sub": "17", "email": "app@example.com", "exp": now_seconds() + 600,
            "scope": "api:tag:management rabbitmq.tag:administrator",
        }));
        get(broker.management(), "/api/whoami", &format!("Bearer {token}"))
    };
    let app = json!({ "name": "app@example.com", "tags": ["management"] });
    assert_eq!(whoami("https://id.example.com"), ("200".to_owned(), app));
    assert_eq!(whoami("https://else.example.com").0, "401");
}

#[test]
fn the_least_version_of_tls_is_that_of_the_configuration() {
    let Some(certificates) = Certificates::new() else {
        return;
    };
    certificates.issue("server", "/CN=localhost", "DNS:localhost,IP:127.0.0.1");
    let speaks = |broker: &Broker, version: &str| {
        let address = broker.listener("amqp_tls").to_string();
        let mut client = Command::new("openssl");
        client.args(["s_client", "-connect", &address, version]);
        client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        client.status().unwrap().success()
    };
    for (least, speaks_1_2) in [("1.2", true), ("1.3", false)] {
        let settings = [
            ("TLS_LISTEN", "127.0.0.1:0"),
            ("TLS_CERTIFICATE", &certificates.text("server.pem")),
            ("TLS_KEY", &certificates.text("server.key")),
            ("TLS_MIN_VERSION", least),
        ];
        let Some(broker) = Broker::start_configured(&settings) else {
            return;
        };
        assert_eq!(speaks(&broker, "-tls1_2"), speaks_1_2, "{least}");
        assert!(speaks(&broker, "-tls1_3"), "{least}");
    }
}

/// The calls that sync to disk of a running process, as strace sees them.
struct Syncs {
    tracer: Child,
    file: tempfile::NamedTempFile,
}

impl Syncs {
    /// None, with a word about it, when there is no strace or it may not look.
    fn of(process: u32) -> Option<Self> {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tracer = Command::new("strace");
        tracer.args(["-f", "-e", "trace=fsync,fdatasync", "-p", &process.to_string(), "-o"]);
        tracer
            .arg(file.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let tracer = tracer
            .spawn()
            .inspect_err(|error| eprintln!("left out: strace: {error}"))
            .ok()?;
        let mut syncs = Self { tracer, file };
        let state = format!("/proc/{process}/status");
        let attached = wait::until("strace has attached or given up", || {
            let ended = syncs.tracer.try_wait().unwrap().is_some();
            let status = std::fs::read_to_string(&state).unwrap();
            let traced = !status.lines().any(|line| line == "TracerPid:\t0");
            (ended || traced).then_some(!ended)
        });
        if !attached {
            eprintln!("left out: strace may not look at the broker");
        }
        attached.then_some(syncs)
    }

    fn count(&self) -> usize {
        let seen = std::fs::read_to_string(self.file.path()).unwrap();
        seen.lines().filter(|line| line.contains("sync(")).count()
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        // It lets go of the process at this signal, and would take it along at a harder one.
        let _ = Command::new("kill")
            .args(["-INT", &self.tracer.id().to_string()])
            .status();
        let _ = self.tracer.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_synced_as_often_as_the_configuration_says() {
    const MESSAGES: usize = 100;
    for (fsync, interval) in [
        ("always", "1h"),
        ("interval", "1ms"),
        ("interval", "1h"),
        ("never", "1ms"),
    ] {
        let Some(broker) = Broker::start_configured(&[("FSYNC", fsync), ("FSYNC_INTERVAL", interval)]) else {
            return;
        };
        let (_connection, channel) = open(broker.amqp()).await;
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel.queue("synced", durable).await;
        channel
            .publish_confirmed("", "synced", b"the first sync is due at once")
            .await;
        let Some(syncs) = Syncs::of(broker.process_id()) else {
            return;
        };
        for _ in 0..MESSAGES {
            channel.publish_confirmed("", "synced", b"hello").await;
        }
        match (fsync, interval) {
            ("always", _) => wait::until("every confirm follows a sync", || {
                (syncs.count() >= MESSAGES).then_some(())
            }),
            // Each confirm takes longer than that.
            ("interval", "1ms") => wait::until("syncs follow each other", || (syncs.count() > 2).then_some(())),
            _ => assert_eq!(syncs.count(), 0, "fsync = {fsync}, fsync_interval = {interval}"),
        }
    }
}

#[test]
fn a_stop_is_over_by_its_deadline_and_the_store_has_its_part_of_it() {
    let Some(mut broker) = Broker::start_configured(&[("SHUTDOWN_DEADLINE", "2s")]) else {
        return;
    };
    // It never answers connection.close.
    let silent = RawClient::connect(broker.amqp());
    let began = Instant::now();
    broker.stop();
    let took = began.elapsed();
    assert!(
        took >= Duration::from_secs(1),
        "it waited for its client for {took:?} only"
    );
    // By default it waits for clients for longer.
    assert!(took < Duration::from_secs(5), "{took:?}");
    broker.wait_for_log("stopped");
    drop(silent);
}

#[test]
fn the_metrics_are_for_those_who_may_monitor_if_the_configuration_says_so() {
    let Some(broker) = Broker::start_configured(&[("METRICS_ACCESS", "monitoring")]) else {
        return;
    };
    for (user, tag) in [("watcher", "monitoring"), ("app", "management")] {
        broker.ctl().run(&["add_user", user, "secret"]);
        broker.ctl().run(&["set_user_tags", user, tag]);
    }
    let status = |path: &str, header: &str| {
        let (head, _) = ask(broker.metrics(), "GET", path, header, "");
        head.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    // watcher:secret, app:secret, watcher:wrong
    let watcher = "Authorization: Basic d2F0Y2hlcjpzZWNyZXQ=\r\n";
    let app = "Authorization: Basic YXBwOnNlY3JldA==\r\n";
    let wrong = "Authorization: Basic d2F0Y2hlcjp3cm9uZw==\r\n";
    for path in [
        "/metrics",
        "/metrics/per-object",
        "/metrics/detailed?family=queue_metrics",
        "/metrics/memory-breakdown",
    ] {
        assert_eq!(status(path, watcher), "200", "{path}");
        assert_eq!(status(path, ""), "401", "{path}");
        assert_eq!(status(path, app), "401", "{path}");
    }
    assert_eq!(status("/metrics", wrong), "401");
    assert_eq!(status("/health/live", ""), "200");
    let (head, _) = ask(broker.metrics(), "GET", "/metrics", "", "");
    assert!(head.to_lowercase().contains("www-authenticate: basic"), "{head}");
}
