//! The keys that sign tokens, from a JSON web key set.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::hmac;
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use thiserror::Error;

/// Most keys of a set.
const KEYS_MAX: usize = 100;
/// Shortest secret of HS256; the specification asks for as many bytes as the hash has.
const SECRET_BYTES_MIN: usize = 32;
/// Bytes of one coordinate of a point of P-256.
const COORDINATE_BYTES: usize = 32;

/// Why a file of keys cannot be used.
#[derive(Debug, Error)]
pub enum KeysError {
    #[error("it is not a JSON web key set: {0}")]
    Syntax(#[from] serde_json::Error),
    #[error("it has no key for RS256, ES256 or HS256")]
    Empty,
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
    #[error("key {number}: {reason}")]
    Key { number: usize, reason: &'static str },
}

/// Keys by their names.
#[derive(Debug)]
pub struct KeySet(Vec<Named>);

#[derive(Debug)]
struct Named {
    kid: Option<String>,
    key: Key,
}

enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256 { point: Vec<u8> },
    Secret(hmac::Key),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys for other purposes or algorithms are passed over, broken ones are not.
    pub fn parse(json: &[u8]) -> Result<KeySet, KeysError> {
        let jwks: Jwks = serde_json::from_slice(json)?;
        if jwks.keys.len() > KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        let mut keys = Vec::new();
        for (index, jwk) in jwks.keys.into_iter().enumerate() {
            let number = index + 1;
            let key = jwk.key().map_err(|reason| KeysError::Key { number, reason })?;
            keys.extend(key.map(|key| Named { kid: jwk.kid, key }));
        }
        if keys.is_empty() {
            return Err(KeysError::Empty);
        }
        Ok(KeySet(keys))
    }

    /// Has a key of this name and algorithm signed it? Without a name, any key of the algorithm.
    pub fn have_signed(&self, algorithm: &str, kid: Option<&str>, message: &[u8], signature: &[u8]) -> bool {
        let named = self
            .0
            .iter()
            .filter(|named| kid.is_none() || named.kid.as_deref() == kid);
        let mut keys = named.filter(|named| named.key.algorithm() == algorithm);
        keys.any(|named| named.key.has_signed(message, signature))
    }
}

impl Key {
    fn algorithm(&self) -> &'static str {
        match self {
            Key::Rsa { .. } => "RS256",
            Key::P256 { .. } => "ES256",
            Key::Secret(_) => "HS256",
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Key::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Key::P256 { point } => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature),
            Key::Secret(secret) => hmac::verify(secret, message, signature),
        };
        verified.is_ok()
    }
}

impl Jwk {
    fn key(&self) -> Result<Option<Key>, &'static str> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Ok(None);
        }
        let part = |part: &Option<String>, missing: &'static str| {
            let decoded = part
                .as_ref()
                .and_then(|part| BASE64URL.decode(part.trim_end_matches('=')).ok());
            decoded.ok_or(missing)
        };
        let is_for = |algorithm: &str| self.alg.as_deref().is_none_or(|alg| alg == algorithm);
        Ok(Some(match self.kty.as_str() {
            "RSA" if is_for("RS256") => Key::Rsa {
                n: without_zeros(part(&self.n, "'n' is missing or not base64url")?),
                e: without_zeros(part(&self.e, "'e' is missing or not base64url")?),
            },
            "EC" if is_for("ES256") && self.crv.as_deref() == Some("P-256") => {
                let (x, y) = (
                    part(&self.x, "'x' is missing or not base64url")?,
                    part(&self.y, "'y' is missing or not base64url")?,
                );
                if x.len() != COORDINATE_BYTES || y.len() != COORDINATE_BYTES {
                    return Err("'x' and 'y' must have 32 bytes");
                }
                let point = [&[4][..], &x, &y].concat();
                Key::P256 { point }
            }
            "oct" if is_for("HS256") => {
                let secret = part(&self.k, "'k' is missing or not base64url")?;
                if secret.len() < SECRET_BYTES_MIN {
                    return Err("'k' must have 32 bytes at least");
                }
                Key::Secret(hmac::Key::new(hmac::HMAC_SHA256, &secret))
            }
            _ => return Ok(None),
        }))
    }
}

/// Numbers are written without leading zeros.
fn without_zeros(number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|octet| **octet == 0).count();
    number.get(zeros..).unwrap_or_default().to_vec()
}
