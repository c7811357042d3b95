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

/// Whether a client may send the method. RabbitMQ answers the others with 503.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::error::AmqpError;
    use crate::protocol::method_table::ALL_IDS;
    use amq_protocol::protocol::{basic, channel, queue};

    fn reply(payload: &[u8]) -> (String, u16, u16) {
        let error = AmqpError::from(decode_method(payload).unwrap_err());
        (error.reply_text(), error.class_id, error.method_id)
    }

    #[test]
    fn methods_have_names() {
        assert_eq!(method_name(50, 10), "queue.declare");
        assert_eq!(method_name(40, 51), "exchange.unbind-ok");
        assert_eq!(method_name(40, 41), "unknown method");
    }

    #[test]
    fn methods_that_only_a_server_sends_are_told_apart() {
        assert!(is_client_method(60, 40));
        assert!(is_client_method(20, 41));
        assert!(!is_client_method(60, 60));
        assert!(!is_client_method(10, 60));
        assert!(!is_client_method(99, 1));
    }

    #[test]
    fn undecodable_arguments_are_named_with_their_method() {
        // queue.declare whose queue name reaches beyond the frame.
        let expected = ("FRAME_ERROR - cannot decode <<0,0,5,97>>".to_owned(), 50, 10);
        assert_eq!(reply(&[0, 50, 0, 10, 0, 0, 5, b'a']), expected);
        // tx.select with an argument.
        assert_eq!(
            reply(&[0, 90, 0, 10, 1]),
            ("FRAME_ERROR - cannot decode <<1>>".to_owned(), 90, 10)
        );
    }

    #[test]
    fn a_short_string_that_is_not_utf_8_is_named() {
        let expected = ("FRAME_ERROR - Malformed UTF-8 in shortstr".to_owned(), 0, 0);
        assert_eq!(reply(&[0, 50, 0, 30, 0, 0, 1, 0xFF, 0]), expected);
    }

    #[test]
    fn unknown_classes_and_methods_are_not_implemented() {
        assert_eq!(
            reply(&[0, 61, 0, 10]),
            ("NOT_IMPLEMENTED - unknown method 10 of class 61".to_owned(), 61, 10)
        );
        assert_eq!(
            reply(&[0, 60, 1, 10, 3]),
            ("NOT_IMPLEMENTED - unknown method 266 of class 60".to_owned(), 60, 266)
        );
        assert_eq!(reply(&[0, 60, 0]).1, 0);
    }

    #[test]
    fn the_table_knows_the_methods_that_amq_protocol_knows() {
        for class_id in 0..=100_u16 {
            for method_id in 0..=130_u16 {
                let known = spec(class_id, method_id).is_some();
                assert_eq!(ALL_IDS.contains(&(class_id, method_id)), known);
                let mut payload = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
                payload.extend_from_slice(&[0; 64]);
                assert_eq!(parse_class(&payload[..]).is_ok(), known, "{class_id}/{method_id}");
            }
        }
    }

    #[test]
    fn prefetch_size_is_read_from_the_bytes() {
        let payload = [0, 60, 0, 10, 0, 1, 0, 2, 0, 5, 1];
        assert_eq!(qos_prefetch_size(&payload), Some(65_538));
        let qos = basic::Qos {
            prefetch_count: 5,
            global: true,
        };
        assert_eq!(
            decode_method(&payload),
            Ok(AMQPClass::Basic(basic::AMQPMethod::Qos(qos)))
        );
        assert_eq!(qos_prefetch_size(&[0, 60, 0, 20, 0, 0, 0, 0]), None);
        assert_eq!(qos_prefetch_size(&payload[..7]), None);
    }

    #[test]
    fn a_method_is_encoded_as_a_whole_frame() {
        let mut out = vec![1, 2, 3];
        encode_method(
            &mut out,
            258,
            &AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})),
        );
        assert_eq!(out, [1, 2, 3, 1, 1, 2, 0, 0, 0, 8, 0, 20, 0, 11, 0, 0, 0, 0, 0xCE]);
    }

    #[test]
    fn table_arguments_arrive_decoded() {
        let payload = [0, 50, 0, 10, 0, 0, 1, b'q', 2, 0, 0, 0, 4, 1, b'k', b't', 1];
        let Ok(AMQPClass::Queue(queue::AMQPMethod::Declare(declare))) = decode_method(&payload) else {
            panic!("not a queue.declare");
        };
        assert_eq!(
            (declare.queue.as_str(), declare.durable, declare.passive),
            ("q", true, false)
        );
        assert_eq!(declare.arguments.inner()["k"].as_bool(), Some(true));
    }
}
