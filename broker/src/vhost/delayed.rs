//! Messages that delayed exchanges keep until their time has come.
//!
//! One that is persistent in a durable exchange is in the store, until the write that puts it into its queues: that write and its
//! removal are one; only what is due soon is in memory ([`schedule`](super::schedule)). Others are in memory, but for those that are too
//! many: they are in the store as well, which a start forgets if their exchange is gone. Times are milliseconds since 1970, so that a
//! restart changes nothing about them.
//!
//! The lock of what waits is a leaf, but for the store's pending commit. What is due soon is read while it is held, a few megabytes at the
//! most.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use amq_protocol::types::AMQPValue;
use leveret_routing::{ExchangeOptions, RouteBuffer};
use leveret_storage::{Moment, QueueId, StorageError, Store, Ticket};
use parking_lot::Mutex;

use super::effects::Scratch;
use super::routes::{Publication, Targets};
use super::schedule::{Delayed, Schedule};
use super::{Durable, OperationError, Vhost};
use crate::protocol::content::{ContentHeader, Properties};
use crate::protocol::field_table::{decode_table, with_long};
use crate::protocol::message::Message;
use crate::protocol::rewrite::{Change, HeaderChanges, rewrite};
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
/// Memory for stored messages that are due soon, and as much for those that need not be stored, of all exchanges of a virtual host;
const WINDOW_BYTES_TOTAL: usize = 16 << 20;
/// but of one exchange no more
const WINDOW_BYTES_MAX: usize = 4 << 20;
/// and no less than this.
const WINDOW_BYTES_MIN: usize = 64 << 10;
/// So many are listed at once, those that are due first.
const DELAYED_LISTED_MAX: usize = 100_000;

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
    by_exchange: Mutex<HashMap<Arc<str>, Schedule>>,
    timer: Arc<Timer>,
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
    stored: Option<(QueueId, Moment)>,
    delayed: Delayed,
}

/// What every exchange may hold in memory of the messages that are stored.
fn window_bytes(exchanges: usize) -> usize {
    (WINDOW_BYTES_TOTAL / exchanges.max(1)).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX)
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
        let window_bytes = window_bytes(by_exchange.len());
        let schedule = by_exchange.entry(delay.exchange.clone()).or_default();
        let before = schedule.next_millis(window_bytes);
        let at = schedule.next_moment(delay.due_millis);
        let delayed = Delayed {
            message,
            routing_keys: delay.routing_keys.clone(),
        };
        let must_last = delay.durable && delayed.message.is_persistent();
        let ticket = if must_last || !schedule.has_room(&delayed, window_bytes) {
            let ticket = write(schedule, store, vhost, &delay.exchange, at, &delayed);
            schedule.add_stored(store, at, delayed, ticket, window_bytes);
            must_last.then_some(ticket)
        } else {
            schedule.add_passing(at, delayed);
            None
        };
        drop(by_exchange);
        if before.is_none_or(|before| delay.due_millis < before) {
            self.timer.wake();
        }
        ticket
    }

    /// When there is something to do next.
    pub(super) fn next_due_millis(&self) -> Option<u64> {
        let by_exchange = self.by_exchange.lock();
        let window_bytes = window_bytes(by_exchange.len());
        let nexts = by_exchange.values();
        nexts.filter_map(|schedule| schedule.next_millis(window_bytes)).min()
    }

    /// Reads what is due soon.
    fn read_ahead(&self, store: &Store, vhost: &str, now_millis: u64) {
        let mut by_exchange = self.by_exchange.lock();
        let window_bytes = window_bytes(by_exchange.len());
        for (exchange, schedule) in by_exchange.iter_mut() {
            if let Err(error) = schedule.read_ahead(store, now_millis, window_bytes) {
                tracing::error!(%exchange, vhost, %error, "delayed messages cannot be read; trying again");
            }
        }
    }

    /// Takes messages whose time has come, of each exchange in order.
    fn take_due(&self, now_millis: u64) -> Vec<Due> {
        let mut taken = Vec::new();
        for (exchange, schedule) in self.by_exchange.lock().iter_mut() {
            while taken.len() < DUE_BATCH_MESSAGES
                && let Some((at, delayed, is_stored)) = schedule.take_due(now_millis)
            {
                taken.push(Due {
                    exchange: exchange.clone(),
                    stored: schedule.id.filter(|_| is_stored).map(|id| (id, at)),
                    delayed,
                });
            }
        }
        taken
    }

    /// How many messages an exchange keeps.
    fn count(&self, exchange: &str) -> u64 {
        self.by_exchange.lock().get(exchange).map_or(0, Schedule::count)
    }

    /// Forgets the messages of an exchange that is gone; the schedule to delete.
    pub(super) fn forget(&self, exchange: &str) -> Option<QueueId> {
        self.by_exchange.lock().remove(exchange)?.id
    }

    fn list(&self, store: &Store, exchange: &str) -> Result<Vec<DelayedView>, StorageError> {
        let mut views = BTreeMap::new();
        let (id, horizon) = {
            let by_exchange = self.by_exchange.lock();
            let Some(schedule) = by_exchange.get(exchange) else {
                return Ok(Vec::new());
            };
            for (at, delayed, is_stored) in schedule.in_memory() {
                views.insert(at, view(at, delayed, is_stored));
            }
            (schedule.id, schedule.horizon())
        };
        if let Some(id) = id.filter(|_| horizon != Moment::NEVER) {
            let mut room = DELAYED_LISTED_MAX;
            store.read_schedule(id, horizon, &mut |at, payload| {
                if let Some(delayed) = Delayed::parse(payload) {
                    views.insert(at, view(at, &delayed, true));
                    room -= 1;
                }
                match room {
                    0 => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })?;
        }
        Ok(views.into_values().take(DELAYED_LISTED_MAX).collect())
    }

    /// Takes one message out; false if it is not there.
    fn cancel(&self, store: &Store, exchange: &str, number: u64) -> Result<(bool, Durable), StorageError> {
        let remove = |schedule: &mut Schedule, at: Moment| {
            let id = schedule.id?;
            let mut writer = store.writer();
            writer.unschedule(id, at);
            let ticket = writer.submit();
            schedule.cancelled(at, ticket);
            Some(ticket)
        };
        let (id, horizon) = {
            let mut by_exchange = self.by_exchange.lock();
            let Some(schedule) = by_exchange.get_mut(exchange) else {
                return Ok((false, None));
            };
            if let Some((at, is_stored)) = schedule.cancel(number) {
                let ticket = is_stored.then(|| remove(schedule, at)).flatten();
                return Ok((true, ticket));
            }
            (schedule.id, schedule.horizon())
        };
        let Some(id) = id else { return Ok((false, None)) };
        let mut found = None;
        store.read_schedule(id, horizon, &mut |at, _| {
            if at.number != number {
                return ControlFlow::Continue(());
            }
            found = Some(at);
            ControlFlow::Break(())
        })?;
        let mut by_exchange = self.by_exchange.lock();
        let schedule = by_exchange.get_mut(exchange).filter(|schedule| schedule.id == Some(id));
        if let (Some(at), Some(schedule)) = (found, schedule)
            && schedule.cancel_stored(at)
        {
            return Ok((true, remove(schedule, at)));
        }
        Ok((false, None))
    }

    /// Brings back what the store has.
    fn recover(&self, store: &Store, exchange: &str, id: QueueId) -> Result<(), StorageError> {
        let schedule = Schedule::recover(store, id)?;
        self.by_exchange.lock().insert(exchange.into(), schedule);
        Ok(())
    }
}

/// Writes a message, and makes the schedule with the first.
fn write(schedule: &mut Schedule, store: &Store, vhost: &str, exchange: &str, at: Moment, delayed: &Delayed) -> Ticket {
    let mut writer = store.writer();
    let id = *schedule.id.get_or_insert_with(|| {
        let id = store.allocate_queue_id();
        writer.reserve_id(id);
        writer.put(&schedule_setting(vhost, exchange, id).to_definition());
        id
    });
    let [first, second] = delayed.message.stored_parts();
    writer.schedule(id, at, &[&delayed.head(), first, second]);
    writer.submit()
}

fn schedule_setting(vhost: &str, exchange: &str, id: QueueId) -> Setting {
    Setting::DelayedLog {
        vhost: vhost.to_owned(),
        exchange: exchange.to_owned(),
        log: id.0,
        by_time: true,
    }
}

fn view(at: Moment, delayed: &Delayed, durable: bool) -> DelayedView {
    DelayedView {
        id: at.number,
        due_millis: at.time,
        routing_key: delayed.routing_keys.first().cloned().unwrap_or_default(),
        body_bytes: delayed.message.body_len(),
        durable,
    }
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
        self.delayed.read_ahead(&self.store, &self.name, now_millis);
        let _hold = self.store.hold();
        let due = self.delayed.take_due(now_millis);
        let (mut scratch, mut buffer) = (Scratch::default(), RouteBuffer::new());
        let count = due.len();
        for one in due {
            self.deliver_one(&one, &mut buffer, &mut scratch);
            if let Some((schedule, at)) = one.stored {
                let mut writer = self.store.writer();
                writer.unschedule(schedule, at);
                writer.submit();
            }
        }
        count
    }

    fn deliver_one(&self, due: &Due, buffer: &mut RouteBuffer<u32>, scratch: &mut Scratch) {
        let header = ContentHeader::parse(due.delayed.message.view().header);
        let properties = header.and_then(|header| Properties::parse(header.properties));
        let routing_keys: Vec<&str> = due.delayed.routing_keys.iter().map(String::as_str).collect();
        let publication = Publication {
            exchange: &due.exchange,
            routing_keys: &routing_keys,
            properties: properties.unwrap_or_default(),
            message: &due.delayed.message,
        };
        // An exchange that is gone has taken its messages along.
        let Ok(targets) = self.route(&publication, buffer) else {
            return;
        };
        let Targets { queues, delays, .. } = targets;
        match self
            .hand_over(&queues, &delays, &due.delayed.message, scratch, |_, _| {})
            .taken_by
        {
            0 => self.counters.unroutable_dropped.inc(),
            routed => self.counters.routed.inc_by(routed as u64),
        }
    }

    /// How many messages an exchange delays.
    pub fn delayed_count(&self, exchange: &str) -> u64 {
        self.delayed.count(exchange)
    }

    /// The delayed messages of an exchange, in the order in which they are due: the first of them, if there are very many.
    pub fn delayed_messages(&self, exchange: &str) -> Result<Vec<DelayedView>, OperationError> {
        let durable = self.exchange_with_delays(exchange)?.durable;
        let mut views = self.delayed.list(&self.store, exchange).map_err(storage_failed)?;
        views.iter_mut().for_each(|view| view.durable &= durable);
        Ok(views)
    }

    /// Drops a delayed message, which nobody gets then; false if it is not there.
    pub fn cancel_delayed(&self, exchange: &str, id: u64) -> Result<(bool, Durable), OperationError> {
        self.exchange_with_delays(exchange)?;
        self.check_store()?;
        self.delayed.cancel(&self.store, exchange, id).map_err(storage_failed)
    }

    /// Brings back the delayed messages of an exchange. Those of older versions are in a log, in the order in which they came.
    pub fn recover_delayed(&self, exchange: &str, id: u64, by_time: bool) {
        let id = if by_time {
            QueueId(id)
        } else {
            self.order_by_time(exchange, QueueId(id))
        };
        if let Err(error) = self.delayed.recover(&self.store, exchange, id) {
            tracing::error!(exchange, vhost = %self.name, %error, "delayed messages cannot be read");
        }
    }

    /// Moves what a log of an older version has into a schedule, with one write.
    fn order_by_time(&self, exchange: &str, log: QueueId) -> QueueId {
        let id = self.store.allocate_queue_id();
        let mut stored = Vec::new();
        let mut unreadable = 0;
        let recovered = self
            .store
            .recover_queue(log, &mut |message| match message.payload.split_first_chunk::<8>() {
                Some((due, rest)) => {
                    let time = u64::from_be_bytes(*due);
                    let number = message.position.0;
                    stored.push((Moment { time, number }, rest.to_vec()));
                }
                None => unreadable += 1,
            });
        if recovered.is_err() || unreadable > 0 {
            tracing::error!(exchange, vhost = %self.name, unreadable, "some delayed messages cannot be read");
        }
        let is_known = self.store.queues().contains(&log);
        let mut writer = self.store.writer();
        writer.reserve_id(id);
        writer.put(&schedule_setting(&self.name, exchange, id).to_definition());
        for (at, payload) in &stored {
            writer.schedule(id, *at, &[payload]);
        }
        // A log that the store has nothing of may not have its number: a queue could have it.
        if is_known {
            writer.delete_queue(log);
        }
        let ticket = writer.submit();
        if let Err(error) = self.store.wait(ticket) {
            tracing::error!(exchange, vhost = %self.name, %error, "delayed messages cannot be moved");
        }
        id
    }

    /// At a start, when all exchanges are back: what was stored of one that is gone goes too.
    pub fn forget_delayed_without_exchange(&self) {
        let topology = self.topology.read();
        let is_gone = |exchange: &Arc<str>| topology.routing.exchange(exchange).is_none();
        let exchanges: Vec<_> = self.delayed.by_exchange.lock().keys().cloned().collect();
        for exchange in exchanges.iter().filter(|exchange| is_gone(exchange)) {
            if let Some(id) = self.delayed.forget(exchange) {
                let mut writer = self.store.writer();
                writer.delete(&settings::delayed_log(&self.name, exchange));
                writer.delete_schedule(id);
                writer.submit();
            }
        }
    }

    fn exchange_with_delays(&self, exchange: &str) -> Result<ExchangeOptions, OperationError> {
        let topology = self.topology.read();
        let found = topology.routing.exchange(exchange).map(|found| found.options.clone());
        found.ok_or_else(|| OperationError::NotFound(self.exchange_resource(exchange)))
    }
}

fn storage_failed(error: StorageError) -> OperationError {
    OperationError::StorageFailed(error.to_string())
}

#[cfg(test)]
mod tests {
    use amq_protocol::types::FieldTable;
    use leveret_storage::{Position, StoreOptions};
    use prometheus::Registry;

    use super::*;
    use crate::config::Config;
    use crate::vhost::Actor;
    use crate::vhost::exchanges::ExchangeDeclaration;

    fn declare(vhost: &Vhost, name: &str, durable: bool) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-delayed-type".into(), AMQPValue::LongString("direct".into()));
        let exchange = ExchangeDeclaration {
            name,
            kind: "x-delayed-message",
            passive: false,
            durable,
            auto_delete: false,
            internal: false,
            arguments,
        };
        vhost.declare_exchange(&Actor::operator(), exchange).unwrap();
    }

    #[test]
    fn what_need_not_be_stored_is_when_there_is_too_much_of_it_and_ends_with_its_exchange() {
        const MESSAGES: u64 = 40;
        let store = Store::in_memory(StoreOptions::default());
        let start = || crate::startup::start(Config::default(), store.clone(), &Registry::new()).unwrap();
        let far = crate::timer::unix_millis() + 1_000_000;
        {
            let vhost = start().vhost("/").unwrap();
            let body = vec![b'x'; WINDOW_BYTES_MAX / 16];
            let mut header = vec![0, 60, 0, 0];
            header.extend_from_slice(&(body.len() as u64).to_be_bytes());
            header.extend_from_slice(&[0, 0]);
            let message = Message::new(&[0, 0], &header, &body);
            for (exchange, durable) in [("stays", true), ("goes", false)] {
                declare(&vhost, exchange, durable);
                for number in 0..MESSAGES {
                    let delay = Delay {
                        exchange: exchange.into(),
                        durable,
                        due_millis: far + number,
                        routing_keys: vec!["k".to_owned()],
                    };
                    assert_eq!(vhost.delay(&delay, &message), None, "nobody waits for the disk");
                }
                assert_eq!(vhost.delayed_count(exchange), MESSAGES);
                let listed = vhost.delayed_messages(exchange).unwrap();
                assert_eq!(listed.len(), MESSAGES as usize);
                assert!(durable || listed.iter().all(|view| !view.durable));
            }
            let by_exchange = vhost.delayed.by_exchange.lock();
            for (exchange, schedule) in by_exchange.iter() {
                let held: usize = schedule
                    .in_memory()
                    .map(|(.., delayed, _)| delayed.message.body_len())
                    .sum();
                assert!(held < 3 * WINDOW_BYTES_MAX, "{exchange} holds {held} bytes");
            }
            drop(by_exchange);
            let mut writer = store.writer();
            writer.reserve_id(store.allocate_queue_id());
            store.wait(writer.submit()).unwrap();
        }
        let vhost = start().vhost("/").unwrap();
        assert!(vhost.delayed_count("stays") > 0);
        assert_eq!(vhost.delayed_count("goes"), 0);
        declare(&vhost, "goes", false);
        assert_eq!(vhost.delayed_messages("goes").unwrap().len(), 0);
    }

    #[test]
    fn what_an_older_version_kept_in_the_order_of_arrival_is_put_in_the_order_of_time() {
        let store = Store::in_memory(StoreOptions::default());
        let broker = crate::startup::start(Config::default(), store.clone(), &Registry::new()).unwrap();
        let vhost = broker.vhost("/").unwrap();
        declare(&vhost, "later", true);
        let delayed = Delayed {
            message: Message::new(&[0, 0], &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], b"x"),
            routing_keys: vec!["key".to_owned()],
        };
        let log = store.allocate_queue_id();
        let mut writer = store.writer();
        let far = crate::timer::unix_millis() + 1_000_000;
        for (position, due) in [(3, far + 5), (4, far)] {
            let [first, second] = delayed.message.stored_parts();
            let parts: [&[u8]; 4] = [&u64::to_be_bytes(due), &delayed.head(), first, second];
            writer.append(log, Position(position), &parts);
        }
        store.wait(writer.submit()).unwrap();
        vhost.recover_delayed("later", log.0, false);
        let listed = vhost.delayed_messages("later").unwrap();
        let seen: Vec<_> = listed
            .iter()
            .map(|view| (view.id, view.due_millis, view.body_bytes))
            .collect();
        assert_eq!(seen, [(4, far, 1), (3, far + 5, 1)]);
        assert_eq!(vhost.delayed_count("later"), 2);
        assert_eq!(store.message_count(log), 0);
        // Those that come later have numbers of their own.
        let (cancelled, durable) = vhost.cancel_delayed("later", 3).unwrap();
        assert!(cancelled && durable.is_some());
        assert_eq!(vhost.delayed_count("later"), 1);
    }

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
