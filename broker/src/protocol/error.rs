//! Errors of the protocol, as they go to the client and as decoding finds them.

use crate::protocol::octets;
use crate::protocol::reply_code::ReplyCode;

/// Longest reply text in bytes: it travels as a short string.
const REPLY_TEXT_MAX_BYTES: usize = 255;

/// Octets of undecodable arguments that are kept for the reply text, which could not show more.
const ARGUMENTS_SHOWN: usize = 128;

/// An error in the form the client is told: what channel.close and connection.close carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpError {
    /// Reply code; decides whether the channel or the connection is closed.
    pub code: ReplyCode,
    /// The sentence after the code's name; may be empty.
    pub explanation: String,
    /// Class of the failing method, 0 when there is none.
    pub class_id: u16,
    /// The failing method, 0 when there is none.
    pub method_id: u16,
}

impl AmqpError {
    /// An error that no particular method caused; see [`AmqpError::at`].
    pub fn new(code: ReplyCode, explanation: impl Into<String>) -> AmqpError {
        AmqpError {
            code,
            explanation: explanation.into(),
            class_id: 0,
            method_id: 0,
        }
    }

    /// The same error, blamed on this method.
    #[must_use]
    pub fn at(self, class_id: u16, method_id: u16) -> AmqpError {
        AmqpError {
            class_id,
            method_id,
            ..self
        }
    }

    /// The reply text, `NAME - explanation`, or the name alone when nothing explains it. Never longer than 255 bytes,
    /// cut between two characters.
    pub fn reply_text(&self) -> String {
        let mut text = String::from(self.code.name());
        if !self.explanation.is_empty() {
            text.push_str(" - ");
            text.push_str(&self.explanation);
        }
        text.truncate(text.floor_char_boundary(REPLY_TEXT_MAX_BYTES));
        text
    }
}

impl std::fmt::Display for AmqpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reply_text())
    }
}

impl std::error::Error for AmqpError {}

/// Why bytes could not be decoded. Small, so that it costs nothing on the way out of a parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeCause {
    /// A length points beyond the end, bytes are left over, or a type is unknown.
    #[error("malformed")]
    Malformed,
    /// A short string is not UTF-8.
    #[error("Malformed UTF-8 in shortstr")]
    InvalidUtf8,
    /// Tables and arrays are nested deeper than [`TABLE_DEPTH_MAX`](crate::protocol::field_table::TABLE_DEPTH_MAX).
    #[error("table nested too deeply")]
    TableTooDeep,
    /// No such class or method.
    #[error("unknown method")]
    UnknownMethod,
}

impl DecodeCause {
    /// Adds what the client must be told: the method and, for `Malformed`, the arguments.
    pub fn in_method(self, class_id: u16, method_id: u16, arguments: &[u8]) -> DecodeError {
        let shown = arguments.get(..ARGUMENTS_SHOWN).unwrap_or(arguments);
        DecodeError {
            cause: self,
            class_id,
            method_id,
            arguments: shown.into(),
        }
    }
}

/// Bytes that could not be decoded, with the method they belong to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode method {class_id}/{method_id}: {cause}")]
pub struct DecodeError {
    /// What is wrong with the bytes.
    pub cause: DecodeCause,
    /// Class of the method, 0 when the bytes do not belong to one.
    pub class_id: u16,
    /// The method, 0 when the bytes do not belong to one.
    pub method_id: u16,
    /// The beginning of the undecodable bytes.
    arguments: Box<[u8]>,
}

/// RabbitMQ's codes and texts. Two cases are our own: tables beyond the depth limit, which RabbitMQ does not have, and
/// unknown methods, at which its connection process dies without an answer.
impl From<DecodeError> for AmqpError {
    fn from(error: DecodeError) -> AmqpError {
        let DecodeError {
            cause,
            class_id,
            method_id,
            arguments,
        } = error;
        match cause {
            DecodeCause::Malformed => AmqpError::new(
                ReplyCode::FrameError,
                format!("cannot decode {}", octets::numbers(&arguments)),
            ),
            // RabbitMQ finds this below the methods and blames none.
            DecodeCause::InvalidUtf8 => {
                return AmqpError::new(ReplyCode::FrameError, "Malformed UTF-8 in shortstr");
            }
            DecodeCause::TableTooDeep => AmqpError::new(
                ReplyCode::FrameError,
                format!(
                    "field table nested deeper than {} levels",
                    super::field_table::TABLE_DEPTH_MAX
                ),
            ),
            DecodeCause::UnknownMethod => AmqpError::new(
                ReplyCode::NotImplemented,
                format!("unknown method {method_id} of class {class_id}"),
            ),
        }
        .at(class_id, method_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_text_is_the_name_and_the_explanation() {
        let error = AmqpError::new(ReplyCode::NotFound, "no queue 'q' in vhost '/'").at(50, 10);
        assert_eq!(error.reply_text(), "NOT_FOUND - no queue 'q' in vhost '/'");
        assert_eq!((error.class_id, error.method_id), (50, 10));
    }

    #[test]
    fn a_reply_text_without_explanation_is_the_name_alone() {
        assert_eq!(
            AmqpError::new(ReplyCode::InternalError, "").reply_text(),
            "INTERNAL_ERROR"
        );
    }

    #[test]
    fn a_reply_text_is_cut_between_characters() {
        let error = AmqpError::new(ReplyCode::NotFound, "é".repeat(200));
        assert_eq!(error.reply_text(), format!("NOT_FOUND - {}", "é".repeat(121)));
        assert_eq!(error.reply_text().len(), 254);
        let error = AmqpError::new(ReplyCode::NotFound, "e".repeat(500));
        assert_eq!(error.reply_text().len(), 255);
    }

    #[test]
    fn undecodable_arguments_are_shown_as_numbers() {
        let error = AmqpError::from(DecodeCause::Malformed.in_method(50, 10, b"ab\x00"));
        assert_eq!(error.reply_text(), "FRAME_ERROR - cannot decode <<97,98,0>>");
        assert_eq!((error.class_id, error.method_id), (50, 10));
        let error = AmqpError::from(DecodeCause::Malformed.in_method(50, 10, &[1; 100_000]));
        assert_eq!(error.reply_text().len(), 255);
    }

    #[test]
    fn the_other_causes_have_texts_of_their_own() {
        let text = |cause: DecodeCause| AmqpError::from(cause.in_method(50, 10, &[])).reply_text();
        assert_eq!(
            text(DecodeCause::InvalidUtf8),
            "FRAME_ERROR - Malformed UTF-8 in shortstr"
        );
        assert_eq!(
            text(DecodeCause::TableTooDeep),
            "FRAME_ERROR - field table nested deeper than 100 levels"
        );
        assert_eq!(
            text(DecodeCause::UnknownMethod),
            "NOT_IMPLEMENTED - unknown method 10 of class 50"
        );
    }
}
