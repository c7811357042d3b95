//! Frames: the envelope of everything after the protocol header (section 2.3 of the specification).
//!
//! ```text
//!   0       1         3             7                   7 + size
//!   +-------+---------+-------------+--- ... ---+----------+
//!   | type  | channel |    size     |  payload  | end 0xCE |
//!   +-------+---------+-------------+--- ... ---+----------+
//!    1 octet  2 octets    4 octets   size octets   1 octet
//! ```
//!
//! | type | payload |
//! |---|---|
//! | 1 method | class id (2), method id (2), arguments |
//! | 2 content header | class id (2), weight (2), body size (8), property flags (2), properties |
//! | 3 content body | a part of the body |
//! | 8 heartbeat | nothing; channel 0 |
//!
//! All integers are in network byte order. `frame_max` counts the whole frame, envelope included.

use crate::protocol::error::AmqpError;
use crate::protocol::octets::Octets;
use crate::protocol::reply_code::ReplyCode;

/// Octets before the payload.
pub const FRAME_HEADER_LEN: usize = 7;
/// Octets around the payload: seven before and the end octet.
pub const FRAME_OVERHEAD: usize = 8;
/// The last octet of every frame.
pub const FRAME_END: u8 = 0xCE;
/// Octets a payload may exceed its limit by; RabbitMQ is that lenient and clients that forget the envelope rely on it.
pub const FRAME_SIZE_GRACE: u32 = 8;
/// Largest frame accepted before connection.tune-ok, in octets.
pub const INITIAL_FRAME_MAX: u32 = 8192;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// Octets of a method's class and method ids.
const METHOD_IDS_LEN: usize = 4;
/// Octets of a content header before its properties.
const CONTENT_HEADER_FIXED_LEN: usize = 12;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// A method with its arguments.
    Method,
    /// The header of a content: its size and properties.
    Header,
    /// A part of a content's body.
    Body,
    /// A sign of life.
    Heartbeat,
}

impl FrameKind {
    /// The type octet on the wire.
    pub const fn octet(self) -> u8 {
        match self {
            FrameKind::Method => METHOD,
            FrameKind::Header => HEADER,
            FrameKind::Body => BODY,
            FrameKind::Heartbeat => HEARTBEAT,
        }
    }
}

/// A whole frame, borrowed from the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// Channel number; 0 is the connection itself.
    pub channel: u16,
    /// What lies between the envelope's seven octets and its end octet.
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Octets the frame takes on the wire, envelope included.
    pub fn encoded_len(&self) -> usize {
        self.payload.len() + FRAME_OVERHEAD
    }

    /// The error for a frame that has no business on its channel: content on channel 0, or a heartbeat
    /// on another one.
    pub fn unexpected(&self) -> AmqpError {
        let explanation = format!("type {}, {}", self.kind.octet(), Octets::of(self.payload));
        AmqpError::new(ReplyCode::UnexpectedFrame, explanation)
    }
}

/// Input that is not a frame. Nothing after it can be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The payload is not followed by 0xCE.
    #[error("type {frame_type}, {octets}: {{invalid_frame_end_marker,{end}}}")]
    InvalidEnd {
        /// The frame's type octet.
        frame_type: u8,
        /// The octet where 0xCE should be.
        end: u8,
        /// The payload's beginning.
        octets: Octets,
    },
    /// The announced payload is above the limit.
    #[error("type {frame_type}, all octets = <<>>: {{frame_too_large,{size},{limit}}}")]
    TooLarge {
        /// The frame's type octet.
        frame_type: u8,
        /// Announced size of the payload in octets.
        size: u32,
        /// Largest payload in octets, without the grace.
        limit: u32,
    },
    /// An unknown type, or a payload that cannot be of its type.
    #[error("type {frame_type}, {octets}: unknown_frame")]
    UnknownFrame {
        /// The frame's type octet.
        frame_type: u8,
        /// The payload's beginning.
        octets: Octets,
    },
}

impl From<FrameError> for AmqpError {
    fn from(error: FrameError) -> AmqpError {
        AmqpError::new(ReplyCode::FrameError, error.to_string())
    }
}

/// The first frame of `input`, or nothing while it is incomplete.
///
/// `frame_max` is what was negotiated, in octets, never 0; before that, [`INITIAL_FRAME_MAX`]. A frame that is too
/// large is refused as soon as its first seven octets are there. As in RabbitMQ a payload may be eight octets above
/// the limit, and the end octet is checked before the type.
pub fn next_frame(input: &[u8], frame_max: u32) -> Result<Option<Frame<'_>>, FrameError> {
    let Some((head, rest)) = input.split_first_chunk::<FRAME_HEADER_LEN>() else {
        return Ok(None);
    };
    let [frame_type, c0, c1, s0, s1, s2, s3] = *head;
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    let limit = payload_max(frame_max);
    if size > limit.saturating_add(FRAME_SIZE_GRACE) {
        return Err(FrameError::TooLarge {
            frame_type,
            size,
            limit,
        });
    }
    let Some((payload, after)) = rest.split_at_checked(size as usize) else {
        return Ok(None);
    };
    let Some(&end) = after.first() else {
        return Ok(None);
    };
    if end != FRAME_END {
        return Err(FrameError::InvalidEnd {
            frame_type,
            end,
            octets: Octets::of(payload),
        });
    }
    match kind_of(frame_type, payload) {
        Some(kind) => Ok(Some(Frame {
            kind,
            channel: u16::from_be_bytes([c0, c1]),
            payload,
        })),
        None => Err(FrameError::UnknownFrame {
            frame_type,
            octets: Octets::of(payload),
        }),
    }
}

/// Appends a heartbeat frame.
pub fn write_heartbeat(out: &mut Vec<u8>) {
    out.extend_from_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, FRAME_END]);
}

/// Largest payload of a frame in octets.
pub(crate) fn payload_max(frame_max: u32) -> u32 {
    frame_max.saturating_sub(FRAME_OVERHEAD as u32)
}

fn kind_of(frame_type: u8, payload: &[u8]) -> Option<FrameKind> {
    match frame_type {
        METHOD if payload.len() >= METHOD_IDS_LEN => Some(FrameKind::Method),
        HEADER if payload.len() >= CONTENT_HEADER_FIXED_LEN => Some(FrameKind::Header),
        BODY => Some(FrameKind::Body),
        HEARTBEAT if payload.is_empty() => Some(FrameKind::Heartbeat),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FRAME_MAX: u32 = 131_072;

    fn encoded(frame_type: u8, channel: u16, payload: &[u8], end: u8) -> Vec<u8> {
        let mut out = vec![frame_type];
        out.extend_from_slice(&channel.to_be_bytes());
        out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        out.extend_from_slice(payload);
        out.push(end);
        out
    }

    fn reply_text(input: &[u8], frame_max: u32) -> String {
        let error = AmqpError::from(next_frame(input, frame_max).unwrap_err());
        assert_eq!((error.class_id, error.method_id), (0, 0));
        assert!(error.code.is_hard());
        error.reply_text()
    }

    #[test]
    fn a_frame_is_taken_from_the_front() {
        let mut input = encoded(3, 7, b"hello", FRAME_END);
        input.push(1);
        let frame = next_frame(&input, FRAME_MAX).unwrap().unwrap();
        assert_eq!(
            frame,
            Frame {
                kind: FrameKind::Body,
                channel: 7,
                payload: b"hello"
            }
        );
        assert_eq!(frame.encoded_len(), input.len() - 1);
    }

    #[test]
    fn a_frame_is_incomplete_until_its_last_octet() {
        let input = encoded(1, 1, &[0, 60, 0, 80, 1, 2], FRAME_END);
        for end in 0..input.len() {
            assert_eq!(next_frame(&input[..end], FRAME_MAX), Ok(None));
        }
        assert!(next_frame(&input, FRAME_MAX).unwrap().is_some());
    }

    #[test]
    fn a_wrong_end_octet_is_named() {
        let input = encoded(1, 1, &[0, 10, 0, 11, 1], 0xCD);
        let text = "FRAME_ERROR - type 1, all octets = <<0,10,0,11,1>>: {invalid_frame_end_marker,205}";
        assert_eq!(reply_text(&input, FRAME_MAX), text);
        let input = encoded(1, 1, &[7; 17], 0);
        let sevens = "7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7";
        let text = format!("FRAME_ERROR - type 1, first 16 octets = <<{sevens}>>: {{invalid_frame_end_marker,0}}");
        assert_eq!(reply_text(&input, FRAME_MAX), text);
    }

    #[test]
    fn the_end_octet_is_checked_before_the_type() {
        let input = encoded(4, 1, &[1], 0);
        assert_eq!(
            reply_text(&input, FRAME_MAX),
            "FRAME_ERROR - type 4, all octets = <<1>>: {invalid_frame_end_marker,0}"
        );
    }

    #[test]
    fn a_frame_that_is_too_large_is_refused_from_its_header() {
        let refused = [3, 0, 1, 0, 2, 0, 1];
        let text = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,131064}";
        assert_eq!(reply_text(&refused, FRAME_MAX), text);
        let text = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,131073,8184}";
        assert_eq!(reply_text(&refused, INITIAL_FRAME_MAX), text);
        assert_eq!(next_frame(&refused[..6], FRAME_MAX), Ok(None));
    }

    #[test]
    fn a_payload_may_exceed_the_limit_by_eight_octets() {
        let input = encoded(3, 1, &[0; 4096], FRAME_END);
        assert!(next_frame(&input, 4096).unwrap().is_some());
        let input = encoded(3, 1, &[0; 4097], FRAME_END);
        assert!(matches!(
            next_frame(&input, 4096),
            Err(FrameError::TooLarge {
                size: 4097,
                limit: 4088,
                ..
            })
        ));
        assert!(next_frame(&[3, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF], 4096).is_err());
    }

    #[test]
    fn unknown_types_and_impossible_payloads_are_unknown_frames() {
        let text = |frame_type, payload: &[u8]| reply_text(&encoded(frame_type, 1, payload, FRAME_END), FRAME_MAX);
        assert_eq!(
            text(4, &[1, 2]),
            "FRAME_ERROR - type 4, all octets = <<1,2>>: unknown_frame"
        );
        assert_eq!(text(8, &[1]), "FRAME_ERROR - type 8, all octets = <<1>>: unknown_frame");
        assert_eq!(
            text(1, &[0, 10, 0]),
            "FRAME_ERROR - type 1, all octets = <<0,10,0>>: unknown_frame"
        );
        assert_eq!(text(2, &[]), "FRAME_ERROR - type 2, all octets = <<>>: unknown_frame");
    }

    #[test]
    fn frames_out_of_place_are_described() {
        let heartbeat = Frame {
            kind: FrameKind::Heartbeat,
            channel: 3,
            payload: &[],
        };
        assert_eq!(
            heartbeat.unexpected().reply_text(),
            "UNEXPECTED_FRAME - type 8, all octets = <<>>"
        );
        let header = Frame {
            kind: FrameKind::Header,
            channel: 0,
            payload: &[0; 14],
        };
        let text = "UNEXPECTED_FRAME - type 2, all octets = <<0,0,0,0,0,0,0,0,0,0,0,0,0,0>>";
        assert_eq!(header.unexpected().reply_text(), text);
    }

    #[test]
    fn a_heartbeat_that_was_written_is_read() {
        let mut out = Vec::new();
        write_heartbeat(&mut out);
        let frame = Frame {
            kind: FrameKind::Heartbeat,
            channel: 0,
            payload: &[],
        };
        assert_eq!(next_frame(&out, FRAME_MAX), Ok(Some(frame)));
        assert_eq!(out.len(), frame.encoded_len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_an_error_or_incomplete(bytes: Vec<u8>, frame_max in 0u32..300) {
            if let Ok(Some(frame)) = next_frame(&bytes, frame_max) {
                prop_assert_eq!(&encoded(frame.kind.octet(), frame.channel, frame.payload, FRAME_END)[..], &bytes[..frame.encoded_len()]);
                prop_assert!(frame.payload.len() <= frame_max as usize + 8);
            }
        }
    }
}
