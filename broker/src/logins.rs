//! Logins of all doors: checked beside the threads that serve clients, and refused late.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::auth::oauth::{TokenRefused, is_token};
use crate::auth::sasl::Credentials;
use crate::auth::{Authenticated, LoginRefused};
use crate::broker::Broker;
use crate::clock;
use crate::timer::unix_millis;

/// Slow checks of passwords at once; each takes a core and some memory for a while. Others wait for their turn.
const SLOW_CHECKS_MAX: usize = 2;

/// What logins share.
pub struct Logins {
    turns: Semaphore,
}

impl Default for Logins {
    fn default() -> Logins {
        Logins {
            turns: Semaphore::new(SLOW_CHECKS_MAX),
        }
    }
}

/// Checks a login. A source that has too many refused ones waiting is refused unheard, unless it is known to be right.
pub async fn check(
    broker: &Arc<Broker>,
    credentials: Credentials,
    peer: IpAddr,
) -> Result<Authenticated, LoginRefused> {
    if broker.oauth.get().is_some() && is_token(credentials.password.expose()) {
        return check_token(broker, credentials.password.expose(), peer);
    }
    let (name, password) = (&credentials.username, credentials.password.expose());
    if let Some(result) = broker.users.authenticate_at_once(name, password, peer) {
        return result.map(Authenticated::from);
    }
    let Ok(_turn) = broker.logins.turns.acquire().await else {
        return Err(LoginRefused::Unchecked { name: name.clone() });
    };
    if broker.throttle.lock().is_flooded(peer) {
        return Err(LoginRefused::TooMany { name: name.clone() });
    }
    let name = name.clone();
    let checking = broker.clone();
    let checked = tokio::task::spawn_blocking(move || {
        let (name, password) = (&credentials.username, credentials.password.expose());
        checking.users.authenticate(name, password, peer)
    });
    let checked = checked.await.unwrap_or(Err(LoginRefused::Unchecked { name }));
    checked.map(Authenticated::from)
}

/// Checks an access token. That takes less than a millisecond.
pub fn check_token(broker: &Broker, token: &[u8], peer: IpAddr) -> Result<Authenticated, LoginRefused> {
    let malformed = LoginRefused::Token(TokenRefused::Malformed);
    let (Some(oauth), Ok(token)) = (broker.oauth.get(), std::str::from_utf8(token)) else {
        return Err(malformed);
    };
    let now_seconds = unix_millis() / 1000;
    let refused = |reason| match broker.throttle.lock().is_flooded(peer) {
        true => LoginRefused::TooMany { name: String::new() },
        false => LoginRefused::Token(reason),
    };
    let token = oauth.verify(token, now_seconds).map_err(refused)?;
    let lasts = token
        .expires_at
        .map(|end| Duration::from_secs(end.saturating_sub(now_seconds)));
    Ok(Authenticated {
        user: token.user.clone(),
        token: Some(Arc::new(token)),
        lasts,
    })
}

/// Counts a refused login, and waits until it may be answered; `already` is how long the caller makes it wait anyway. What was
/// not looked at tells nothing and need not wait.
pub async fn refuse_late(broker: &Broker, peer: IpAddr, reason: &LoginRefused, already: Duration) {
    let delay = broker.throttle.lock().record_failure(peer, clock::now());
    if matches!(reason, LoginRefused::TooMany { .. }) {
        return;
    }
    let _waiting = Waiting::begin(broker, peer);
    tokio::time::sleep(delay.saturating_sub(already)).await;
}

/// One refused login that waits, even if its client goes away.
struct Waiting<'a> {
    broker: &'a Broker,
    peer: IpAddr,
}

impl Waiting<'_> {
    fn begin(broker: &Broker, peer: IpAddr) -> Waiting<'_> {
        broker.throttle.lock().begin_wait(peer);
        Waiting { broker, peer }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.broker.throttle.lock().end_wait(self.peer);
    }
}
