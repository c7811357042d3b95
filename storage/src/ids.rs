//! The numbers that name things in the store.

/// One incarnation of a durable queue. A queue that is deleted and declared again under its name is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct QueueId(pub u64);

/// The place of a message in its queue. Positions rise, may leave gaps, and are never used twice in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// The number of a commit. What was submitted under a ticket is as durable as the fsync setting promises once
/// [`Store::durable`](crate::Store::durable) has reached it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Nothing to wait for.
    pub const NONE: Ticket = Ticket(0);
}

impl Position {
    /// The position after this one.
    pub(crate) fn next(self) -> Position {
        Position(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for QueueId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
