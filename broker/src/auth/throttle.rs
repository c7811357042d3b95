//! Slows down who guesses passwords.
//!
//! A refused login is answered late. The first few failures of a source wait as long as in RabbitMQ, so that
//! one mistyped password costs nothing more; a source that goes on failing waits longer each time. A
//! successful login never waits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Delay after a failed login of a source that has not failed much lately. RabbitMQ waits as long.
pub const BASE_DELAY: Duration = Duration::from_secs(3);

/// No failed login is delayed longer than this.
pub const MAX_DELAY: Duration = Duration::from_secs(30);

/// Failures that only wait [`BASE_DELAY`]; each further one doubles the wait.
pub const FAILURES_BEFORE_DOUBLING: u32 = 5;

/// A source that has not failed for this long starts anew.
pub const FORGET_AFTER: Duration = Duration::from_secs(300);

/// How many sources are remembered at most. When there are more, those that failed longest ago are forgotten.
pub const MAX_SOURCES: usize = 20_000;

/// The failed logins of each source address.
///
/// Two generations bound the memory without a search for the oldest: when the young one holds half of
/// [`MAX_SOURCES`] it becomes the old one, and the old one is dropped.
#[derive(Debug, Default)]
pub struct LoginThrottle {
    young: HashMap<IpAddr, Failures>,
    old: HashMap<IpAddr, Failures>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

impl LoginThrottle {
    /// Remembers nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a failed login and says how long to wait before the connection is answered and closed.
    pub fn record_failure(&mut self, source: IpAddr, now: Instant) -> Duration {
        let key = source_key(source);
        let known = self.young.get(&key).or_else(|| self.old.get(&key)).copied();
        let count = match known {
            Some(failures) if now.saturating_duration_since(failures.last) < FORGET_AFTER => {
                failures.count.saturating_add(1)
            }
            _ => 1,
        };
        self.remember(key, Failures { count, last: now });
        delay_of(count)
    }

    /// How many sources are remembered.
    pub fn sources(&self) -> usize {
        self.young.len() + self.old.keys().filter(|key| !self.young.contains_key(*key)).count()
    }

    fn remember(&mut self, key: IpAddr, failures: Failures) {
        if self.young.len() >= MAX_SOURCES / 2 && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, failures);
    }
}

fn delay_of(count: u32) -> Duration {
    let doublings = count.saturating_sub(FAILURES_BEFORE_DOUBLING);
    let factor = 1u32.checked_shl(doublings).unwrap_or(u32::MAX);
    BASE_DELAY.saturating_mul(factor).min(MAX_DELAY)
}

/// One IPv6 host owns a whole /64 and could use a new address for every attempt, so the network counts.
fn source_key(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 => v4,
    }
}
