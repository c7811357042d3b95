//! The task that delivers delayed messages when their time has come.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::broker::Broker;
use crate::clock;

/// The system's clock may be set while the task sleeps, so it looks at it at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Wakes the task when a message may be due earlier than it knows.
#[derive(Default)]
pub struct DelayTimer(Notify);

impl DelayTimer {
    /// Lets the task look again.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// Delivers delayed messages for as long as the broker runs.
pub async fn run(broker: Arc<Broker>) {
    loop {
        let now_millis = unix_millis();
        let vhosts = broker.vhosts();
        let delivered: usize = vhosts.iter().map(|vhost| vhost.deliver_due(now_millis)).sum();
        if delivered > 0 {
            // There may be more; connections get their turn in between.
            tokio::task::yield_now().await;
            continue;
        }
        let due_millis = vhosts.iter().filter_map(|vhost| vhost.next_due_millis()).min();
        let wait = due_millis.map(|due| Duration::from_millis(due.saturating_sub(unix_millis())));
        let notified = broker.delay_timer.0.notified();
        match wait {
            Some(wait) => drop(tokio::time::timeout(wait.min(LONGEST_SLEEP), notified).await),
            None => notified.await,
        }
    }
}

/// Milliseconds since 1970.
pub fn unix_millis() -> u64 {
    u64::try_from(clock::unix_time().as_millis()).unwrap_or(u64::MAX)
}
