//! Messages on their way in and out: publish, page and load, hand to consumers, basic.get.

use super::consumers::{ConsumerKey, Taker};
use super::expiry::has_expired;
use super::kept::{Kept, Sizes, Stub};
use super::ready::Entry;
use super::unacked::UnackedMessage;
use super::{
    Amount, Delivery, DropReason, History, Load, LoadOf, Loaded, NO_SLOT, Position, Queue, QueueGone, QueueMessage,
    Sink, Slot,
};

/// A queue that pages goes on doing so until it has less than one in so many parts of what persisted messages may take.
const RESUME_PART: u64 = 2;

/// What became of a batch of published messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOutcome {
    /// Messages that the queue took. A deleted queue takes none and rejects none: its messages are dropped and count
    /// as confirmed.
    pub accepted: usize,
    /// Indices in the batch of messages that a full queue refused, in rising order; their publishers get a
    /// basic.nack.
    pub rejected: Vec<usize>,
}

/// The answer to basic.get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got<M> {
    pub position: Position,
    /// [`NO_SLOT`] when `no_ack`.
    pub slot: Slot,
    pub redelivered: bool,
    /// How many earlier deliveries failed.
    pub delivery_count: u32,
    pub message: M,
    /// Ready messages left after this one.
    pub ready: usize,
}

/// What basic.get finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GetOutcome<M> {
    Empty,
    Got(Got<M>),
    /// The next message is being loaded: ask again when [`Queue::loaded`] was called.
    Loading,
}

impl<M: QueueMessage, C> Queue<M, C> {
    /// Enqueues a batch. One message is wholly dealt with (see [`Sink::persist`]) before the next is drawn from the
    /// iterator.
    pub fn publish<S>(&mut self, messages: impl IntoIterator<Item = M>, sink: &mut S) -> PublishOutcome
    where
        S: Sink<M, C> + ?Sized,
    {
        let mut outcome = PublishOutcome::default();
        if self.deleted {
            return outcome;
        }
        for (index, message) in messages.into_iter().enumerate() {
            if self.refuses(&message) {
                outcome.rejected.push(index);
                continue;
            }
            self.publish_one(message, sink);
            outcome.accepted += 1;
        }
        self.totals.published += outcome.accepted as u64;
        if self.ready.has_higher() {
            // Those who wait for a load can have what has come before it.
            self.dispatch(sink);
        } else {
            self.finish(sink);
        }
        outcome
    }

    /// Takes the next message for basic.get. Prefetch limits and consumers do not matter here.
    pub fn get<S>(&mut self, no_ack: bool, sink: &mut S) -> Result<GetOutcome<M>, QueueGone>
    where
        S: Sink<M, C> + ?Sized,
    {
        if self.deleted {
            return Err(QueueGone);
        }
        self.renew_lease(sink);
        self.give_up_expired_head(sink);
        let slot = if no_ack {
            Some(NO_SLOT)
        } else {
            self.unacked.vacant_slot()
        };
        let (Some(slot), Some(entry)) = (slot, self.ready.pop()) else {
            if self.ready.is_head_paged() {
                self.ask_for_load(sink);
                return Ok(GetOutcome::Loading);
            }
            self.totals.got_nothing += 1;
            return Ok(GetOutcome::Empty);
        };
        let Entry {
            position,
            history,
            message,
        } = entry;
        let got = Got {
            position,
            slot,
            redelivered: history.redelivered,
            delivery_count: history.delivery_count,
            message: message.clone(),
            ready: self.ready.len(),
        };
        self.handed_out = true;
        self.totals.redelivered += u64::from(history.redelivered);
        if no_ack {
            self.totals.got_no_ack += 1;
            self.settle_if_persisted(position, &message, sink);
        } else {
            self.totals.got += 1;
            self.keep_unacked(position, message, history, None, sink);
        }
        self.finish(sink);
        Ok(GetOutcome::Got(got))
    }

    /// Takes back what [`Sink::load`] asked for, and hands it out. What nobody waits for any more is dropped.
    pub fn loaded<S: Sink<M, C> + ?Sized>(&mut self, load: Load, loaded: Loaded<M>, sink: &mut S) {
        if self.deleted {
            return;
        }
        self.totals.disk_reads += loaded.messages.len() as u64;
        if load.of == LoadOf::GivenUp {
            return self.loaded_given_up(load, loaded);
        }
        let before = self.all_ready();
        if self.ready.loaded(load, loaded) {
            // What could not be read: which of it would have outlived a restart nobody can tell, so all of it, as far as there is any.
            self.persistent = self.persistent.without(before.without(self.all_ready()));
            self.drop_overflow(sink);
            self.dispatch(sink);
        }
    }

    /// Hands out ready messages while there are consumers that take them.
    pub(super) fn dispatch<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        while let Some(taker) = self.offer_head(sink) {
            let Some(Entry {
                position,
                history,
                message,
            }) = self.ready.pop()
            else {
                break;
            };
            self.handed_out = true;
            self.count_delivery(taker, history);
            match taker {
                Taker::NoAck => self.settle_if_persisted(position, &message, sink),
                Taker::Settles(consumer) => self.keep_unacked(position, message, history, Some(consumer), sink),
            }
        }
        self.finish(sink);
    }

    /// Ends every operation: what is said once per batch is said, what will soon be needed is asked for, what grew too big is
    /// given back.
    pub(super) fn finish<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        let leaving = std::mem::take(&mut self.handed_out);
        if self.ready.is_paging() && self.wants_load(leaving) {
            self.ask_for_load(sink);
        }
        if std::mem::take(&mut self.delivered_up_to_is_news)
            && let Some(position) = self.delivered_up_to
        {
            sink.delivered_up_to(position);
        }
        self.ready.release_spare_memory();
        self.unacked.release_spare_memory(self.room);
        if self.timeouts.as_ref().is_some_and(|timeouts| timeouts.is_empty()) {
            self.timeouts = None;
        }
    }

    /// While messages leave, the next are loaded. A queue from which nothing leaves has all that it may hold. One that may hold next
    /// to nothing, because there are so many, loads nothing ahead of consumers who cannot take it: all together that would be much.
    fn wants_load(&self, leaving: bool) -> bool {
        let takes = self.consumers.any_in_turn();
        let may_load_ahead = !self.room.is_short() || self.consumers.len() == 0;
        (leaving && (takes || may_load_ahead)) || (takes && self.ready.is_head_paged())
    }

    /// A message is gone for good.
    pub(super) fn settle_if_persisted<S>(&mut self, position: Position, message: &M, sink: &mut S)
    where
        S: Sink<M, C> + ?Sized,
    {
        if self.is_persisted(message) {
            self.settle_persisted(position, message.body_len(), sink);
        }
    }

    #[inline]
    pub(super) fn settle_kept<S: Sink<M, C> + ?Sized>(&mut self, position: Position, kept: &Kept<M>, sink: &mut S) {
        match kept {
            Kept::Memory(message) => self.settle_if_persisted(position, message, sink),
            Kept::Disk(stub) => self.settle_persisted(position, stub.body_len as usize, sink),
        }
    }

    fn settle_persisted<S: Sink<M, C> + ?Sized>(&mut self, position: Position, body_len: usize, sink: &mut S) {
        self.persistent.take(body_len);
        sink.settle(position, body_len);
    }

    fn all_ready(&self) -> Amount {
        Amount {
            messages: self.ready.len(),
            bytes: self.ready.body_bytes(),
        }
    }

    /// What to keep of a message that was handed out: no more than its place, if what was handed out takes too much memory and it is
    /// on disk anyway.
    #[inline]
    pub(super) fn keep(&self, message: M, memory_size: u64) -> Kept<M> {
        let handed_out = self.unacked.memory_bytes() + self.waiting.memory_bytes() + memory_size;
        let reads_letters = self.given_up.as_ref().is_some_and(|leaving| leaving.is_reading());
        if handed_out <= self.room.persisted_bytes && !reads_letters {
            return Kept::Memory(message);
        }
        self.keep_place(message)
    }

    #[cold]
    #[inline(never)]
    fn keep_place(&self, message: M) -> Kept<M> {
        match u32::try_from(message.body_len()) {
            Ok(body_len) if self.is_persisted(&message) => Kept::Disk(Stub {
                body_len,
                level: self.ready.level_of(&message),
            }),
            _ => Kept::Memory(message),
        }
    }

    pub(super) fn ask_for_load<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        let bytes = self.room.load_bytes();
        if let Some(load) = self.ready.next_load(bytes) {
            sink.load(load);
        }
    }

    pub(super) fn ask_for_load_of_lowest<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        let bytes = self.room.load_bytes();
        if let Some(load) = self.ready.next_load_of_lowest(bytes) {
            sink.load(load);
        }
    }

    fn publish_one<S: Sink<M, C> + ?Sized>(&mut self, message: M, sink: &mut S) {
        let position = self.next_position;
        self.next_position = Position(position.0 + 1);
        let taker = if self.ready.is_empty() {
            self.offer_new(position, &message, sink)
        } else {
            None
        };
        if let Some(taker) = taker {
            self.count_delivery(taker, History::default());
        }
        if taker == Some(Taker::NoAck) {
            return;
        }
        let history = History {
            expires_at: self.expiry_of(&message, sink),
            ..History::default()
        };
        let persisted = self.is_persisted(&message);
        if persisted {
            sink.persist(position, &message, history.expires_at);
            self.persistent.add(message.body_len());
            self.totals.disk_writes += 1;
        }
        match taker {
            Some(Taker::Settles(consumer)) => self.keep_unacked(position, message, history, Some(consumer), sink),
            Some(Taker::NoAck) | None if has_expired(history.expires_at, sink) => {
                // It is in the store until it is released, and no load must bring it.
                self.ready.end_stretch(self.ready.level_of(&message));
                self.put_aside(position, message, DropReason::Expired);
            }
            Some(Taker::NoAck) | None if self.must_page(persisted, &message) => {
                if !persisted {
                    sink.spill(position, &message, history.expires_at);
                    self.totals.disk_writes += 1;
                }
                let (level, body_bytes) = (self.ready.level_of(&message), message.body_len() as u64);
                let until = self.next_position;
                self.ready
                    .page(level, position, until, 1, body_bytes, history.expires_at);
            }
            Some(Taker::NoAck) | None => self.ready.push(position, message, history.expires_at),
        }
        if taker.is_none() {
            self.drop_overflow(sink);
        }
    }

    /// A message that is on disk anyway is paged sooner than one that would have to be written for it; but behind a paged
    /// message both are treated alike, else there would be as many stretches as messages where they alternate.
    fn must_page(&self, persisted: bool, message: &M) -> bool {
        let allowed_bytes = match (self.ready.ends_paged(self.ready.level_of(message)), persisted) {
            (true, _) => self.room.persisted_bytes / RESUME_PART,
            (false, true) => self.room.persisted_bytes,
            (false, false) => self.room.bytes,
        };
        self.ready.memory_bytes() + message.memory_size() as u64 > allowed_bytes
    }

    fn offer_new<S: Sink<M, C> + ?Sized>(&mut self, position: Position, message: &M, sink: &mut S) -> Option<Taker> {
        let slot = self.unacked.vacant_slot()?;
        let delivery = Delivery {
            position,
            slot,
            redelivered: false,
            delivery_count: 0,
            message,
            no_ack: false,
        };
        self.consumers.offer(&delivery, sink)
    }

    fn offer_head<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) -> Option<Taker> {
        if self.ready.peek()?.history.expires_at.is_some() {
            self.give_up_expired_head(sink);
        }
        let Entry {
            position,
            history,
            message,
        } = self.ready.peek()?;
        let slot = self.unacked.vacant_slot()?;
        let History {
            redelivered,
            delivery_count,
            ..
        } = history;
        let delivery = Delivery {
            position,
            slot,
            redelivered,
            delivery_count,
            message,
            no_ack: false,
        };
        self.consumers.offer(&delivery, sink)
    }

    fn keep_unacked<S: Sink<M, C> + ?Sized>(
        &mut self,
        position: Position,
        message: M,
        history: History,
        consumer: Option<ConsumerKey>,
        sink: &mut S,
    ) {
        if self.may_be_late
            && let Some(millis) = consumer.and_then(|consumer| self.millis_to_settle(consumer))
            && let Some(slot) = self.unacked.vacant_slot()
        {
            let late_at = sink.now_millis().saturating_add(millis);
            let timeouts = self.timeouts.get_or_insert_default();
            timeouts.insert(late_at, position, slot);
        }
        if self.is_persisted(&message) && self.delivered_up_to < Some(position) {
            self.delivered_up_to = Some(position);
            self.delivered_up_to_is_news = true;
        }
        let sizes = Sizes::of(&message);
        let (kept, sizes) = match self.keep(message, sizes.memory) {
            kept @ Kept::Memory(_) => (kept, sizes),
            kept @ Kept::Disk(_) => (kept, Sizes { memory: 0, ..sizes }),
        };
        let entry = UnackedMessage {
            kept,
            position,
            consumer,
            history,
        };
        self.unacked.insert(entry, sizes);
    }

    fn count_delivery(&mut self, taker: Taker, history: History) {
        match taker {
            Taker::NoAck => self.totals.delivered_no_ack += 1,
            Taker::Settles(_) => self.totals.delivered += 1,
        }
        self.totals.redelivered += u64::from(history.redelivered);
    }
}
