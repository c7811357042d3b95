//! A thread that publishes.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::PollFlags;

use super::batch::Batch;
use super::confirms::Confirms;
use super::connection::{Connection, Received, Unasked, WAIT, Waiting, check_unasked};
use super::error::PerfError;
use super::worker::{Counters, Latencies, Phase, Stage, add};
use crate::clock;
use crate::protocol::frame::{Frame, FrameKind};
use crate::protocol::hot::{parse_ack, parse_nack};
use crate::protocol::method::{BASIC_ACK, BASIC_NACK, class_and_method};

/// How long a message that is half written when the run ends may still take; after that its connection is cut.
const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// When the messages of a fixed rate are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Nanoseconds between two messages.
    pub interval: f64,
    /// Nanoseconds after the start that the first is due.
    pub offset: f64,
}

pub struct Publisher {
    pub connection: Connection,
    pub batch: Batch,
    pub counters: Arc<Counters>,
    pub stage: Arc<Stage>,
    pub schedule: Option<Schedule>,
    /// Messages to publish, if not until the end of the run.
    pub quota: Option<u64>,
    /// Most unconfirmed messages, if confirms are asked for.
    pub confirm_window: Option<usize>,
}

impl Publisher {
    /// Publishes until the quota is sent and confirmed or the run ends. Returns the latencies of confirms.
    pub fn run(self) -> Result<Histogram<u64>, PerfError> {
        if self.schedule.is_some() {
            // Linux lets a thread oversleep by 50 us unless told otherwise, which would count as latency of the broker.
            let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        }
        let latencies = Latencies::new();
        self.stage.begin.wait();
        let mut running = Running {
            confirms: Confirms::new(),
            latencies: latencies?,
            published: 0,
            begin: self.stage.nanos(),
            publisher: self,
        };
        running.publish()?;
        let Running {
            publisher, latencies, ..
        } = running;
        publisher.connection.close()?;
        Ok(latencies.into_histogram())
    }
}

struct Running {
    publisher: Publisher,
    confirms: Confirms,
    latencies: Latencies,
    published: u64,
    /// When the schedule begins, in the stage's nanoseconds.
    begin: u64,
}

impl Running {
    fn publish(&mut self) -> Result<(), PerfError> {
        loop {
            let phase = self.publisher.stage.phase();
            self.latencies.follow(phase);
            if phase == Phase::Stop || (self.quota_left() == 0 && self.confirms.unconfirmed() == 0) {
                return Ok(());
            }
            let now = self.publisher.stage.nanos();
            let room = self.room();
            match room.min(self.due(now)) {
                0 if room == 0 => self.await_confirms()?,
                0 => self.await_schedule(now)?,
                count => self.send(count, now)?,
            }
        }
    }

    fn quota_left(&self) -> u64 {
        self.publisher
            .quota
            .map_or(u64::MAX, |quota| quota.saturating_sub(self.published))
    }

    /// How many messages window and quota permit.
    fn room(&self) -> u64 {
        let window = match self.publisher.confirm_window {
            Some(window) => window.saturating_sub(self.confirms.unconfirmed()) as u64,
            None => u64::MAX,
        };
        window.min(self.quota_left())
    }

    /// How many messages the schedule wants sent by now.
    fn due(&self, now: u64) -> u64 {
        let Some(schedule) = self.publisher.schedule else {
            return u64::MAX;
        };
        let elapsed = now.saturating_sub(self.begin) as f64 - schedule.offset;
        if elapsed < 0.0 {
            0
        } else {
            ((elapsed / schedule.interval) as u64 + 1).saturating_sub(self.published)
        }
    }

    /// When a message is due, in the stage's nanoseconds.
    fn scheduled(&self, schedule: Schedule, message: u64) -> u64 {
        self.begin + (schedule.offset + schedule.interval * message as f64) as u64
    }

    fn send(&mut self, count: u64, now: u64) -> Result<(), PerfError> {
        let chosen = self
            .publisher
            .batch
            .choose(usize::try_from(count).unwrap_or(usize::MAX));
        for (index, message) in chosen.clone().enumerate() {
            let time = match self.publisher.schedule {
                Some(schedule) => self.scheduled(schedule, self.published + index as u64),
                None => now,
            };
            // Without a schedule one stamp per batch says enough: it was written at one moment.
            if self.publisher.schedule.is_some() || index == 0 {
                self.publisher.batch.stamp(message, time);
            }
            if self.publisher.confirm_window.is_some() {
                self.confirms.published(time);
            } else if self.publisher.schedule.is_none() {
                break;
            }
        }
        let (mut sent, mut give_up) = (0, None);
        loop {
            let octets = self.publisher.batch.octets(&chosen, sent);
            let count = self.publisher.connection.send(octets)?;
            sent += count;
            if count == octets.len() {
                break;
            }
            self.await_socket(&mut give_up)?;
        }
        self.publisher.batch.stamp(chosen.start, 0);
        self.published += chosen.len() as u64;
        add(&self.publisher.counters.published, chosen.len() as u64);
        Ok(())
    }

    /// Waits until the socket takes more, reading what comes meanwhile.
    fn await_socket(&mut self, give_up: &mut Option<Instant>) -> Result<(), PerfError> {
        if self.publisher.connection.wait(PollFlags::IN | PollFlags::OUT, WAIT)? {
            self.listen(Waiting::No)?;
        }
        if self.publisher.stage.phase() == Phase::Stop {
            let now = clock::now();
            if now > *give_up.get_or_insert(now + LAST_WRITE_TIMEOUT) {
                return Err(PerfError::NoAnswer(
                    "(it does not read what is sent)",
                    LAST_WRITE_TIMEOUT.as_secs(),
                ));
            }
        }
        Ok(())
    }

    fn await_confirms(&mut self) -> Result<(), PerfError> {
        self.listen(Waiting::Yes)
    }

    /// Waits for the next message's time, taking confirms meanwhile.
    fn await_schedule(&mut self, now: u64) -> Result<(), PerfError> {
        let Some(schedule) = self.publisher.schedule else {
            return Ok(());
        };
        let pause = Duration::from_nanos(self.scheduled(schedule, self.published).saturating_sub(now)).min(WAIT);
        if self.publisher.confirm_window.is_none() {
            std::thread::sleep(pause);
        } else if self.publisher.connection.wait(PollFlags::IN, pause)? {
            self.listen(Waiting::No)?;
        }
        Ok(())
    }

    /// Takes what the broker has to say: confirms, as a rule.
    fn listen(&mut self, waiting: Waiting) -> Result<(), PerfError> {
        if self.publisher.connection.receive(waiting)? == Received::Nothing {
            return Ok(());
        }
        let now = self.publisher.stage.nanos();
        let Running {
            confirms,
            latencies,
            publisher,
            ..
        } = self;
        let (mut confirmed, mut nacked) = (0, 0);
        publisher.connection.each_frame(|frame| {
            let record = |nanos| latencies.record(now.saturating_sub(nanos));
            match confirm(&frame) {
                Some((delivery_tag, multiple, true)) => confirmed += confirms.settle(delivery_tag, multiple, record),
                Some((delivery_tag, multiple, false)) => nacked += confirms.settle(delivery_tag, multiple, record),
                None => match check_unasked(&frame)? {
                    Unasked::Blocked => add(&publisher.counters.blocked, 1),
                    Unasked::Cancelled | Unasked::Other => {}
                },
            }
            Ok(())
        })?;
        add(&publisher.counters.confirmed, confirmed);
        add(&publisher.counters.nacked, nacked);
        Ok(())
    }
}

/// Tag, `multiple`, and whether it is an ack, of a confirm.
#[inline]
fn confirm(frame: &Frame<'_>) -> Option<(u64, bool, bool)> {
    if frame.kind != FrameKind::Method {
        return None;
    }
    match class_and_method(frame.payload) {
        Some(BASIC_ACK) => parse_ack(frame.payload)
            .ok()
            .map(|ack| (ack.delivery_tag, ack.multiple, true)),
        Some(BASIC_NACK) => parse_nack(frame.payload)
            .ok()
            .map(|nack| (nack.delivery_tag, nack.multiple, false)),
        _ => None,
    }
}
