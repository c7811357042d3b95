//! Messages by the time when they are due, whatever the order in which they came.
//!
//! Nothing of a schedule is kept in memory: a message is one key, which sorts by time, and is read in that order from any moment
//! on. A reader sees what is committed: what was written under a ticket, once [`Store::durable`] has reached it.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use crate::engine::Space;
use crate::error::StorageError;
use crate::ids::QueueId;
use crate::keys::{self, Key, Prefix};
use crate::store::Store;
use crate::writer::Writer;

/// The place of a message in a schedule: by time, then by a number that no other of the schedule has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// When it is due, in whatever unit.
    pub time: u64,
    /// Its number.
    pub number: u64,
}

impl Moment {
    /// After all others.
    pub const NEVER: Moment = Moment {
        time: u64::MAX,
        number: u64::MAX,
    };
}

impl Store {
    /// Shows the committed messages of a schedule from a moment on, in order, until the visitor breaks.
    ///
    /// Errors: the engine cannot read at the moment. What was shown until then is no more than the beginning.
    pub fn read_schedule(
        &self,
        schedule: QueueId,
        from: Moment,
        visit: &mut dyn FnMut(Moment, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let (_, until) = Prefix::Schedule(schedule).range();
        let from = Key::Scheduled(schedule, from).encode();
        let engine = &self.shared().engine;
        engine.scan(Space::Meta, &from, &until, &mut |key, payload| {
            let (_, moment) =
                keys::decode_scheduled(key).ok_or_else(|| StorageError::corrupt("the key of a scheduled message"))?;
            Ok(visit(moment, payload))
        })
    }
}

impl Writer<'_> {
    /// Puts a message into a schedule; its payload is the parts, one after the other.
    pub fn schedule(&mut self, schedule: QueueId, at: Moment, parts: &[&[u8]]) {
        self.change_schedule(schedule, at, Some(parts.concat()));
    }

    /// Takes a message out of a schedule.
    pub fn unschedule(&mut self, schedule: QueueId, at: Moment) {
        self.change_schedule(schedule, at, None);
    }

    /// Takes all messages out of a schedule. Nothing may be written for it any more.
    pub fn delete_schedule(&mut self, schedule: QueueId) {
        if let Some(pending) = self.pending_to_sync() {
            let (from, until) = Prefix::Schedule(schedule).range();
            let key_is_within = |key: &[u8]| (from.as_slice()..until.as_slice()).contains(&key);
            pending.scheduled.retain(|(key, _)| !key_is_within(key));
            pending.ranges.push((Space::Meta, from, until));
        }
    }

    /// Makes sure that no other queue or schedule ever gets this id, though the store may have nothing of it.
    pub fn reserve_id(&mut self, id: QueueId) {
        let above = id.0.saturating_add(1);
        let shared = self.shared();
        let next = shared.next_queue_id.fetch_max(above, Ordering::Relaxed).max(above);
        if let Some(pending) = self.pending_to_sync() {
            pending.next_queue_id = Some(next);
        }
    }

    fn change_schedule(&mut self, schedule: QueueId, at: Moment, payload: Option<Vec<u8>>) {
        if let Some(pending) = self.pending_to_sync() {
            pending.bytes += payload.as_ref().map_or(0, Vec::len);
            pending.scheduled.push((Key::Scheduled(schedule, at).encode(), payload));
        }
    }
}
