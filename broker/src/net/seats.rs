//! The connections over HTTP that there may be at once. When all seats are taken, whoever sits there longest without asking for anything
//! has to leave: idle or slow clients keep nobody out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::clock;

/// While all seats are taken, one more has to leave after each such time.
const CLEAR_INTERVAL: Duration = Duration::from_millis(100);
/// Between two lines of the log that say so.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// All seats.
pub struct Seats {
    free: Arc<Semaphore>,
    idle: Mutex<Idle>,
}

/// Who has a seat and asks for nothing.
#[derive(Default)]
struct Idle {
    /// In the order in which they became idle.
    seats: BTreeMap<u64, Arc<Notify>>,
    last: u64,
    complained: Option<Instant>,
}

/// The place of one connection, until it is dropped.
pub struct Seat {
    seats: Arc<Seats>,
    /// Its place among the idle ones.
    number: AtomicU64,
    works: AtomicBool,
    leave: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

/// A request is worked on.
pub struct Work(Arc<Seat>);

impl Seats {
    /// So many.
    pub fn new(count: usize) -> Arc<Seats> {
        Arc::new(Seats {
            free: Arc::new(Semaphore::new(count)),
            idle: Mutex::default(),
        })
    }

    /// A seat, as soon as there is one.
    pub async fn take(self: &Arc<Self>) -> Arc<Seat> {
        loop {
            let free = self.free.clone().acquire_owned();
            if let Ok(Ok(permit)) = timeout(self.patience(), free).await {
                let seat = Arc::new(Seat {
                    seats: self.clone(),
                    number: AtomicU64::new(0),
                    works: AtomicBool::new(true),
                    leave: Arc::default(),
                    _permit: permit,
                });
                seat.rest();
                return seat;
            }
            self.send_one_away();
        }
    }

    fn patience(&self) -> Duration {
        match self.free.available_permits() {
            0 => CLEAR_INTERVAL,
            _ => Duration::MAX,
        }
    }

    fn send_one_away(&self) {
        let mut idle = self.idle.lock();
        if let Some((_, leave)) = idle.seats.pop_first() {
            leave.notify_one();
        }
        let now = clock::now();
        let is_due = |told: Instant| now.saturating_duration_since(told) >= COMPLAINT_INTERVAL;
        if idle.complained.is_none_or(is_due) {
            idle.complained = Some(now);
            tracing::warn!("all connections over HTTP are taken; those that ask for nothing are closed");
        }
    }
}

impl Seat {
    /// It is worked for until this is dropped.
    pub fn work(self: &Arc<Self>) -> Work {
        self.works.store(true, Ordering::Relaxed);
        self.leave_idle();
        Work(self.clone())
    }

    /// Whether it is worked for.
    pub fn works(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }

    /// Returns when somebody else needs the seat more.
    pub async fn is_needed(&self) {
        self.leave.notified().await;
    }

    fn rest(&self) {
        let mut idle = self.seats.idle.lock();
        idle.last += 1;
        let number = idle.last;
        idle.seats.insert(number, self.leave.clone());
        self.number.store(number, Ordering::Relaxed);
        self.works.store(false, Ordering::Relaxed);
    }

    fn leave_idle(&self) {
        let number = self.number.load(Ordering::Relaxed);
        self.seats.idle.lock().seats.remove(&number);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave_idle();
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.0.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    }

    #[test]
    fn who_asked_for_nothing_longest_leaves_and_who_is_worked_for_stays() {
        runtime().block_on(async {
            let seats = Seats::new(3);
            let (first, second, third) = (seats.take().await, seats.take().await, seats.take().await);
            let work = first.work();
            let newcomer = tokio::spawn({
                let seats = seats.clone();
                async move { seats.take().await }
            });
            second.is_needed().await;
            assert!(first.works() && !second.works() && !third.works());
            drop(second);
            let newcomer = newcomer.await.unwrap();
            // The first is the last in the row now.
            drop(work);
            assert_eq!(seats.idle.lock().seats.len(), 3);
            seats.send_one_away();
            third.is_needed().await;
            seats.send_one_away();
            newcomer.is_needed().await;
            seats.send_one_away();
            first.is_needed().await;
            drop((first, third, newcomer));
            assert!(seats.idle.lock().seats.is_empty());
            assert_eq!(seats.free.available_permits(), 3);
        });
    }
}
