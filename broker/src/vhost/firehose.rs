//! The firehose: a copy of each message that is published in a virtual host, and of each that is delivered there, for those who want to
//! see what goes on.
//!
//! The copies go to the exchange `amq.rabbitmq.trace`, in RabbitMQ's form. What is seen is noted where it happens, which may be under
//! the lock of a queue and of an outbox, and becomes a message later: the [timer](crate::timer) publishes what was noted, in its
//! order. Publishers help it when much is noted; what is too much even so is lost, and said to be. While nobody traces,
//! a publish costs nothing, because routes are remembered, and a step of a queue one look at a flag.
//!
//! Locks: the list of what is noted is a leaf, but for the timer's wake-up. Whoever publishes from it has the right to do so
//! before any other lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};
use leveret_routing::RouteBuffer;
use parking_lot::Mutex;

use super::effects::Scratch;
use super::routes::{Publication, Targets};
use super::{QueueHandle, Vhost};
use crate::broker::ConnectionInfo;
use crate::protocol::content::Properties;
use crate::protocol::field_table::encode_table;
use crate::protocol::message::Message;
use crate::protocol::trace::{properties_table, traced_name};
use crate::protocol::wire::exchange_and_key;
use crate::session::message_checks::further_routing_keys;
use crate::timer::Timer;

/// Where the copies go. What was published there itself is nothing to see.
pub const TRACE_EXCHANGE: &str = "amq.rabbitmq.trace";

/// So much is noted at the most;
const SEEN_MESSAGES_MAX: usize = 65_536;
/// and so many bytes of bodies.
const SEEN_BYTES_MAX: usize = 64 << 20;
/// Publishers help when so much is noted.
const SEEN_MESSAGES_MANY: usize = 4_096;
/// So many copies are published before others have their turn.
const SEEN_BATCH: usize = 256;

/// What is noted in a virtual host.
pub struct Firehose {
    is_on: AtomicBool,
    seen: Mutex<Seen>,
    /// Had by the one who publishes what was noted, so that it keeps its order.
    publishing: Mutex<()>,
    timer: Arc<Timer>,
}

#[derive(Default)]
struct Seen {
    /// The node's name, for the copies.
    node: Arc<str>,
    noted: VecDeque<Sight>,
    body_bytes: usize,
    /// How much could not be noted.
    lost: u64,
}

struct Sight {
    message: Message,
    who: Who,
    what: What,
}

/// On whose channel it was.
#[derive(Clone)]
pub enum Who {
    /// A connection, and the number of the channel.
    Connection(Arc<ConnectionInfo>, u16),
    /// A user of the management API.
    Http(String),
}

enum What {
    Published {
        routing_keys: Vec<String>,
        queues: Vec<Arc<str>>,
    },
    Delivered {
        queue: Arc<str>,
        redelivered: bool,
    },
}

impl Firehose {
    pub(super) fn new(timer: Arc<Timer>) -> Firehose {
        Firehose {
            is_on: AtomicBool::new(false),
            seen: Mutex::default(),
            publishing: Mutex::default(),
            timer,
        }
    }

    /// Does anybody trace?
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    fn note(&self, message: &Message, who: &Who, what: What) {
        if message.exchange() == TRACE_EXCHANGE {
            return;
        }
        let mut seen = self.seen.lock();
        if seen.noted.len() >= SEEN_MESSAGES_MAX || seen.body_bytes >= SEEN_BYTES_MAX {
            seen.lost += 1;
            return;
        }
        seen.body_bytes += message.body_len();
        seen.noted.push_back(Sight {
            message: message.clone(),
            who: who.clone(),
            what,
        });
        let is_first = seen.noted.len() == 1;
        drop(seen);
        if is_first {
            self.timer.wake();
        }
    }

    fn has_noted(&self, at_least: usize) -> bool {
        self.seen.lock().noted.len() >= at_least
    }

    /// What was noted first, and on which node.
    fn take(&self) -> (Arc<str>, Vec<Sight>) {
        let mut seen = self.seen.lock();
        let count = seen.noted.len().min(SEEN_BATCH);
        let taken: Vec<Sight> = seen.noted.drain(..count).collect();
        seen.body_bytes -= taken.iter().map(|sight| sight.message.body_len()).sum::<usize>();
        if seen.noted.is_empty() {
            seen.noted.shrink_to_fit();
        }
        let lost = std::mem::take(&mut seen.lost);
        let node = seen.node.clone();
        drop(seen);
        if lost > 0 {
            tracing::warn!(
                lost,
                "more was to be traced than could be published: some of it was left out"
            );
        }
        (node, taken)
    }
}

impl QueueHandle {
    /// Notes a delivery, if anybody traces.
    pub fn trace_delivery(&self, message: &Message, redelivered: bool, who: impl FnOnce() -> Who) {
        if self.firehose.is_on() {
            let what = What::Delivered {
                queue: self.name.clone(),
                redelivered,
            };
            self.firehose.note(message, &who(), what);
        }
    }
}

impl Vhost {
    /// Begins or ends tracing. A start of the broker ends it, too.
    pub fn set_tracing(&self, on: bool, node: &str) {
        let mut seen = self.firehose.seen.lock();
        *seen = Seen::default();
        seen.node = node.into();
        self.firehose.is_on.store(on, Ordering::Relaxed);
        drop(seen);
        // Routes that are remembered show nothing, and those that are looked up now are not remembered.
        self.invalidate_routes();
        tracing::info!(vhost = %self.name, "tracing is {}", if on { "on" } else { "off" });
    }

    /// Does anybody trace?
    #[inline]
    pub fn is_traced(&self) -> bool {
        self.firehose.is_on()
    }

    /// Notes a publish, if anybody traces. Called without any lock.
    pub fn trace_publish(&self, publication: &Publication<'_>, targets: &Targets, who: impl FnOnce() -> Who) {
        if !self.firehose.is_on() {
            return;
        }
        let what = What::Published {
            routing_keys: publication.routing_keys.iter().map(|key| (*key).to_owned()).collect(),
            queues: targets.queues.iter().map(|queue| queue.name.clone()).collect(),
        };
        self.firehose.note(publication.message, &who(), what);
        if self.firehose.has_noted(SEEN_MESSAGES_MANY) {
            self.publish_what_was_seen();
        }
    }

    /// Whether there is something to publish.
    pub(super) fn has_seen(&self) -> bool {
        self.firehose.has_noted(1)
    }

    /// Publishes some of what was noted; how much.
    pub(super) fn publish_what_was_seen(&self) -> usize {
        let _in_order = self.firehose.publishing.lock();
        let (node, seen) = self.firehose.take();
        let (mut scratch, mut buffer) = (Scratch::default(), RouteBuffer::new());
        for sight in &seen {
            self.publish_copy(sight, &node, &mut buffer, &mut scratch);
        }
        seen.len()
    }

    fn publish_copy(&self, sight: &Sight, node: &str, buffer: &mut RouteBuffer<u32>, scratch: &mut Scratch) {
        let Some((routing_key, copy)) = sight.copy(&self.name, node) else {
            return;
        };
        let publication = Publication {
            exchange: TRACE_EXCHANGE,
            routing_keys: &[&routing_key],
            properties: Properties::parse(copy.properties()).unwrap_or_default(),
            message: &copy,
        };
        if let Ok(targets) = self.route(&publication, buffer) {
            self.hand_over(&targets.queues, &targets.delays, &copy, scratch, |_, _| {});
        }
    }
}

impl Sight {
    /// The message that tells of it, and its routing key. The body is that of the message that was seen.
    fn copy(&self, vhost: &str, node: &str) -> Option<(String, Message)> {
        let properties = Properties::parse(self.message.properties()).ok()?;
        let mut headers = FieldTable::default();
        let mut put = |name: &str, value: AMQPValue| {
            headers.insert(name.into(), value);
        };
        put("exchange_name", text(self.message.exchange()));
        put("properties", AMQPValue::FieldTable(properties_table(&properties)));
        put("node", text(node));
        put("vhost", text(vhost));
        let (connection, channel, user) = match &self.who {
            Who::Connection(info, channel) => (info.name.clone(), *channel, info.user().to_string()),
            Who::Http(user) => ("HTTP".to_owned(), 0, user.clone()),
        };
        put("connection", text(&connection));
        put("channel", AMQPValue::LongInt(channel.into()));
        put("user", text(&user));
        let routing_key = match &self.what {
            What::Published { routing_keys, queues } => {
                put("routing_keys", texts(routing_keys.iter().map(String::as_str)));
                put("routed_queues", texts(queues.iter().map(|queue| &**queue)));
                traced_name("publish.", self.message.exchange())
            }
            What::Delivered { queue, redelivered } => {
                let further = further_routing_keys(properties.headers).unwrap_or_default();
                let first = std::iter::once(self.message.routing_key());
                put("routing_keys", texts(first.chain(further.iter().map(String::as_str))));
                put("redelivered", AMQPValue::LongInt((*redelivered).into()));
                traced_name("deliver.", queue)
            }
        };
        let mut table = Vec::new();
        encode_table(&headers, &mut table);
        let told = Properties {
            headers: Some(&table),
            ..Properties::default()
        };
        let header = told.encode(self.message.body_len() as u64)?;
        let names = exchange_and_key(TRACE_EXCHANGE, &routing_key)?;
        Some((routing_key, self.message.with_names(&names, &header)))
    }
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

fn texts<'a>(all: impl Iterator<Item = &'a str>) -> AMQPValue {
    let mut array = FieldArray::default();
    all.for_each(|one| array.push(text(one)));
    AMQPValue::FieldArray(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_lost_and_what_was_noted_comes_in_its_order() {
        let firehose = Firehose::new(Arc::default());
        let header = Properties::default().encode(1).unwrap();
        let note = |key: &str| {
            let message = Message::new(&exchange_and_key("x", key).unwrap(), &header, b"b");
            let what = What::Delivered {
                queue: "q".into(),
                redelivered: false,
            };
            firehose.note(&message, &Who::Http("guest".to_owned()), what);
        };
        for number in 0..SEEN_MESSAGES_MAX + 5 {
            note(&number.to_string());
        }
        assert_eq!(firehose.seen.lock().lost, 5);
        let (_, first) = firehose.take();
        let keys: Vec<_> = first
            .iter()
            .map(|sight| sight.message.routing_key().to_owned())
            .collect();
        let expected: Vec<_> = (0..SEEN_BATCH).map(|number| number.to_string()).collect();
        assert_eq!(keys, expected);
        let seen = firehose.seen.lock();
        assert_eq!((seen.lost, seen.body_bytes), (0, SEEN_MESSAGES_MAX - SEEN_BATCH));
    }

    #[test]
    fn what_goes_to_the_exchange_of_the_copies_is_nothing_to_see() {
        let firehose = Firehose::new(Arc::default());
        let header = Properties::default().encode(0).unwrap();
        let copy = Message::new(&exchange_and_key(TRACE_EXCHANGE, "publish.x").unwrap(), &header, b"");
        let what = What::Delivered {
            queue: "q".into(),
            redelivered: false,
        };
        firehose.note(&copy, &Who::Http("guest".to_owned()), what);
        assert!(!firehose.has_noted(1));
    }
}
