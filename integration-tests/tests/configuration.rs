//! Keys of the configuration that no other test turns, by what they change at the real binary.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use leveret_integration_tests::Broker;
use leveret_integration_tests::certificates::Certificates;
use leveret_integration_tests::client::try_connect;
use leveret_integration_tests::scrape::ask;
use leveret_integration_tests::tokens::{Issuer, now_seconds};
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
