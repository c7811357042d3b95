//! From targets to queues: how one message reaches them, whoever publishes it.
//!
//! Connections hand over most of what they publish by themselves, a batch for each queue (`session/publish.rs`); what cannot
//! wait for a batch, and what comes over HTTP or was delayed until now, goes this way.

use std::sync::Arc;

use leveret_storage::Ticket;

use super::delay::Delay;
use super::effects::Scratch;
use super::queue_handle::Published;
use super::routes::Targets;
use super::{QueueHandle, Vhost};
use crate::protocol::message::Message;

/// What became of one message.
#[derive(Default)]
pub struct Delivered {
    /// Queues and delayed exchanges that took it.
    pub taken_by: usize,
    /// Some did not because they had it already, which is as good.
    pub duplicate: bool,
    /// It is to outlive a restart in one of them.
    pub lasts: bool,
    /// The commit after which it does.
    pub ticket: Option<Ticket>,
    /// Queues that are full and refused it.
    pub refused_by: Vec<Arc<QueueHandle>>,
}

/// Has its body stored once, if several of these queues are to store it.
pub fn share_among(queues: &[Arc<QueueHandle>], message: &Message) {
    let durable = queues.iter().filter(|queue| queue.properties.durable);
    if message.is_persistent() && durable.count() > 1 {
        message.share_body();
    }
}

impl Vhost {
    /// Hands a message that a client published to its targets. `published` is told how each queue stands.
    pub fn deliver(
        &self,
        targets: &Targets,
        message: &Message,
        scratch: &mut Scratch,
        published: impl FnMut(&Arc<QueueHandle>, &Published),
    ) -> Delivered {
        if targets.claims.is_empty() {
            return self.hand_over(&targets.queues, &targets.delays, message, scratch, published);
        }
        // A transaction, which settles durably, holds the store already.
        let _hold = (!scratch.durably).then(|| self.store.hold());
        self.deliver_once(targets, message, scratch, published)
    }

    /// Hands a message to queues and delayed exchanges, whether they had it before or not.
    pub(super) fn hand_over(
        &self,
        queues: &[Arc<QueueHandle>],
        delays: &[Delay],
        message: &Message,
        scratch: &mut Scratch,
        mut published: impl FnMut(&Arc<QueueHandle>, &Published),
    ) -> Delivered {
        let mut delivered = Delivered {
            taken_by: queues.len() + delays.len(),
            ..Delivered::default()
        };
        share_among(queues, message);
        for queue in queues {
            let outcome = self.publish(queue, &mut vec![message.clone()], scratch);
            if !outcome.rejected.is_empty() {
                delivered.refused_by.push(queue.clone());
            }
            published(queue, &outcome);
            if message.is_persistent() && queue.properties.durable {
                delivered.lasts = true;
                delivered.ticket = delivered.ticket.max(outcome.ticket);
            }
        }
        for delay in delays {
            let ticket = self.delay(delay, message);
            delivered.lasts |= ticket.is_some();
            delivered.ticket = delivered.ticket.max(ticket);
        }
        delivered
    }
}
