//! Where the messages of a queue are, and how many of them outlive a restart.
//!
//! All of it is added up as messages come and leave, so asking costs nothing and a message costs no memory for it.

use super::{Queue, QueueMessage};

/// Messages, and the bytes of their bodies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub messages: usize,
    pub bytes: u64,
}

/// Where messages are. A message that is handed out counts as long as nobody has settled it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whereabouts {
    /// Ready or handed out, and stored so that they outlive a restart, wherever else they are.
    pub persistent: Amount,
    /// Ready, and in memory.
    pub ready_in_memory: Amount,
    /// Handed out, and in memory.
    pub unacked_in_memory: Amount,
    /// Ready, and on disk only.
    pub paged_out: Amount,
}

impl Amount {
    /// One more, with a body of so many bytes.
    pub(super) fn add(&mut self, body_len: usize) {
        self.messages += 1;
        self.bytes += body_len as u64;
    }

    /// One less.
    pub(super) fn take(&mut self, body_len: usize) {
        self.messages = self.messages.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(body_len as u64);
    }

    /// What is left of it without some others.
    pub(super) fn without(self, others: Amount) -> Amount {
        Amount {
            messages: self.messages.saturating_sub(others.messages),
            bytes: self.bytes.saturating_sub(others.bytes),
        }
    }

    /// Both together.
    pub fn plus(self, others: Amount) -> Amount {
        Amount {
            messages: self.messages + others.messages,
            bytes: self.bytes + others.bytes,
        }
    }
}

impl Whereabouts {
    /// Ready or handed out, and in memory.
    pub fn in_memory(&self) -> Amount {
        self.ready_in_memory.plus(self.unacked_in_memory)
    }

    /// Of two queues together.
    pub fn plus(self, other: Whereabouts) -> Whereabouts {
        Whereabouts {
            persistent: self.persistent.plus(other.persistent),
            ready_in_memory: self.ready_in_memory.plus(other.ready_in_memory),
            unacked_in_memory: self.unacked_in_memory.plus(other.unacked_in_memory),
            paged_out: self.paged_out.plus(other.paged_out),
        }
    }
}

impl<M: QueueMessage, C> Queue<M, C> {
    /// Where its messages are at this moment.
    pub fn whereabouts(&self) -> Whereabouts {
        let counts = self.counts();
        let amount = |messages, bytes| Amount { messages, bytes };
        let (ready, unacked) = (
            amount(counts.ready, counts.ready_bytes),
            amount(counts.unacked, counts.unacked_bytes),
        );
        let paged_out = self.ready.paged().plus(self.waiting.on_disk());
        Whereabouts {
            persistent: self.persistent,
            ready_in_memory: ready.without(paged_out),
            unacked_in_memory: unacked.without(self.unacked.on_disk()),
            paged_out,
        }
    }
}
