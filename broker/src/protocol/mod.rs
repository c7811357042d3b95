//! Bytes to frames, methods and content, and back: the AMQP 0-9-1 wire format and nothing else.
//!
//! The module is pure: no socket, file, clock, task or randomness. Input comes as slices, output goes to a `Vec<u8>`.
//!
//! A session reads its input like this. A basic.publish whose header and body follow in the same buffer is taken
//! whole by [`hot::parse_whole_publish`]. Everything else is cut into frames by [`frame::next_frame`] and, on a
//! channel, fed to an [`assembler::Assembler`], which gives back methods and assembled publishes. Methods are read by
//! [`hot`] when they are frequent and by [`method::decode_method`] otherwise.
//!
//! `amq-protocol` supplies the types of methods and field tables. It never sees bytes that were not checked here
//! first: it has no limit on frame size or on the nesting of tables.
#![warn(missing_docs)]

pub mod assembler;
pub mod content;
pub mod death;
pub mod error;
pub mod field_table;
pub mod frame;
pub mod hot;
pub mod message;
pub mod method;
mod method_table;
pub mod octets;
pub mod protocol_header;
pub mod reply_code;
pub mod rewrite;
pub mod stamp;
pub mod trace;
pub mod wire;

#[cfg(test)]
mod codec_tests;
#[cfg(test)]
mod nesting_tests;
#[cfg(test)]
mod testing;

pub use amq_protocol::protocol::AMQPClass;
pub use amq_protocol::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
pub use assembler::{Assembled, AssembledPublish, Assembler};
pub use content::{ContentHeader, Properties};
pub use error::{AmqpError, DecodeCause, DecodeError};
pub use frame::{Frame, FrameError, FrameKind, next_frame};
pub use message::{Message, MessageView};
pub use reply_code::ReplyCode;
