//! The only place that reads a clock; everybody else is told the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// This moment, for deadlines.
pub fn now() -> Instant {
    Instant::now()
}

/// Time since 1970, for people.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
