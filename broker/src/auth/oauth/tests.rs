//! Tokens of every kind, and what forgers try.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use super::*;
use crate::auth::permissions::Operation;

const NOW: u64 = 1_000_000;

/// A key of 2048 bits that openssl made, and a token of alice that it signed.
const RSA_N: &str = "0LsdW5W0Y1R0f3e4ISJMDqgo30kcDtBGNYi2YNg68QKTMUOzvpdjTAgV0OQfittu6g9GNy8YXgiFUCgPdGH-xA6KbbymRYZRZxLHdw6uuZLxfsjgklDfQJRfO9fBDfNQswPUVRHc2eas21jFrdNqMadru1EJy1aR3zR8yQO8D9UvQtLMZIg00lVlML6OpKPqXH6G2Qx9kYSmRt0fC2O7_6ZBclglzXausigPeg_ZN-5_vxzqEr2NgfuheY6n6hZ6SSIW1b2_1iCGDSOaNOx7ImOAAw3JbDXJ8BV4Bo9bZWm8wbEi4XH3rjmXr6wIn6dOShGxOPEbMZ4CAX_qHhgyaw";
const RSA_TOKEN: &str = "eyJhbGciOiAiUlMyNTYiLCAia2lkIjogInIxIiwgInR5cCI6ICJKV1QifQ.eyJzdWIiOiAiYWxpY2UiLCAiYXVkIjogInJhYmJpdG1xIiwgInNjb3BlIjogInJhYmJpdG1xLnJlYWQ6Ki8qIiwgImV4cCI6IDQxMDI0NDQ4MDB9.j5oWa0kLFNAZOlhQEGTQTKO_Se8lPO4clzCzGzEJGBXOEkL2xSuNbCdQWVClMq3Cp6N0GjV5wUQeE-VOCZWwJggtJGAl7wnWb56_uyxrd7Hd0ZSKtmfwNGC0UCPQbUKTGpsjCxbFnhgYXZvzUdBZgbpPaRT_n5uR_vIM3ih76SjhacD36WpOvTiH_E3ZM0WEv2inZ4l8Ql5wdQ6N7T0eVMad6C9o9OnLWF3tYUuozzn8JhJ7e0u7_D4GvklBkHqLrhNmxDWn151ypi8Z2mv-tD24OfnCmOv2FT666knmcjBRD3fWYKGgP17AdxWDmx3JIgqkRvotybmk93x0VBqvkA";

const SECRET: &[u8; 32] = b"a secret of 32 bytes, no more...";

fn encoded(part: impl AsRef<[u8]>) -> String {
    BASE64URL.encode(part)
}

fn requirements() -> Requirements {
    Requirements {
        resource_server_id: "rabbitmq".to_owned(),
        scope_prefix: "rabbitmq.".to_owned(),
        issuer: String::new(),
        username_claims: vec!["preferred".to_owned(), "sub".to_owned()],
    }
}

fn oauth(keys: &[Value]) -> Oauth {
    let keys = KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
    Oauth::new(requirements(), keys)
}

fn secret_key() -> Value {
    json!({ "kty": "oct", "kid": "h1", "k": encoded(SECRET) })
}

fn rsa_key() -> Value {
    json!({ "kty": "RSA", "kid": "r1", "use": "sig", "alg": "RS256", "n": RSA_N, "e": "AQAB" })
}

/// A token with this header, signed by HMAC with the secret.
fn signed(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let signature = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", encoded(signature))
}

fn hs256(claims: &Value) -> String {
    signed(&json!({ "alg": "HS256", "kid": "h1" }), claims, SECRET)
}

fn claims() -> Value {
    json!({ "sub": "app", "aud": ["other", "rabbitmq"], "scope": "rabbitmq.read:*/q other.write:*/* rabbitmq.tag:management" })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn a_signed_token_says_who_may_do_what_until_when() {
    let token = oauth(&[secret_key()])
        .verify(&hs256(&with("exp", json!(NOW + 60))), NOW)
        .unwrap();
    assert_eq!((token.user.name.as_str(), token.expires_at), ("app", Some(NOW + 60)));
    assert_eq!(token.user.tags, ["management"]);
    assert!(!token.user.password.verify(b""));
    let permissions = token.scopes.permissions("any").unwrap();
    assert!(permissions.allows(Operation::Read, "q"));
    assert!(
        !permissions.allows(Operation::Write, "q"),
        "scopes of others are not ours"
    );
    let preferred = oauth(&[secret_key()]).verify(&hs256(&with("preferred", json!("p"))), NOW);
    assert_eq!(preferred.unwrap().user.name, "p");
}

#[test]
fn rsa_and_elliptic_curves_sign_too() {
    let token = oauth(&[secret_key(), rsa_key()]).verify(RSA_TOKEN, NOW).unwrap();
    assert_eq!(token.user.name, "alice");
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap();
    let point = pair.public_key().as_ref();
    let key = json!({ "kty": "EC", "crv": "P-256", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) });
    let signed = format!("{}.{}", encoded(r#"{"alg":"ES256"}"#), encoded(claims().to_string()));
    let signature = pair.sign(&random, signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", encoded(signature));
    assert!(oauth(std::slice::from_ref(&key)).verify(&token, NOW).is_ok());
    let forged = token.replace(
        &encoded(claims().to_string()),
        &encoded(with("sub", json!("root")).to_string()),
    );
    assert!(oauth(&[key]).verify(&forged, NOW).is_err());
}

#[test]
fn what_is_late_early_or_for_others_is_refused() {
    let verify = |claims: &Value| {
        oauth(&[secret_key()])
            .verify(&hs256(claims), NOW)
            .map(|token| token.user.name.clone())
    };
    for (claims, reason) in [
        (with("exp", json!(NOW)), TokenRefused::Expired),
        (with("exp", json!(-5)), TokenRefused::Expired),
        (with("exp", json!("tomorrow")), TokenRefused::Malformed),
        (with("nbf", json!(NOW + 1)), TokenRefused::NotYetValid),
        (
            with("aud", json!("elsewhere")),
            TokenRefused::Audience("rabbitmq".to_owned()),
        ),
        (with("aud", json!(null)), TokenRefused::Audience("rabbitmq".to_owned())),
        (with("sub", json!("")), TokenRefused::NoUser),
        (with("sub", json!("x".repeat(256))), TokenRefused::NoUser),
        (json!([1]), TokenRefused::Malformed),
    ] {
        assert_eq!(verify(&claims), Err(reason), "{claims}");
    }
    let strict = Requirements {
        issuer: "https://id".to_owned(),
        ..requirements()
    };
    let keys = || KeySet::parse(json!({ "keys": [secret_key()] }).to_string().as_bytes()).unwrap();
    let strict = Oauth::new(strict, keys());
    assert_eq!(
        strict.verify(&hs256(&claims()), NOW),
        Err(TokenRefused::Issuer("https://id".to_owned()))
    );
    assert!(strict.verify(&hs256(&with("iss", json!("https://id"))), NOW).is_ok());
}

/// No signature at all, and the public key of RSA taken for a secret.
#[test]
fn forged_algorithms_are_refused() {
    let oauth = oauth(&[rsa_key()]);
    let unsigned = |algorithm: &str| {
        let header = json!({ "alg": algorithm, "kid": "r1" });
        format!("{}.{}.", encoded(header.to_string()), encoded(claims().to_string()))
    };
    for algorithm in ["none", "None", "NONE", "", "HS256", "RS256", "ES256"] {
        assert!(oauth.verify(&unsigned(algorithm), NOW).is_err(), "{algorithm}");
    }
    let public = BASE64URL.decode(RSA_N).unwrap();
    for secret in [public.as_slice(), RSA_N.as_bytes(), b""] {
        for algorithm in ["HS256", "RS256", "none"] {
            let header = json!({ "alg": algorithm, "kid": "r1" });
            let refused = oauth.verify(&signed(&header, &claims(), secret), NOW);
            assert!(
                matches!(refused, Err(TokenRefused::Signature { .. })),
                "{algorithm}: {refused:?}"
            );
        }
    }
    let embedded = json!({ "alg": "HS256", "jwk": secret_key(), "jku": "https://evil" });
    assert!(oauth.verify(&signed(&embedded, &claims(), SECRET), NOW).is_err());
    let critical = json!({ "alg": "HS256", "crit": ["b64"] });
    assert!(
        self::oauth(&[secret_key()])
            .verify(&signed(&critical, &claims(), SECRET), NOW)
            .is_err()
    );
    let other_name = json!({ "alg": "HS256", "kid": "other" });
    assert!(
        self::oauth(&[secret_key()])
            .verify(&signed(&other_name, &claims(), SECRET), NOW)
            .is_err()
    );
}

#[test]
fn a_token_changed_anywhere_is_refused_and_none_panics() {
    let oauth = oauth(&[secret_key(), rsa_key()]);
    let token = hs256(&claims());
    assert!(oauth.verify(&token, NOW).is_ok());
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(
            oauth.verify(&String::from_utf8(changed).unwrap(), NOW).is_err(),
            "at {at}"
        );
        assert!(oauth.verify(&token[..at], NOW).is_err(), "cut at {at}");
    }
    for text in ["", ".", "..", "...", "a.b.c", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
        assert_eq!(oauth.verify(text, NOW), Err(TokenRefused::Malformed), "{text:.20}");
    }
    assert!(is_token(token.as_bytes()) && is_token(RSA_TOKEN.as_bytes()));
    for password in ["", "guest", "a.b.c", "e30.e30.e30", "1.2.3.4"] {
        assert!(!is_token(password.as_bytes()), "{password}");
    }
}

#[test]
fn keys_are_read_with_reasons() {
    for (keys, reason) in [
        ("{", "it is not a JSON web key set"),
        (r#"{"keys":[]}"#, "it has no key for RS256, ES256 or HS256"),
        (r#"{"keys":[{"kty":"OKP"},{"kty":"RSA","use":"enc"}]}"#, "it has no key"),
        (r#"{"keys":[{"kty":"RSA"}]}"#, "key 1: 'n' is missing"),
        (
            r#"{"keys":[{"kty":"oct","k":"c2hvcnQ"}]}"#,
            "key 1: 'k' must have 32 bytes at least",
        ),
        (
            r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}]}"#,
            "key 1: 'x' and 'y' must have 32 bytes",
        ),
    ] {
        let error = KeySet::parse(keys.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(reason), "{error}");
    }
}
