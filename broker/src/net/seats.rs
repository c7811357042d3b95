//! The connections over HTTP that there may be at once, and what their answers may take of memory. When all seats are taken, whoever sits
//! there longest without asking for anything has to leave; when answers take too much, whoever takes longest to read one: idle or slow
//! clients keep nobody out.

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
    answers: Mutex<Answers>,
    answer_bytes_max: usize,
}

/// Answers that their clients have not taken yet.
#[derive(Default)]
struct Answers {
    /// In the order in which they were made: how many bytes, and who has to leave for the room.
    held: BTreeMap<u64, (usize, Arc<Notify>)>,
    bytes: usize,
    last: u64,
}

/// An answer that its client takes, until it is dropped.
pub struct Held {
    seats: Arc<Seats>,
    number: u64,
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
    /// So many, with so many bytes of answers that wait for their clients.
    pub fn new(count: usize, answer_bytes_max: usize) -> Arc<Seats> {
        Arc::new(Seats {
            free: Arc::new(Semaphore::new(count)),
            idle: Mutex::default(),
            answers: Mutex::default(),
            answer_bytes_max,
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

    /// Its client is about to be sent an answer of so many bytes. There is always room for it: those leave that have taken theirs for
    /// longest.
    pub fn hold(&self, bytes: usize) -> Held {
        let mut answers = self.seats.answers.lock();
        while answers.bytes.saturating_add(bytes) > self.seats.answer_bytes_max {
            let Some((_, (freed, leave))) = answers.held.pop_first() else {
                break;
            };
            answers.bytes -= freed;
            leave.notify_one();
        }
        answers.last += 1;
        answers.bytes += bytes;
        let number = answers.last;
        answers.held.insert(number, (bytes, self.leave.clone()));
        Held {
            seats: self.seats.clone(),
            number,
        }
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

impl Drop for Held {
    fn drop(&mut self) {
        let mut answers = self.seats.answers.lock();
        if let Some((bytes, _)) = answers.held.remove(&self.number) {
            answers.bytes -= bytes;
        }
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
            let seats = Seats::new(3, 0);
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

    #[test]
    fn who_takes_longest_to_read_makes_room_for_the_next_answer() {
        runtime().block_on(async {
            let seats = Seats::new(3, 100);
            let (first, second, third) = (seats.take().await, seats.take().await, seats.take().await);
            let slow = first.hold(60);
            let quick = second.hold(40);
            drop(quick);
            let other = second.hold(30);
            assert_eq!(seats.answers.lock().bytes, 90);
            let newest = third.hold(20);
            first.is_needed().await;
            assert_eq!(seats.answers.lock().bytes, 50);
            // One that is larger than all may be has the room for itself.
            let huge = first.hold(1000);
            second.is_needed().await;
            third.is_needed().await;
            assert_eq!(seats.answers.lock().bytes, 1000);
            drop((slow, other, newest, huge));
            let answers = seats.answers.lock();
            assert!(answers.bytes == 0 && answers.held.is_empty());
        });
    }
}
