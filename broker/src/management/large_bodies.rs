//! The turns of large bodies: few at once, and of one user fewer than there are, so that whoever sends slowly leaves some to
//! others.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Large bodies held at once; of others no more is read than of small ones.
const LARGE_BODIES_MAX: usize = 4;
/// Of these, those of one user.
const LARGE_BODIES_OF_USER_MAX: usize = 2;

/// All turns.
pub struct LargeBodies {
    all: Arc<Semaphore>,
    of_users: Mutex<HashMap<String, OfUser>>,
}

/// The turns of one user, as long as somebody has one or waits for it.
struct OfUser {
    turns: Arc<Semaphore>,
    requests: usize,
}

/// A body may be read whole until this is dropped.
pub struct Turn<'a> {
    _all: OwnedSemaphorePermit,
    _of_user: OwnedSemaphorePermit,
    _request: Asking<'a>,
}

/// A request that has a turn or waits for one.
struct Asking<'a> {
    bodies: &'a LargeBodies,
    user: String,
}

impl LargeBodies {
    /// Nobody has a turn.
    pub fn new() -> LargeBodies {
        LargeBodies {
            all: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
            of_users: Mutex::default(),
        }
    }

    /// The next turn of a user.
    pub async fn turn(&self, user: &str) -> Result<Turn<'_>, AcquireError> {
        let (turns, request) = self.ask(user);
        // The turns of all come last: who waits for his own takes none from others.
        let of_user = turns.acquire_owned().await?;
        let all = self.all.clone().acquire_owned().await?;
        Ok(Turn {
            _all: all,
            _of_user: of_user,
            _request: request,
        })
    }

    fn ask(&self, user: &str) -> (Arc<Semaphore>, Asking<'_>) {
        let mut of_users = self.of_users.lock();
        let of_user = of_users.entry(user.to_owned()).or_insert_with(|| OfUser {
            turns: Arc::new(Semaphore::new(LARGE_BODIES_OF_USER_MAX)),
            requests: 0,
        });
        of_user.requests += 1;
        let request = Asking {
            bodies: self,
            user: user.to_owned(),
        };
        (of_user.turns.clone(), request)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut of_users = self.bodies.of_users.lock();
        if let Some(of_user) = of_users.get_mut(&self.user) {
            of_user.requests -= 1;
            if of_user.requests == 0 {
                of_users.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// What a future has at once.
    fn now<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_user_who_takes_all_that_he_may_leaves_some_to_others() {
        let bodies = LargeBodies::new();
        let mut held: Vec<_> = (0..2).map(|_| now(bodies.turn("slow")).unwrap().unwrap()).collect();
        assert!(now(bodies.turn("slow")).is_none(), "who has two waits");
        held.push(now(bodies.turn("quick")).unwrap().unwrap());
        held.push(now(bodies.turn("other")).unwrap().unwrap());
        assert!(now(bodies.turn("late")).is_none(), "four are all");
        held.remove(0);
        assert!(now(bodies.turn("late")).is_some());
        held.clear();
        assert!(
            bodies.of_users.lock().is_empty(),
            "nothing is kept of users who are done"
        );
    }
}
