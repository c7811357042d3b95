//! Assembly of contents: the frames of one channel in, methods and whole publishes out (section 4.2.6 of the
//! specification; errors and their order as in RabbitMQ, ERRORS.md rows 33 to 38).
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
        let mut reader = crate::protocol::wire::Reader::new(&self.exchange_and_key);
        (
            reader.shortstr().unwrap_or_default(),
            reader.shortstr().unwrap_or_default(),
        )
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

    fn header<'a>(
        &mut self,
        mut pending: Box<PendingPublish>,
        frame: &Frame<'a>,
    ) -> Result<Assembled<'a>, AmqpError> {
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

    fn body<'a>(
        &mut self,
        mut pending: Box<PendingPublish>,
        frame: &Frame<'a>,
    ) -> Result<Assembled<'a>, AmqpError> {
        if frame.kind != FrameKind::Body {
            return Err(unexpected(
                "expected content body, got non content body frame instead",
            ));
        }
        if !pending.append(frame.payload) {
            return Err(frame_error(
                "content body frame exceeds remaining content size",
            ));
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
