//! The numbers that name things in the store.

/// One incarnation of a durable queue. A queue that is deleted and declared again under its name is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct QueueId(pub u64);

impl QueueId {
    /// The queue of messages that another one has here only because they do not fit into memory. Nothing of it outlives a
    /// process: see [`Writer::spill`](crate::Writer::spill).
    pub(crate) const fn spill(self) -> QueueId {
        QueueId(self.0 | SPILL)
    }

    pub(crate) const fn is_spill(self) -> bool {
        self.0 & SPILL != 0
    }

    /// The queue whose messages are the bodies that others have in common.
    pub(crate) const BODIES: QueueId = QueueId(1 << 62);

    /// The lowest of all queues of spilled messages; no other is above it.
    pub(crate) const FIRST_SPILL: QueueId = QueueId(SPILL);
}

/// Ids are counted from 1 and never come near this, nor near half of it.
const SPILL: u64 = 1 << 63;

/// The place of a message in its queue. Positions rise, may leave gaps, and are never used twice in one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// A body that several messages refer to. Ids are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyId(pub u64);

impl BodyId {
    /// Its place among all of them.
    pub(crate) fn position(self) -> Position {
        Position(self.0)
    }
}

/// The number of a commit. What was submitted under a ticket is as durable as the fsync setting promises once
/// [`Store::durable`](crate::Store::durable) has reached it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

impl Ticket {
    /// Nothing to wait for.
    pub const NONE: Ticket = Ticket(0);
}

/// A message by its position, and what its body adds to [`QueueContents::body_bytes`](crate::QueueContents::body_bytes). A
/// position alone adds nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weighed {
    /// Its place in the queue.
    pub position: Position,
    /// The same that [`StoreOptions::weigh`](crate::StoreOptions::weigh) said of its payload.
    pub body_bytes: u32,
}

/// What a payload says of its message, without being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// The bytes of its body.
    pub body_bytes: u32,
    /// When it expires, in whatever unit; [`NEVER`] if it does not.
    pub expires_at: u64,
}

/// What does not expire expires then.
pub const NEVER: u64 = u64::MAX;

impl From<u32> for Weight {
    fn from(body_bytes: u32) -> Self {
        Self {
            body_bytes,
            expires_at: NEVER,
        }
    }
}

impl From<Position> for Weighed {
    fn from(position: Position) -> Self {
        Self {
            position,
            body_bytes: 0,
        }
    }
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
