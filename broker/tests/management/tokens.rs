//! Access tokens on the API: as a bearer, as a password, late and forged.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use leveret::config::Config;
use serde_json::{Value, json};

use super::api::{Answer, Api};

const SECRET: &[u8; 32] = b"thirty-two bytes that sign token";

fn api(directory: &tempfile::TempDir) -> Api {
    let file = directory.path().join("keys.json");
    let keys = json!({ "keys": [{ "kty": "oct", "kid": "k", "k": BASE64URL.encode(SECRET) }] });
    std::fs::write(&file, keys.to_string()).unwrap();
    Api::configured(Config {
        oauth_resource_server_id: "rabbitmq".to_owned(),
        oauth_jwks_file: Some(file),
        ..Config::default()
    })
}

fn signed(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let signed = format!(
        "{}.{}",
        BASE64URL.encode(header.to_string()),
        BASE64URL.encode(claims.to_string())
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    format!(
        "{signed}.{}",
        BASE64URL.encode(ring::hmac::sign(&key, signed.as_bytes()))
    )
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(scope: &str, expires: u64) -> String {
    let claims = json!({ "sub": "robot", "aud": "rabbitmq", "scope": scope, "exp": expires });
    signed(&json!({ "alg": "HS256", "kid": "k" }), &claims, SECRET)
}

fn ask(api: &Api, authorization: &str, method: &str, path: &str, body: &str) -> Answer {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: h\r\nAuthorization: {authorization}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    api.send(request.as_bytes())
}

#[test]
fn a_token_says_what_its_bearer_sees_and_does() {
    let directory = tempfile::tempdir().unwrap();
    let api = api(&directory);
    api.expect(201, "PUT", "/api/vhosts/closed", "");
    api.expect(201, "PUT", "/api/queues/closed/hidden", "");
    let scope = "rabbitmq.tag:management rabbitmq.configure:%2F/own* rabbitmq.write:%2F/amq.topic/eu.*";
    let token = token(scope, now() + 600);
    let basic = format!("Basic {}", BASE64.encode(format!("anybody:{token}")));
    for authorization in [format!("Bearer {token}"), format!("bearer {token}"), basic] {
        let ask = |method: &str, path: &str, body: &str| ask(&api, &authorization, method, path, body);
        let who = ask("GET", "/api/whoami", "").json();
        assert_eq!(who, json!({ "name": "robot", "tags": ["management"] }));
        assert!([201, 204].contains(&ask("PUT", "/api/queues/%2F/own", "{}").status));
        assert_eq!(ask("PUT", "/api/queues/%2F/other", "{}").status, 401);
        assert_eq!(ask("GET", "/api/queues/closed", "").status, 401);
        assert!(!ask("GET", "/api/queues", "").body.contains("hidden"));
        assert_eq!(ask("GET", "/api/users", "").status, 401);
        let publish = |key: &str| {
            let body = format!(r#"{{"routing_key":"{key}","payload":""}}"#);
            ask("POST", "/api/exchanges/%2F/amq.topic/publish", &body).status
        };
        assert_eq!((publish("eu.de"), publish("us.ny")), (200, 401));
    }
    let admin = format!("Bearer {}", self::token("rabbitmq.tag:administrator", now() + 600));
    assert_eq!(ask(&api, &admin, "PUT", "/api/vhosts/made", "").status, 201);
    assert_eq!(
        api.get("/api/users").as_array().unwrap().len(),
        1,
        "a token makes no user"
    );
}

/// A user of the same name gives the bearer of a token nothing.
#[test]
fn tokens_and_users_of_one_name_are_not_taken_for_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let api = api(&directory);
    api.expect(
        201,
        "PUT",
        "/api/users/robot",
        r#"{"password":"p","tags":"administrator"}"#,
    );
    let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
    api.expect(201, "PUT", "/api/permissions/%2F/robot", everything);
    let bearer = format!("Bearer {}", token("rabbitmq.tag:management", now() + 600));
    assert_eq!(ask(&api, &bearer, "GET", "/api/users", "").status, 401);
    assert_eq!(ask(&api, &bearer, "PUT", "/api/queues/%2F/q", "").status, 401);
    assert_eq!(api.ask_as(Some("robot:p"), "GET", "/api/users", "").status, 200);
}

#[test]
fn late_forged_and_foreign_tokens_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let api = api(&directory);
    let claims = json!({ "sub": "robot", "aud": "rabbitmq", "scope": "rabbitmq.tag:administrator" });
    let named = |algorithm: &str| json!({ "alg": algorithm, "kid": "k" });
    let unsigned = signed(&named("none"), &claims, SECRET);
    let (unsigned, _) = unsigned.rsplit_once('.').unwrap();
    let refused = [
        token("rabbitmq.tag:administrator", now() - 1),
        format!("{unsigned}."),
        signed(&named("none"), &claims, SECRET),
        signed(&named("RS256"), &claims, SECRET),
        signed(&named("HS256"), &claims, b"another secret of thirty-two byt"),
        signed(&named("HS256"), &json!({ "sub": "robot", "aud": "else" }), SECRET),
        "x".to_owned(),
    ];
    // Few at once, and forgotten before the next: each further failure is answered later.
    for few in refused.chunks(4) {
        api.broker.throttle.lock().forget();
        std::thread::scope(|scope| {
            for token in few {
                let api = &api;
                scope.spawn(move || {
                    let answer = ask(api, &format!("Bearer {token}"), "GET", "/api/whoami", "");
                    assert_eq!(answer.status, 401, "{token}: {answer:?}");
                });
            }
        });
    }
    let good = format!("Bearer {}", signed(&named("HS256"), &claims, SECRET));
    assert_eq!(
        ask(&api, &good, "GET", "/api/users", "").status,
        200,
        "no end is no end"
    );
    let plain = Api::start();
    assert_eq!(
        ask(&plain, &good, "GET", "/api/users", "").status,
        401,
        "nobody asked for tokens"
    );
}
