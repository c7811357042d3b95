//! The past of the whole broker, and of those objects that somebody draws graphs of.
//!
//! Of ten thousand queues nobody looks at more than a few, so an object has a past from when it was asked for first, until nobody
//! has asked for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::history::{Figures, History, Period};
use super::{Churn, Depth, Disk, Flow, Octets, Publishes};
use crate::vhost::QueueMoment;

/// Samples of the whole broker: ten minutes, an hour, eight hours, a day.
pub const PERIODS_OF_BROKER: [Period; 4] = [TEN_MINUTES, HOUR, period(600, 28_800), period(1800, 86_400)];
/// Samples of other objects.
pub const PERIODS: [Period; 2] = [TEN_MINUTES, HOUR];
const TEN_MINUTES: Period = period(5, 600);
const HOUR: Period = period(60, 3600);

/// So many objects are watched at once; with one more, the one that nobody asked for longest is forgotten.
const WATCHED_MAX: usize = 64;
/// An object that nobody asked for so long is watched no more.
const WATCHED_TIME: Duration = Duration::from_secs(900);

const fn period(step_seconds: u64, seconds: u64) -> Period {
    Period { step_seconds, seconds }
}

/// What a figure is about; a query asks for the past of each kind by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Lengths,
    Messages,
    Octets,
}

/// A figure by RabbitMQ's name.
pub struct Figure<S> {
    pub name: &'static str,
    pub kind: Kind,
    value: fn(&S) -> u64,
}

/// The figures that an object has, in the order in which their values are kept.
pub type Names = Vec<(&'static str, Kind)>;

/// Looks at an object; none if it is gone.
pub type Probe = Arc<dyn Fn() -> Option<Figures> + Send + Sync>;

/// What is counted of the whole broker.
#[derive(Default)]
pub struct Whole {
    pub flow: Flow<u64>,
    pub disk: Disk<u64>,
    pub depth: Depth<u64>,
    pub churn: Churn<u64>,
}

const fn figure<S>(name: &'static str, kind: Kind, value: fn(&S) -> u64) -> Figure<S> {
    Figure { name, kind, value }
}

pub static WHOLE: [Figure<Whole>; 24] = [
    figure("publish", Kind::Messages, |whole| whole.flow.publish),
    figure("confirm", Kind::Messages, |whole| whole.flow.confirm),
    figure("return_unroutable", Kind::Messages, |whole| {
        whole.flow.return_unroutable
    }),
    figure("drop_unroutable", Kind::Messages, |whole| whole.flow.drop_unroutable),
    figure("deliver", Kind::Messages, |whole| whole.flow.deliver),
    figure("deliver_no_ack", Kind::Messages, |whole| whole.flow.deliver_no_ack),
    figure("deliver_get", Kind::Messages, |whole| whole.flow.deliver_get()),
    figure("get", Kind::Messages, |whole| whole.flow.get),
    figure("get_no_ack", Kind::Messages, |whole| whole.flow.get_no_ack),
    figure("get_empty", Kind::Messages, |whole| whole.flow.get_empty),
    figure("ack", Kind::Messages, |whole| whole.flow.ack),
    figure("redeliver", Kind::Messages, |whole| whole.flow.redeliver),
    figure("disk_reads", Kind::Messages, |whole| whole.disk.reads),
    figure("disk_writes", Kind::Messages, |whole| whole.disk.writes),
    figure("messages", Kind::Lengths, |whole| whole.depth.messages()),
    figure("messages_ready", Kind::Lengths, |whole| whole.depth.ready),
    figure("messages_unacknowledged", Kind::Lengths, |whole| whole.depth.unacked),
    figure("connection_created", Kind::Messages, |whole| {
        whole.churn.connection_created
    }),
    figure("connection_closed", Kind::Messages, |whole| {
        whole.churn.connection_closed
    }),
    figure("channel_created", Kind::Messages, |whole| whole.churn.channel_created),
    figure("channel_closed", Kind::Messages, |whole| whole.churn.channel_closed),
    figure("queue_declared", Kind::Messages, |whole| whole.churn.queue_declared),
    figure("queue_created", Kind::Messages, |whole| whole.churn.queue_created),
    figure("queue_deleted", Kind::Messages, |whole| whole.churn.queue_deleted),
];

pub static QUEUE: [Figure<QueueMoment>; 14] = [
    figure("publish", Kind::Messages, |queue| queue.totals.published),
    figure("deliver", Kind::Messages, |queue| queue.totals.delivered),
    figure("deliver_no_ack", Kind::Messages, |queue| queue.totals.delivered_no_ack),
    figure("deliver_get", Kind::Messages, |queue| {
        Flow::of_queue(&queue.totals).deliver_get()
    }),
    figure("get", Kind::Messages, |queue| queue.totals.got),
    figure("get_no_ack", Kind::Messages, |queue| queue.totals.got_no_ack),
    figure("get_empty", Kind::Messages, |queue| queue.totals.got_nothing),
    figure("ack", Kind::Messages, |queue| queue.totals.acked),
    figure("redeliver", Kind::Messages, |queue| queue.totals.redelivered),
    figure("disk_reads", Kind::Messages, |queue| queue.totals.disk_reads),
    figure("disk_writes", Kind::Messages, |queue| queue.totals.disk_writes),
    figure("messages", Kind::Lengths, |queue| {
        Depth::of_queue(&queue.counts).messages()
    }),
    figure("messages_ready", Kind::Lengths, |queue| queue.counts.ready as u64),
    figure("messages_unacknowledged", Kind::Lengths, |queue| {
        queue.counts.unacked as u64
    }),
];

pub static EXCHANGE: [Figure<Publishes<u64>>; 5] = [
    figure("publish_in", Kind::Messages, |exchange| exchange.received),
    figure("publish_out", Kind::Messages, |exchange| exchange.routed),
    figure("confirm", Kind::Messages, |exchange| exchange.confirmed),
    figure("return_unroutable", Kind::Messages, |exchange| exchange.returned),
    figure("drop_unroutable", Kind::Messages, |exchange| exchange.dropped),
];

pub static CONNECTION: [Figure<Octets<u64>>; 2] = [
    figure("recv_oct", Kind::Octets, |octets| octets.received),
    figure("send_oct", Kind::Octets, |octets| octets.sent),
];

pub static CHANNEL: [Figure<Flow<u64>>; 12] = [
    figure("publish", Kind::Messages, |flow| flow.publish),
    figure("confirm", Kind::Messages, |flow| flow.confirm),
    figure("return_unroutable", Kind::Messages, |flow| flow.return_unroutable),
    figure("drop_unroutable", Kind::Messages, |flow| flow.drop_unroutable),
    figure("deliver", Kind::Messages, |flow| flow.deliver),
    figure("deliver_no_ack", Kind::Messages, |flow| flow.deliver_no_ack),
    figure("deliver_get", Kind::Messages, |flow| flow.deliver_get()),
    figure("get", Kind::Messages, |flow| flow.get),
    figure("get_no_ack", Kind::Messages, |flow| flow.get_no_ack),
    figure("get_empty", Kind::Messages, |flow| flow.get_empty),
    figure("ack", Kind::Messages, |flow| flow.ack),
    figure("redeliver", Kind::Messages, |flow| flow.redeliver),
];

/// The names of figures.
pub fn names<S>(figures: &[Figure<S>]) -> Names {
    figures.iter().map(|figure| (figure.name, figure.kind)).collect()
}

/// The values of figures.
pub fn values<S>(figures: &[Figure<S>], of: &S) -> Figures {
    figures.iter().map(|figure| (figure.value)(of)).collect()
}

/// All that is kept of the past.
pub struct Past {
    whole: Mutex<History>,
    watched: Mutex<HashMap<String, Watched>>,
}

struct Watched {
    probe: Probe,
    history: History,
    asked: Instant,
}

impl Default for Past {
    fn default() -> Past {
        Past {
            whole: Mutex::new(History::new(&PERIODS_OF_BROKER)),
            watched: Mutex::default(),
        }
    }
}

impl Past {
    /// Reads what is known of the whole broker.
    pub fn of_broker<R>(&self, read: impl FnOnce(&History) -> R) -> R {
        read(&self.whole.lock())
    }

    /// Reads what is known of an object, and watches it from now on. What tells it from others must not be used again for another
    /// object as long as that is watched.
    pub fn of<R>(&self, key: String, probe: Probe, now: (Instant, u64), read: impl FnOnce(&History) -> R) -> R {
        let (now, now_seconds) = now;
        let mut watched = self.watched.lock();
        if !watched.contains_key(&key) && watched.len() >= WATCHED_MAX {
            forget_longest_ago(&mut watched);
        }
        let entry = watched.entry(key).or_insert_with(|| Watched {
            probe,
            history: History::new(&PERIODS),
            asked: now,
        });
        entry.asked = now;
        // Its first sample is that of now.
        if let Some(figures) = (entry.probe)() {
            entry.history.note(now_seconds, &figures);
        }
        read(&entry.history)
    }

    /// Takes samples of all, if their time has come.
    pub fn note(&self, whole: &Whole, (now, now_seconds): (Instant, u64)) {
        self.whole.lock().note(now_seconds, &values(&WHOLE, whole));
        self.watched.lock().retain(|_, watched| {
            let figures = (watched.probe)();
            if let Some(figures) = &figures {
                watched.history.note(now_seconds, figures);
            }
            figures.is_some() && now.saturating_duration_since(watched.asked) < WATCHED_TIME
        });
    }

    #[cfg(test)]
    fn watched(&self) -> usize {
        self.watched.lock().len()
    }
}

fn forget_longest_ago(watched: &mut HashMap<String, Watched>) {
    let oldest = watched.iter().min_by_key(|(_, watched)| watched.asked);
    if let Some(key) = oldest.map(|(key, _)| key.clone()) {
        watched.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::history::Range;
    use super::*;

    fn now(base: Instant, seconds: u64) -> (Instant, u64) {
        (base + Duration::from_secs(seconds), 10_000 + seconds)
    }

    fn constant(value: u64) -> Probe {
        Arc::new(move || Some([value].into()))
    }

    const LATELY: Range = Range {
        first: 9_990,
        last: 10_010,
        step_seconds: 5,
    };

    #[test]
    fn an_object_is_watched_from_when_it_was_asked_for() {
        let (past, base, count) = (Past::default(), Instant::now(), Arc::new(AtomicU64::new(1)));
        let probe: Probe = {
            let count = count.clone();
            Arc::new(move || Some([count.fetch_add(1, Ordering::Relaxed)].into()))
        };
        past.of("a".into(), probe.clone(), now(base, 0), |_| ());
        for second in 1..=10 {
            past.note(&Whole::default(), now(base, second));
        }
        let known = past.of("a".into(), probe, now(base, 10), |history| {
            let samples = history.samples(LATELY);
            samples
                .iter()
                .map(|(time, figures)| (*time, figures[0]))
                .collect::<Vec<_>>()
        });
        assert_eq!(known, [(10_010, 11), (10_005, 6), (10_000, 1)]);
    }

    #[test]
    fn what_is_gone_or_nobody_asks_for_is_forgotten() {
        let (past, base) = (Past::default(), Instant::now());
        past.of("kept".into(), constant(1), now(base, 0), |_| ());
        past.of("gone".into(), Arc::new(|| None), now(base, 0), |_| ());
        past.note(&Whole::default(), now(base, 1));
        assert_eq!(past.watched(), 1);
        past.note(&Whole::default(), now(base, WATCHED_TIME.as_secs()));
        assert_eq!(past.watched(), 0);
    }

    #[test]
    fn no_more_are_watched_than_there_is_room_for() {
        let (past, base) = (Past::default(), Instant::now());
        for number in 0..WATCHED_MAX as u64 + 10 {
            past.of(format!("{number}"), constant(number), now(base, number), |_| ());
        }
        assert_eq!(past.watched(), WATCHED_MAX);
        let first = past.watched.lock().contains_key("0");
        assert!(!first, "the one that nobody asked for longest went");
    }

    #[test]
    fn the_broker_is_always_watched() {
        let (past, base) = (Past::default(), Instant::now());
        for second in 0..=10 {
            let mut whole = Whole::default();
            whole.depth.ready = second;
            past.note(&whole, now(base, second));
        }
        let at = WHOLE.iter().position(|figure| figure.name == "messages").unwrap();
        let lengths = past.of_broker(|history| {
            let samples = history.samples(LATELY);
            samples.iter().map(|(_, figures)| figures[at]).collect::<Vec<_>>()
        });
        assert_eq!(lengths, [10, 5, 0]);
    }
}
