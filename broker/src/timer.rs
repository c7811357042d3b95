//! The one timer of all virtual hosts: it lets them deliver delayed messages, and calls queues that have something to do
//! by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::broker::Broker;
use crate::clock;

/// The system's clock may be set while the task sleeps, so it looks at it at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Tells the time that outlives a restart, and wakes the task when something may be due earlier than it knows.
#[derive(Default)]
pub struct Timer {
    earlier: Notify,
    ahead_millis: AtomicU64,
}

impl Timer {
    /// Lets the task look again.
    pub fn wake(&self) {
        self.earlier.notify_one();
    }

    /// Milliseconds since 1970.
    pub fn now_millis(&self) -> u64 {
        unix_millis().saturating_add(self.ahead_millis.load(Ordering::Relaxed))
    }

    /// Sets its time so far ahead of the clock. For simulations, in which no task runs.
    pub fn set_ahead(&self, duration: Duration) {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.ahead_millis.store(millis, Ordering::Relaxed);
    }
}

/// Does what is due for as long as the broker runs.
pub async fn run(broker: Arc<Broker>) {
    let timer = broker.timer.clone();
    loop {
        let now_millis = timer.now_millis();
        let vhosts = broker.vhosts();
        let done: usize = vhosts.iter().map(|vhost| vhost.do_what_is_due(now_millis)).sum();
        if done > 0 {
            // There may be more; connections get their turn in between.
            tokio::task::yield_now().await;
            continue;
        }
        let due_millis = vhosts.iter().filter_map(|vhost| vhost.next_due_millis()).min();
        let wait = due_millis.map(|due| Duration::from_millis(due.saturating_sub(timer.now_millis())));
        let notified = timer.earlier.notified();
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
