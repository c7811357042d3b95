//! A thread that consumes.

use std::sync::Arc;

use amq_protocol::protocol::basic;
use amq_protocol::types::FieldTable;
use hdrhistogram::Histogram;

use super::batch::STAMP_LEN;
use super::connection::{CHANNEL, Connection, Received, Unasked, Waiting, check_unasked};
use super::error::PerfError;
use super::topology::call_many;
use super::worker::{Counters, Latencies, Phase, Stage, add};
use crate::protocol::AMQPClass;
use crate::protocol::content::ContentHeader;
use crate::protocol::frame::{Frame, FrameKind};
use crate::protocol::hot::write_ack;
use crate::protocol::method::class_and_method;
use crate::protocol::wire::{Reader, short_string};

const BASIC_DELIVER: (u16, u16) = (60, 60);

pub struct Consumer {
    pub connection: Connection,
    pub counters: Arc<Counters>,
    pub stage: Arc<Stage>,
    pub queues: Vec<String>,
    /// `prefetch_count` of basic.qos; 0 is no limit.
    pub prefetch: u16,
    /// Deliveries per basic.ack; 0 consumes without acks.
    pub ack_every: u32,
    /// The queues hold messages already, and consuming begins with the run; else it begins before.
    pub backlog: bool,
}

impl Consumer {
    /// Consumes until the run ends. Returns the latencies of deliveries.
    pub fn run(mut self) -> Result<Histogram<u64>, PerfError> {
        let prepared = self.prepare().and_then(|()| Latencies::new());
        self.stage.begin.wait();
        let mut latencies = prepared?;
        let mut deliveries = Deliveries::new(self.ack_every);
        if self.backlog {
            self.connection.send_methods(CHANNEL, &self.consumes())?;
        }
        while self.stage.phase() != Phase::Stop {
            if self.connection.receive(Waiting::Yes)? == Received::Bytes {
                self.take(&mut deliveries, &mut latencies)?;
            }
        }
        deliveries.ack_rest();
        self.connection.send_all(&deliveries.acks)?;
        self.connection.close()?;
        Ok(latencies.into_histogram())
    }

    fn prepare(&mut self) -> Result<(), PerfError> {
        if self.prefetch > 0 {
            let qos = basic::Qos {
                prefetch_count: self.prefetch,
                global: false,
            };
            self.connection
                .call(CHANNEL, &AMQPClass::Basic(basic::AMQPMethod::Qos(qos)))?;
        }
        if self.backlog {
            return Ok(());
        }
        let consumes = self.consumes();
        call_many(&mut self.connection, &consumes)
    }

    /// A basic.consume for each queue. With a backlog none is answered, for deliveries would come in between.
    fn consumes(&self) -> Vec<AMQPClass> {
        let consume = |queue: &String| {
            AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
                queue: short_string(queue),
                consumer_tag: short_string(queue),
                no_local: false,
                no_ack: self.ack_every == 0,
                exclusive: false,
                nowait: self.backlog,
                arguments: FieldTable::default(),
            }))
        };
        self.queues.iter().map(consume).collect()
    }

    /// Takes the frames of one read, and acks what is due in one write.
    fn take(&mut self, deliveries: &mut Deliveries, latencies: &mut Latencies) -> Result<(), PerfError> {
        latencies.follow(self.stage.phase());
        let now = self.stage.nanos();
        let counters = &self.counters;
        self.connection.each_frame(|frame| {
            if deliveries.take(&frame, |stamp| latencies.record(now.saturating_sub(stamp)))? {
                return Ok(());
            }
            match check_unasked(&frame)? {
                Unasked::Blocked => add(&counters.blocked, 1),
                Unasked::Cancelled => return Err(PerfError::Unexpected("basic.cancel: a queue is gone".to_owned())),
                Unasked::Other => {}
            }
            Ok(())
        })?;
        add(&counters.received, std::mem::take(&mut deliveries.complete));
        if !deliveries.acks.is_empty() {
            self.connection.send_all(&deliveries.acks)?;
            deliveries.acks.clear();
        }
        Ok(())
    }
}

/// Counts deliveries and says which acks are due.
struct Deliveries {
    ack_every: u32,
    unacked: u32,
    delivery_tag: u64,
    /// Octets of the body that have not come yet.
    body_left: u64,
    /// The next body frame is the first of its message.
    body_begins: bool,
    /// Deliveries that are complete and not counted yet.
    complete: u64,
    /// Frames to be sent.
    acks: Vec<u8>,
}

impl Deliveries {
    fn new(ack_every: u32) -> Deliveries {
        Deliveries {
            ack_every,
            unacked: 0,
            delivery_tag: 0,
            body_left: 0,
            body_begins: false,
            complete: 0,
            acks: Vec::new(),
        }
    }

    /// Takes a frame if it belongs to a delivery; `stamped` is told the stamp of a message that has one.
    #[inline]
    fn take(&mut self, frame: &Frame<'_>, stamped: impl FnOnce(u64)) -> Result<bool, PerfError> {
        match frame.kind {
            FrameKind::Method if class_and_method(frame.payload) == Some(BASIC_DELIVER) => {
                self.delivery_tag = delivery_tag(frame.payload)?;
            }
            FrameKind::Header => {
                self.body_left = ContentHeader::parse(frame.payload).map_err(|_| malformed())?.body_size;
                self.body_begins = true;
                if self.body_left == 0 {
                    self.completed();
                }
            }
            FrameKind::Body => {
                if std::mem::take(&mut self.body_begins)
                    && let Some(stamp) = frame.payload.first_chunk::<STAMP_LEN>()
                    && let stamp @ 1.. = u64::from_be_bytes(*stamp)
                {
                    stamped(stamp);
                }
                self.body_left = self
                    .body_left
                    .checked_sub(frame.payload.len() as u64)
                    .ok_or_else(malformed)?;
                if self.body_left == 0 {
                    self.completed();
                }
            }
            FrameKind::Method | FrameKind::Heartbeat => return Ok(false),
        }
        Ok(true)
    }

    #[inline]
    fn completed(&mut self) {
        self.complete += 1;
        self.unacked += 1;
        if self.unacked == self.ack_every {
            self.ack();
        }
    }

    fn ack(&mut self) {
        write_ack(&mut self.acks, CHANNEL, self.delivery_tag, self.ack_every > 1);
        self.unacked = 0;
    }

    /// Acks what is left over at the end.
    fn ack_rest(&mut self) {
        if self.ack_every > 0 && self.unacked > 0 {
            self.ack();
        }
    }
}

#[inline]
fn delivery_tag(payload: &[u8]) -> Result<u64, PerfError> {
    let mut reader = Reader::new(payload.get(4..).unwrap_or_default());
    reader
        .shortstr_octets()
        .and_then(|_| reader.u64())
        .map_err(|_| malformed())
}

fn malformed() -> PerfError {
    PerfError::Unexpected("a malformed delivery".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::next_frame;
    use crate::protocol::hot::write_deliver;
    use crate::protocol::message::MessageView;

    fn delivery(delivery_tag: u64, body: &[u8], frame_max: u32) -> Vec<u8> {
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&(body.len() as u64).to_be_bytes());
        header.extend_from_slice(&[0, 0]);
        let message = MessageView {
            exchange_and_key: &[0, 1, b'q'],
            header: &header,
            body,
        };
        let mut out = Vec::new();
        write_deliver(&mut out, CHANNEL, &[1, b'c'], delivery_tag, false, &message, frame_max);
        out
    }

    /// Feeds frames; the stamps that were seen.
    fn feed(deliveries: &mut Deliveries, mut octets: &[u8]) -> Vec<u64> {
        let mut stamps = Vec::new();
        while let Some(frame) = next_frame(octets, 131_072).unwrap() {
            assert!(deliveries.take(&frame, |stamp| stamps.push(stamp)).unwrap());
            octets = &octets[frame.encoded_len()..];
        }
        assert!(octets.is_empty());
        stamps
    }

    #[test]
    fn a_delivery_counts_when_its_last_frame_is_there() {
        let mut deliveries = Deliveries::new(1);
        let whole = delivery(1, &[7; 100], 4096);
        let without_body = whole.len() - 108;
        assert!(feed(&mut deliveries, &whole[..without_body]).is_empty());
        assert_eq!((deliveries.complete, deliveries.acks.len()), (0, 0));
        assert_eq!(feed(&mut deliveries, &whole[without_body..]), [0x0707_0707_0707_0707]);
        assert_eq!(deliveries.complete, 1);
        let mut ack = Vec::new();
        write_ack(&mut ack, CHANNEL, 1, false);
        assert_eq!(deliveries.acks, ack);
    }

    #[test]
    fn the_stamp_of_a_split_body_is_in_its_first_frame() {
        let mut deliveries = Deliveries::new(0);
        let mut body = vec![9; 10_000];
        body[..8].copy_from_slice(&5_u64.to_be_bytes());
        assert_eq!(feed(&mut deliveries, &delivery(1, &body, 4096)), [5]);
        assert_eq!((deliveries.complete, deliveries.acks.len()), (1, 0));
    }

    #[test]
    fn empty_bodies_and_bodies_without_stamp_count_too() {
        let mut deliveries = Deliveries::new(0);
        assert!(feed(&mut deliveries, &delivery(1, &[], 4096)).is_empty());
        assert!(feed(&mut deliveries, &delivery(2, &[0; 8], 4096)).is_empty());
        assert!(feed(&mut deliveries, &delivery(3, &[1; 7], 4096)).is_empty());
        assert_eq!(deliveries.complete, 3);
    }

    #[test]
    fn every_nth_delivery_acks_all_before_it_and_the_end_acks_the_rest() {
        let mut deliveries = Deliveries::new(3);
        for tag in 1..=7 {
            feed(&mut deliveries, &delivery(tag, b"x", 4096));
        }
        let mut expected = Vec::new();
        write_ack(&mut expected, CHANNEL, 3, true);
        write_ack(&mut expected, CHANNEL, 6, true);
        assert_eq!(deliveries.acks, expected);
        deliveries.ack_rest();
        write_ack(&mut expected, CHANNEL, 7, true);
        assert_eq!(deliveries.acks, expected);
        deliveries.ack_rest();
        assert_eq!(deliveries.acks, expected);
    }

    #[test]
    fn more_body_than_announced_is_an_error() {
        let mut deliveries = Deliveries::new(0);
        let octets = [3, 0, 1, 0, 0, 0, 1, b'x', 0xCE];
        let frame = next_frame(&octets, 4096).unwrap().unwrap();
        assert!(deliveries.take(&frame, |_| {}).is_err());
    }
}
