//! A publisher's side of flow control: deliveries and acknowledgements of ready consumers come before more publishes.
//!
//! A connection that has used up its credit on queues whose consumers are behind is not read for a moment:
//!
//! ```text
//!              credit used up, consumers behind
//!   reading ─────────────────────────────────────▶ waiting
//!      ▲                                              │ the queue is short again, or PAUSE_MAX is over
//!      ├──────────────────────────────────────────────┤
//!      │                                              │ and the consumers took next to nothing while it waited
//!      └───── for a while without waiting ◀───────────┘
//! ```
//!
//! Whether they did is told by rates: what they took per second of waiting, beside what the connection publishes per second
//! even if it waits as long as it may. That is looked at only when the pauses together have been long enough to tell, because
//! on a busy machine a consumer's turn may be a whole pause away.
//!
//! It waits for the queue whose backlog is the shortest, and not at all while one of its queues has consumers that
//! could soon have nothing to do: a slow consumer slows nobody else. Nor does a connection wait that itself consumes,
//! because its acknowledgements come behind its publishes. A queue without consumers takes all it is given.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Pause, Session};
use crate::session::channel::ChannelConsumer;
use crate::vhost::QueueHandle;
use crate::vhost::flow::{Demand, Wait};

/// Messages for queues with a backlog that a connection may publish between two pauses.
const CREDIT_MESSAGES: usize = 1000;
/// The same in bytes of their bodies.
const CREDIT_BYTES: u64 = 1024 * 1024;
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// How long pauses together must have been before they tell how fast consumers are.
const JUDGED_AFTER: Duration = Duration::from_millis(40);
/// Consumers that take less than one part in so many of what the connection would publish with the longest pauses are slow
/// by themselves: waiting does not help them.
const HOPELESS_DIVISOR: f64 = 8.0;
/// After waiting in vain a connection does not wait for so many times as long: slow consumers cost it one part in so many
/// of its time.
const RETRY_FACTOR: u32 = 20;

/// What a connection has published to queues with a backlog.
#[derive(Default)]
pub struct Flow {
    used_messages: usize,
    used_bytes: u64,
    /// When this input came, and the first of those that used up the credit.
    input_began: Option<Instant>,
    credit_began: Option<Instant>,
    /// Of the queues of this input with consumers behind, the one with the shortest backlog.
    behind: Option<(usize, Arc<QueueHandle>)>,
    /// One of the queues of this input has consumers that are not behind.
    has_near: bool,
    retry_at: Option<Instant>,
    waited: Waited,
}

/// Pauses since the consumers were last judged.
#[derive(Default)]
struct Waited {
    time: Duration,
    /// What consumers took meanwhile.
    taken: u64,
    /// What the connection publishes in such a time.
    published: f64,
}

impl Waited {
    /// Were the consumers slow? None if it is too early to tell.
    fn in_vain(&self) -> Option<bool> {
        // Of a few large messages even fast consumers may have taken none yet.
        let can_tell = self.time >= JUDGED_AFTER && self.published >= HOPELESS_DIVISOR;
        can_tell.then_some((self.taken as f64) * HOPELESS_DIVISOR < self.published)
    }
}

impl Flow {
    /// What follows comes from another read.
    pub fn input_begins(&mut self, now: Instant) {
        self.input_began = Some(now);
        self.behind = None;
        self.has_near = false;
    }

    /// A batch was published to a queue.
    pub fn published(&mut self, queue: &Arc<QueueHandle>, demand: Demand, messages: usize) {
        match demand {
            Demand::None => {}
            Demand::Near => self.has_near = true,
            Demand::Behind { ready, grown_bytes } => {
                if self.used_messages == 0 {
                    self.credit_began = self.input_began;
                }
                self.used_messages += messages;
                self.used_bytes += grown_bytes;
                if self.behind.as_ref().is_none_or(|(shortest, _)| ready < *shortest) {
                    self.behind = Some((ready, queue.clone()));
                }
            }
        }
    }

    /// Begins a new credit; how many messages per second the last one was, with the longest pause behind it.
    fn renew_credit(&mut self, now: Instant) -> f64 {
        let began = self.credit_began.take().unwrap_or(now);
        let messages = std::mem::take(&mut self.used_messages);
        self.used_bytes = 0;
        let took = now.saturating_duration_since(began).max(PAUSE_MAX);
        messages as f64 / took.as_secs_f64()
    }

    /// Adds a pause to what is known of the consumers, and judges them when it is enough.
    fn waited(&mut self, pause: &FlowPause, now: Instant) {
        let time = now.saturating_duration_since(pause.began);
        self.waited.time += time;
        self.waited.taken += pause.wait.taken() - pause.taken_before;
        self.waited.published += pause.publish_rate * time.as_secs_f64();
        if let Some(in_vain) = self.waited.in_vain() {
            let waited = std::mem::take(&mut self.waited);
            self.retry_at = in_vain.then(|| now + waited.time * RETRY_FACTOR);
        }
    }

    /// The queue to wait for, if it is time to wait.
    fn take_behind(&mut self, now: Instant) -> Option<Arc<QueueHandle>> {
        let behind = self.behind.take();
        let has_credit = self.used_messages < CREDIT_MESSAGES && self.used_bytes < CREDIT_BYTES;
        if self.has_near || has_credit || self.retry_at.is_some_and(|retry_at| now < retry_at) {
            return None;
        }
        behind.map(|(_, queue)| queue)
    }
}

/// A pause for the consumers of one queue.
pub struct FlowPause {
    wait: Wait,
    taken_before: u64,
    /// Messages that the connection published per second before.
    publish_rate: f64,
    began: Instant,
}

impl Session {
    /// Did the last input go to queues whose consumers are behind? Then
    /// [`pause_for_consumers`](Session::pause_for_consumers) wants to be called.
    pub fn is_ahead_of_consumers(&self) -> bool {
        self.flow.behind.is_some()
    }

    /// Takes no more input for a moment, if consumers need it.
    pub fn pause_for_consumers(&mut self, now: Instant) {
        let Some(queue) = self.flow.take_behind(now) else {
            return;
        };
        if !self.accepts_input() || self.consumes() {
            return;
        }
        let publish_rate = self.flow.renew_credit(now);
        let Some(wait) = Wait::start(queue, &self.outbox) else {
            return;
        };
        self.info.set_in_flow(now);
        self.pause = Some(Pause::Flow(FlowPause {
            taken_before: wait.taken(),
            wait,
            publish_rate,
            began: now,
        }));
    }

    /// Does it wait for consumers?
    pub fn is_in_flow(&self) -> bool {
        matches!(self.pause, Some(Pause::Flow(_)))
    }

    fn consumes(&self) -> bool {
        let channels = self.channels.iter().flatten();
        let mut consumers = channels.flat_map(|channel| channel.consumers.values());
        consumers.any(|consumer| matches!(consumer, ChannelConsumer::Queue { .. }))
    }

    /// When the pause for consumers is over at the latest.
    pub(super) fn flow_deadline(&self) -> Option<Instant> {
        match &self.pause {
            Some(Pause::Flow(pause)) => Some(pause.began + PAUSE_MAX),
            _ => None,
        }
    }

    pub(super) fn look_at_flow(&mut self, now: Instant) {
        if self.flow_deadline().is_some_and(|deadline| deadline <= now) {
            self.flow_is_over(now);
        }
    }

    /// The queue that was waited for is short again, or it took too long.
    pub(super) fn flow_is_over(&mut self, now: Instant) {
        match self.pause.take() {
            Some(Pause::Flow(pause)) => self.flow.waited(&pause, now),
            other => self.pause = other,
        }
    }
}
