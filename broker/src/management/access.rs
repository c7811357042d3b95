//! Who asks, and whether they may: logins by basic authentication, user tags, and virtual hosts.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::reply::ApiError;
use crate::auth::{Authenticated, Credentials, Secret, User};
use crate::broker::Broker;
use crate::logins;

/// The tag that a resource asks for. Each includes those before it, but for policymaker, which stands beside monitoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Nobody has to log in: probes.
    Nobody,
    /// Whoever may use management, for what concerns the virtual hosts they may use.
    Management,
    /// Policies.
    Policymaker,
    /// What concerns the whole node.
    Monitoring,
    /// Users, permissions, virtual hosts.
    Administrator,
}

/// Who asks.
#[derive(Clone)]
pub struct Caller {
    /// The user that logged in.
    pub user: Arc<User>,
    /// How it did.
    pub who: Authenticated,
}

impl From<Authenticated> for Caller {
    fn from(who: Authenticated) -> Caller {
        Caller {
            user: who.user.clone(),
            who,
        }
    }
}

impl Caller {
    /// Refuses a user without the tag, in RabbitMQ's words.
    pub fn require(&self, rights: Rights) -> Result<(), ApiError> {
        let user = &self.user;
        let (has, reason) = match rights {
            Rights::Nobody => (true, ""),
            Rights::Management => (user.is_management(), "Not management user"),
            Rights::Policymaker => (user.is_policymaker(), "Not policymaker user"),
            Rights::Monitoring => (user.is_monitoring(), "Not monitor user"),
            Rights::Administrator => (user.is_administrator(), "Not administrator user"),
        };
        if has {
            return Ok(());
        }
        Err(ApiError::NotAuthorised(reason.to_owned()))
    }

    /// May the user see what is in this virtual host? Who monitors sees all of them.
    pub fn sees_vhost(&self, broker: &Broker, vhost: &str) -> bool {
        self.user.is_monitoring() || self.uses_vhost(broker, vhost)
    }

    /// May the user log in to this virtual host?
    pub fn uses_vhost(&self, broker: &Broker, vhost: &str) -> bool {
        self.who.access(&broker.users, vhost).is_some()
    }

    /// May the user see connections and channels of this other one?
    pub fn sees_user(&self, user: &str) -> bool {
        self.user.is_monitoring() || self.user.name == user
    }
}

/// Refuses whoever may not monitor, or does not log in. For pages that are none of the API.
pub async fn require_monitoring(broker: &Arc<Broker>, peer: IpAddr, headers: &HeaderMap) -> Result<(), Response> {
    let caller = log_in(broker, peer, headers).await;
    let may = caller.and_then(|caller| caller.require(Rights::Monitoring));
    may.map_err(IntoResponse::into_response)
}

/// Finds out who asks. A refused login is counted and answered late, as on AMQP.
pub async fn log_in(broker: &Arc<Broker>, peer: IpAddr, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let given = headers.get(header::AUTHORIZATION);
    let given = given.ok_or(ApiError::NotLoggedIn("Log in with basic authentication"))?;
    let given = given.to_str().unwrap_or_default();
    let result = if let Some(token) = bearer_token(given) {
        logins::check_token(broker, token.as_bytes(), peer)
    } else if let Some(credentials) = basic_credentials(given) {
        match logins::check_at_once(broker, &credentials, peer) {
            Some(result) => result,
            None => {
                let Ok(_place) = broker.logins.http_checks.try_acquire() else {
                    return Err(ApiError::Unavailable(
                        "too many logins wait to be checked; try again".to_owned(),
                    ));
                };
                logins::check(broker, credentials, peer).await
            }
        }
    } else {
        return Err(ApiError::NotLoggedIn("Log in with basic authentication"));
    };
    match result {
        Ok(who) => {
            broker.counters.http_logins.count(true);
            Ok(Caller::from(who))
        }
        Err(reason) => {
            broker.counters.http_logins.count(false);
            tracing::warn!(%peer, "login refused over HTTP: {reason}");
            let answered = logins::refuse_late(broker, peer, &reason, Duration::ZERO);
            broker.logins.http_late.wait(answered).await;
            Err(ApiError::NotLoggedIn("Login failed"))
        }
    }
}

/// Is this what a browser sends for a page of another site without asking first? It would log in by itself with what somebody has
/// typed into it, so nothing is changed for it. Pages of this broker and tools send JSON, or tell no origin.
pub fn is_of_another_site(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json = kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/json"));
    headers.contains_key(header::ORIGIN) && !is_json
}

/// The token of `Bearer` and a token.
fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// User and password of `Basic` and base64 of `user:password`.
fn basic_credentials(header: &str) -> Option<Credentials> {
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64.decode(credentials.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (name, password) = decoded.split_at(colon);
    Some(Credentials {
        username: String::from_utf8(name.to_vec()).ok()?,
        password: Secret::new(password.get(1..)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::HashedPassword;

    #[test]
    fn credentials_are_what_stands_before_and_after_the_first_colon() {
        let encoded = |text: &[u8]| format!("Basic {}", BASE64.encode(text));
        let parsed = |header: &str| {
            let parsed = basic_credentials(header)?;
            Some((parsed.username, parsed.password.expose().to_vec()))
        };
        assert_eq!(
            parsed(&encoded(b"guest:guest")),
            Some(("guest".into(), b"guest".to_vec()))
        );
        assert_eq!(parsed(&encoded(b"a:b:c")), Some(("a".into(), b"b:c".to_vec())));
        assert_eq!(parsed(&encoded(b":")), Some((String::new(), Vec::new())));
        assert_eq!(parsed(&encoded(b"a:\xff")), Some(("a".into(), b"\xff".to_vec())));
        assert!(parsed(&format!("bAsIc {}", BASE64.encode("a:b"))).is_some());
        for bad in [
            "",
            "Basic",
            "Basic !",
            "Bearer YTpi",
            &encoded(b"no colon"),
            &encoded(b"\xff:x"),
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn tags_give_the_rights_that_rabbitmq_gives_them() {
        let rights = [Rights::Management, Rights::Monitoring, Rights::Administrator];
        for (tag, expected) in [
            ("administrator", [true, true, true]),
            ("monitoring", [true, true, false]),
            ("policymaker", [true, false, false]),
            ("management", [true, false, false]),
            ("impersonator", [false, false, false]),
            ("Administrator", [false, false, false]),
        ] {
            let caller = Caller::from(Authenticated::from(Arc::new(User {
                name: "u".to_owned(),
                password: HashedPassword::new(b"p", *b"salt").unwrap(),
                tags: vec![tag.to_owned()],
            })));
            let has = rights.map(|rights| caller.require(rights).is_ok());
            assert_eq!(has, expected, "{tag}");
        }
    }
}
