//! What a queue asks of the world: a [`Sink`] is handed to every operation and receives its effects in order.

use super::{ExpiresAt, History, Room};

/// The place of a message in its queue.
///
/// Positions rise with every message, are 64-bit, belong to one queue and are never reused. They are the key under
/// which a durable queue's messages are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// The index of an unacked message inside its queue, which makes settling it O(1).
///
/// Valid only together with the message's [`Position`], because slots are reused.
pub type Slot = u32;

/// The slot of a delivery that needs no acknowledgement.
pub const NO_SLOT: Slot = Slot::MAX;

/// One message on its way to a consumer.
#[derive(Debug)]
pub struct Delivery<'a, M> {
    pub position: Position,
    /// What `ack`, `requeue` and `reject` want to hear again; [`NO_SLOT`] when `no_ack`.
    pub slot: Slot,
    /// Somebody may have seen this message before.
    pub redelivered: bool,
    /// How many earlier deliveries failed.
    pub delivery_count: u32,
    pub message: &'a M,
    /// Taken is as good as acknowledged: the queue keeps nothing.
    pub no_ack: bool,
}

/// A consumer's answer to a [`Delivery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    Taken,
    /// Nothing was taken (outbox full, channel limit reached, flow stopped). The consumer gets nothing more until it
    /// is resumed.
    Refused,
}

/// Why a queue gave up a message that nobody acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// Rejected or nacked without requeue.
    Rejected,
    /// Its deliveries failed more often than the queue allows.
    DeliveryLimit,
    /// Its time to live was over.
    Expired,
    /// The queue was too long, or full.
    MaxLength,
}

/// Messages in the store that a queue wants back: those from `from` up to `until`, which is excluded, that it [wants](Load::wants).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub from: Position,
    pub until: Position,
    /// The first of them, as many as take about so much memory; never none.
    pub bytes: u64,
    pub(super) level: u8,
    pub(super) max_priority: u8,
    pub(super) of: LoadOf,
}

/// What a load is to bring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LoadOf {
    /// Messages that were never handed out.
    #[default]
    Paged,
    /// Messages that came back.
    Stubs,
    /// Messages that were given up, of any level.
    GivenUp,
}

impl Load {
    /// Whether this message is one of them. A queue with priorities wants those of one level and leaves the others where they are.
    pub fn wants<M: super::QueueMessage>(&self, message: &M) -> bool {
        message.priority().min(self.max_priority) == self.level
    }

    /// The same load, bringing no more than the queue may hold now: other queues may have taken the room since it was asked for. With
    /// priorities some of what is read may be of others, so there it stays as it is.
    pub fn fit(self, room: Room) -> Load {
        let most = if self.max_priority == 0 {
            room.load_bytes()
        } else {
            self.bytes
        };
        let bytes = self.bytes.min(most);
        Load { bytes, ..self }
    }
}

/// What became of a [`Load`].
#[derive(Debug)]
pub struct Loaded<M> {
    /// In rising order of position.
    pub messages: Vec<(Position, History, M)>,
    /// All that can be had below here are in `messages`. Must be above the load's `from`.
    pub until: Position,
}

/// What a queue wants to know of its paged messages: which of those from `from` up to `until`, which is excluded, have expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    pub from: Position,
    pub until: Position,
    /// The time.
    pub now_millis: u64,
}

/// What became of a [`Search`].
#[derive(Debug)]
pub struct Found<M> {
    pub search: Search,
    /// Messages that have expired, as many as were found for now.
    pub messages: Vec<(Position, M)>,
    /// When to search again: when the next of them expires. The highest number is never.
    pub next_millis: u64,
}

/// The receiver of a queue's effects. Called while the queue's lock is held, in the order in which things happen.
pub trait Sink<M, C> {
    /// The time, in milliseconds since 1970, the same throughout an operation. Only asked when something may expire.
    fn now_millis(&mut self) -> u64;

    /// Hands one message to a consumer. On refusal nothing was taken and the queue marks the consumer as stalled
    /// until it is resumed.
    fn deliver(&mut self, consumer: &C, delivery: Delivery<'_, M>) -> Accept;

    /// The message must outlive a crash. Called in rising order of position, once per persistent message of a durable
    /// queue, while the message is the last one drawn from the iterator given to `publish`. Not called for a message
    /// that went straight to a `no_ack` consumer: it is settled already. It comes back with the same time of expiry.
    fn persist(&mut self, position: Position, message: &M, expires_at: ExpiresAt);

    /// The queue keeps no message here, because it has more than memory allows. It is not persisted, and must come back by
    /// [`load`](Self::load) as long as the process lives. Called in the same order as [`persist`](Self::persist).
    fn spill(&mut self, position: Position, message: &M, expires_at: ExpiresAt);

    /// The queue wants messages back that are in the store only. Somebody reads them, and hands them to
    /// [`Queue::loaded`](super::Queue::loaded). Of paged messages, of those that came back, and of those that were given up, there is
    /// one load at a time, but for those that nobody waits for any more.
    fn load(&mut self, load: Load);

    /// Paged messages have expired. Somebody finds them, and hands them to [`Queue::found`](super::Queue::found). There is one search
    /// at a time.
    fn search(&mut self, search: Search);

    /// A spilled message that was not loaded is gone for good.
    fn settle_spilled(&mut self, position: Position, message: &M);
    /// A consumer has not settled this delivery in time: it is its own no more, and nothing that it says of it from now on means
    /// anything.
    fn late(&mut self, consumer: &C, slot: Slot, position: Position);

    /// A persisted message with so large a body is gone for good: acknowledged or dropped.
    fn settle(&mut self, position: Position, body_len: usize);

    /// All messages below a position are gone for good, persisted and spilled ones, but the `kept` ones, which are unacked. They
    /// are persisted, and come in rising order with the size of their body.
    fn purge(&mut self, below: Position, kept: Vec<(Position, usize)>);

    /// At most once per operation: the highest persisted position handed out against acknowledgement so far has
    /// risen. After a crash everything up to here that is not settled counts as redelivered.
    fn delivered_up_to(&mut self, position: Position);

    /// A persisted message went back to its place, with this count of failed deliveries.
    fn requeued(&mut self, position: Position, delivery_count: u32);

    /// The queue gave up a message (which is settled already, if it was persisted): the place where dead-lettering
    /// begins.
    fn dropped(&mut self, message: M, reason: DropReason);
}
