//! Keeps the pending commit from being cut while holds live, without ever making a hold and the commit thread wait for each
//! other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// Counts the holds.
///
/// Locks: the gate's own lock is the innermost of the store, taken after that of the state. While the commit thread waits for
/// holds to end, it has no lock at all, so those that hold can finish what they are doing.
#[derive(Default)]
pub(crate) struct Gate {
    inner: Mutex<Holds>,
    /// A cut was made: new holds may begin.
    opened: Condvar,
    /// The last hold ended.
    released: Condvar,
    /// The number of holds, to be read without the lock.
    count: AtomicUsize,
}

#[derive(Default)]
pub(crate) struct Holds {
    count: usize,
    /// The commit thread waits for its turn: new holds let it go first.
    cutting: bool,
}

impl Gate {
    /// Begins a hold.
    pub(crate) fn enter(&self) {
        let mut holds = self.inner.lock();
        let deadline = Instant::now() + PATIENCE;
        // The commit thread's turn takes microseconds. If it has to wait for a hold of which this one is part (one taken within
        // another), going on is right, and only slow.
        while holds.cutting && !self.opened.wait_until(&mut holds, deadline).timed_out() {}
        holds.count += 1;
        self.count.store(holds.count, Ordering::Relaxed);
    }

    /// Ends a hold.
    pub(crate) fn leave(&self) {
        let mut holds = self.inner.lock();
        holds.count -= 1;
        self.count.store(holds.count, Ordering::Relaxed);
        if holds.count == 0 {
            self.released.notify_one();
        }
    }

    /// Whether any hold lives.
    pub(crate) fn is_held(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Waits until no hold lives, and keeps new ones waiting. Another may come before [`close`](Self::close) all the same.
    pub(crate) fn wait_for_turn(&self) {
        let mut holds = self.inner.lock();
        holds.cutting = true;
        while holds.count > 0 {
            self.released.wait(&mut holds);
        }
    }

    /// Keeps holds out as long as the guard lives, if none lives now. The caller has locked the state.
    pub(crate) fn close(&self) -> Option<MutexGuard<'_, Holds>> {
        let holds = self.inner.lock();
        (holds.count == 0).then_some(holds)
    }

    /// Lets holds begin again.
    pub(crate) fn open(&self, mut holds: MutexGuard<'_, Holds>) {
        holds.cutting = false;
        drop(holds);
        self.opened.notify_all();
    }
}

/// How long a new hold lets the commit thread go first.
const PATIENCE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_within_a_hold_goes_on_although_the_commit_thread_waits() {
        let gate = Gate::default();
        gate.enter();
        std::thread::scope(|scope| {
            let turn = scope.spawn(|| gate.wait_for_turn());
            while !gate.inner.lock().cutting {
                std::thread::yield_now();
            }
            gate.enter();
            assert!(gate.close().is_none());
            gate.leave();
            gate.leave();
            turn.join().unwrap();
        });
        let holds = gate.close().unwrap();
        gate.open(holds);
        gate.enter();
        assert!(gate.is_held());
    }
}
