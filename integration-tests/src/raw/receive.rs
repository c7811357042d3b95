//! Reading what the broker says.

use super::{AMQPClass, AMQPFrame, BasicProperties, FRAME_OVERHEAD, Method, RawClient, hung_up};
use crate::wait::DEADLINE;
use amq_protocol::frame::parse_frame;
use std::io::Read;
use std::time::{Duration, Instant};

/// A message as it came: the method that announced it, its properties and its body.
#[derive(Clone, Debug)]
pub struct Content {
    pub method: AMQPClass,
    pub properties: BasicProperties,
    pub body: Vec<u8>,
    /// Octets of the largest body frame, with its header and end octet.
    pub largest_frame: usize,
}

/// What came before a deadline.
#[derive(Debug)]
pub enum Received {
    Frame(Box<AMQPFrame>),
    /// The broker has closed the socket.
    End,
    Nothing(std::io::Error),
}

impl RawClient {
    /// The next frame, or `None` when the broker has closed the socket.
    #[track_caller]
    pub fn next_frame(&mut self) -> Option<AMQPFrame> {
        self.next_frame_within(DEADLINE)
    }

    /// As [`RawClient::next_frame`] with a deadline of its own.
    #[track_caller]
    pub fn next_frame_within(&mut self, time: Duration) -> Option<AMQPFrame> {
        match self.receive_within(time) {
            Received::Frame(frame) => Some(*frame),
            Received::End => None,
            Received::Nothing(error) => panic!("no frame within {time:?}: {error}"),
        }
    }

    /// Waits for a frame as long as `time`, for callers to whom silence is an answer too.
    #[track_caller]
    pub fn receive_within(&mut self, time: Duration) -> Received {
        let give_up = Instant::now() + time;
        loop {
            if let Some(frame) = self.take_frame() {
                return Received::Frame(Box::new(frame));
            }
            match self.read_before(give_up) {
                Ok(0) => {
                    assert!(
                        self.buffer.is_empty(),
                        "the socket was closed inside a frame: {:?}",
                        self.buffer
                    );
                    return Received::End;
                }
                Ok(_) => {}
                Err(error) if hung_up(error.kind()) => return Received::End,
                Err(error) => return Received::Nothing(error),
            }
        }
    }

    /// The next frame as it came: its type, its channel and its payload.
    #[track_caller]
    pub fn next_frame_bytes(&mut self) -> (u8, u16, Vec<u8>) {
        let give_up = Instant::now() + DEADLINE;
        loop {
            if let Some(bytes) = self.take_frame_bytes() {
                let channel = u16::from_be_bytes([bytes[1], bytes[2]]);
                return (bytes[0], channel, bytes[7..bytes.len() - 1].to_vec());
            }
            let length = self.read_before(give_up).expect("a frame");
            assert_ne!(length, 0, "expected a frame, but the socket was closed");
        }
    }

    fn read_before(&mut self, give_up: Instant) -> std::io::Result<usize> {
        let left = give_up.saturating_duration_since(Instant::now());
        self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut part = [0; 65536];
        let length = self.stream.read(&mut part)?;
        self.buffer.extend_from_slice(&part[..length]);
        Ok(length)
    }

    /// The bytes of a whole frame from the front of the buffer, if they are there.
    fn take_frame_bytes(&mut self) -> Option<Vec<u8>> {
        let length = if self.buffer.starts_with(b"AMQP") {
            8
        } else {
            let size = self.buffer.get(3..7)?;
            7 + u32::from_be_bytes(size.try_into().unwrap()) as usize + 1
        };
        (self.buffer.len() >= length).then(|| self.buffer.drain(..length).collect())
    }

    #[track_caller]
    fn take_frame(&mut self) -> Option<AMQPFrame> {
        let bytes = self.take_frame_bytes()?;
        match parse_frame(&bytes[..]) {
            Ok((_, frame)) => Some(frame),
            Err(error) => {
                panic!("the broker sent a frame that does not parse: {error:?}\n{bytes:?}")
            }
        }
    }

    /// All bytes up to the end of the stream, as they come.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let give_up = Instant::now() + DEADLINE;
        loop {
            match self.read_before(give_up) {
                Ok(0) => return std::mem::take(&mut self.buffer),
                Ok(_) => {}
                Err(error) if hung_up(error.kind()) => return std::mem::take(&mut self.buffer),
                Err(error) => panic!("the stream does not end: {error}"),
            }
        }
    }

    /// The next method on any channel. Heartbeats are skipped; contents are an error.
    #[track_caller]
    pub fn next_method(&mut self) -> (u16, AMQPClass) {
        loop {
            match self.next_frame() {
                Some(AMQPFrame::Heartbeat) => {}
                Some(AMQPFrame::Method(channel, method)) => return (channel, method),
                Some(other) => panic!("expected a method, got {other:?}"),
                None => panic!("expected a method, but the socket was closed"),
            }
        }
    }

    /// The method `M` on `channel`, which must be what comes next.
    #[track_caller]
    pub fn expect<M: Method>(&mut self, channel: u16) -> M {
        let (on_channel, method) = self.next_method();
        assert_eq!(on_channel, channel, "on another channel: {method:?}");
        M::unwrap_from(method).unwrap_or_else(|method| panic!("expected {}, got {method:?}", M::NAME))
    }

    /// The next message, whether delivered, returned or got.
    #[track_caller]
    pub fn expect_content(&mut self, channel: u16) -> Content {
        let (on_channel, method) = self.next_method();
        assert_eq!(on_channel, channel, "on another channel: {method:?}");
        let Some(AMQPFrame::Header(_, header)) = self.next_frame() else {
            panic!("no content header after {method:?}");
        };
        let mut body = Vec::new();
        let mut largest_frame = 0;
        while (body.len() as u64) < header.body_size {
            match self.next_frame() {
                Some(AMQPFrame::Body(on_channel, part)) if on_channel == channel => {
                    body.extend_from_slice(&part);
                    largest_frame = largest_frame.max(part.len() + FRAME_OVERHEAD);
                }
                other => panic!("expected a body frame, got {other:?}"),
            }
        }
        Content {
            method,
            properties: header.properties,
            body,
            largest_frame,
        }
    }
}
