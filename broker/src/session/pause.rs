//! Why a session takes no input for a while, and how it goes on: mostly a reply that waits for the disk.

use std::time::Instant;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::Get;
use leveret_storage::Ticket;

use super::Session;
use super::flow::FlowPause;
use crate::protocol::error::AmqpError;
use crate::protocol::method;
use crate::protocol::reply_code::ReplyCode;

/// Bytes of answers that may wait for a client before it is not read any more.
const UNSENT_ANSWERS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why no input is taken for now.
pub(super) enum Pause {
    /// A reply waits for the commit that makes it true.
    Commit { ticket: Ticket, replies: Vec<u8> },
    /// A login is being checked.
    Login,
    /// The store has more waiting than it should; publishers wait for the next commit.
    Congestion,
    /// The message that basic.get asks for is being read from disk.
    Load { channel: u16, get: Get },
    /// The client has to read its answers first.
    Unsent,
    /// Consumers of what it publishes come first.
    Flow(FlowPause),
}

impl Session {
    /// Replies once `durable` is on disk: at once if it is, else the session pauses until then.
    pub(super) fn reply_when_durable(&mut self, channel: u16, method: Option<AMQPClass>, durable: Option<Ticket>) {
        let Some(ticket) = durable.filter(|ticket| *ticket > self.broker.store.durable()) else {
            if let Some(method) = method {
                self.reply(channel, method);
            }
            return;
        };
        let Some(method) = method else { return };
        let mut replies = Vec::new();
        method::encode_method(&mut replies, channel, &method);
        self.pause = Some(Pause::Commit { ticket, replies });
    }

    /// Takes no more input while the client has too much to read. For methods whose answers are much larger than
    /// themselves: many of them fit into one `receive`.
    pub(super) fn pause_for_reader(&mut self) {
        if self.pause.is_none() && self.outbox.lock().bytes_waiting() >= UNSENT_ANSWERS_BYTES_MAX {
            self.pause = Some(Pause::Unsent);
        }
    }

    /// The store committed, or failed.
    pub(super) fn commit_happened(&mut self, now: Instant) {
        let durable = self.broker.store.durable();
        if self.broker.store.failed().is_some() {
            let error = AmqpError::new(ReplyCode::InternalError, "the message store has failed");
            return self.fail_connection(now, error);
        }
        match self.pause.take() {
            Some(Pause::Commit { ticket, replies }) if ticket <= durable => {
                self.outbox.lock().bytes_mut().extend_from_slice(&replies);
            }
            Some(Pause::Congestion) if !self.broker.store.is_congested() => {}
            other => self.pause = other,
        }
        self.watching_commits = false;
        self.emit_confirms();
        self.watch_commits();
    }

    /// Asks the store to wake this connection as long as something waits for a commit.
    pub(super) fn watch_commits(&mut self) {
        let waits = matches!(self.pause, Some(Pause::Commit { .. } | Pause::Congestion)) || self.has_unconfirmed();
        if !waits || self.watching_commits {
            return;
        }
        self.watching_commits = true;
        self.broker.store.wake_on_commit(self.commit_listener.clone());
        // What was committed between the last look and the registration would wake nobody.
        if self.can_go_on() || self.broker.store.failed().is_some() {
            self.commit_listener.committed();
        }
    }

    /// Is something that waits for a commit served by what is durable already?
    fn can_go_on(&self) -> bool {
        let store = &self.broker.store;
        match &self.pause {
            Some(Pause::Commit { ticket, .. }) if *ticket <= store.durable() => true,
            Some(Pause::Congestion) if !store.is_congested() => true,
            _ => self.has_answerable_confirms(store.durable()),
        }
    }
}
