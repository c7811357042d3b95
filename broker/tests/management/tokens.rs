//! Access tokens on the API: as a bearer, as a password, late and forged.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use leveret::auth::throttle::BASE_DELAY;
use leveret::config::Config;
use serde_json::{Value, json};

use super::api::{Answer, Api};

const SECRET: &[u8; 32] = b"thirty-two bytes that sign token";
/// The public half of a key of RSA that openssl made; nobody has the other half.
const RSA_N: &str = "0LsdW5W0Y1R0f3e4ISJMDqgo30kcDtBGNYi2YNg68QKTMUOzvpdjTAgV0OQfittu6g9GNy8YXgiFUCgPdGH-xA6KbbymRYZRZxLHdw6uuZLxfsjgklDfQJRfO9fBDfNQswPUVRHc2eas21jFrdNqMadru1EJy1aR3zR8yQO8D9UvQtLMZIg00lVlML6OpKPqXH6G2Qx9kYSmRt0fC2O7_6ZBclglzXausigPeg_ZN-5_vxzqEr2NgfuheY6n6hZ6SSIW1b2_1iCGDSOaNOx7ImOAAw3JbDXJ8BV4Bo9bZWm8wbEi4XH3rjmXr6wIn6dOShGxOPEbMZ4CAX_qHhgyaw";

/// A broker that takes tokens beside passwords.
pub fn api() -> Api {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    let keys = json!({ "keys": [
        { "kty": "oct", "kid": "k", "k": BASE64URL.encode(SECRET) },
        { "kty": "RSA", "kid": "r", "n": RSA_N, "e": "AQAB" },
    ] });
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

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn hs256() -> Value {
    json!({ "alg": "HS256", "kid": "k" })
}

/// A good token of `robot`.
pub fn token(scope: &str, expires: u64) -> String {
    let claims = json!({ "sub": "robot", "aud": "rabbitmq", "scope": scope, "exp": expires });
    signed(&hs256(), &claims, SECRET)
}

/// A token that must open nothing, and what is wrong with it.
pub struct Forged {
    pub what: &'static str,
    pub token: String,
}

/// What forgers try, with these scopes.
pub fn forged(scope: &str) -> Vec<Forged> {
    let claims = |changed: &[(&str, Value)]| {
        let mut claims = json!({ "sub": "robot", "aud": "rabbitmq", "scope": scope, "exp": now() + 600 });
        for (name, value) in changed {
            claims[*name] = value.clone();
        }
        claims
    };
    let good = token(scope, now() + 600);
    let (signed_part, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed_part.split_once('.').unwrap();
    let with_header = |header: Value| signed(&header, &claims(&[]), SECRET);
    let without_signature = |header: Value| {
        let token = with_header(header);
        format!("{}.", token.rsplit_once('.').unwrap().0)
    };
    let other_claims = BASE64URL.encode(claims(&[("sub", json!("guest"))]).to_string());
    let for_public_key = json!({ "alg": "HS256", "kid": "r" });
    let forged = [
        ("expired", token(scope, now() - 1)),
        (
            "not valid yet",
            signed(&hs256(), &claims(&[("nbf", json!(now() + 600))]), SECRET),
        ),
        (
            "for another audience",
            signed(&hs256(), &claims(&[("aud", json!("else"))]), SECRET),
        ),
        (
            "for an audience that begins alike",
            signed(&hs256(), &claims(&[("aud", json!(["rabbitmq2"]))]), SECRET),
        ),
        (
            "for no audience",
            signed(&hs256(), &claims(&[("aud", json!(null))]), SECRET),
        ),
        ("of nobody", signed(&hs256(), &claims(&[("sub", json!(""))]), SECRET)),
        ("unsigned", without_signature(json!({ "alg": "none" }))),
        (
            "unsigned, spelled otherwise",
            without_signature(json!({ "alg": "nOnE", "kid": "k" })),
        ),
        (
            "unsigned, with the signature of another algorithm",
            with_header(json!({ "alg": "none", "kid": "k" })),
        ),
        ("without the signature", format!("{signed_part}.")),
        (
            "with half of the signature",
            format!("{signed_part}.{}", signature.get(..20).unwrap()),
        ),
        (
            "signed by another secret",
            signed(&hs256(), &claims(&[]), b"another secret of thirty-two byt"),
        ),
        (
            "with other claims than were signed",
            format!("{header}.{other_claims}.{signature}"),
        ),
        (
            "signed by the secret for RSA",
            with_header(json!({ "alg": "RS256", "kid": "r" })),
        ),
        (
            "signed by the secret for the key of RSA",
            with_header(for_public_key.clone()),
        ),
        (
            "signed with the public key as secret",
            signed(&for_public_key, &claims(&[]), RSA_N.as_bytes()),
        ),
        (
            "signed with the octets of the public key as secret",
            signed(&for_public_key, &claims(&[]), &BASE64URL.decode(RSA_N).unwrap()),
        ),
        (
            "with an extension that must be understood",
            with_header(json!({ "alg": "HS256", "crit": ["b64"], "b64": false })),
        ),
        (
            "with a key of its own",
            signed(
                &json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": BASE64URL.encode([7; 32]) } }),
                &claims(&[]),
                &[7; 32],
            ),
        ),
        ("no token", "x.y.z".to_owned()),
    ];
    forged.map(|(what, token)| Forged { what, token }).into()
}

fn ask(api: &Api, authorization: &str, method: &str, path: &str, body: &str) -> Answer {
    api.ask_with(Some(authorization), method, path, body)
}

#[test]
fn a_token_says_what_its_bearer_sees_and_does() {
    let api = api();
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
    let api = api();
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
fn a_refused_token_is_answered_late_and_one_without_an_end_is_taken() {
    let api = api();
    let claims = json!({ "sub": "robot", "aud": "rabbitmq", "scope": "rabbitmq.tag:administrator" });
    let asked = Instant::now();
    let late = format!("Bearer {}", token("rabbitmq.tag:administrator", now() - 1));
    assert_eq!(ask(&api, &late, "GET", "/api/whoami", "").status, 401);
    assert!(asked.elapsed() >= BASE_DELAY);
    let good = format!("Bearer {}", signed(&hs256(), &claims, SECRET));
    assert_eq!(ask(&api, &good, "GET", "/api/users", "").status, 200);
    let plain = Api::start();
    assert_eq!(
        ask(&plain, &good, "GET", "/api/users", "").status,
        401,
        "nobody asked for tokens"
    );
}
