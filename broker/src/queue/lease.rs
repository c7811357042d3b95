//! A queue that nobody uses for some time is given up as a whole (`x-expires`).
//!
//! It is in use while it has consumers; `basic.get`, a declaration and the end of the last consumer begin its time anew. A queue
//! that may stay unused for ever never asks for the time.

use super::{Queue, QueueMessage, Sink};

/// How long a queue may be unused, and when it was used last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    millis: u64,
    used_millis: u64,
}

impl<M: QueueMessage, C> Queue<M, C> {
    /// Says how long the queue may be unused; `None` is for ever. If that is new, its time begins now.
    pub fn set_expires<S: Sink<M, C> + ?Sized>(&mut self, millis: Option<u64>, sink: &mut S) {
        if self.lease.map(|lease| lease.millis) != millis {
            self.lease = millis.map(|millis| Lease {
                millis,
                used_millis: sink.now_millis(),
            });
        }
    }

    /// Somebody uses the queue now.
    pub fn renew_lease<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        if let Some(lease) = &mut self.lease {
            lease.used_millis = sink.now_millis();
        }
    }

    /// Whether nobody has used the queue for as long as it may be unused.
    pub fn is_abandoned(&self, now_millis: u64) -> bool {
        self.lease_ends().is_some_and(|end| end <= now_millis)
    }

    /// When the queue is given up, if nobody uses it before, in milliseconds since 1970.
    pub(super) fn lease_ends(&self) -> Option<u64> {
        let lease = self.lease.filter(|_| self.consumers.len() == 0)?;
        Some(lease.used_millis.saturating_add(lease.millis))
    }
}
