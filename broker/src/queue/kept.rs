//! A message that was handed out once, as the queue keeps it: whole, or as a place on disk.
//!
//! What was handed out and is on disk anyway need not stay in memory until it is settled: most of it is acknowledged, and then
//! only its size matters. What comes back instead stands at its place in the queue as a *stub* and is read again when its turn comes.

use super::ready::Apart;
use super::sink::LoadOf;
use super::{History, Load, Position, QueueMessage};

/// Stubs are read together if there are no more positions than this from one to the next: what stands between them is read in vain.
const GAP_POSITIONS_MAX: u64 = 64;

#[derive(Debug)]
pub(super) enum Kept<M> {
    Memory(M),
    /// A persisted message.
    Disk(Stub),
}

/// What is known of a message that is on disk only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stub {
    pub(super) body_len: u32,
    /// Its level in the queue.
    pub(super) level: u8,
}

/// What a message takes.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// Bytes of its body, wherever that is.
    pub(super) body: u64,
    /// Bytes of memory.
    pub(super) memory: u64,
}

impl Sizes {
    #[inline]
    pub(super) fn of(message: &impl QueueMessage) -> Self {
        Self {
            body: message.body_len() as u64,
            memory: message.memory_size() as u64,
        }
    }
}

impl<M: QueueMessage> Kept<M> {
    #[inline]
    pub(super) fn sizes(&self) -> Sizes {
        match self {
            Kept::Memory(message) => Sizes::of(message),
            Kept::Disk(stub) => Sizes {
                body: stub.body_len.into(),
                memory: 0,
            },
        }
    }

    pub(super) fn body_len(&self) -> usize {
        match self {
            Kept::Memory(message) => message.body_len(),
            Kept::Disk(stub) => stub.body_len as usize,
        }
    }

    pub(super) fn message(&self) -> Option<&M> {
        match self {
            Kept::Memory(message) => Some(message),
            Kept::Disk(_) => None,
        }
    }
}

/// What is known of the stubs of one level that are ready, which stand among the messages that came back.
pub(super) struct Stubs {
    count: usize,
    body_bytes: u64,
    /// None stands before this.
    from: Position,
    loading: Option<Load>,
}

impl Stubs {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            body_bytes: 0,
            from: Position(u64::MAX),
            loading: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// There are none, and none are being read.
    pub(super) fn is_idle(&self) -> bool {
        self.count == 0 && self.loading.is_none()
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub(super) fn count_in(&mut self, position: Position, stub: Stub) {
        self.count += 1;
        self.body_bytes += u64::from(stub.body_len);
        self.from = self.from.min(position);
    }

    pub(super) fn count_out(&mut self, stub: Stub) {
        self.count -= 1;
        self.body_bytes -= u64::from(stub.body_len);
    }

    /// The load of the first of them, unless one is under way.
    pub(super) fn next_load<M>(&mut self, apart: &Apart<M>, bytes: u64) -> Option<Load> {
        if self.loading.is_some() {
            return None;
        }
        let mut stubs = stubs(apart.range(self.from..)).peekable();
        self.from = stubs.peek().map_or(self.from, |(position, _)| *position);
        let load = load_of(stubs, bytes);
        self.loading = load.map(|load| Load {
            of: LoadOf::Stubs,
            ..load
        });
        self.loading
    }

    /// Whether this load was asked for and nothing has made it useless.
    pub(super) fn waits_for(&self, load: Load) -> bool {
        self.loading
            .is_some_and(|awaited| awaited.from == load.from && awaited.until == load.until)
    }

    /// Ends a load that brought all below a position. False if nobody waits for it any more.
    pub(super) fn end_load(&mut self, load: Load, until: Position) -> bool {
        let awaited = self.waits_for(load);
        if awaited {
            self.loading = None;
            if self.from >= load.from {
                self.from = self.from.max(until);
            }
        }
        awaited
    }
}

/// The positions and sizes of those that are on disk only.
pub(super) fn stubs<'a, M: 'a>(
    apart: impl Iterator<Item = (&'a Position, &'a (Kept<M>, History))>,
) -> impl Iterator<Item = (Position, u32)> {
    apart.filter_map(|(position, (kept, _))| match kept {
        Kept::Disk(stub) => Some((*position, stub.body_len)),
        Kept::Memory(_) => None,
    })
}

/// The load that brings the first of some stubs, which are given with their positions, rising as far as they are wanted.
pub(super) fn load_of(mut stubs: impl Iterator<Item = (Position, u32)>, bytes: u64) -> Option<Load> {
    let (from, body_len) = stubs.next()?;
    let mut last = from;
    let mut sum = u64::from(body_len);
    for (position, body_len) in stubs {
        let is_near = position > last && position.0 - last.0 <= GAP_POSITIONS_MAX;
        if !is_near || sum >= bytes {
            break;
        }
        last = position;
        sum += u64::from(body_len);
    }
    Some(Load {
        from,
        until: Position(last.0 + 1),
        bytes,
        ..Load::default()
    })
}
