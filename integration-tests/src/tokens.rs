//! Access tokens for tests, signed by a key of RSA that the openssl program makes and uses.

use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde_json::{Value, json};

use crate::certificates::Certificates;

/// An issuer of tokens with a key of its own.
pub struct Issuer {
    files: Certificates,
}

impl Issuer {
    /// A new issuer; none, with a word about it, when there is no openssl.
    pub fn new() -> Option<Self> {
        let files = Certificates::new()?;
        let size = "rsa_keygen_bits:2048";
        files.openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", size, "-out", "token.key"]);
        let issuer = Self { files };
        let keys = json!({ "keys": [
            { "kty": "RSA", "kid": "one", "use": "sig", "alg": "RS256", "n": issuer.modulus(), "e": "AQAB" },
        ] });
        std::fs::write(issuer.key_set(), keys.to_string()).unwrap();
        Some(issuer)
    }

    /// The file of its public keys, a JSON web key set.
    pub fn key_set(&self) -> PathBuf {
        self.files.path("keys.json")
    }

    /// A token of `user` for the audience `rabbitmq` that ends in some seconds.
    pub fn token(&self, user: &str, scope: &str, seconds: u64) -> String {
        let expires = now_seconds() + seconds;
        self.sign(&json!({ "sub": user, "aud": "rabbitmq", "scope": scope, "exp": expires }))
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "RS256", "kid": "one", "typ": "JWT" });
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let digest = "claims";
        std::fs::write(self.files.path(digest), &signed).unwrap();
        self.files
            .openssl(&["dgst", "-sha256", "-sign", "token.key", "-out", "signature", digest]);
        let signature = std::fs::read(self.files.path("signature")).unwrap();
        format!("{signed}.{}", encoded(signature))
    }

    fn modulus(&self) -> String {
        let key = self.files.text("token.key");
        let output = Command::new("openssl")
            .args(["rsa", "-in", &key, "-noout", "-modulus"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let digits = text.trim().strip_prefix("Modulus=").expect("the modulus of the key");
        let octets = digits.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).unwrap();
            u8::from_str_radix(pair, 16).unwrap()
        });
        encoded(octets.collect::<Vec<_>>())
    }
}

/// Seconds since 1970.
pub fn now_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn encoded(part: impl AsRef<[u8]>) -> String {
    BASE64URL.encode(part)
}
