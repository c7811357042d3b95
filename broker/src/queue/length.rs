//! How long a queue may get, and what happens to what is too much.
//!
//! What counts is ready, in memory and on disk; messages that are handed out do not count. Of a queue that drops its head
//! the oldest leave, of the lowest priority first, one that refuses takes no new ones as long as it is full. The oldest may have to be loaded first: until then the
//! queue is longer than it should be.

use super::arguments::Overflow;
use super::{DropReason, Queue, QueueMessage, Sink};

/// The limits of a queue; `None` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LengthLimit {
    /// Ready messages.
    pub messages: Option<u64>,
    /// Bytes of their bodies.
    pub bytes: Option<u64>,
    /// What happens to what is too much.
    pub overflow: Overflow,
}

impl LengthLimit {
    /// Whether there is any limit.
    pub fn is_some(&self) -> bool {
        self.messages.is_some() || self.bytes.is_some()
    }
}

impl<M: QueueMessage, C> Queue<M, C> {
    /// Limits the length from now on. What is too long already is cut at once, unless the queue refuses instead.
    pub fn limit_length<S: Sink<M, C> + ?Sized>(&mut self, limit: LengthLimit, sink: &mut S) {
        self.length_limit = Some(limit).filter(LengthLimit::is_some);
        self.cut_to_length(sink);
    }

    /// Drops what is too long.
    pub fn cut_to_length<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        if !self.deleted {
            self.drop_overflow(sink);
            self.finish(sink);
        }
    }

    /// Whether the queue has no room for a message. If that is to be dead-lettered, it is given up.
    #[inline]
    pub(super) fn refuses(&mut self, message: &M) -> bool {
        self.length_limit
            .is_some_and(|limit| self.refuses_beyond(limit, message))
    }

    #[inline(never)]
    fn refuses_beyond(&mut self, limit: LengthLimit, message: &M) -> bool {
        if limit.overflow == Overflow::DropHead || !self.exceeds(&limit, 1, message.body_len() as u64) {
            return false;
        }
        if limit.overflow == Overflow::RejectPublishDlx {
            self.put_refused_aside(message.clone());
        }
        true
    }

    /// Gives up the oldest ready messages as long as there are too many.
    #[inline]
    pub(super) fn drop_overflow<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        if let Some(limit) = self.length_limit.filter(|limit| limit.overflow == Overflow::DropHead) {
            self.drop_beyond(&limit, sink);
        }
    }

    /// Out of line: most queues have no limit, and every message comes past this.
    #[inline(never)]
    fn drop_beyond<S: Sink<M, C> + ?Sized>(&mut self, limit: &LengthLimit, sink: &mut S) {
        while self.exceeds(limit, 0, 0) {
            let Some(oldest) = self.ready.pop_lowest() else {
                return self.ask_for_load_of_lowest(sink);
            };
            let expired = super::expiry::has_expired(oldest.history.expires_at, sink);
            let reason = if expired {
                DropReason::Expired
            } else {
                DropReason::MaxLength
            };
            self.put_aside(oldest.position, oldest.message, reason);
        }
    }

    fn exceeds(&self, limit: &LengthLimit, more_messages: u64, more_bytes: u64) -> bool {
        let messages = self.ready.len() as u64 + more_messages;
        let bytes = self.ready.body_bytes() + more_bytes;
        limit.messages.is_some_and(|most| messages > most) || limit.bytes.is_some_and(|most| bytes > most)
    }
}
