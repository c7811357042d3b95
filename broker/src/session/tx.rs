//! Transactions: publishes and settlements are kept until tx.commit and then reach the store as one write.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::tx::{AMQPMethod, CommitOk, RollbackOk, SelectOk};

use super::Session;
use super::channel::{ChannelMode, server_only};
use super::deliveries::Uncommitted;
use super::settle::unknown_delivery_tag;
use crate::protocol::error::AmqpError;
use crate::protocol::message::Message;
use crate::protocol::reply_code::ReplyCode;
use crate::vhost::queue_handle::Settlement;
use crate::vhost::routes::Targets;

/// Memory that the uncommitted publishes of one channel may hold.
const TRANSACTION_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Uncommitted publishes and settlements of one channel.
const TRANSACTION_STEPS_MAX: usize = 1_000_000;

/// What a channel did since tx.select or the last commit.
#[derive(Default)]
pub struct Transaction {
    publishes: Vec<BufferedPublish>,
    bytes: usize,
    settlements: Vec<(u64, Settlement)>,
    settled_tags: HashSet<u64>,
    /// All outstanding tags up to this one are settled, so that nobody looks at them again.
    settled_up_to: u64,
    shown: Arc<Uncommitted>,
}

impl Transaction {
    /// What was collected so far; from now on there is nothing.
    fn take(&mut self) -> Transaction {
        let empty = Transaction {
            shown: self.shown.clone(),
            ..Transaction::default()
        };
        let taken = std::mem::replace(self, empty);
        self.show();
        taken
    }

    /// Lets listings know how much there is.
    fn show(&self) {
        let (publishes, settlements) = (self.publishes.len() as u64, self.settlements.len() as u64);
        self.shown.publishes.store(publishes, Ordering::Relaxed);
        self.shown.settlements.store(settlements, Ordering::Relaxed);
    }
}

/// A publish that waits for its transaction's commit.
pub struct BufferedPublish {
    /// Where it goes, as found when it was made.
    pub targets: Targets,
    /// Whoever waits for direct replies under this token gets it too.
    pub reply_token: Option<String>,
    /// The message.
    pub message: Message,
    /// To be returned when nobody takes it.
    pub mandatory: bool,
}

impl Session {
    pub(super) fn tx_method(&mut self, number: u16, method: AMQPMethod) -> Result<(), AmqpError> {
        let precondition_failed = |text: &'static str| Err(AmqpError::new(ReplyCode::PreconditionFailed, text));
        let Some(channel) = self.channel_slot(number) else {
            return Ok(());
        };
        match (method, &mut channel.mode) {
            (AMQPMethod::Select(_), mode @ (ChannelMode::Plain | ChannelMode::Transaction(_))) => {
                if let ChannelMode::Plain = mode {
                    let transaction = Transaction::default();
                    let uncommitted = transaction.shown.clone();
                    *mode = ChannelMode::Transaction(transaction);
                    self.show(number, |shown| shown.uncommitted = Some(uncommitted));
                }
                self.reply(number, AMQPClass::Tx(AMQPMethod::SelectOk(SelectOk {})));
                Ok(())
            }
            (AMQPMethod::Select(_), ChannelMode::Confirm(_)) => {
                precondition_failed("cannot switch from confirm to tx mode")
            }
            (AMQPMethod::Commit(_), ChannelMode::Transaction(transaction)) => {
                let transaction = transaction.take();
                self.commit(number, transaction)
            }
            (AMQPMethod::Rollback(_), ChannelMode::Transaction(transaction)) => {
                // The settled deliveries were never taken off the channel's list, so they are outstanding again.
                transaction.take();
                self.reply(number, AMQPClass::Tx(AMQPMethod::RollbackOk(RollbackOk {})));
                Ok(())
            }
            (AMQPMethod::Commit(_) | AMQPMethod::Rollback(_), _) => precondition_failed("channel is not transactional"),
            (AMQPMethod::SelectOk(_) | AMQPMethod::CommitOk(_) | AMQPMethod::RollbackOk(_), _) => Err(server_only()),
        }
    }

    /// Everything at once: while the store is held, what reaches it becomes one write. What a full queue refused is told to the
    /// client, though the rest is done.
    fn commit(&mut self, number: u16, transaction: Transaction) -> Result<(), AmqpError> {
        let broker = self.broker.clone();
        self.flush_publishes();
        let refused_before = self.publisher.refused_publishes;
        let ticket = {
            let _hold = broker.store.hold();
            self.scratch.durably = true;
            for publish in transaction.publishes {
                self.publish_buffered(number, publish);
            }
            let published = self.flush_publishes();
            for (delivery_tag, settlement) in transaction.settlements {
                // The tag was outstanding when it was buffered, and only this channel can settle it.
                let _ = self.settle_now(number, delivery_tag, false, settlement);
            }
            let settled = self.flush_settles();
            self.scratch.durably = false;
            published.max(settled)
        };
        if self.publisher.refused_publishes > refused_before {
            let text = "partial tx completion";
            return Err(AmqpError::new(ReplyCode::PreconditionFailed, text));
        }
        self.reply_when_durable(number, Some(AMQPClass::Tx(AMQPMethod::CommitOk(CommitOk {}))), ticket);
        Ok(())
    }

    pub(super) fn is_transactional(&self, number: u16) -> bool {
        let channel = self.channels.get(usize::from(number)).and_then(Option::as_deref);
        channel.is_some_and(|channel| matches!(channel.mode, ChannelMode::Transaction(_)))
    }

    fn transaction(&mut self, number: u16) -> Option<&mut Transaction> {
        match &mut self.channel_slot(number)?.mode {
            ChannelMode::Transaction(transaction) => Some(transaction),
            ChannelMode::Plain | ChannelMode::Confirm(_) => None,
        }
    }

    /// Deliveries that a transaction has settled and not committed.
    pub(super) fn uncommitted_tags(&mut self, number: u16) -> HashSet<u64> {
        let transaction = self.transaction(number);
        transaction.map(|it| it.settled_tags.clone()).unwrap_or_default()
    }

    pub(super) fn buffer_publish(&mut self, number: u16, publish: BufferedPublish) -> Result<(), AmqpError> {
        let Some(transaction) = self.transaction(number) else {
            return Ok(());
        };
        transaction.bytes += publish.message.memory_size();
        transaction.publishes.push(publish);
        transaction.show();
        if transaction.bytes > TRANSACTION_BYTES_MAX || transaction.publishes.len() > TRANSACTION_STEPS_MAX {
            return Err(too_large());
        }
        Ok(())
    }

    pub(super) fn buffer_settlement(
        &mut self,
        number: u16,
        delivery_tag: u64,
        multiple: bool,
        settlement: Settlement,
    ) -> Result<(), AmqpError> {
        let outbox = self.outbox.clone();
        let mut outbox = outbox.lock();
        let Some(deliveries) = outbox.channel(number) else {
            return Ok(());
        };
        let Some(transaction) = self.transaction(number) else {
            return Ok(());
        };
        let all = multiple && delivery_tag == 0;
        if !all && (transaction.settled_tags.contains(&delivery_tag) || !deliveries.is_outstanding(delivery_tag)) {
            return Err(unknown_delivery_tag(delivery_tag));
        }
        let tags: Vec<u64> = if multiple {
            let up_to = if all { u64::MAX } else { delivery_tag };
            deliveries
                .outstanding_after(transaction.settled_up_to)
                .map(|(_, unacked)| unacked.delivery_tag)
                .take_while(|tag| *tag <= up_to)
                .collect()
        } else {
            vec![delivery_tag]
        };
        if multiple {
            let last = tags.last().copied().unwrap_or_default();
            transaction.settled_up_to = transaction.settled_up_to.max(last);
        }
        for tag in tags {
            if transaction.settled_tags.insert(tag) {
                transaction.settlements.push((tag, settlement));
            }
        }
        transaction.show();
        if transaction.settlements.len() > TRANSACTION_STEPS_MAX {
            return Err(too_large());
        }
        Ok(())
    }
}

fn too_large() -> AmqpError {
    AmqpError::new(ReplyCode::ResourceError, "transaction is too large")
}
