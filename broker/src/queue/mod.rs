//! One queue as a pure state machine: order, consumers, credit, settling.
//!
//! A [`Queue`] does no I/O, reads no clock and starts no task. It lives behind a mutex; whoever has work for it takes
//! the lock, hands in a whole batch and gets the effects through a [`Sink`] while the lock is held, which keeps the
//! order that each consumer sees.
//!
//! A message is in exactly one of three places: ready, unacked, or gone. Between two operations one of these holds:
//! nothing is ready, no consumer can take anything, or the next message is being loaded. Therefore a message published to
//! an empty queue goes straight to a consumer and a message published to a non-empty queue goes straight to the end.
//!
//! What is ready beyond [`Queue::allow`] is *paged*: it is in the store, by [`Sink::persist`] or [`Sink::spill`], and
//! comes back by [`Sink::load`] and [`Queue::loaded`] when its turn comes.

mod argument_table;
mod argument_values;
mod arguments;
mod behind;
mod consumer_arguments;
mod consumers;
mod dispatch;
mod effective;
mod equivalence;
mod erlang_term;
mod expiry;
mod fresh;
mod kept;
mod lease;
mod leaving;
mod length;
mod levels;
mod ready;
mod retry;
mod settle;
mod single_active;
mod sink;
#[cfg(test)]
mod tests;
mod unacked;
mod whereabouts;

use thiserror::Error;

use self::consumers::Consumers;
use self::kept::Kept;
use self::lease::Lease;
use self::leaving::Leaving;
use self::levels::Levels;
use self::retry::{Timeouts, Waiting};
use self::sink::LoadOf;
use self::unacked::Unacked;

pub use self::argument_table::{ByPolicy, PolicyArgument, Support, altered_arguments, known_arguments};
pub use self::argument_values::{MAX_EXPIRY_MS, integer};
pub use self::arguments::{
    ArgumentError, DeadLetterStrategy, DelayedRetry, InvalidReason, Overflow, QueueArguments, QueueType,
    STREAM_ARGUMENTS, dead_letter_exchange,
};
pub use self::consumer_arguments::ConsumerArguments;
pub use self::consumers::{Activity, ConsumerKey, ConsumerSpec, ConsumerView};
pub use self::dispatch::{GetOutcome, Got, PublishOutcome};
pub use self::effective::EffectiveArguments;
pub use self::equivalence::{Difference, QueueProperties, differences};
pub use self::expiry::ExpiresAt;
pub use self::length::LengthLimit;
pub use self::ready::History;
pub use self::retry::RetryDelay;
pub use self::settle::Deleted;
pub use self::sink::{Accept, Delivery, DropReason, Found, Load, Loaded, NO_SLOT, Position, Search, Sink, Slot};
pub use self::whereabouts::{Amount, Whereabouts};

/// What a queue needs to know about a message; the message itself is a handle that is cheap to clone.
///
/// The answers must not change while the queue has the message.
pub trait QueueMessage: Clone {
    /// Bytes of body, as the length limits and the metrics count them.
    fn body_len(&self) -> usize;

    /// Whether the message asks to survive a restart (delivery mode 2).
    fn is_persistent(&self) -> bool;

    /// The priority property; 0 when absent.
    fn priority(&self) -> u8;

    /// Bytes of memory that the message keeps alive, shared or not.
    fn memory_size(&self) -> usize;

    /// How long it wants to live in a queue; `None` is for ever.
    fn time_to_live_millis(&self) -> Option<u64>;
}

/// What a queue is told when it is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueOptions {
    /// Persistent messages are handed to [`Sink::persist`].
    pub durable: bool,
    /// Only one of its consumers gets messages, and another one when that leaves.
    pub single_active_consumer: bool,
    /// Messages of higher priorities, up to this one, leave first.
    pub max_priority: u8,
    /// The first position to give out; after a restart, higher than any position ever persisted.
    pub first_position: Position,
}

/// Memory that the ready messages of a queue may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub bytes: u64,
    /// What of it a message may take that is on disk anyway.
    pub persisted_bytes: u64,
}

/// Persisted messages may take one in so many parts of what a queue may hold.
pub const PERSISTED_PART: u64 = 4;

impl Room {
    /// What a load brings at once.
    fn load_bytes(self) -> u64 {
        self.persisted_bytes.clamp(LOAD_BYTES_MIN, LOAD_BYTES_MAX)
    }

    /// There is not even as much as a load brings, because there are so many queues.
    fn is_short(self) -> bool {
        self.persisted_bytes < LOAD_BYTES_MIN
    }
}

/// A load asks for so much, and the next is asked for when less than this is left, if the queue may hold it: enough for
/// consumers to be busy with while the next is read.
const LOAD_BYTES_MAX: u64 = 2 << 20;
/// A load asks for so much, however little the queue may hold.
const LOAD_BYTES_MIN: u64 = 4 << 10;

impl From<u64> for Room {
    fn from(bytes: u64) -> Self {
        Self {
            bytes,
            persisted_bytes: bytes / PERSISTED_PART,
        }
    }
}

/// The queue was deleted after the caller looked it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the queue was deleted")]
pub struct QueueGone;

/// Why a consumer was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConsumeError {
    /// There is an exclusive consumer, or an exclusive one is asked for while there are others or may be.
    #[error("the queue is in exclusive use")]
    InExclusiveUse,
    #[error(transparent)]
    Gone(#[from] QueueGone),
}

/// What became of a consumer's removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedConsumer<C> {
    pub handle: C,
    /// No consumer is left. An auto-delete queue goes now.
    pub was_last: bool,
}

/// The present size of a queue. Reading it costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ready: usize,
    /// Ready messages that are in the store only.
    pub paged: usize,
    pub unacked: usize,
    pub consumers: usize,
    /// Bytes of the bodies of ready messages.
    pub ready_bytes: u64,
    /// Bytes of the bodies of unacked messages.
    pub unacked_bytes: u64,
    /// Bytes of memory kept alive by all messages that are in memory.
    pub memory_bytes: u64,
}

impl Counts {
    /// Of two queues together.
    pub fn plus(self, other: Counts) -> Counts {
        Counts {
            ready: self.ready + other.ready,
            paged: self.paged + other.paged,
            unacked: self.unacked + other.unacked,
            consumers: self.consumers + other.consumers,
            ready_bytes: self.ready_bytes + other.ready_bytes,
            unacked_bytes: self.unacked_bytes + other.unacked_bytes,
            memory_bytes: self.memory_bytes + other.memory_bytes,
        }
    }

    /// Do the consumers take at once what arrives? What waits, waits because none of them can take it.
    pub fn consumers_keep_up(&self) -> bool {
        self.consumers > 0 && self.ready == 0
    }
}

/// What happened in a queue since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub published: u64,
    pub delivered: u64,
    pub delivered_no_ack: u64,
    pub got: u64,
    pub got_no_ack: u64,
    /// Asked for when there was nothing.
    pub got_nothing: u64,
    /// Deliveries and gets with the redelivered flag; counted above too.
    pub redelivered: u64,
    pub acked: u64,
    pub requeued: u64,
    /// Given up because a consumer rejected them, or failed once too often.
    pub rejected: u64,
    pub purged: u64,
    /// Left because their time to live was over.
    pub expired: u64,
    /// Left because the queue was too long.
    pub overflowed: u64,
    /// Messages that came from the store.
    pub disk_reads: u64,
    /// Messages that went to the store.
    pub disk_writes: u64,
}

/// One queue. `M` is a handle of a message, `C` the broker's handle of a consumer, into which the queue never looks.
pub struct Queue<M, C> {
    ready: Levels<M>,
    unacked: Unacked<M>,
    consumers: Consumers<C>,
    durable: bool,
    /// Those of them, ready or unacked, that outlive a restart.
    persistent: Amount,
    deleted: bool,
    next_position: Position,
    /// The highest persisted position handed out against acknowledgement, and whether the sink knows it.
    delivered_up_to: Option<Position>,
    delivered_up_to_is_news: bool,
    /// Memory that ready messages may take.
    room: Room,
    /// A message is given up when its deliveries failed more often than this; the highest number is no limit.
    delivery_limit: u32,
    /// How long messages may live here.
    message_ttl_millis: Option<u64>,
    /// Which messages wait before they are delivered again, and those that do.
    retry_delay: RetryDelay,
    waiting: Waiting<M>,
    /// How long consumers may have a message, and which ones they have.
    consumer_timeout_millis: Option<u64>,
    /// The queue or a consumer says how long, or once did.
    may_be_late: bool,
    lease: Option<Lease>,
    timeouts: Option<Box<Timeouts>>,
    /// Messages on their way out.
    given_up: Option<Box<Leaving<M>>>,
    wants_dead_letters: bool,
    length_limit: Option<LengthLimit>,
    /// A ready message left in the operation that is under way.
    handed_out: bool,
    totals: Totals,
}

/// What a store has of a queue at a start; of a queue with priorities, of one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// No message stands before this.
    pub from: Position,
    /// All messages stand before this.
    pub until: Position,
    pub count: usize,
    pub body_bytes: u64,
    /// When the first of them expires, if any does.
    pub expires_at: ExpiresAt,
    /// The highest position that may have been handed out.
    pub delivered_up_to: Option<Position>,
    /// The priority of all of them, not above the highest of the queue.
    pub priority: u8,
}

impl<M: QueueMessage, C> Queue<M, C> {
    pub fn new(options: QueueOptions) -> Self {
        Self {
            ready: Levels::new(options.max_priority),
            unacked: Unacked::new(),
            consumers: Consumers::new(options.single_active_consumer),
            durable: options.durable,
            persistent: Amount::default(),
            deleted: false,
            next_position: options.first_position,
            delivered_up_to: None,
            delivered_up_to_is_news: false,
            room: Room::from(u64::MAX),
            delivery_limit: u32::MAX,
            message_ttl_millis: None,
            retry_delay: RetryDelay::default(),
            waiting: Waiting::new(),
            consumer_timeout_millis: None,
            may_be_late: false,
            lease: None,
            timeouts: None,
            given_up: None,
            wants_dead_letters: false,
            length_limit: None,
            handed_out: false,
            totals: Totals::default(),
        }
    }

    /// Takes back persisted messages at start-up, before anything else happens to the queue. All of them are paged.
    pub fn recover(&mut self, recovered: Recovered) {
        let Recovered {
            from,
            until,
            count,
            body_bytes,
            expires_at,
            delivered_up_to,
            priority,
        } = recovered;
        if count > 0 {
            self.ready.page(priority, from, until, count, body_bytes, expires_at);
            let found = Amount {
                messages: count,
                bytes: body_bytes,
            };
            self.persistent = self.persistent.plus(found);
        }
        self.delivered_up_to = self.delivered_up_to.max(delivered_up_to);
        self.next_position = self.next_position.max(until);
    }

    /// Says how much memory ready messages may take from now on. More than that is paged; what is in memory stays there.
    pub fn allow(&mut self, room: impl Into<Room>) {
        self.room = room.into();
    }

    /// Says how many deliveries of a message may fail; with one more it is given up. `None` is without limit.
    pub fn limit_deliveries(&mut self, limit: Option<u64>) {
        self.delivery_limit = limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(u32::MAX);
    }

    /// Adds a consumer, which gets its first message when [`Queue::resume`] is called, so that consume-ok can go
    /// first.
    pub fn add_consumer(&mut self, spec: ConsumerSpec<C>) -> Result<ConsumerKey, ConsumeError> {
        if self.deleted {
            return Err(QueueGone.into());
        }
        let is_shared = self.consumers.len() > 0 || self.consumers.has_single_active();
        if self.consumers.has_exclusive() || (spec.exclusive && is_shared) {
            return Err(ConsumeError::InExclusiveUse);
        }
        self.may_be_late |= spec.timeout_millis.is_some();
        Ok(self.consumers.add(spec))
    }

    /// Starts a new consumer, or lets one that refused a message have messages again.
    pub fn resume<S: Sink<M, C> + ?Sized>(&mut self, key: ConsumerKey, sink: &mut S) {
        self.resume_all([key], sink);
    }

    /// Resumes several consumers before any of them gets a message, so that they take turns.
    pub fn resume_all<S: Sink<M, C> + ?Sized>(&mut self, keys: impl IntoIterator<Item = ConsumerKey>, sink: &mut S) {
        let mut any = false;
        for key in keys {
            any |= self.consumers.resume(key);
        }
        if any {
            self.dispatch(sink);
        }
    }

    /// Removes a consumer. Its unacked messages stay with its channel, which settles or requeues them. `None` when it
    /// is not there (any more). Where only one is active, the next one gets messages at once.
    pub fn remove_consumer<S>(&mut self, key: ConsumerKey, sink: &mut S) -> Option<RemovedConsumer<C>>
    where
        S: Sink<M, C> + ?Sized,
    {
        let handle = self.consumers.remove(key)?;
        self.renew_lease(sink);
        if self.consumers.has_single_active() {
            self.dispatch(sink);
        }
        Some(RemovedConsumer {
            handle,
            was_last: self.consumers.len() == 0,
        })
    }

    pub fn counts(&self) -> Counts {
        Counts {
            ready: self.ready.len() + self.waiting.len(),
            paged: self.ready.paged_len(),
            unacked: self.unacked.len(),
            consumers: self.consumers.len(),
            ready_bytes: self.ready.body_bytes() + self.waiting.body_bytes(),
            unacked_bytes: self.unacked.body_bytes(),
            memory_bytes: self.memory_bytes(),
        }
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Bytes of memory kept alive by all messages that are in memory.
    pub fn memory_bytes(&self) -> u64 {
        self.ready.memory_bytes() + self.waiting.memory_bytes() + self.unacked.memory_bytes()
    }

    /// Whether the message that leaves next has to be loaded first.
    pub fn is_head_paged(&self) -> bool {
        self.ready.is_head_paged()
    }

    /// The ready message that leaves next, if it is in memory.
    pub fn head(&self) -> Option<&M> {
        self.ready.peek().map(|entry| entry.message)
    }

    /// The position before which nothing is in the store only.
    pub fn first_paged(&self) -> Option<Position> {
        self.ready.first_paged()
    }

    /// An outstanding message with its history, to be sent again to the consumer that has it; if it is in memory.
    pub fn unacked_message(&self, slot: Slot, position: Position) -> Option<(&M, History)> {
        self.unacked.get(slot, position)
    }

    /// Whether a consumer was ever added: an auto-delete queue waits for its first one.
    pub fn had_consumers(&self) -> bool {
        self.consumers.had_any()
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    pub fn is_durable(&self) -> bool {
        self.durable
    }

    /// The position that the next message gets.
    pub fn next_position(&self) -> Position {
        self.next_position
    }

    pub fn consumer(&self, key: ConsumerKey) -> Option<ConsumerView<'_, C>> {
        self.consumers.view(key)
    }

    pub fn consumers(&self) -> impl Iterator<Item = ConsumerView<'_, C>> {
        self.consumers.views()
    }

    /// The consumer that is active where only one may be.
    pub fn single_active_consumer(&self) -> Option<ConsumerView<'_, C>> {
        self.consumers.single_active()
    }

    fn is_persisted(&self, message: &M) -> bool {
        self.durable && message.is_persistent()
    }

    fn is_kept_persisted(&self, kept: &Kept<M>) -> bool {
        match kept {
            Kept::Memory(message) => self.is_persisted(message),
            Kept::Disk(_) => true,
        }
    }
}
