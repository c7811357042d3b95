//! Access tokens of AMQP clients, over a real connection.

use leveret_integration_tests::Broker;
use leveret_integration_tests::raw::{Login, RawClient, Received, connection, make};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// As many seconds as a token lives that is to end while a test looks.
const SOON: u64 = 3;
/// As many as any test takes.
const LATE: u64 = 600;

const SECRET: &[u8; 32] = b"thirty-two bytes that sign token";

/// A broker that knows the secret.
fn broker() -> Option<Broker> {
    let file = std::env::temp_dir().join(format!("leveret-keys-{}.json", std::process::id()));
    let keys = format!(r#"{{"keys":[{{"kty":"oct","kid":"k","k":"{}"}}]}}"#, base64url(SECRET));
    std::fs::write(&file, keys).unwrap();
    Broker::start_configured(&[
        ("OAUTH_RESOURCE_SERVER_ID", "rabbitmq"),
        ("OAUTH_JWKS_FILE", file.to_str().unwrap()),
    ])
}

/// Base64 with the alphabet of URLs and without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let bits = part.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for digit in 0..=part.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}

/// A token of `robot` that ends after so many seconds.
fn token(scope: &str, seconds: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let header = r#"{"alg":"HS256","kid":"k"}"#;
    let claims = format!(
        r#"{{"sub":"robot","aud":"rabbitmq","scope":"{scope}","exp":{}}}"#,
        now + seconds
    );
    let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
    let signature = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", base64url(signature.as_ref()))
}

const EVERYTHING: &str = "rabbitmq.configure:*/* rabbitmq.write:*/* rabbitmq.read:*/*";

#[test]
fn row_026_a_connection_ends_with_its_token() {
    let Some(broker) = broker() else { return };
    let login = Login::of("whoever", &token(EVERYTHING, SOON), "/");
    let mut client = RawClient::connect_as(broker.amqp(), &login);
    client.open_channel(1);
    let _ok = client.call(1, make::queue_declare(""));
    client.expect_connection_close(320, (0, 0), "CONNECTION_FORCED - credential expired");
    // Nor does it let anybody in any more.
    let mut late = RawClient::started(broker.amqp()).0;
    late.send_start_ok(&login.with_capability("authentication_failure_close"));
    late.expect_connection_close(
        403,
        (0, 0),
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
    );
}

#[test]
fn a_new_token_in_time_keeps_the_connection_and_its_scopes_count() {
    let Some(broker) = broker() else { return };
    let login = Login::of("whoever", &token(EVERYTHING, SOON), "/");
    let mut client = RawClient::connect_as(broker.amqp(), &login);
    client.open_channel(1);
    let update = connection::UpdateSecret {
        new_secret: token("rabbitmq.read:*/*", LATE).as_str().into(),
        reason: "it is time".into(),
    };
    client.send(0, update);
    let _ok: connection::UpdateSecretOk = client.expect(0);
    client.send(1, make::queue_declare("mine"));
    let text = "ACCESS_REFUSED - configure access to queue 'mine' in vhost '/' refused for user 'robot'";
    client.expect_channel_close(1, 403, (50, 10), text);
    // Longer than the first token: the second is the one that counts.
    let received = client.receive_within(Duration::from_secs(SOON + 1));
    assert!(matches!(received, Received::Nothing(_)), "{received:?}");
    client.close();
}
