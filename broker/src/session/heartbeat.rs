//! Heartbeats: one is sent after half an interval of silence, and two intervals without a byte end the connection.

use std::time::{Duration, Instant};

/// Deadlines of one connection.
pub struct Heartbeat {
    interval: Option<Duration>,
    last_received: Instant,
    last_sent: Instant,
}

impl Heartbeat {
    /// No heartbeats before they are negotiated.
    pub fn new(now: Instant) -> Heartbeat {
        Heartbeat {
            interval: None,
            last_received: now,
            last_sent: now,
        }
    }

    /// Starts with the negotiated interval; 0 means none.
    pub fn start(&mut self, interval_seconds: u16, now: Instant) {
        self.interval = (interval_seconds > 0).then(|| Duration::from_secs(u64::from(interval_seconds)));
        self.last_received = now;
        self.last_sent = now;
    }

    /// Bytes came in.
    pub fn received(&mut self, now: Instant) {
        self.last_received = now;
    }

    /// Bytes went out.
    pub fn sent(&mut self, now: Instant) {
        self.last_sent = now;
    }

    /// Must a heartbeat go out?
    pub fn is_send_due(&self, now: Instant) -> bool {
        self.interval
            .is_some_and(|interval| now >= self.last_sent + interval / 2)
    }

    /// Has the client been silent for too long?
    pub fn is_missed(&self, now: Instant) -> bool {
        self.interval
            .is_some_and(|interval| now >= self.last_received + 2 * interval)
    }

    /// The next moment at which one of the two may be due.
    pub fn deadline(&self) -> Option<Instant> {
        let interval = self.interval?;
        Some((self.last_sent + interval / 2).min(self.last_received + 2 * interval))
    }

    /// The negotiated interval.
    pub fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// The negotiated interval in seconds, 0 for none.
    pub fn interval_seconds(&self) -> u64 {
        self.interval.map_or(0, |interval| interval.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_due_after_half_an_interval_of_silence() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        assert_eq!(heartbeat.deadline(), None);
        heartbeat.start(10, start);
        assert!(!heartbeat.is_send_due(start + Duration::from_secs(4)));
        assert!(heartbeat.is_send_due(start + Duration::from_secs(5)));
        heartbeat.sent(start + Duration::from_secs(5));
        assert_eq!(heartbeat.deadline(), Some(start + Duration::from_secs(10)));
    }

    #[test]
    fn two_silent_intervals_are_too_many() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        heartbeat.start(10, start);
        assert!(!heartbeat.is_missed(start + Duration::from_secs(19)));
        assert!(heartbeat.is_missed(start + Duration::from_secs(20)));
        heartbeat.received(start + Duration::from_secs(15));
        assert!(!heartbeat.is_missed(start + Duration::from_secs(34)));
    }

    #[test]
    fn an_interval_of_zero_switches_heartbeats_off() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start);
        heartbeat.start(0, start);
        assert!(!heartbeat.is_missed(start + Duration::from_secs(1_000_000)));
        assert_eq!(heartbeat.deadline(), None);
    }
}
