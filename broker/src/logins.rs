//! Logins of all doors: checked beside the threads that serve clients, and refused late.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::auth::oauth::{TokenRefused, is_token};
use crate::auth::sasl::Credentials;
use crate::auth::{Authenticated, LoginRefused};
use crate::broker::Broker;
use crate::clock;
use crate::timer::unix_millis;

/// Slow checks of passwords at once; each takes a core and some memory for a while. Others wait for their turn.
const SLOW_CHECKS_MAX: usize = 2;
/// Those of them for sources that have failed lately, so that a source that has not finds a turn whatever others do.
const SUSPECT_CHECKS_MAX: usize = 1;
/// Logins of such sources that wait for a turn; further ones are refused unheard.
const SUSPECTS_WAITING_MAX: usize = 32;
/// Refused logins over HTTP that wait for their late answers, of all sources; beyond, those that have waited longest get theirs. They
/// take connections that others want.
const LATE_ANSWERS_MAX: usize = 64;
/// Logins over HTTP that wait for a slow check; further ones are told to come again, so that connections are left for whoever needs none.
const HTTP_CHECKS_MAX: usize = 128;

/// What logins share.
pub struct Logins {
    turns: Semaphore,
    suspect_turns: Semaphore,
    suspects: Semaphore,
    /// Places of those of the API that wait for a check.
    pub http_checks: Semaphore,
    /// Those of the API that were refused and wait for their answers.
    pub http_late: LateAnswers,
}

impl Default for Logins {
    fn default() -> Logins {
        Logins {
            turns: Semaphore::new(SLOW_CHECKS_MAX),
            suspect_turns: Semaphore::new(SUSPECT_CHECKS_MAX),
            suspects: Semaphore::new(SUSPECTS_WAITING_MAX + SUSPECT_CHECKS_MAX),
            http_checks: Semaphore::new(HTTP_CHECKS_MAX),
            http_late: LateAnswers::new(LATE_ANSWERS_MAX),
        }
    }
}

/// Checks a login if that takes no time: a token, or a password that was right lately.
pub fn check_at_once(
    broker: &Broker,
    credentials: &Credentials,
    peer: IpAddr,
) -> Option<Result<Authenticated, LoginRefused>> {
    let (name, password) = (&credentials.username, credentials.password.expose());
    if broker.oauth.get().is_some() && is_token(password) {
        return Some(check_token(broker, password, peer));
    }
    let known = broker.users.authenticate_at_once(name, password, peer)?;
    Some(known.map(Authenticated::from))
}

/// Checks a login. A source that has too many refused ones waiting is refused unheard, unless it is known to be right.
pub async fn check(
    broker: &Arc<Broker>,
    credentials: Credentials,
    peer: IpAddr,
) -> Result<Authenticated, LoginRefused> {
    if let Some(result) = check_at_once(broker, &credentials, peer) {
        return result;
    }
    let name = &credentials.username;
    let too_many = || LoginRefused::TooMany { name: name.clone() };
    let unchecked = |_| LoginRefused::Unchecked { name: name.clone() };
    let is_suspect = broker.throttle.lock().has_failed(peer, clock::now());
    let _suspect = match is_suspect {
        true => {
            let place = broker.logins.suspects.try_acquire().map_err(|_| too_many())?;
            Some((place, broker.logins.suspect_turns.acquire().await.map_err(unchecked)?))
        }
        false => None,
    };
    let _turn = broker.logins.turns.acquire().await.map_err(unchecked)?;
    if broker.throttle.lock().is_flooded(peer) {
        return Err(too_many());
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

/// Refused logins that wait for their answers, so many at most.
pub struct LateAnswers {
    waiting: Mutex<Queue>,
    max: usize,
}

/// In the order in which they began to wait.
#[derive(Default)]
struct Queue {
    places: BTreeMap<u64, Arc<Notify>>,
    last: u64,
}

/// The place of one of them, until it is dropped.
struct Place<'a> {
    late: &'a LateAnswers,
    number: u64,
}

impl LateAnswers {
    fn new(max: usize) -> LateAnswers {
        LateAnswers {
            waiting: Mutex::default(),
            max,
        }
    }

    /// Waits for `until`, or until so many others came later that this one makes room.
    pub async fn wait(&self, until: impl Future<Output = ()>) {
        let leave = Arc::new(Notify::new());
        let _place = self.enter(leave.clone());
        tokio::select! {
            () = until => {}
            () = leave.notified() => {}
        }
    }

    fn enter(&self, leave: Arc<Notify>) -> Place<'_> {
        let mut waiting = self.waiting.lock();
        if waiting.places.len() >= self.max
            && let Some((_, longest)) = waiting.places.pop_first()
        {
            longest.notify_one();
        }
        waiting.last += 1;
        let number = waiting.last;
        waiting.places.insert(number, leave);
        Place { late: self, number }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.late.waiting.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn who_has_waited_longest_for_a_late_answer_gets_it_when_too_many_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let late = Arc::new(LateAnswers::new(2));
            let answered = Arc::new(Mutex::new(Vec::new()));
            let wait = |name: &'static str| {
                let (late, answered) = (late.clone(), answered.clone());
                tokio::spawn(async move {
                    late.wait(pending()).await;
                    answered.lock().push(name);
                })
            };
            for name in ["first", "second", "third", "fourth"] {
                drop(wait(name));
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
            assert_eq!(*answered.lock(), ["first", "second"]);
            assert_eq!(late.waiting.lock().places.len(), 2);
            late.wait(async {}).await;
            tokio::task::yield_now().await;
            assert_eq!(late.waiting.lock().places.len(), 1, "{:?}", answered.lock());
        });
    }
}
