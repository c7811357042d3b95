//! The verbs that change the store.

use std::sync::atomic::Ordering;
use std::time::Instant;

use parking_lot::MutexGuard;

use crate::commit::Shared;
use crate::error::StorageError;
use crate::ids::{BodyId, Position, QueueId, Ticket, Weighed};
use crate::keys::Key;
use crate::log::QueueLog;
use crate::pending::{Pending, State};
use crate::records::{Definition, DefinitionKey};

/// Adds to the pending commit, which it keeps locked: do several things, then [`submit`](Self::submit), and in between do nothing
/// slow and call nothing else of the store, which would wait for this writer. What one writer adds goes into one commit. A
/// dropped writer submits.
///
/// Once the store has failed or closed, a writer takes nothing, and its tickets never become durable.
pub struct Writer<'a> {
    shared: &'a Shared,
    state: MutexGuard<'a, State>,
    /// Somebody will wait: set even by what is refused, so that its ticket is one that never becomes durable.
    urgent: bool,
    /// Nobody waits, but it is to survive the end of this process as soon as may be.
    prompt: bool,
    /// Somebody will wait for more than messages.
    must_sync: bool,
    refusing: bool,
    handed_over: bool,
}

/// Keeps the pending commit from being cut while it lives: everything written meanwhile, through any number of writers, lands in
/// one atomic write, settled messages included.
///
/// Take it before any lock under which a [`Writer`] is taken, keep it briefly, and neither wait for a ticket nor close the store
/// while holding it.
pub struct Hold<'a> {
    shared: &'a Shared,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        let state = shared.state.lock();
        let refusing = state.refusing || state.misuse.is_some();
        Self {
            shared,
            state,
            urgent: false,
            prompt: false,
            must_sync: false,
            refusing,
            handed_over: false,
        }
    }

    /// Appends a message to a durable queue; its payload is the parts, one after the other. Positions must rise within the
    /// queue, and a payload may have up to [`PAYLOAD_BYTES_MAX`]: a caller that breaks this makes the store fail, because a
    /// message that cannot be stored must never be confirmed.
    pub fn append(&mut self, queue: QueueId, position: Position, parts: &[&[u8]]) {
        self.urgent = true;
        self.append_to(queue, position, parts);
    }

    /// Like [`append`](Self::append), for a message whose body others have too: the body is stored once. `known` is what this said
    /// of the body before. Returns what is to be said next time.
    pub fn append_shared(
        &mut self,
        queue: QueueId,
        position: Position,
        [head, body]: [&[u8]; 2],
        known: Option<BodyId>,
    ) -> Option<BodyId> {
        self.urgent = true;
        if !self.may_append(queue, position, head.len() + body.len()) {
            return known;
        }
        let body = Some(self.state.share(body, known));
        self.append_checked(queue, position, body, &[head]);
        body
    }

    /// Keeps a message that does not fit into memory: it can be [read](crate::Store::read_spilled) until it is
    /// [discarded](Self::discard) or the process ends. Nobody can wait for it. Positions must rise, as in
    /// [`append`](Self::append), among the spilled messages of a queue.
    pub fn spill(&mut self, queue: QueueId, position: Position, parts: &[&[u8]]) {
        self.append_to(queue.spill(), position, parts);
        // A little later would do, but what waits is in memory.
        self.prompt |= self.state.pending.bytes >= SPILL_BYTES;
    }

    /// Gives up spilled messages below a position: those of whole chunks, and the rest of them later.
    pub fn discard(&mut self, queue: QueueId, below: Position) {
        let State { queues, pending, .. } = &mut *self.state;
        if let Some(log) = queues.get_mut(&queue.spill()) {
            log.discard(queue.spill(), below, pending);
        }
    }

    fn append_to(&mut self, queue: QueueId, position: Position, parts: &[&[u8]]) {
        if self.may_append(queue, position, parts.iter().map(|part| part.len()).sum()) {
            self.append_checked(queue, position, None, parts);
        }
    }

    fn may_append(&mut self, queue: QueueId, position: Position, length: usize) -> bool {
        if self.refusing {
            return false;
        }
        let log = self.state.queues.entry(queue).or_default();
        if position < log.next || position.0 == u64::MAX {
            let rule = format!("position {position} of queue {queue} is not above all before it");
            self.misused(rule);
        } else if length > PAYLOAD_BYTES_MAX {
            self.misused(format!(
                "a message of {length} bytes is larger than {PAYLOAD_BYTES_MAX}"
            ));
        }
        !self.refusing
    }

    fn append_checked(&mut self, queue: QueueId, position: Position, body: Option<BodyId>, parts: &[&[u8]]) {
        let state = &mut *self.state;
        let Some(log) = state.queues.get_mut(&queue) else {
            return;
        };
        let weight = (self.shared.options.weigh)(parts.first().copied().unwrap_or_default());
        let body_bytes = weight.body_bytes;
        log.append(
            queue,
            Weighed { position, body_bytes },
            body,
            parts,
            self.shared.options.chunk_bytes,
            &mut state.pending,
        );
        log.expires(weight.expires_at);
        state.appended += 1;
    }

    /// Settles a message: acknowledged, expired, dropped, moved. It will not be recovered; should a crash come before the next
    /// commits, it may be. Nobody waits for it. Under a [`Hold`], it goes with the commit that the hold keeps together.
    pub fn settle(&mut self, queue: QueueId, message: impl Into<Weighed>) {
        let strict = self.shared.gate.is_held();
        self.settle_one(queue, message.into(), strict);
    }

    /// Like [`settle`](Self::settle), but somebody waits: it goes with this commit, and [`submit`](Self::submit) gives a ticket
    /// for it.
    pub fn settle_durably(&mut self, queue: QueueId, message: impl Into<Weighed>) {
        self.urgent = true;
        self.must_sync = true;
        self.settle_one(queue, message.into(), true);
    }

    /// Remembers that every message up to and including this position may have been delivered: it is recovered as redelivered.
    /// Written at once, so that it survives a killed process, but not synced: nobody waits for it.
    pub fn delivered(&mut self, queue: QueueId, up_to: Position) {
        if self.refusing {
            return;
        }
        let State { queues, pending, .. } = &mut *self.state;
        if let Some(log) = queues.get_mut(&queue) {
            log.delivered(queue, up_to, pending);
            self.prompt = true;
        }
    }

    /// Remembers how often a message was delivered, until it is settled.
    pub fn requeued(&mut self, queue: QueueId, position: Position, delivery_count: u32) {
        if self.refusing {
            return;
        }
        let State { queues, pending, .. } = &mut *self.state;
        if let Some(log) = queues.get_mut(&queue) {
            log.requeued(queue, position, delivery_count, pending);
        }
    }

    /// Settles all messages below a position, but those listed: the unacked ones of a purged queue. What is left is weighed
    /// right if no message stands at the position or above it.
    pub fn purge<T: Into<Weighed> + Copy>(&mut self, queue: QueueId, below: Position, except: &[T]) {
        self.urgent = true;
        self.must_sync = true;
        if self.refusing {
            return;
        }
        let State {
            queues,
            pending,
            settled,
            ..
        } = &mut *self.state;
        if let Some(log) = queues.get_mut(&queue) {
            let mut except: Vec<Weighed> = except.iter().map(|kept| (*kept).into()).collect();
            except.sort_unstable();
            *settled += log.purge(queue, below, &except, pending);
        }
    }

    /// Removes all messages of a queue. Nothing may be written for this queue any more.
    pub fn delete_queue(&mut self, queue: QueueId) {
        self.urgent = true;
        self.must_sync = true;
        if self.refusing {
            return;
        }
        let State {
            queues,
            pending,
            settled,
            ..
        } = &mut *self.state;
        if let Some(log) = queues.remove(&queue) {
            *settled += log.live;
            log.delete(queue, pending);
        }
    }

    /// Gives up all that a queue has spilled, when the queue itself goes.
    pub fn discard_all(&mut self, queue: QueueId) {
        let State { queues, pending, .. } = &mut *self.state;
        if let Some(log) = queues.remove(&queue.spill()) {
            log.delete(queue.spill(), pending);
        }
    }

    /// Stores a definition, in place of the one with the same key.
    pub fn put(&mut self, definition: &Definition) {
        self.urgent = true;
        self.must_sync = true;
        if self.refusing {
            return;
        }
        if let Definition::Queue(queue) = definition {
            let above = queue.id.0.saturating_add(1);
            let next = self.shared.next_queue_id.fetch_max(above, Ordering::Relaxed).max(above);
            self.state.pending.next_queue_id = Some(next);
        }
        match definition.encode() {
            Ok(value) => {
                let key = Key::Definition(&definition.key()).encode();
                self.state.pending.definitions.push((key, Some(value)));
            }
            Err(error) => self.misused(error.to_string()),
        }
    }

    /// Removes a definition, there or not. For a queue, see also [`delete_queue`](Self::delete_queue).
    pub fn delete(&mut self, key: &DefinitionKey) {
        self.urgent = true;
        self.must_sync = true;
        if self.refusing {
            return;
        }
        self.state
            .pending
            .definitions
            .push((Key::Definition(key).encode(), None));
    }

    /// Hands over what was written, and returns the ticket to wait for. After nothing but settle, delivered and requeued that
    /// is
    /// [`Ticket::NONE`]: they ride along with the next commit, or go by themselves a little later.
    pub fn submit(mut self) -> Ticket {
        self.hand_over()
    }

    pub(crate) fn shared(&self) -> &'a Shared {
        self.shared
    }

    /// What waits for the next commit, of which somebody waits to be synced; unless the store takes nothing any more.
    pub(crate) fn pending_to_sync(&mut self) -> Option<&mut Pending> {
        self.urgent = true;
        self.must_sync = true;
        (!self.refusing).then_some(&mut self.state.pending)
    }

    /// What is known of a queue, unless the store takes nothing any more.
    pub(crate) fn log_mut(&mut self, queue: QueueId) -> Option<&mut QueueLog> {
        self.state.queues.get_mut(&queue).filter(|_| !self.refusing)
    }

    fn settle_one(&mut self, queue: QueueId, message: Weighed, strict: bool) {
        if self.refusing {
            return;
        }
        let State {
            queues,
            pending,
            settled,
            ..
        } = &mut *self.state;
        if let Some(log) = queues.get_mut(&queue) {
            *settled += u64::from(log.settle(queue, message, strict, pending));
        }
    }

    fn hand_over(&mut self) -> Ticket {
        let state = &mut *self.state;
        let ticket = if self.urgent { state.ticket } else { Ticket::NONE };
        if std::mem::replace(&mut self.handed_over, true) || self.refusing {
            return ticket;
        }
        if state.lazy_due.is_none() && !state.pending.is_idle() {
            state.lazy_due = Some(Instant::now() + self.shared.options.lazy_flush);
            self.shared.wake();
        }
        if self.urgent || self.prompt {
            state.pending.urgent = true;
            state.pending.awaited |= self.urgent;
            state.pending.must_sync |= self.must_sync;
            self.shared.note_congestion(state);
            self.shared.wake();
        }
        ticket
    }

    fn misused(&mut self, rule: String) {
        self.state.misuse = Some(StorageError::Misused { rule });
        self.refusing = true;
        self.shared.wake();
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.hand_over();
    }
}

impl<'a> Hold<'a> {
    pub(crate) fn new(shared: &'a Shared) -> Self {
        shared.gate.enter();
        Self { shared }
    }
}

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.shared.gate.leave();
    }
}

/// Spilled messages go to the disk as soon as so much waits.
const SPILL_BYTES: usize = 1 << 20;
/// The largest payload of a message.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;
