//! What a queue does when its time has come: messages whose time to live is over leave it.
//!
//! An expired message is never handed out. What is in memory leaves when it has expired, wherever it stands: a message that
//! lives longer does not shield those behind it. A queue in which nothing expires never asks for the time.

use std::num::NonZeroU64;

use super::kept::Kept;
use super::leaving::Place;
use super::ready::Entry;
use super::{DropReason, Found, Queue, QueueMessage, Search, Sink};

/// So many expired messages leave in one operation, before others have their turn.
const EXPIRED_BATCH_MESSAGES: usize = 4096;

/// When a message expires, in milliseconds since 1970; `None` is never.
pub type ExpiresAt = Option<NonZeroU64>;

impl<M: QueueMessage, C> Queue<M, C> {
    /// Says how long messages live that are published from now on. What a message itself asks for counts if it is less.
    pub fn set_message_ttl(&mut self, millis: Option<u64>) {
        self.message_ttl_millis = millis;
    }

    /// When the queue has something to do by itself, in milliseconds since 1970: the time to call [`Queue::do_what_is_due`]. The
    /// highest number is never.
    pub fn next_due_millis(&self) -> u64 {
        if self.has_given_up() {
            return 0;
        }
        let others = self.next_return_millis().into_iter().chain(self.lease_ends());
        others.fold(self.ready.expires(), u64::min)
    }

    /// Does what the queue has to do by itself by now, or some of it.
    pub fn do_what_is_due<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        if self.deleted {
            return;
        }
        let now = sink.now_millis();
        for _ in 0..EXPIRED_BATCH_MESSAGES {
            let Some(entry) = self.ready.take_expired(now) else {
                break;
            };
            self.put_aside_from(Place::Here, entry.position, entry.message, DropReason::Expired);
        }
        if let Some(search) = self.ready.next_search(now) {
            sink.search(search);
        }
        self.return_what_is_due(now, sink);
        self.drop_overflow(sink);
        self.dispatch(sink);
    }

    /// Takes the answer to [`Sink::search`]. It must be followed by [`Queue::release_given_up`] before anything else is done with the
    /// queue. False if the answer came at a bad time; the search is asked for again.
    pub fn found<S: Sink<M, C> + ?Sized>(&mut self, found: Found<M>, sink: &mut S) -> bool {
        if self.deleted {
            return false;
        }
        let (messages, is_complete) = self.ready.found(found);
        for (position, message) in messages {
            self.put_aside_from(Place::Paged, position, Kept::Memory(message), DropReason::Expired);
        }
        self.dispatch(sink);
        is_complete
    }

    /// Whether an answer to this search is wanted.
    pub fn waits_for(&self, search: &Search) -> bool {
        self.ready.waits_for(search)
    }

    /// When a message that is published now expires.
    pub(super) fn expiry_of<S: Sink<M, C> + ?Sized>(&self, message: &M, sink: &mut S) -> ExpiresAt {
        let millis = match (message.time_to_live_millis(), self.message_ttl_millis) {
            (None, None) => return None,
            (Some(own), Some(of_queue)) => own.min(of_queue),
            (Some(millis), None) | (None, Some(millis)) => millis,
        };
        NonZeroU64::new(sink.now_millis().saturating_add(millis))
    }

    /// Gives up what has expired at the head of the queue, so that what is there then may be handed out.
    pub(super) fn give_up_expired_head<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        while let Some(expires_at) = self.ready.peek().and_then(|entry| entry.history.expires_at)
            && has_expired(Some(expires_at), sink)
            && let Some(Entry { position, message, .. }) = self.ready.pop()
        {
            self.put_aside(position, message, DropReason::Expired);
        }
    }
}

/// Whether the time of a message is over.
pub(super) fn has_expired<M, C, S: Sink<M, C> + ?Sized>(expires_at: ExpiresAt, sink: &mut S) -> bool {
    expires_at.is_some_and(|at| at.get() <= sink.now_millis())
}
