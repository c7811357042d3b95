//! Dead letters: what a queue gives up goes to its dead-letter exchange, as part of the same write.
//!
//! A message that leaves one durable queue for another is settled in the one and appended to the other while the store is
//! held, so that both reach the disk together: no crash loses it, and none doubles it. RabbitMQ promises that only for the
//! `at-least-once` strategy of quorum queues; here it holds for every queue.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_routing::RouteBuffer;
use leveret_storage::Ticket;

use super::delivery::share_among;
use super::effects::Scratch;
use super::queue_handle::{Published, Settlement};
use super::routes::Publication;
use super::{QueueHandle, Vhost};
use crate::clock;
use crate::protocol::content::Properties;
use crate::protocol::death::{DeadLetter, Death, DeathReason, Destination};
use crate::protocol::message::Message;
use crate::queue::{DropReason, Position};

/// Messages that are acknowledged before others may have the queue.
const SETTLED_AT_ONCE_MAX: usize = 4096;

/// So much of what a transaction rejects is read for its commit, if it is on disk only.
const TRANSACTION_LETTERS_BYTES_MAX: usize = 256 << 20;

impl Vhost {
    /// Settles deliveries of one queue, given by slot and position. Those that it gives up go to its dead-letter exchange.
    pub fn settle(
        &self,
        queue: &Arc<QueueHandle>,
        settlement: Settlement,
        entries: &[(u32, Position)],
        scratch: &mut Scratch,
    ) -> Option<Ticket> {
        if !queue.may_dead_letter(settlement) {
            // What goes back does so at once: between two parts a consumer could have what stands behind the second.
            let part = match settlement {
                Settlement::Ack => SETTLED_AT_ONCE_MAX,
                Settlement::Requeue { .. } | Settlement::Reject => usize::MAX,
            };
            let parts = entries.chunks(part);
            return parts.fold(None, |ticket, part| ticket.max(queue.settle(settlement, part, scratch)));
        }
        let _hold = self.store.hold();
        let ticket =
            self.publish_what_it_gives_up(queue, scratch, |scratch| queue.settle(settlement, entries, scratch));
        // A transaction happens as one write.
        match scratch.durably {
            true => ticket.max(self.publish_letters_of_transaction(queue, scratch)),
            false => ticket,
        }
    }

    /// Publishes a batch to a queue. What is too much for it goes to its dead-letter exchange.
    pub fn publish(&self, queue: &Arc<QueueHandle>, messages: &mut Vec<Message>, scratch: &mut Scratch) -> Published {
        if !queue.overflows_to_dead_letters() {
            return queue.publish(messages, scratch);
        }
        // A transaction, which settles durably, holds the store already.
        let _hold = (!scratch.durably).then(|| self.store.hold());
        let mut published = Published::default();
        let ticket = self.publish_what_it_gives_up(queue, scratch, |scratch| {
            published = queue.publish(messages, scratch);
            published.ticket
        });
        Published { ticket, ..published }
    }

    /// Publishes all that a queue has given up and that must be read for it, before the queue goes. This thread reads it: there is no later.
    pub(super) fn publish_letters_before_deletion(&self, queue: &Arc<QueueHandle>) {
        let mut scratch = Scratch::default();
        while queue.letters_on_disk().is_some() {
            let _hold = self.store.hold();
            if self.publish_letters_on_disk(queue, &mut scratch).is_none() {
                return;
            }
        }
    }

    /// Publishes with a transaction what that has rejected and is on disk only; this thread reads it. What is too much for one write
    /// stays where it is until it is read, a moment later.
    fn publish_letters_of_transaction(&self, queue: &Arc<QueueHandle>, scratch: &mut Scratch) -> Option<Ticket> {
        let (mut ticket, mut bytes) = (None, 0);
        while bytes < TRANSACTION_LETTERS_BYTES_MAX
            && (queue.letters_on_disk().is_some() || queue.keeps_dead_letters())
            && let Some((moved, read_bytes)) = self.publish_letters_on_disk(queue, scratch)
        {
            ticket = ticket.max(moved);
            bytes += read_bytes;
        }
        ticket
    }

    /// Reads some of what a queue has given up, if it must be read, and publishes it; in which commit, and how much was read. The caller
    /// holds the store. `None` if it cannot be read.
    fn publish_letters_on_disk(
        &self,
        queue: &Arc<QueueHandle>,
        scratch: &mut Scratch,
    ) -> Option<(Option<Ticket>, usize)> {
        let Some(load) = queue.letters_on_disk() else {
            // Another thread has read it.
            let ticket = self.publish_what_it_gives_up(queue, scratch, |scratch| queue.release_given_up(scratch));
            return Some((ticket, 0));
        };
        let loaded = match queue.read(load) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!(queue = %queue.name, vhost = %self.name, %error, "rejected messages cannot be read");
                return None;
            }
        };
        let sizes = loaded.messages.iter().map(|(.., message)| message.memory_size());
        let bytes = sizes.sum();
        let ticket = self.publish_what_it_gives_up(queue, scratch, |scratch| queue.loaded(load, loaded, scratch));
        Some((ticket, bytes))
    }

    /// Runs one step of a queue and publishes what the queue gives up in it, and what that drives out of other queues. The caller
    /// holds the store.
    ///
    /// A queue's messages reach their targets in the order in which it gave them up: whoever has it give something up has its
    /// [lane](QueueHandle::dead_letter_lane) until that is published. Nobody has two lanes: what is driven out of a target stays in
    /// there until the lane that led to it is free.
    pub(super) fn publish_what_it_gives_up(
        &self,
        queue: &Arc<QueueHandle>,
        scratch: &mut Scratch,
        step: impl FnOnce(&mut Scratch) -> Option<Ticket>,
    ) -> Option<Ticket> {
        let durably = std::mem::replace(&mut scratch.durably, true);
        let mut full = VecDeque::new();
        let mut ticket = self.publish_in_order(queue, scratch, step, &mut full);
        while let Some(queue) = full.pop_front() {
            let moved = self.publish_in_order(&queue, scratch, |scratch| queue.release_given_up(scratch), &mut full);
            ticket = ticket.max(moved);
        }
        scratch.durably = durably;
        ticket
    }

    /// Runs one step of a queue and publishes what the queue gives up in it. `full` gets the targets that have given up
    /// something for it.
    fn publish_in_order(
        &self,
        queue: &Arc<QueueHandle>,
        scratch: &mut Scratch,
        step: impl FnOnce(&mut Scratch) -> Option<Ticket>,
        full: &mut VecDeque<Arc<QueueHandle>>,
    ) -> Option<Ticket> {
        let _lane = queue.dead_letter_lane.lock();
        let held = std::mem::replace(&mut scratch.held, true);
        let mut ticket = step(scratch);
        scratch.held = false;
        for (target, mut letters) in self.address(queue, &scratch.take_dropped()) {
            ticket = ticket.max(target.publish(&mut letters, scratch).ticket);
            if target.keeps_dead_letters() && !full.iter().any(|other| Arc::ptr_eq(other, &target)) {
                full.push_back(target);
            }
        }
        scratch.held = held;
        ticket
    }

    /// Which queues these messages go to, in their order.
    fn address(
        &self,
        queue: &QueueHandle,
        messages: &[(Message, DropReason)],
    ) -> Vec<(Arc<QueueHandle>, Vec<Message>)> {
        let in_force = queue.in_force();
        let arguments = &in_force.arguments;
        let Some(exchange) = &arguments.dead_letter_exchange else {
            return Vec::new();
        };
        let destination = Destination {
            exchange,
            routing_key: arguments.dead_letter_routing_key.as_deref(),
        };
        let unix_seconds = clock::unix_time().as_secs();
        let mut buffer = RouteBuffer::default();
        let mut groups: Vec<(Arc<QueueHandle>, Vec<Message>)> = Vec::new();
        let mut confirmed = 0;
        for (message, reason) in messages {
            let reason = death_reason(*reason);
            let death = Death {
                queue: &queue.name,
                reason,
                unix_seconds,
            };
            self.counters.dead_lettered(reason);
            let letter = match DeadLetter::new(message, &death, &destination) {
                Ok(letter) => letter,
                Err(error) => {
                    tracing::warn!(queue = %queue.name, vhost = %self.name, "a message cannot be dead-lettered: {error}");
                    continue;
                }
            };
            let targets = self.dead_letter_queues(&letter, exchange, &mut buffer);
            confirmed += u64::from(!targets.is_empty());
            share_among(&targets, &letter.message);
            for target in targets {
                match groups.iter_mut().find(|(queue, _)| Arc::ptr_eq(queue, &target)) {
                    Some((_, letters)) => letters.push(letter.message.clone()),
                    None => groups.push((target, vec![letter.message.clone()])),
                }
            }
        }
        self.counters.dead_letters.confirmed.inc_by(confirmed);
        groups
    }

    /// The queues of one letter, which delayed exchanges on its way keep already: none if the exchange does not exist, as in RabbitMQ, and not one in which it would go round
    /// for ever.
    fn dead_letter_queues(
        &self,
        letter: &DeadLetter,
        exchange: &str,
        buffer: &mut RouteBuffer<u32>,
    ) -> Vec<Arc<QueueHandle>> {
        let routing_keys: Vec<&str> = letter.routing_keys.iter().map(String::as_str).collect();
        let publication = Publication {
            exchange,
            routing_keys: &routing_keys,
            properties: Properties::parse(letter.message.properties()).unwrap_or_default(),
            message: &letter.message,
        };
        let Ok(targets) = self.route(&publication, buffer) else {
            return Vec::new();
        };
        for delay in &targets.delays {
            self.delay(delay, &letter.message);
        }
        let mut queues = targets.queues;
        queues.retain(|queue| {
            let caught = letter.is_caught_in_cycle(&queue.name);
            if caught {
                tracing::warn!(
                    queue = %queue.name, vhost = %self.name, exchange,
                    "a message was dropped because dead-lettering would bring it back for ever"
                );
            }
            !caught
        });
        queues
    }
}

fn death_reason(reason: DropReason) -> DeathReason {
    match reason {
        DropReason::Rejected => DeathReason::Rejected,
        DropReason::DeliveryLimit => DeathReason::DeliveryLimit,
        DropReason::Expired => DeathReason::Expired,
        DropReason::MaxLength => DeathReason::MaxLength,
    }
}
