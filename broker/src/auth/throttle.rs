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

/// Refused logins of one source that may wait for their answer at once; while so many do, others are not looked at.
pub const WAITING_MAX: u32 = 8;

/// The failed logins of each source address.
///
/// Two generations bound the memory without a search for the oldest: when the young one holds half of
/// [`MAX_SOURCES`] it becomes the old one, and the old one is dropped.
#[derive(Debug, Default)]
pub struct LoginThrottle {
    young: HashMap<IpAddr, Failures>,
    old: HashMap<IpAddr, Failures>,
    /// How many refused logins of each source wait: as many in all as there are connections.
    waiting: HashMap<IpAddr, u32>,
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

    /// Forgets who failed, but not who waits.
    pub fn forget(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// A refused login begins to wait.
    pub fn begin_wait(&mut self, source: IpAddr) {
        *self.waiting.entry(source_key(source)).or_default() += 1;
    }

    /// It has waited, or its client is gone.
    pub fn end_wait(&mut self, source: IpAddr) {
        let key = source_key(source);
        let left = self.waiting.get(&key).map_or(0, |waiting| waiting.saturating_sub(1));
        match left {
            0 => drop(self.waiting.remove(&key)),
            _ => drop(self.waiting.insert(key, left)),
        }
    }

    /// Do so many refused logins of the source wait that no further one is looked at?
    pub fn is_flooded(&self, source: IpAddr) -> bool {
        self.waiting
            .get(&source_key(source))
            .is_some_and(|waiting| *waiting >= WAITING_MAX)
    }

    /// Has the source failed lately?
    pub fn has_failed(&self, source: IpAddr, now: Instant) -> bool {
        let key = source_key(source);
        let known = self.young.get(&key).or_else(|| self.old.get(&key));
        known.is_some_and(|failures| now.saturating_duration_since(failures.last) < FORGET_AFTER)
    }

    /// How often each source failed, those with the most failures first.
    pub fn failures(&self, now: Instant) -> Vec<(IpAddr, u32)> {
        let forgotten = self.old.iter().filter(|(key, _)| !self.young.contains_key(*key));
        let recent = self.young.iter().chain(forgotten).filter(|(_, failures)| {
            let age = now.saturating_duration_since(failures.last);
            age < FORGET_AFTER
        });
        let mut listed: Vec<_> = recent.map(|(key, failures)| (*key, failures.count)).collect();
        listed.sort_by_key(|(key, count)| (std::cmp::Reverse(*count), *key));
        listed
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

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_failures_wait_as_in_rabbitmq_and_further_ones_longer() {
        let mut throttle = LoginThrottle::new();
        let now = Instant::now();
        let delays: Vec<u64> = (0..10)
            .map(|_| throttle.record_failure(source("10.0.0.1"), now).as_secs())
            .collect();
        assert_eq!(delays, [3, 3, 3, 3, 3, 6, 12, 24, 30, 30]);
        assert!(!throttle.has_failed(source("10.0.0.2"), now));
        assert_eq!(throttle.record_failure(source("10.0.0.2"), now), BASE_DELAY);
        assert!(throttle.has_failed(source("10.0.0.2"), now));
        assert!(!throttle.has_failed(source("10.0.0.2"), now + FORGET_AFTER));
    }

    #[test]
    fn the_delay_stays_at_its_bound_however_often_a_source_fails() {
        assert_eq!(delay_of(40), MAX_DELAY);
        assert_eq!(delay_of(u32::MAX), MAX_DELAY);
    }

    #[test]
    fn a_source_that_pauses_starts_anew() {
        let mut throttle = LoginThrottle::new();
        let now = Instant::now();
        for _ in 0..7 {
            throttle.record_failure(source("10.0.0.1"), now);
        }
        let just_before = now + FORGET_AFTER - Duration::from_secs(1);
        assert_eq!(throttle.record_failure(source("10.0.0.1"), just_before).as_secs(), 24);
        assert_eq!(
            throttle.record_failure(source("10.0.0.1"), just_before + FORGET_AFTER),
            BASE_DELAY
        );
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let mut throttle = LoginThrottle::new();
        let now = Instant::now();
        for host in 1..=5 {
            throttle.record_failure(source(&format!("2001:db8::{host}")), now);
        }
        assert_eq!(
            throttle.record_failure(source("2001:db8::ffff:0:0:9"), now).as_secs(),
            6
        );
        assert_eq!(throttle.record_failure(source("2001:db8:0:1::1"), now), BASE_DELAY);
    }

    #[test]
    fn an_ipv4_address_is_one_source_in_both_notations() {
        let mut throttle = LoginThrottle::new();
        let now = Instant::now();
        throttle.record_failure(source("10.0.0.1"), now);
        throttle.record_failure(source("::ffff:10.0.0.1"), now);
        assert_eq!(throttle.sources(), 1);
    }

    #[test]
    fn a_source_with_many_refused_logins_waiting_is_not_looked_at() {
        let mut throttle = LoginThrottle::new();
        let (flooding, other) = (source("10.0.0.1"), source("10.0.0.2"));
        for _ in 0..WAITING_MAX {
            assert!(!throttle.is_flooded(flooding));
            throttle.begin_wait(flooding);
        }
        assert!(throttle.is_flooded(flooding) && !throttle.is_flooded(other));
        throttle.end_wait(flooding);
        assert!(!throttle.is_flooded(flooding));
        for _ in 0..WAITING_MAX {
            throttle.end_wait(flooding);
        }
        assert!(throttle.waiting.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_the_stubborn_are_remembered() {
        let mut throttle = LoginThrottle::new();
        let now = Instant::now();
        let stubborn = source("192.0.2.1");
        let mut delay = Duration::ZERO;
        for number in 0..3 * u32::try_from(MAX_SOURCES).unwrap() {
            throttle.record_failure(IpAddr::V4((0x0a00_0000 + number).into()), now);
            if number % 5_000 == 0 {
                delay = throttle.record_failure(stubborn, now);
            }
        }
        assert!(throttle.sources() <= MAX_SOURCES);
        assert_eq!(delay, MAX_DELAY);
    }
}
