//! Methods other than the hot ones: checked against their argument types here, then decoded by `amq-protocol`.

use crate::protocol::error::{DecodeCause, DecodeError};
use crate::protocol::field_table::check_table;
use crate::protocol::frame::{FRAME_END, FrameKind};
use crate::protocol::method_table::{Argument, spec};
use crate::protocol::wire::Reader;
use amq_protocol::frame::WriteContext;
use amq_protocol::protocol::{AMQPClass, gen_class, parse_class};

/// Class and method id of basic.publish.
pub const BASIC_PUBLISH: (u16, u16) = (60, 40);
/// Class and method id of basic.ack.
pub const BASIC_ACK: (u16, u16) = (60, 80);
/// Class and method id of basic.reject.
pub const BASIC_REJECT: (u16, u16) = (60, 90);
/// Class and method id of basic.nack.
pub const BASIC_NACK: (u16, u16) = (60, 120);

/// Class and method id of a method frame's payload, if it is long enough to have them.
pub fn class_and_method(payload: &[u8]) -> Option<(u16, u16)> {
    let (&[c0, c1, m0, m1], _) = payload.split_first_chunk::<4>()?;
    Some((u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1])))
}

/// The name of a method as the specification writes it, for logs: `queue.declare`.
pub fn method_name(class_id: u16, method_id: u16) -> &'static str {
    spec(class_id, method_id).map_or("unknown method", |spec| spec.name)
}

/// Whether a client may send the method. The others are answered with 503 (ERRORS.md row 48).
pub fn is_client_method(class_id: u16, method_id: u16) -> bool {
    spec(class_id, method_id).is_some_and(|spec| spec.from_client)
}

/// Decodes the payload of a method frame, class id first.
///
/// The arguments are checked before `amq-protocol` sees them: every length, the UTF-8 of short strings, the types and
/// the depth of tables, and that nothing is left over. Methods that only a server sends decode as well;
/// see [`is_client_method`].
pub fn decode_method(payload: &[u8]) -> Result<AMQPClass, DecodeError> {
    let Some((class_id, method_id)) = class_and_method(payload) else {
        return Err(DecodeCause::Malformed.in_method(0, 0, payload));
    };
    let arguments = payload.get(4..).unwrap_or_default();
    let blame = |cause: DecodeCause| cause.in_method(class_id, method_id, arguments);
    let spec = spec(class_id, method_id).ok_or_else(|| blame(DecodeCause::UnknownMethod))?;
    check_arguments(spec.arguments, arguments).map_err(blame)?;
    match parse_class(payload) {
        Ok(([], method)) => Ok(method),
        Ok(_) | Err(_) => Err(blame(DecodeCause::Malformed)),
    }
}

fn check_arguments(types: &[Argument], arguments: &[u8]) -> Result<(), DecodeCause> {
    let mut reader = Reader::new(arguments);
    for argument in types {
        match argument {
            Argument::Bits | Argument::Octet => reader.u8().map(drop)?,
            Argument::Short => reader.u16().map(drop)?,
            Argument::Long => reader.u32().map(drop)?,
            Argument::LongLong => reader.u64().map(drop)?,
            Argument::ShortStr => reader.shortstr().map(drop)?,
            Argument::LongStr => reader.longstr().map(drop)?,
            Argument::Table => check_table(reader.table()?)?,
        }
    }
    reader.finish()
}

/// `prefetch_size` of a basic.qos payload, which the decoded method does not have.
/// Nothing if the payload is not a basic.qos.
pub fn qos_prefetch_size(payload: &[u8]) -> Option<u32> {
    let mut reader = Reader::new(payload);
    if (reader.u16().ok()?, reader.u16().ok()?) != (60, 10) {
        return None;
    }
    reader.u32().ok()
}

/// Appends a whole method frame.
pub fn encode_method(out: &mut Vec<u8>, channel: u16, method: &AMQPClass) {
    // Encoding into memory fails only without memory, and then not by an error.
    let payload = match gen_class(method)(WriteContext::from(Vec::with_capacity(64))) {
        Ok(context) => context.into_inner().0,
        Err(_) => return,
    };
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.push(FrameKind::Method.octet());
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&payload);
    out.push(FRAME_END);
}
