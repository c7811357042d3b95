//! Logins by access tokens of OAuth 2: signed JSON web tokens whose scopes say what their bearer may do.
//!
//! The algorithm of a signature is that of the key, whatever the token says of itself. Pure: who asks says what time it is.

mod keys;
mod scopes;
mod wildcard;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use parking_lot::RwLock;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

pub use self::keys::{KeySet, KeysError};
pub use self::scopes::Scopes;
pub use self::wildcard::Wildcard;
use super::user::User;
use super::{HashedPassword, USER_NAME_MAX_BYTES};

/// Longest token.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// What tokens must be like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements {
    /// How this broker is called in audiences.
    pub resource_server_id: String,
    /// What stands before the scopes that are for this broker.
    pub scope_prefix: String,
    /// Who must have issued it; anybody who has a key when it is empty.
    pub issuer: String,
    /// The claims of which the first that is there names the user.
    pub username_claims: Vec<String>,
}

/// Checks tokens.
#[derive(Debug)]
pub struct Oauth {
    requirements: Requirements,
    keys: RwLock<Arc<KeySet>>,
}

/// What a token that was accepted says.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// Its bearer, with the tags that its scopes give.
    pub user: Arc<User>,
    /// What it may do.
    pub scopes: Arc<Scopes>,
    /// Seconds since 1970 at which it ends.
    pub expires_at: Option<u64>,
}

/// Why a token is refused. For the log only.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenRefused {
    #[error("it is malformed")]
    Malformed,
    #[error("no key for algorithm '{algorithm}' has signed it")]
    Signature { algorithm: String },
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    NotYetValid,
    #[error("it is not for '{0}'")]
    Audience(String),
    #[error("its issuer is not '{0}'")]
    Issuer(String),
    #[error("it names no user")]
    NoUser,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    #[serde(default)]
    crit: Option<Value>,
}

impl Oauth {
    /// Accepts what one of these keys has signed.
    pub fn new(requirements: Requirements, keys: KeySet) -> Oauth {
        Oauth {
            requirements,
            keys: RwLock::new(Arc::new(keys)),
        }
    }

    /// Accepts what one of these keys has signed from now on.
    pub fn replace_keys(&self, keys: KeySet) {
        *self.keys.write() = Arc::new(keys);
    }

    /// Checks a token.
    pub fn verify(&self, token: &str, now_seconds: u64) -> Result<Token, TokenRefused> {
        let claims = self.signed_claims(token)?;
        let number = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or(TokenRefused::Malformed),
        };
        let expires_at = number("exp")?.map(|seconds| seconds as u64);
        if expires_at.is_some_and(|seconds| seconds <= now_seconds) {
            return Err(TokenRefused::Expired);
        }
        if number("nbf")?.is_some_and(|seconds| seconds as u64 > now_seconds) {
            return Err(TokenRefused::NotYetValid);
        }
        let Requirements {
            resource_server_id,
            scope_prefix,
            issuer,
            username_claims,
        } = &self.requirements;
        if !texts(claims.get("aud")).any(|audience| audience == resource_server_id) {
            return Err(TokenRefused::Audience(resource_server_id.clone()));
        }
        if !issuer.is_empty() && claims.get("iss").and_then(Value::as_str) != Some(issuer) {
            return Err(TokenRefused::Issuer(issuer.clone()));
        }
        let mut names = username_claims.iter().filter_map(|claim| claims.get(claim)?.as_str());
        let name = names.find(|name| !name.is_empty()).ok_or(TokenRefused::NoUser)?;
        if name.len() > USER_NAME_MAX_BYTES {
            return Err(TokenRefused::NoUser);
        }
        let words = texts(claims.get("scope")).flat_map(str::split_whitespace);
        let own = words.filter_map(|scope| scope.strip_prefix(scope_prefix.as_str()));
        let (scopes, tags) = Scopes::parse(own);
        Ok(Token {
            user: Arc::new(User {
                name: name.to_owned(),
                password: HashedPassword::none(),
                tags,
            }),
            scopes: Arc::new(scopes),
            expires_at,
        })
    }

    fn signed_claims(&self, token: &str) -> Result<Value, TokenRefused> {
        let malformed = TokenRefused::Malformed;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(malformed.clone())?;
        let (header, claims) = signed.split_once('.').ok_or(malformed.clone())?;
        let decode = |part: &str| BASE64URL.decode(part).map_err(|_| TokenRefused::Malformed);
        let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed.clone())?;
        if header.crit.is_some() {
            return Err(malformed);
        }
        let signature = decode(signature)?;
        let keys = self.keys.read().clone();
        if !keys.have_signed(&header.alg, header.kid.as_deref(), signed.as_bytes(), &signature) {
            let algorithm = header.alg.chars().take(20).collect();
            return Err(TokenRefused::Signature { algorithm });
        }
        let claims: Value = serde_json::from_slice(&decode(claims)?).map_err(|_| malformed.clone())?;
        if claims.is_object() { Ok(claims) } else { Err(malformed) }
    }
}

/// Does this look like a token? Passwords hardly do.
pub fn is_token(password: &[u8]) -> bool {
    let text = std::str::from_utf8(password).unwrap_or_default();
    let header = text.split('.').next().filter(|_| text.split('.').count() == 3);
    let decoded = header.and_then(|header| BASE64URL.decode(header).ok());
    decoded.is_some_and(|header| serde_json::from_slice::<Header>(&header).is_ok())
}

/// A text, or a list of them.
fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let list = match value {
        Some(Value::Array(list)) => list.as_slice(),
        Some(text) => std::slice::from_ref(text),
        None => &[],
    };
    list.iter().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests;
