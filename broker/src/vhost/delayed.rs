//! Messages that delayed exchanges keep until their time has come.
//!
//! One that is persistent in a durable exchange is in the store, until the write that puts it into its queues: that write and its
//! removal are one; only what is due soon is in memory ([`schedule`](super::schedule)). Others are in memory, but for those that are too
//! many: they are in the store as well, which a start forgets if their exchange is gone. Times are milliseconds since 1970, so that a
//! restart changes nothing about them.

use std::sync::Arc;

use leveret_routing::{ExchangeOptions, RouteBuffer};
use leveret_storage::{Moment, QueueId, StorageError};

use super::delay::{Delay, negated};
use super::delayed_messages::{DelayedView, Due, schedule_setting};
use super::effects::Scratch;
use super::routes::{Publication, Targets};
use super::{Durable, OperationError, Vhost};
use crate::protocol::content::{ContentHeader, Properties};
use crate::protocol::message::Message;
use crate::settings;

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
    use amq_protocol::types::{AMQPValue, FieldTable};
    use leveret_storage::{Position, Store, StoreOptions};
    use prometheus::Registry;

    use super::*;
    use crate::config::Config;
    use crate::vhost::Actor;
    use crate::vhost::delayed_messages::WINDOW_BYTES_MAX;
    use crate::vhost::exchanges::ExchangeDeclaration;
    use crate::vhost::schedule::Delayed;

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
}
