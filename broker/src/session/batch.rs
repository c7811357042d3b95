//! What one connection published since the last flush: handed to each queue at once, and confirmed in runs.

use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use leveret_storage::Ticket;

use super::channel::ChannelMode;
use super::refusals::Refusals;
use super::{Pause, Session};
use crate::metrics::Publishes;
use crate::protocol::hot;
use crate::protocol::message::Message;
use crate::vhost::QueueHandle;

/// Groups kept for their buffers between batches.
const GROUPS_KEPT: usize = 16;

/// Messages collected since the last flush, by queue; each queue stands in it once, so that its order is kept.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) groups: Vec<Group>,
    used: usize,
    by_queue: HashMap<u64, usize, RandomState>,
    pub(super) runs: Vec<ConfirmRun>,
    pub(super) refusals: Refusals,
}

pub(super) struct Group {
    queue: Arc<QueueHandle>,
    messages: Vec<Message>,
    /// How many of them are counted by exchange.
    counted: usize,
    /// Which publishes of the batch they are, if the queue may refuse some.
    publishes: Option<Vec<u64>>,
}

impl Group {
    fn new(queue: &Arc<QueueHandle>) -> Group {
        Group {
            queue: queue.clone(),
            messages: Vec::new(),
            counted: 0,
            publishes: queue.refuses_when_full().then(Vec::new),
        }
    }

    #[inline]
    pub(super) fn push(&mut self, message: Message, publish: u64) {
        if let Some(publishes) = &mut self.publishes {
            publishes.push(publish);
        }
        self.messages.push(message);
    }
}

/// Publishes of one channel in a row that wait for the disk, or do not.
#[derive(Clone, Copy)]
pub(super) struct ConfirmRun {
    pub(super) channel: u16,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) durable: bool,
}

/// Counted per message here, added to the broker's counters per batch.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) published: Publishes<u64>,
    pub(super) received_confirm: u64,
}

impl Batch {
    /// The first: its number is none that a route knows.
    pub(super) fn new() -> Batch {
        Batch {
            number: 1,
            ..Batch::default()
        }
    }

    pub(super) fn group(&mut self, queue: &Arc<QueueHandle>) -> usize {
        if let Some(index) = self.by_queue.get(&queue.id.0) {
            return *index;
        }
        let index = self.used;
        self.used += 1;
        match self.groups.get_mut(index) {
            Some(group) => {
                group.queue = queue.clone();
                group.counted = 0;
                group.publishes = queue.refuses_when_full().then(Vec::new);
            }
            None => self.groups.push(Group::new(queue)),
        }
        self.refusals.are_possible |= queue.refuses_when_full();
        self.by_queue.insert(queue.id.0, index);
        index
    }

    /// What was collected for each of the first queues since the last time.
    pub(super) fn take_collected(&mut self, queues_max: usize) -> impl Iterator<Item = (&Arc<QueueHandle>, u64)> {
        let groups = self.groups.iter_mut().take(self.used.min(queues_max));
        groups.filter_map(|group| {
            let more = group.messages.len() - std::mem::replace(&mut group.counted, group.messages.len());
            (more > 0).then_some((&group.queue, more as u64))
        })
    }

    pub(super) fn confirm(&mut self, channel: u16, number: u64, durable: bool) {
        match self.runs.last_mut() {
            Some(run) if run.channel == channel && run.durable == durable && run.last + 1 == number => {
                run.last = number
            }
            _ => self.runs.push(ConfirmRun {
                channel,
                first: number,
                last: number,
                durable,
            }),
        }
    }
}

impl Session {
    /// Hands each queue its part of the batch and lets confirms wait for the disk or go.
    pub(super) fn flush_publishes(&mut self) -> Option<Ticket> {
        let batch = &mut self.publisher.batch;
        if batch.used == 0 && batch.runs.is_empty() && self.publisher.counts.published.received == 0 {
            return None;
        }
        self.publisher
            .tally
            .end_batch(batch, &self.publisher.counts, &self.outbox);
        let vhost = self.open.as_ref().map(|opened| &opened.vhost);
        let mut ticket = self.publisher.submitted.take();
        for group in batch.groups.iter_mut().take(batch.used) {
            let messages = group.messages.len();
            let published = match &vhost {
                Some(vhost) => vhost.publish(&group.queue, &mut group.messages, &mut self.scratch),
                None => group.queue.publish(&mut group.messages, &mut self.scratch),
            };
            if let Some(publishes) = &group.publishes {
                let refused = published.rejected.iter().filter_map(|index| publishes.get(*index));
                batch.refusals.refused.extend(refused);
            }
            ticket = ticket.max(published.ticket);
            self.flow.published(&group.queue, published.demand, messages);
        }
        batch.groups.truncate(GROUPS_KEPT);
        batch.used = 0;
        batch.by_queue.clear();
        batch.number += 1;
        if batch.refusals.are_possible {
            self.refuse();
        }
        self.answer_runs(ticket);
        self.count_batch();
        if self.broker.store.is_congested() && self.pause.is_none() {
            self.pause = Some(Pause::Congestion);
        }
        if self.has_published {
            self.block();
        }
        ticket
    }

    fn answer_runs(&mut self, ticket: Option<Ticket>) {
        let store_failed = self.broker.store.failed().is_some();
        let mut confirmed = 0;
        for run in self.publisher.batch.runs.drain(..) {
            let channel = self
                .channels
                .get_mut(usize::from(run.channel))
                .and_then(Option::as_deref_mut);
            let Some(ChannelMode::Confirm(confirms)) = channel.map(|channel| &mut channel.mode) else {
                continue;
            };
            match ticket {
                Some(ticket) if run.durable => {
                    confirms.wait(run.first, run.last, ticket);
                    if !self.publisher.waiting_channels.contains(&run.channel) {
                        self.publisher.waiting_channels.push(run.channel);
                    }
                }
                // A store that has failed takes nothing and gives no ticket.
                None if run.durable && store_failed => {
                    let mut outbox = self.outbox.lock();
                    for number in run.first..=run.last {
                        hot::write_nack(outbox.bytes_mut(), run.channel, number, false);
                    }
                }
                _ => {
                    let mut outbox = self.outbox.lock();
                    let told = |exchange: &Arc<_>, count| outbox.count_confirms(run.channel, exchange, count);
                    let answer = confirms.answer_at_once(run.first, run.last, told);
                    confirmed += outbox.confirm(run.channel, &answer);
                }
            }
        }
        if confirmed > 0 {
            self.broker.counters.confirmed.inc_by(confirmed);
        }
    }

    fn count_batch(&mut self) {
        let counts = std::mem::take(&mut self.publisher.counts);
        let published = counts.published;
        let counters = &self.broker.counters;
        for (counter, count) in [
            (&counters.received, published.received),
            (&counters.received_confirm, counts.received_confirm),
            (&counters.routed, published.routed),
            (&counters.unroutable_dropped, published.dropped),
            (&counters.unroutable_returned, published.returned),
        ] {
            if count > 0 {
                counter.inc_by(count);
            }
        }
        self.publisher.sizes.flush();
    }
}
