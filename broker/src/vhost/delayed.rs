//! Messages that delayed exchanges keep until their time has come.
//!
//! A message stays in memory; one that is persistent in a durable exchange is in the store as well, in a log of its
//! exchange, until the write that puts it into its queues: that write and its removal from the log are one. Times are
//! milliseconds since 1970, so that a restart changes nothing about them.
//!
//! ```text
//!   in the log:  | due (8) | number of routing keys (2) | routing keys | the stored form of the message |
//! ```
//!
//! The lock of what waits is a leaf, but for the store's pending commit, which sees positions in rising order so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use amq_protocol::types::AMQPValue;
use leveret_routing::RouteBuffer;
use leveret_storage::{Position, QueueId, Store, Ticket};
use parking_lot::Mutex;

use super::effects::Scratch;
use super::routes::{Publication, Targets};
use super::{Durable, OperationError, Vhost};
use crate::protocol::content::{ContentHeader, Properties};
use crate::protocol::field_table::{decode_table, with_long};
use crate::protocol::message::Message;
use crate::protocol::rewrite::{Change, HeaderChanges, rewrite};
use crate::protocol::wire::{Reader, put_shortstr};
use crate::queue::integer;
use crate::settings::{self, Setting};
use crate::timer::Timer;

/// A header: milliseconds to wait. Delivered messages have it negated, as RabbitMQ's plug-in does, so that no further
/// exchange delays them.
const AFTER: &str = "x-delay";
/// A header: when to deliver, as a timestamp in seconds or an integer in milliseconds since 1970.
const AT: &str = "x-deliver-at";

/// So many due messages are moved with one write.
const DUE_BATCH_MESSAGES: usize = 256;

/// A message on its way into a delayed exchange.
pub struct Delay {
    /// The exchange.
    pub exchange: Arc<str>,
    /// Whether the exchange is durable.
    pub durable: bool,
    /// When it is to be delivered.
    pub due_millis: u64,
    /// Its routing keys, those of CC and BCC with it.
    pub routing_keys: Vec<String>,
}

/// When a message with these headers is to be delivered, if that is later than now.
pub fn due_millis(header: impl Fn(&str) -> Option<AMQPValue>, now_millis: u64) -> Option<u64> {
    let after = header(AFTER)
        .and_then(|delay| integer(&delay))
        .filter(|delay| *delay > 0);
    let after = after.map(|delay| now_millis.saturating_add(delay.unsigned_abs()));
    let at = header(AT).and_then(|time| match time {
        AMQPValue::Timestamp(seconds) => Some(seconds.saturating_mul(1000)),
        other => integer(&other).and_then(|millis| u64::try_from(millis).ok()),
    });
    after.max(at).filter(|due| *due > now_millis)
}

/// All delayed messages of a virtual host.
pub struct DelayedMessages {
    by_exchange: Mutex<HashMap<Arc<str>, Waiting>>,
    timer: Arc<Timer>,
}

/// The delayed messages of one exchange.
#[derive(Default)]
struct Waiting {
    /// Where the persistent ones are; made for the first of them.
    log: Option<QueueId>,
    next_position: u64,
    /// By time, then in the order in which they came.
    messages: BTreeMap<(u64, u64), Delayed>,
}

struct Delayed {
    message: Message,
    routing_keys: Vec<String>,
    stored: bool,
}

/// A delayed message as listings show it.
pub struct DelayedView {
    /// Its number in the exchange, by which it can be cancelled.
    pub id: u64,
    /// When it is to be delivered.
    pub due_millis: u64,
    /// Its first routing key.
    pub routing_key: String,
    /// Bytes of its body.
    pub body_bytes: usize,
    /// Whether it survives a restart.
    pub durable: bool,
}

/// A message whose time has come.
struct Due {
    exchange: Arc<str>,
    /// Where it is stored.
    stored: Option<(QueueId, Position)>,
    message: Message,
    routing_keys: Vec<String>,
}

impl DelayedMessages {
    pub(super) fn new(timer: Arc<Timer>) -> DelayedMessages {
        DelayedMessages {
            by_exchange: Mutex::default(),
            timer,
        }
    }

    /// Keeps a message; the commit to wait for if it is to survive a restart.
    fn add(&self, store: &Store, vhost: &str, delay: &Delay, message: Message) -> Durable {
        let mut by_exchange = self.by_exchange.lock();
        let waiting = by_exchange.entry(delay.exchange.clone()).or_default();
        let position = waiting.next_position;
        waiting.next_position += 1;
        let stored = delay.durable && message.is_persistent();
        let ticket = stored.then(|| waiting.store(store, vhost, delay, position, &message));
        let delayed = Delayed {
            message,
            routing_keys: delay.routing_keys.clone(),
            stored,
        };
        let first = waiting.messages.first_key_value().map(|((due, _), _)| *due);
        waiting.messages.insert((delay.due_millis, position), delayed);
        drop(by_exchange);
        if first.is_none_or(|first| delay.due_millis < first) {
            self.timer.wake();
        }
        ticket
    }

    /// The time of the message that is due first.
    pub(super) fn next_due_millis(&self) -> Option<u64> {
        let by_exchange = self.by_exchange.lock();
        let firsts = by_exchange
            .values()
            .filter_map(|waiting| waiting.messages.first_key_value());
        firsts.map(|((due, _), _)| *due).min()
    }

    /// Takes messages whose time has come, of each exchange in order.
    fn take_due(&self, now_millis: u64) -> Vec<Due> {
        let mut taken = Vec::new();
        for (exchange, waiting) in self.by_exchange.lock().iter_mut() {
            while taken.len() < DUE_BATCH_MESSAGES
                && let Some(first) = waiting.messages.first_entry()
                && first.key().0 <= now_millis
            {
                let ((_, position), delayed) = first.remove_entry();
                taken.push(Due {
                    exchange: exchange.clone(),
                    stored: waiting
                        .log
                        .filter(|_| delayed.stored)
                        .map(|log| (log, Position(position))),
                    message: delayed.message,
                    routing_keys: delayed.routing_keys,
                });
            }
        }
        taken
    }

    /// Forgets the messages of an exchange that is gone; the log to delete.
    pub(super) fn forget(&self, exchange: &str) -> Option<QueueId> {
        self.by_exchange.lock().remove(exchange)?.log
    }

    fn list(&self, exchange: &str) -> Vec<DelayedView> {
        let by_exchange = self.by_exchange.lock();
        let messages = by_exchange.get(exchange).map(|waiting| waiting.messages.iter());
        let view = |((due_millis, id), delayed): (&(u64, u64), &Delayed)| DelayedView {
            id: *id,
            due_millis: *due_millis,
            routing_key: delayed.routing_keys.first().cloned().unwrap_or_default(),
            body_bytes: delayed.message.body_len(),
            durable: delayed.stored,
        };
        messages.into_iter().flatten().map(view).collect()
    }

    /// Takes one message out; where it is stored.
    fn cancel(&self, exchange: &str, id: u64) -> Option<Option<(QueueId, Position)>> {
        let mut by_exchange = self.by_exchange.lock();
        let waiting = by_exchange.get_mut(exchange)?;
        let key = *waiting.messages.keys().find(|(_, position)| *position == id)?;
        let delayed = waiting.messages.remove(&key)?;
        Some(waiting.log.filter(|_| delayed.stored).map(|log| (log, Position(id))))
    }

    /// Brings back what a log holds; the number of messages that cannot be read.
    fn recover(&self, store: &Store, exchange: &str, log: QueueId) -> usize {
        let mut waiting = Waiting {
            log: Some(log),
            next_position: store.next_position(log).0,
            messages: BTreeMap::new(),
        };
        let mut unreadable = 0;
        let recovered = store.recover_queue(log, &mut |stored| match parse_stored(stored.payload) {
            Some((due_millis, delayed)) => {
                let position = stored.position.0;
                waiting.next_position = waiting.next_position.max(position + 1);
                waiting.messages.insert((due_millis, position), delayed);
            }
            None => unreadable += 1,
        });
        unreadable += usize::from(recovered.is_err());
        self.by_exchange.lock().insert(exchange.into(), waiting);
        unreadable
    }
}

impl Waiting {
    /// Puts a message into the log, and remembers the log with the first.
    fn store(&mut self, store: &Store, vhost: &str, delay: &Delay, position: u64, message: &Message) -> Ticket {
        let mut head = delay.due_millis.to_be_bytes().to_vec();
        head.extend_from_slice(&(delay.routing_keys.len() as u16).to_be_bytes());
        for key in &delay.routing_keys {
            put_shortstr(&mut head, key);
        }
        let log = self.log;
        let id = log.unwrap_or_else(|| store.allocate_queue_id());
        self.log = Some(id);
        let mut writer = store.writer();
        if log.is_none() {
            let setting = Setting::DelayedLog {
                vhost: vhost.to_owned(),
                exchange: delay.exchange.to_string(),
                log: id.0,
            };
            writer.put(&setting.to_definition());
        }
        let [first, second] = message.stored_parts();
        writer.append(id, Position(position), &[&head, first, second]);
        writer.submit()
    }
}

fn parse_stored(payload: &[u8]) -> Option<(u64, Delayed)> {
    let (due, rest) = payload.split_first_chunk::<8>()?;
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let mut reader = Reader::new(rest);
    let mut routing_keys = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        routing_keys.push(reader.shortstr().ok()?.to_owned());
    }
    let delayed = Delayed {
        message: Message::from_stored(reader.rest()).ok()?,
        routing_keys,
        stored: true,
    };
    Some((u64::from_be_bytes(*due), delayed))
}

/// The message with its `x-delay` negated, as it is kept and delivered.
fn negated(message: &Message) -> Message {
    let view = message.view();
    let negated = || {
        let header = ContentHeader::parse(view.header).ok()?;
        let headers = Properties::parse(header.properties).ok()?.headers?;
        let delay = decode_table(headers).ok()?;
        let delay = integer(delay.inner().get(AFTER)?)?;
        let headers = with_long(headers, AFTER, delay.saturating_abs().saturating_neg());
        let changes = HeaderChanges {
            headers: Change::Set(&headers),
            ..HeaderChanges::default()
        };
        rewrite(view.header, &changes).ok()
    };
    match negated() {
        Some(header) => message.with_header(&header),
        None => message.clone(),
    }
}

impl Vhost {
    /// Keeps a message in a delayed exchange; the commit to wait for if it is to survive a restart.
    pub fn delay(&self, delay: &Delay, message: &Message) -> Durable {
        self.delayed.add(&self.store, &self.name, delay, negated(message))
    }

    /// Routes delayed messages whose time has come, a batch of them; how many.
    ///
    /// While the store is held, what a message adds to queues and its removal from the log become one write.
    pub fn deliver_due(&self, now_millis: u64) -> usize {
        if self.delayed.next_due_millis().is_none_or(|due| due > now_millis) {
            return 0;
        }
        let _hold = self.store.hold();
        let due = self.delayed.take_due(now_millis);
        let (mut scratch, mut buffer) = (Scratch::default(), RouteBuffer::new());
        let count = due.len();
        for one in due {
            self.deliver_one(&one, &mut buffer, &mut scratch);
            if let Some((log, position)) = one.stored {
                let mut writer = self.store.writer();
                writer.settle_durably(log, position);
                writer.submit();
            }
        }
        count
    }

    fn deliver_one(&self, due: &Due, buffer: &mut RouteBuffer<u32>, scratch: &mut Scratch) {
        let header = ContentHeader::parse(due.message.view().header);
        let properties = header.and_then(|header| Properties::parse(header.properties));
        let routing_keys: Vec<&str> = due.routing_keys.iter().map(String::as_str).collect();
        let publication = Publication {
            exchange: &due.exchange,
            routing_keys: &routing_keys,
            properties: properties.unwrap_or_default(),
            message: &due.message,
        };
        // An exchange that is gone has taken its messages along.
        let Ok(targets) = self.route(&publication, buffer) else {
            return;
        };
        let Targets { queues, delays, .. } = targets;
        match self
            .hand_over(&queues, &delays, &due.message, scratch, |_, _| {})
            .taken_by
        {
            0 => self.counters.unroutable_dropped.inc(),
            routed => self.counters.routed.inc_by(routed as u64),
        }
    }

    /// The delayed messages of an exchange, in the order in which they are due.
    pub fn delayed_messages(&self, exchange: &str) -> Result<Vec<DelayedView>, OperationError> {
        self.must_have_exchange(exchange)?;
        Ok(self.delayed.list(exchange))
    }

    /// Drops a delayed message, which nobody gets then; false if it is not there.
    pub fn cancel_delayed(&self, exchange: &str, id: u64) -> Result<(bool, Durable), OperationError> {
        self.must_have_exchange(exchange)?;
        self.check_store()?;
        let Some(stored) = self.delayed.cancel(exchange, id) else {
            return Ok((false, None));
        };
        let ticket = stored.map(|(log, position)| {
            let mut writer = self.store.writer();
            writer.settle_durably(log, position);
            writer.submit()
        });
        Ok((true, ticket))
    }

    /// Brings back the delayed messages of an exchange from their log.
    pub fn recover_delayed(&self, exchange: &str, log: u64) {
        let log = QueueId(log);
        // A log that the store has nothing of may not have its number: a queue could get it.
        if !self.store.queues().contains(&log) {
            let mut writer = self.store.writer();
            writer.delete(&settings::delayed_log(&self.name, exchange));
            writer.submit();
            return;
        }
        let unreadable = self.delayed.recover(&self.store, exchange, log);
        if unreadable > 0 {
            tracing::error!(exchange, vhost = %self.name, unreadable, "some delayed messages cannot be read");
        }
    }

    fn must_have_exchange(&self, exchange: &str) -> Result<(), OperationError> {
        match self.topology.read().routing.exchange(exchange) {
            Some(_) => Ok(()),
            None => Err(OperationError::NotFound(self.exchange_resource(exchange))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_due_after_its_delay_or_at_its_time() {
        let due = |delay: Option<AMQPValue>, at: Option<AMQPValue>| {
            let header = |name: &str| if name == AFTER { delay.clone() } else { at.clone() };
            due_millis(header, 10_000)
        };
        let number = AMQPValue::LongLongInt;
        assert_eq!(due(None, None), None);
        assert_eq!(due(Some(AMQPValue::LongInt(5)), None), Some(10_005));
        assert_eq!(due(Some(number(0)), None), None);
        assert_eq!(due(Some(number(-5)), None), None);
        // Longer than the 49 days of 32 bits, and longer than there is time.
        assert_eq!(due(Some(number(1 << 40)), None), Some(10_000 + (1 << 40)));
        assert_eq!(due(Some(number(i64::MAX)), None), Some(10_000 + i64::MAX as u64));
        assert_eq!(due(Some(AMQPValue::LongString("5".into())), None), None);
        assert_eq!(due(None, Some(number(12_000))), Some(12_000));
        assert_eq!(due(None, Some(number(9_000))), None);
        assert_eq!(due(None, Some(AMQPValue::Timestamp(11))), Some(11_000));
        // Of both, the later.
        assert_eq!(due(Some(number(500)), Some(number(12_000))), Some(12_000));
        assert_eq!(due(Some(number(5_000)), Some(number(12_000))), Some(15_000));
    }
}
