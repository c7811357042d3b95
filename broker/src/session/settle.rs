//! basic.ack, nack, reject and recover: deliveries go back to their queues, one batch per queue.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Session;
use super::deliveries::{ChannelDeliveries, Unacked};
use super::outbox::OUTBOX_BYTES_MAX;
use crate::protocol::error::AmqpError;
use crate::protocol::hot::{self, Ack, Nack, Reject};
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::rewrite::with_delivery_count;
use crate::queue::Position;
use crate::vhost::QueueHandle;
use crate::vhost::queue_handle::Settlement;

/// Groups kept for their buffers between batches.
const GROUPS_KEPT: usize = 16;

/// Settlements collected since the last flush.
#[derive(Default)]
pub struct SettleBatch {
    groups: Vec<SettleGroup>,
    used: usize,
    acknowledged: u64,
    gives_back: bool,
}

struct SettleGroup {
    queue: Arc<QueueHandle>,
    settlement: Settlement,
    entries: Vec<(u32, Position)>,
}

impl SettleBatch {
    /// Is there something in it that can be delivered to others? An order of acknowledgements and publishes can not be
    /// told by anybody.
    pub fn gives_back(&self) -> bool {
        self.gives_back
    }

    /// Adds one delivery of this origin.
    fn add(&mut self, settlement: Settlement, queue: &Arc<QueueHandle>, unacked: Unacked) {
        match settlement {
            Settlement::Ack => self.acknowledged += 1,
            Settlement::Requeue { .. } | Settlement::Reject => self.gives_back = true,
        }
        let same = |group: &SettleGroup| Arc::ptr_eq(&group.queue, queue) && group.settlement == settlement;
        // Settlements of one batch mostly concern the queue of the one before.
        let used = &mut self.groups[..self.used];
        let index = match used.iter().rposition(same) {
            Some(index) => index,
            None => self.new_group(settlement, queue),
        };
        if let Some(group) = self.groups.get_mut(index) {
            group.entries.push((unacked.slot, unacked.position));
        }
    }

    fn new_group(&mut self, settlement: Settlement, queue: &Arc<QueueHandle>) -> usize {
        let index = self.used;
        self.used += 1;
        match self.groups.get_mut(index) {
            Some(group) => {
                group.queue = queue.clone();
                group.settlement = settlement;
            }
            None => self.groups.push(SettleGroup {
                queue: queue.clone(),
                settlement,
                entries: Vec::new(),
            }),
        }
        index
    }
}

impl Session {
    pub(super) fn ack(&mut self, channel: u16, ack: Ack) -> Result<(), AmqpError> {
        self.settle(channel, ack.delivery_tag, ack.multiple, Settlement::Ack)
    }

    pub(super) fn nack(&mut self, channel: u16, nack: Nack) -> Result<(), AmqpError> {
        let settlement = if nack.requeue {
            Settlement::Requeue { failed: false }
        } else {
            Settlement::Reject
        };
        self.settle(channel, nack.delivery_tag, nack.multiple, settlement)
    }

    pub(super) fn reject(&mut self, channel: u16, reject: Reject) -> Result<(), AmqpError> {
        let settlement = if reject.requeue {
            Settlement::Requeue { failed: true }
        } else {
            Settlement::Reject
        };
        self.settle(channel, reject.delivery_tag, false, settlement)
    }

    fn settle(&mut self, number: u16, tag: u64, multiple: bool, settlement: Settlement) -> Result<(), AmqpError> {
        if self.is_transactional(number) {
            return self.buffer_settlement(number, tag, multiple, settlement);
        }
        self.settle_now(number, tag, multiple, settlement)
    }

    /// Takes deliveries off the channel's list and collects them for their queues.
    pub(super) fn settle_now(
        &mut self,
        number: u16,
        tag: u64,
        multiple: bool,
        settlement: Settlement,
    ) -> Result<(), AmqpError> {
        let mut outbox = self.outbox.lock();
        let Some(channel) = outbox.channel(number) else {
            return Ok(());
        };
        let batch = &mut self.settles;
        let before = batch.acknowledged;
        channel
            .settle(tag, multiple, settlement == Settlement::Ack, |origin, unacked| {
                batch.add(settlement, &origin.queue, unacked)
            })
            .map_err(|unknown| unknown_delivery_tag(unknown.0))?;
        channel.traffic().flow.ack += batch.acknowledged - before;
        Ok(())
    }

    /// Hands each queue what was settled since the last flush.
    pub(super) fn flush_settles(&mut self) -> Option<leveret_storage::Ticket> {
        let batch = &mut self.settles;
        if batch.used == 0 {
            return None;
        }
        let mut ticket = None;
        let vhost = self.open.as_ref().map(|open| &open.vhost);
        for group in batch.groups.iter_mut().take(batch.used) {
            let SettleGroup {
                queue,
                settlement,
                entries,
            } = group;
            ticket = ticket.max(match vhost {
                Some(vhost) => vhost.settle(queue, *settlement, entries, &mut self.scratch),
                None => queue.settle(*settlement, entries, &mut self.scratch),
            });
            entries.clear();
        }
        batch.groups.truncate(GROUPS_KEPT);
        batch.used = 0;
        batch.gives_back = false;
        let acknowledged = std::mem::take(&mut batch.acknowledged);
        if acknowledged > 0 {
            self.broker.counters.acknowledged.inc_by(acknowledged);
        }
        ticket
    }

    /// Everything a closed channel had not acknowledged goes back to its place.
    pub(super) fn requeue_all(&mut self, deliveries: &ChannelDeliveries) {
        // That the broker stops is nobody's failure.
        let failed = !self.broker.stopping.load(Ordering::Relaxed);
        for (origin, unacked) in deliveries.outstanding() {
            self.settles
                .add(Settlement::Requeue { failed }, &origin.queue, *unacked);
        }
        self.flush_settles();
    }

    /// basic.recover: all unacked deliveries again, from their queues or to the same consumers; but for those that an uncommitted
    /// transaction has settled, which wait for its end.
    pub(super) fn recover(&mut self, number: u16, requeue: bool) {
        let settled = self.uncommitted_tags(number);
        if !requeue {
            self.redeliver(number, &settled);
            return;
        }
        let again = Settlement::Requeue { failed: false };
        if let Some(channel) = self.outbox.lock().channel(number) {
            channel.settle_all_but(&settled, |origin, unacked| {
                self.settles.add(again, &origin.queue, unacked);
            });
        }
        self.flush_settles();
    }

    /// Sends each unacked delivery again to the consumer that has it, under a new delivery tag. What would be more than
    /// may wait for a client goes back to its queue, from where it comes when the client has read.
    fn redeliver(&mut self, number: u16, settled: &HashSet<u64>) {
        let mut again = Vec::new();
        {
            let mut outbox = self.outbox.lock();
            let Some(channel) = outbox.channel(number) else { return };
            channel.take_redeliverable(settled, |origin, index, unacked| {
                again.push((origin.queue.clone(), index, unacked));
            });
        }
        for (queue, origin, unacked) in again {
            // Never hold the outbox while asking the queue: it may be delivering to this very connection.
            let Some((mut message, delivery_count)) = queue.unacked_message(unacked.slot, unacked.position) else {
                // It is on disk only, or gone with its queue, which takes nothing back.
                self.settles.add(Settlement::Requeue { failed: false }, &queue, unacked);
                continue;
            };
            if delivery_count > 0 && queue.tells_delivery_count() {
                message = with_delivery_count(&message, delivery_count);
            }
            let mut outbox = self.outbox.lock();
            if outbox.bytes_waiting() >= OUTBOX_BYTES_MAX {
                self.settles.add(Settlement::Requeue { failed: false }, &queue, unacked);
                continue;
            }
            let frame_max = outbox.frame_max();
            let Some(channel) = outbox.channel(number) else { return };
            let tag = channel.next_tag();
            channel.count_redelivery(origin);
            let consumer_tag = channel
                .origins
                .get(origin as usize)
                .map(|origin| origin.consumer_tag.clone());
            channel.track(tag, origin, unacked.slot, unacked.position, unacked.held_bytes);
            let Some(consumer_tag) = consumer_tag else { continue };
            hot::write_deliver(
                outbox.bytes_mut(),
                number,
                &consumer_tag,
                tag,
                true,
                &message.view(),
                frame_max,
            );
        }
    }
}

/// ERRORS row 122, compared for equality by clients' tests.
pub(super) fn unknown_delivery_tag(delivery_tag: u64) -> AmqpError {
    AmqpError::new(
        ReplyCode::PreconditionFailed,
        format!("unknown delivery tag {delivery_tag}"),
    )
}
