//! A publisher's side of flow control: deliveries and acknowledgements of ready consumers come before more publishes.
//!
//! A connection that has used up its credit on queues whose consumers are behind is not read for a moment:
//!
//! ```text
//!              credit used up, consumers behind
//!   reading ─────────────────────────────────────▶ waiting
//!      ▲                                              │ the queue is short again, or PAUSE_MAX is over
//!      ├──────────────────────────────────────────────┤
//!      │                                              │ at a look the consumers have taken next to nothing
//!      └───── for RETRY_INTERVAL without waiting ◀────┘
//! ```
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
/// How often a pause looks whether it is of any use.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Consumers that take less than one part in so many of what the input before the pause brought, or could have brought in
/// a look's time, are slow by themselves: waiting does not help them.
const HOPELESS_DIVISOR: u64 = 8;
/// So long a publisher does not wait for slow consumers again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// What a connection has published to queues with a backlog.
#[derive(Default)]
pub struct Flow {
    used_messages: usize,
    used_bytes: u64,
    /// Of these, the messages of this input, and when it began.
    of_this_input: usize,
    input_began: Option<Instant>,
    /// Of the queues of this input with consumers behind, the one with the shortest backlog.
    behind: Option<(usize, Arc<QueueHandle>)>,
    /// One of the queues of this input has consumers that are not behind.
    has_near: bool,
    retry_at: Option<Instant>,
}

impl Flow {
    /// What follows comes from another read.
    pub fn input_begins(&mut self, now: Instant) {
        self.input_began = Some(now);
        self.behind = None;
        self.has_near = false;
        self.of_this_input = 0;
    }

    /// A batch was published to a queue.
    pub fn published(&mut self, queue: &Arc<QueueHandle>, demand: Demand, messages: usize) {
        match demand {
            Demand::None => {}
            Demand::Near => self.has_near = true,
            Demand::Behind { ready, grown_bytes } => {
                self.of_this_input += messages;
                self.used_messages += messages;
                self.used_bytes += grown_bytes;
                if self.behind.as_ref().is_none_or(|(shortest, _)| ready < *shortest) {
                    self.behind = Some((ready, queue.clone()));
                }
            }
        }
    }

    /// What this input brought; less if it took longer than a look, as on a busy machine.
    fn published_per_look(&self, now: Instant) -> u64 {
        let took = self
            .input_began
            .map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let looks = took.div_duration_f64(LOOK_INTERVAL).max(1.0);
        (self.of_this_input as f64 / looks) as u64
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
    /// What the connection publishes in a look's time.
    published: u64,
    taken_before: u64,
    look_at: Instant,
    end: Instant,
}

/// What a look at a pause finds.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Wait,
    Over,
    Hopeless,
}

impl FlowPause {
    /// Is the pause still of use?
    fn look(&mut self, now: Instant) -> Look {
        if now < self.look_at {
            return Look::Wait;
        }
        let is_over = now >= self.end;
        let taken = self.wait.taken() - self.taken_before;
        // A few large messages may take longer than to the first look.
        let can_tell = is_over || self.published >= HOPELESS_DIVISOR;
        if can_tell && taken * HOPELESS_DIVISOR < self.published {
            return Look::Hopeless;
        }
        if is_over {
            return Look::Over;
        }
        self.look_at = now + LOOK_INTERVAL;
        Look::Wait
    }
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
        self.flow.used_messages = 0;
        self.flow.used_bytes = 0;
        let Some(wait) = Wait::start(queue, &self.outbox) else {
            return;
        };
        self.info.set_in_flow(now);
        self.pause = Some(Pause::Flow(FlowPause {
            taken_before: wait.taken(),
            wait,
            published: self.flow.published_per_look(now),
            look_at: now + LOOK_INTERVAL,
            end: now + PAUSE_MAX,
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

    /// When the pause for consumers wants to be looked at.
    pub(super) fn flow_deadline(&self) -> Option<Instant> {
        match &self.pause {
            Some(Pause::Flow(pause)) => Some(pause.look_at.min(pause.end)),
            _ => None,
        }
    }

    pub(super) fn look_at_flow(&mut self, now: Instant) {
        let Some(Pause::Flow(pause)) = &mut self.pause else {
            return;
        };
        match pause.look(now) {
            Look::Wait => {}
            Look::Over => self.pause = None,
            Look::Hopeless => {
                self.pause = None;
                self.flow.retry_at = Some(now + RETRY_INTERVAL);
            }
        }
    }

    /// The queue that was waited for is short again.
    pub(super) fn flow_is_over(&mut self) {
        if self.is_in_flow() {
            self.pause = None;
        }
    }
}
