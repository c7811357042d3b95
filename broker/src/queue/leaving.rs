//! What a queue gives up, until the world knows.
//!
//! It is put aside until [`Queue::release_given_up`], because whoever publishes it as a dead letter must have made sure first that
//! leaving this queue and entering another become one write. What is a stub and becomes a dead letter must be read first; what is
//! given up after it waits for it, so that dead letters keep their order.

use std::collections::{BTreeMap, VecDeque};

use super::kept::{Kept, load_of};
use super::sink::LoadOf;
use super::{DropReason, Load, Loaded, Position, Queue, QueueMessage, Sink};

/// Messages that have left the queue, though the world does not know yet.
pub(super) struct Leaving<M> {
    /// Found on disk. Loads may bring them again as long as they are there, so they wait for nothing.
    found: Vec<GivenUp<M>>,
    /// The others, in the order in which they left.
    messages: VecDeque<GivenUp<M>>,
    /// The load of those at the front, if one is under way.
    loading: Option<Load>,
}

struct GivenUp<M> {
    position: Position,
    kept: Kept<M>,
    reason: DropReason,
    place: Place,
}

/// Where a message is that has left the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It was here, and is in the store if it is persisted.
    Here,
    /// It was paged.
    Paged,
    /// It never entered the queue.
    Outside,
    /// In the store, which cannot read it.
    Unreadable,
}

impl<M> Leaving<M> {
    pub(super) fn new() -> Self {
        Self {
            found: Vec::new(),
            messages: VecDeque::new(),
            loading: None,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.found.len() + self.messages.len()
    }

    /// Whether some are being read. What is given up meanwhile waits behind them, so it had better be on disk only too.
    pub(super) fn is_reading(&self) -> bool {
        self.loading.is_some()
    }

    /// Those at the front that must be read first.
    fn unread(&self) -> impl Iterator<Item = (Position, u32)> {
        self.messages.iter().map_while(|given_up| match &given_up.kept {
            Kept::Disk(stub) if given_up.place != Place::Unreadable => Some((given_up.position, stub.body_len)),
            _ => None,
        })
    }
}

impl<M: QueueMessage, C> Queue<M, C> {
    /// Says whether what is given up is wanted for dead letters. If not, [`Sink::dropped`] is not told of what would have to be read.
    pub fn want_dead_letters(&mut self, wanted: bool) {
        self.wants_dead_letters = wanted;
    }

    /// Whether there is something to [release](Queue::release_given_up).
    #[inline]
    pub fn has_given_up(&self) -> bool {
        self.given_up.as_ref().is_some_and(|leaving| {
            let waits = leaving.loading.is_some() && self.wants_dead_letters;
            !waits || !leaving.found.is_empty()
        })
    }

    /// The load for which what was given up waits, if it does.
    pub fn load_of_given_up(&self) -> Option<Load> {
        let load = self.given_up.as_ref()?.loading;
        load.filter(|_| self.wants_dead_letters)
    }

    /// Settles and drops what the queue has given up, as far as it need not be read first.
    pub fn release_given_up<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        let Some(mut leaving) = self.given_up.take() else {
            return;
        };
        for given_up in std::mem::take(&mut leaving.found) {
            self.release(given_up, sink);
        }
        while !leaving.messages.is_empty() {
            if self.wants_dead_letters && leaving.unread().next().is_some() {
                if leaving.loading.is_none() {
                    leaving.loading = self.load_of_unread(&leaving);
                    leaving.loading.into_iter().for_each(|load| sink.load(load));
                }
                self.given_up = Some(leaving);
                return;
            }
            if let Some(given_up) = leaving.messages.pop_front() {
                self.release(given_up, sink);
            }
        }
    }

    fn load_of_unread(&self, leaving: &Leaving<M>) -> Option<Load> {
        let load = load_of(leaving.unread(), self.room.load_bytes())?;
        let of = LoadOf::GivenUp;
        Some(Load { of, ..load })
    }

    fn release<S: Sink<M, C> + ?Sized>(&self, given_up: GivenUp<M>, sink: &mut S) {
        let GivenUp {
            position,
            kept,
            reason,
            place,
        } = given_up;
        match (place, &kept) {
            (Place::Paged, Kept::Memory(message)) if !self.is_persisted(message) => {
                sink.settle_spilled(position, message);
            }
            (Place::Here | Place::Paged, kept) if self.is_kept_persisted(kept) => {
                sink.settle(position, kept.body_len())
            }
            (Place::Here | Place::Paged, _) => {}
            (Place::Outside | Place::Unreadable, _) => {}
        }
        if let Kept::Memory(message) = kept {
            sink.dropped(message, reason);
        }
    }

    /// Takes in what is a dead letter and was on disk only.
    pub(super) fn loaded_given_up(&mut self, load: Load, loaded: Loaded<M>) {
        let Some(leaving) = &mut self.given_up else { return };
        if leaving.loading.take_if(|awaited| *awaited == load).is_none() {
            return;
        }
        let messages = loaded.messages.into_iter();
        let mut messages: BTreeMap<_, _> = messages.map(|(position, _, message)| (position, message)).collect();
        for given_up in &mut leaving.messages {
            let is_covered = (load.from..loaded.until).contains(&given_up.position);
            if !is_covered || given_up.kept.message().is_some() {
                break;
            }
            match messages.remove(&given_up.position) {
                Some(message) => given_up.kept = Kept::Memory(message),
                None => given_up.place = Place::Unreadable,
            }
        }
    }

    /// Persisted messages that have been given up and are still to be settled, with the sizes of their bodies.
    pub(super) fn given_up_on_disk(&self) -> impl Iterator<Item = (Position, usize)> {
        let given_up = self.given_up.iter().flat_map(|leaving| &leaving.messages);
        let on_disk =
            given_up.filter(|given_up| given_up.place == Place::Here && self.is_kept_persisted(&given_up.kept));
        on_disk.map(|given_up| (given_up.position, given_up.kept.body_len()))
    }

    pub(super) fn put_aside(&mut self, position: Position, message: M, reason: DropReason) {
        self.put_aside_from(Place::Here, position, Kept::Memory(message), reason);
    }

    pub(super) fn put_aside_from(&mut self, place: Place, position: Position, kept: Kept<M>, reason: DropReason) {
        match reason {
            DropReason::Rejected | DropReason::DeliveryLimit => {}
            DropReason::Expired => self.totals.expired += 1,
            DropReason::MaxLength => self.totals.overflowed += 1,
        }
        if self.is_kept_persisted(&kept) {
            self.persistent.take(kept.body_len());
        }
        let leaving = self.given_up.get_or_insert_with(|| Box::new(Leaving::new()));
        let given_up = GivenUp {
            position,
            kept,
            reason,
            place,
        };
        match place {
            Place::Paged => leaving.found.push(given_up),
            _ => leaving.messages.push_back(given_up),
        }
    }

    /// Gives up a message that was refused.
    pub(super) fn put_refused_aside(&mut self, message: M) {
        let leaving = self.given_up.get_or_insert_with(|| Box::new(Leaving::new()));
        leaving.messages.push_back(GivenUp {
            position: self.next_position,
            kept: Kept::Memory(message),
            reason: DropReason::MaxLength,
            place: Place::Outside,
        });
    }
}
