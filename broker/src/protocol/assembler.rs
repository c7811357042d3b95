//! Assembly of contents: the frames of one channel in, methods and whole publishes out (section 4.2.6 of the
//! specification; errors, their texts and their order as in RabbitMQ's rabbit_command_assembler).
//!
//! ```text
//!                 basic.publish                 header, size > 0
//!   +--------+ -----------------> +--------+ -------------------> +------+
//!   | method |                    | header |                      | body |---+ body, more to come
//!   |  due   | <----------------- |  due   |                      | due  |<--+
//!   +--------+   header, size 0   +--------+                      +------+
//!        ^  \__ any other method                                     |
//!        +-----------------------------------------------------------+  last part of the body
//! ```
//!
//! Memory grows with the octets received, never with the size announced.

use crate::protocol::content::{BASIC_CLASS_ID, ContentHeader};
use crate::protocol::error::AmqpError;
use crate::protocol::frame::{Frame, FrameKind};
use crate::protocol::hot::parse_publish;
use crate::protocol::method::{BASIC_PUBLISH, class_and_method};
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::wire::exchange_and_key_texts;
use bytes::Bytes;

/// Largest body in octets that a client may announce.
pub const BODY_SIZE_CEILING: u64 = 512 * 1024 * 1024;

/// What a frame completed.
#[derive(Debug, PartialEq, Eq)]
pub enum Assembled<'a> {
    /// Nothing yet: a content is on its way.
    Nothing,
    /// A method without content: the frame's payload, class id first.
    Method(&'a [u8]),
    /// A basic.publish with all of its content.
    Publish(AssembledPublish),
}

/// A basic.publish with all of its content, owned because its frames came one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssembledPublish {
    /// Exchange and routing key, two short strings (UTF-8) as they lie on the wire.
    pub exchange_and_key: Vec<u8>,
    /// Return the message if it cannot be routed.
    pub mandatory: bool,
    /// Return the message if no consumer can take it at once.
    pub immediate: bool,
    /// The payload of the header frame; its class is 60.
    pub header: Vec<u8>,
    /// The body, as long as the header says.
    pub body: Bytes,
}

impl AssembledPublish {
    /// Name of the exchange, empty for the default one.
    pub fn exchange(&self) -> &str {
        self.names().0
    }

    /// Routing key.
    pub fn routing_key(&self) -> &str {
        self.names().1
    }

    fn names(&self) -> (&str, &str) {
        exchange_and_key_texts(&self.exchange_and_key).unwrap_or_default()
    }
}

/// Assembles the contents of one channel.
#[derive(Debug, Default)]
pub struct Assembler {
    due: Due,
}

#[derive(Debug, Default)]
enum Due {
    #[default]
    Method,
    Header(Box<PendingPublish>),
    Body(Box<PendingPublish>),
}

#[derive(Debug)]
struct PendingPublish {
    exchange_and_key: Vec<u8>,
    mandatory: bool,
    immediate: bool,
    header: Vec<u8>,
    /// Octets of the body, once the header told.
    body_size: usize,
    body: Vec<u8>,
}

impl Assembler {
    /// An assembler that waits for a method.
    pub fn new() -> Assembler {
        Assembler::default()
    }

    /// Whether the next frame may be a method; only then may a whole publish be taken past the assembler.
    pub fn is_idle(&self) -> bool {
        matches!(self.due, Due::Method)
    }

    /// The size of the body that is on its way, once its header is there. For a limit below the hard one.
    pub fn announced_body_size(&self) -> Option<u64> {
        match &self.due {
            Due::Body(pending) => Some(pending.body_size as u64),
            Due::Method | Due::Header(_) => None,
        }
    }

    /// Forgets a content on its way, as when the channel is closed.
    pub fn reset(&mut self) {
        self.due = Due::Method;
    }

    /// Takes the channel's next frame. After an error the connection is to be closed.
    pub fn feed<'a>(&mut self, frame: &Frame<'a>) -> Result<Assembled<'a>, AmqpError> {
        match std::mem::take(&mut self.due) {
            Due::Method => self.method(frame),
            Due::Header(pending) => self.header(pending, frame),
            Due::Body(pending) => self.body(pending, frame),
        }
    }

    fn method<'a>(&mut self, frame: &Frame<'a>) -> Result<Assembled<'a>, AmqpError> {
        match frame.kind {
            FrameKind::Method => {}
            FrameKind::Heartbeat => return Err(frame.unexpected()),
            FrameKind::Header | FrameKind::Body => {
                let text = "expected method frame, got non method frame instead";
                return Err(AmqpError::new(ReplyCode::UnexpectedFrame, text));
            }
        }
        if class_and_method(frame.payload) != Some(BASIC_PUBLISH) {
            return Ok(Assembled::Method(frame.payload));
        }
        let publish = parse_publish(frame.payload)?;
        self.due = Due::Header(Box::new(PendingPublish {
            exchange_and_key: publish.exchange_and_key.to_vec(),
            mandatory: publish.mandatory,
            immediate: publish.immediate,
            header: Vec::new(),
            body_size: 0,
            body: Vec::new(),
        }));
        Ok(Assembled::Nothing)
    }

    fn header<'a>(&mut self, mut pending: Box<PendingPublish>, frame: &Frame<'a>) -> Result<Assembled<'a>, AmqpError> {
        if frame.kind != FrameKind::Header {
            return Err(unexpected(
                "expected content header for class 60, got non content header frame instead",
            ));
        }
        let header = ContentHeader::parse(frame.payload).map_err(|_| frame.unexpected())?;
        if header.class_id != BASIC_CLASS_ID {
            return Err(unexpected(format!(
                "expected content header for class {BASIC_CLASS_ID}, got one for class {} instead",
                header.class_id
            )));
        }
        let Some(body_size) = usize::try_from(header.body_size)
            .ok()
            .filter(|_| header.body_size <= BODY_SIZE_CEILING)
        else {
            return Err(frame_error(format!(
                "content body size {} exceeds maximum allowed size {BODY_SIZE_CEILING}",
                header.body_size
            )));
        };
        pending.header = frame.payload.to_vec();
        pending.body_size = body_size;
        Ok(self.advance(pending))
    }

    fn body<'a>(&mut self, mut pending: Box<PendingPublish>, frame: &Frame<'a>) -> Result<Assembled<'a>, AmqpError> {
        if frame.kind != FrameKind::Body {
            return Err(unexpected("expected content body, got non content body frame instead"));
        }
        if !pending.append(frame.payload) {
            return Err(frame_error("content body frame exceeds remaining content size"));
        }
        Ok(self.advance(pending))
    }

    /// Waits for more of the body or, when it is complete, gives the publish away.
    fn advance<'a>(&mut self, pending: Box<PendingPublish>) -> Assembled<'a> {
        if pending.body.len() < pending.body_size {
            self.due = Due::Body(pending);
            return Assembled::Nothing;
        }
        let PendingPublish {
            exchange_and_key,
            mandatory,
            immediate,
            header,
            body,
            ..
        } = *pending;
        Assembled::Publish(AssembledPublish {
            exchange_and_key,
            mandatory,
            immediate,
            header,
            body: Bytes::from(body),
        })
    }
}

impl PendingPublish {
    /// Appends a part of the body; false if it is more than announced. The buffer doubles as octets arrive and never
    /// exceeds the announced size, so that a finished body wastes no memory.
    fn append(&mut self, part: &[u8]) -> bool {
        let Some(remaining) = self.body_size.checked_sub(self.body.len()) else {
            return false;
        };
        if part.len() > remaining {
            return false;
        }
        if self.body.capacity() - self.body.len() < part.len() {
            let grow = self.body.len().max(part.len()).min(remaining);
            self.body.reserve_exact(grow);
        }
        self.body.extend_from_slice(part);
        true
    }
}

/// 505, blamed on the basic.publish whose content is on its way.
fn unexpected(explanation: impl Into<String>) -> AmqpError {
    AmqpError::new(ReplyCode::UnexpectedFrame, explanation).at(BASIC_PUBLISH.0, BASIC_PUBLISH.1)
}

/// 501, blamed on the basic.publish whose content is on its way.
fn frame_error(explanation: impl Into<String>) -> AmqpError {
    AmqpError::new(ReplyCode::FrameError, explanation).at(BASIC_PUBLISH.0, BASIC_PUBLISH.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PUBLISH: &[u8] = b"\x00\x3c\x00\x28\x00\x00\x01x\x03key\x01";

    fn frame(kind: FrameKind, payload: &[u8]) -> Frame<'_> {
        Frame {
            kind,
            channel: 1,
            payload,
        }
    }

    fn header(class_id: u16, body_size: u64) -> Vec<u8> {
        [&class_id.to_be_bytes()[..], &[0, 0], &body_size.to_be_bytes(), &[0, 0]].concat()
    }

    /// An assembler that took a basic.publish.
    fn header_due() -> Assembler {
        let mut assembler = Assembler::new();
        assert_eq!(
            assembler.feed(&frame(FrameKind::Method, PUBLISH)),
            Ok(Assembled::Nothing)
        );
        assembler
    }

    /// An assembler that took a basic.publish and its header.
    fn body_due(body_size: u64) -> Assembler {
        let mut assembler = header_due();
        assert_eq!(
            assembler.feed(&frame(FrameKind::Header, &header(60, body_size))),
            Ok(Assembled::Nothing)
        );
        assembler
    }

    fn error(mut assembler: Assembler, frame: &Frame<'_>) -> (String, u16, u16) {
        let error = assembler.feed(frame).unwrap_err();
        assert!(error.code.is_hard());
        (error.reply_text(), error.class_id, error.method_id)
    }

    #[test]
    fn a_publish_is_given_away_when_its_body_is_complete() {
        let mut assembler = body_due(5);
        assert!(!assembler.is_idle());
        assert_eq!(assembler.announced_body_size(), Some(5));
        assert_eq!(assembler.feed(&frame(FrameKind::Body, b"he")), Ok(Assembled::Nothing));
        assert_eq!(assembler.feed(&frame(FrameKind::Body, b"")), Ok(Assembled::Nothing));
        let Ok(Assembled::Publish(publish)) = assembler.feed(&frame(FrameKind::Body, b"llo")) else {
            panic!("not complete");
        };
        assert_eq!((publish.exchange(), publish.routing_key()), ("x", "key"));
        assert_eq!((publish.mandatory, publish.immediate), (true, false));
        assert_eq!(
            (&publish.header[..], &publish.body[..]),
            (&header(60, 5)[..], &b"hello"[..])
        );
        assert!(assembler.is_idle());
    }

    #[test]
    fn an_empty_body_needs_no_frame() {
        let empty = header(60, 0);
        let result = header_due().feed(&frame(FrameKind::Header, &empty)).unwrap();
        assert!(matches!(result, Assembled::Publish(publish) if publish.body.is_empty()));
    }

    #[test]
    fn a_method_without_content_passes_through() {
        let ack = [0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0];
        let mut assembler = Assembler::new();
        assert_eq!(
            assembler.feed(&frame(FrameKind::Method, &ack)),
            Ok(Assembled::Method(&ack))
        );
        assert!(assembler.is_idle());
    }

    #[test]
    fn a_publish_must_be_followed_by_a_header() {
        let text = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
        for kind in [FrameKind::Method, FrameKind::Body] {
            assert_eq!(error(header_due(), &frame(kind, PUBLISH)), (text.to_owned(), 60, 40));
        }
    }

    #[test]
    fn the_header_must_be_of_class_basic() {
        let text = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 10 instead";
        assert_eq!(
            error(header_due(), &frame(FrameKind::Header, &header(10, 1))),
            (text.to_owned(), 60, 40)
        );
    }

    #[test]
    fn content_needs_a_method_before_it() {
        let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
        for kind in [FrameKind::Header, FrameKind::Body] {
            assert_eq!(
                error(Assembler::new(), &frame(kind, &header(60, 0))),
                (text.to_owned(), 0, 0)
            );
        }
        // After the last octet of a body there is no more body.
        let mut assembler = body_due(1);
        assert!(matches!(
            assembler.feed(&frame(FrameKind::Body, b"!")),
            Ok(Assembled::Publish(_))
        ));
        assert_eq!(error(assembler, &frame(FrameKind::Body, b"")), (text.to_owned(), 0, 0));
    }

    #[test]
    fn while_a_body_is_due_nothing_else_may_come() {
        let text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
        for kind in [FrameKind::Method, FrameKind::Header] {
            assert_eq!(error(body_due(1), &frame(kind, PUBLISH)), (text.to_owned(), 60, 40));
        }
    }

    #[test]
    fn a_body_may_not_be_longer_than_announced() {
        let text = "FRAME_ERROR - content body frame exceeds remaining content size";
        assert_eq!(
            error(body_due(4), &frame(FrameKind::Body, b"hello")),
            (text.to_owned(), 60, 40)
        );
        let mut assembler = body_due(8);
        assert_eq!(
            assembler.feed(&frame(FrameKind::Body, b"hello")),
            Ok(Assembled::Nothing)
        );
        assert_eq!(
            error(assembler, &frame(FrameKind::Body, b"hell")),
            (text.to_owned(), 60, 40)
        );
    }

    #[test]
    fn a_body_above_the_ceiling_is_refused_at_its_header() {
        for body_size in [BODY_SIZE_CEILING + 1, u64::MAX] {
            let text = format!("FRAME_ERROR - content body size {body_size} exceeds maximum allowed size 536870912");
            assert_eq!(
                error(header_due(), &frame(FrameKind::Header, &header(60, body_size))),
                (text, 60, 40)
            );
        }
        assert_eq!(body_due(BODY_SIZE_CEILING).announced_body_size(), Some(536_870_912));
    }

    #[test]
    fn memory_follows_what_has_arrived_and_not_what_was_announced() {
        let mut assembler = body_due(BODY_SIZE_CEILING);
        let mut received = 0;
        for _ in 0..100 {
            assembler.feed(&frame(FrameKind::Body, &[0; 1000])).unwrap();
            received += 1000;
            let Due::Body(pending) = &assembler.due else {
                panic!("not in the body");
            };
            assert!(
                pending.body.capacity() <= 2 * received,
                "{} for {received}",
                pending.body.capacity()
            );
        }
    }

    #[test]
    fn a_finished_body_wastes_no_memory() {
        let mut assembler = body_due(2500);
        for part in [1000, 1000] {
            assembler.feed(&frame(FrameKind::Body, &vec![0; part])).unwrap();
        }
        let Due::Body(pending) = &assembler.due else {
            panic!("not in the body");
        };
        assert_eq!(pending.body.capacity(), 2000);
        assert!(matches!(
            assembler.feed(&frame(FrameKind::Body, &[0; 500])),
            Ok(Assembled::Publish(_))
        ));
    }

    #[test]
    fn an_undecodable_publish_is_refused_at_once() {
        let text = "FRAME_ERROR - cannot decode <<0,0,9>>".to_owned();
        assert_eq!(
            error(Assembler::new(), &frame(FrameKind::Method, &[0, 60, 0, 40, 0, 0, 9])),
            (text, 60, 40)
        );
        let text = "FRAME_ERROR - Malformed UTF-8 in shortstr".to_owned();
        let payload = [0, 60, 0, 40, 0, 0, 0, 1, 0xFF, 0];
        assert_eq!(
            error(Assembler::new(), &frame(FrameKind::Method, &payload)),
            (text, 0, 0)
        );
    }

    #[test]
    fn heartbeats_do_not_belong_on_a_channel() {
        let text = "UNEXPECTED_FRAME - type 8, all octets = <<>>".to_owned();
        assert_eq!(error(Assembler::new(), &frame(FrameKind::Heartbeat, &[])), (text, 0, 0));
    }

    #[test]
    fn a_reset_assembler_waits_for_a_method() {
        let mut assembler = body_due(5);
        assembler.reset();
        assert!(assembler.is_idle());
        assert_eq!(assembler.announced_body_size(), None);
    }

    proptest! {
        #[test]
        fn a_body_is_the_same_however_it_is_cut(body: Vec<u8>, cuts: Vec<prop::sample::Index>) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let mut assembler = header_due();
            let announced = header(60, body.len() as u64);
            let mut result = assembler.feed(&frame(FrameKind::Header, &announced)).unwrap();
            for part in cuts.windows(2) {
                if assembler.is_idle() {
                    break;
                }
                prop_assert_eq!(&result, &Assembled::Nothing);
                result = assembler.feed(&frame(FrameKind::Body, &body[part[0]..part[1]])).unwrap();
            }
            let Assembled::Publish(publish) = result else {
                panic!("not complete");
            };
            prop_assert_eq!(publish.body, body);
        }

        #[test]
        fn any_frames_are_taken_or_refused(
            frames in prop::collection::vec((0..4_usize, any::<u16>(), any::<Vec<u8>>()), 0..20),
        ) {
            let mut assembler = Assembler::new();
            for (kind, size, payload) in &frames {
                let kinds = [FrameKind::Method, FrameKind::Header, FrameKind::Body, FrameKind::Heartbeat];
                let valid = [PUBLISH.to_vec(), header(60, u64::from(*size) % 64), payload.clone(), Vec::new()];
                let payload = if size % 3 == 0 { payload } else { &valid[*kind] };
                let _ = assembler.feed(&frame(kinds[*kind], payload));
            }
        }
    }
}
