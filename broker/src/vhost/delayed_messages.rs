//! All that delayed exchanges of a virtual host keep.
//!
//! The lock is a leaf, but for the store's pending commit. What is due soon is read while it is held, a few megabytes at the most.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use leveret_storage::{Moment, QueueId, StorageError, Store, Ticket};
use parking_lot::Mutex;

use super::Durable;
use super::delay::Delay;
use super::schedule::{Delayed, Schedule};
use crate::protocol::message::Message;
use crate::settings::Setting;
use crate::timer::Timer;

/// So many due messages are moved with one write.
const DUE_BATCH_MESSAGES: usize = 256;
/// Memory for stored messages that are due soon, and as much for those that need not be stored, of all exchanges of a virtual host;
const WINDOW_BYTES_TOTAL: usize = 16 << 20;
/// but of one exchange no more
pub(super) const WINDOW_BYTES_MAX: usize = 4 << 20;
/// and no less than this.
const WINDOW_BYTES_MIN: usize = 64 << 10;
/// So many are listed at once, those that are due first.
const DELAYED_LISTED_MAX: usize = 100_000;

/// All delayed messages of a virtual host.
pub struct DelayedMessages {
    pub(super) by_exchange: Mutex<HashMap<Arc<str>, Schedule>>,
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
pub(super) struct Due {
    /// Its exchange.
    pub exchange: Arc<str>,
    /// Where it is stored.
    pub stored: Option<(QueueId, Moment)>,
    /// The message.
    pub delayed: Delayed,
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
    pub(super) fn add(&self, store: &Store, vhost: &str, delay: &Delay, message: Message) -> Durable {
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
    pub(super) fn read_ahead(&self, store: &Store, vhost: &str, now_millis: u64) {
        let mut by_exchange = self.by_exchange.lock();
        let window_bytes = window_bytes(by_exchange.len());
        for (exchange, schedule) in by_exchange.iter_mut() {
            if let Err(error) = schedule.read_ahead(store, now_millis, window_bytes) {
                tracing::error!(%exchange, vhost, %error, "delayed messages cannot be read; trying again");
            }
        }
    }

    /// Takes messages whose time has come, of each exchange in order.
    pub(super) fn take_due(&self, now_millis: u64) -> Vec<Due> {
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
    pub(super) fn count(&self, exchange: &str) -> u64 {
        self.by_exchange.lock().get(exchange).map_or(0, Schedule::count)
    }

    /// Forgets the messages of an exchange that is gone; the schedule to delete.
    pub(super) fn forget(&self, exchange: &str) -> Option<QueueId> {
        self.by_exchange.lock().remove(exchange)?.id
    }

    pub(super) fn list(&self, store: &Store, exchange: &str) -> Result<Vec<DelayedView>, StorageError> {
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
    pub(super) fn cancel(&self, store: &Store, exchange: &str, number: u64) -> Result<(bool, Durable), StorageError> {
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
    pub(super) fn recover(&self, store: &Store, exchange: &str, id: QueueId) -> Result<(), StorageError> {
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

pub(super) fn schedule_setting(vhost: &str, exchange: &str, id: QueueId) -> Setting {
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
