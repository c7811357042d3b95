//! The frames that decide the speed, read in place and written in few large pieces: basic.publish with its content,
//! basic.ack, basic.nack and basic.reject; basic.deliver, basic.get-ok, basic.return and the confirms.

mod writers;

pub use writers::{write_ack, write_deliver, write_get_ok, write_nack, write_return};

use crate::protocol::content::{BASIC_CLASS_ID, ContentHeader};
use crate::protocol::error::{DecodeCause, DecodeError};
use crate::protocol::frame::{FRAME_END, FRAME_OVERHEAD, FrameKind, payload_max};
use crate::protocol::method::{BASIC_ACK, BASIC_NACK, BASIC_PUBLISH, BASIC_REJECT};
use crate::protocol::wire::{Reader, exchange_and_key_texts};

/// A basic.publish without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Exchange, empty for the default one, and routing key as the two short strings they are on the wire. They are UTF-8
    /// in what [`parse_publish`] read; in a [`WholePublish`] that is not known before [`Publish::names`] has looked.
    pub exchange_and_key: &'a [u8],
    /// Return the message if it cannot be routed.
    pub mandatory: bool,
    /// Return the message if no consumer can take it at once.
    pub immediate: bool,
}

impl<'a> Publish<'a> {
    /// The names of the exchange and the routing key, if they are UTF-8.
    pub fn names(&self) -> Option<(&'a str, &'a str)> {
        exchange_and_key_texts(self.exchange_and_key)
    }
}

/// A basic.ack from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// The delivery.
    pub delivery_tag: u64,
    /// All deliveries up to this one; with tag 0 all there are.
    pub multiple: bool,
}

/// A basic.nack from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nack {
    /// The delivery.
    pub delivery_tag: u64,
    /// All deliveries up to this one; with tag 0 all there are.
    pub multiple: bool,
    /// Put it back into its queue.
    pub requeue: bool,
}

/// A basic.reject from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// The delivery.
    pub delivery_tag: u64,
    /// Put it back into its queue.
    pub requeue: bool,
}

/// A basic.publish with header and body that lies whole in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WholePublish<'a> {
    /// Channel of all its frames.
    pub channel: u16,
    /// The method.
    pub publish: Publish<'a>,
    /// The content header; its class is 60.
    pub header: ContentHeader<'a>,
    /// The body, as long as the header says.
    pub body: &'a [u8],
    /// Octets of all its frames on the wire.
    pub encoded_len: usize,
}

/// Reads a basic.publish method payload, class id first.
pub fn parse_publish(payload: &[u8]) -> Result<Publish<'_>, DecodeError> {
    read_arguments(payload, BASIC_PUBLISH, |reader| {
        reader.u16()?;
        let names = reader.rest();
        reader.shortstr()?;
        reader.shortstr()?;
        let names_len = names.len() - reader.rest().len();
        let bits = reader.u8()?;
        Ok(Publish {
            exchange_and_key: names.get(..names_len).unwrap_or_default(),
            mandatory: bits & 1 != 0,
            immediate: bits & 2 != 0,
        })
    })
}

/// Reads a basic.ack method payload, class id first.
pub fn parse_ack(payload: &[u8]) -> Result<Ack, DecodeError> {
    read_arguments(payload, BASIC_ACK, |reader| {
        let delivery_tag = reader.u64()?;
        Ok(Ack {
            delivery_tag,
            multiple: reader.u8()? & 1 != 0,
        })
    })
}

/// Reads a basic.nack method payload, class id first.
pub fn parse_nack(payload: &[u8]) -> Result<Nack, DecodeError> {
    read_arguments(payload, BASIC_NACK, |reader| {
        let delivery_tag = reader.u64()?;
        let bits = reader.u8()?;
        Ok(Nack {
            delivery_tag,
            multiple: bits & 1 != 0,
            requeue: bits & 2 != 0,
        })
    })
}

/// Reads a basic.reject method payload, class id first.
pub fn parse_reject(payload: &[u8]) -> Result<Reject, DecodeError> {
    read_arguments(payload, BASIC_REJECT, |reader| {
        let delivery_tag = reader.u64()?;
        Ok(Reject {
            delivery_tag,
            requeue: reader.u8()? & 1 != 0,
        })
    })
}

/// Checks the ids, reads the arguments, and requires that nothing is left over.
#[inline(always)]
fn read_arguments<'a, T>(
    payload: &'a [u8],
    ids: (u16, u16),
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeCause>,
) -> Result<T, DecodeError> {
    let arguments = payload.get(4..).unwrap_or_default();
    let mut reader = Reader::new(payload);
    let result = (|| {
        if (reader.u16()?, reader.u16()?) != ids {
            return Err(DecodeCause::Malformed);
        }
        let value = read(&mut reader)?;
        reader.finish()?;
        Ok(value)
    })();
    result.map_err(|cause| cause.in_method(ids.0, ids.1, arguments))
}

/// Reads a basic.publish whose header and body follow at once in `input`, on the same channel and with the body in at
/// most one frame. Nothing if that is not so, for whatever reason: then the frames are taken one by one, which also finds
/// out what is wrong with them.
///
/// Whether the names are UTF-8 is left to the caller: most publishes go where one before them went.
#[inline]
pub fn parse_whole_publish(input: &[u8], frame_max: u32) -> Option<WholePublish<'_>> {
    let size_max = payload_max(frame_max);
    let (head, rest) = input.split_first_chunk::<13>()?;
    let [frame_type, c0, c1, s0, s1, s2, s3, ids @ .., _, _] = *head;
    if frame_type != FrameKind::Method.octet() || ids != [0, 60, 0, 40] {
        return None;
    }
    let channel = [c0, c1];
    let arguments_len = u32::from_be_bytes([s0, s1, s2, s3]).checked_sub(6)?;
    let (arguments, rest) = split_payload(rest, arguments_len, size_max)?;
    let publish = whole_arguments(arguments)?;

    let (header_payload, rest) = split_frame(rest, FrameKind::Header, channel, size_max)?;
    let header = ContentHeader::parse(header_payload).ok()?;
    if header.class_id != BASIC_CLASS_ID {
        return None;
    }
    let (body, rest) = if header.body_size == 0 {
        (&[][..], rest)
    } else {
        split_frame(rest, FrameKind::Body, channel, size_max)?
    };
    if body.len() as u64 != header.body_size {
        return None;
    }
    Some(WholePublish {
        channel: u16::from_be_bytes(channel),
        publish,
        header,
        body,
        encoded_len: input.len() - rest.len(),
    })
}

/// The payload of a frame of this kind and channel at the beginning of `input`, and what follows the frame.
#[inline(always)]
fn split_frame(input: &[u8], kind: FrameKind, channel: [u8; 2], size_max: u32) -> Option<(&[u8], &[u8])> {
    let (&[frame_type, c0, c1, s0, s1, s2, s3], rest) = input.split_first_chunk::<7>()?;
    if frame_type != kind.octet() || [c0, c1] != channel {
        return None;
    }
    split_payload(rest, u32::from_be_bytes([s0, s1, s2, s3]), size_max)
}

/// The next `size` octets, which an end octet must follow, and what follows that.
#[inline(always)]
fn split_payload(input: &[u8], size: u32, size_max: u32) -> Option<(&[u8], &[u8])> {
    if size > size_max {
        return None;
    }
    let (payload, after) = input.split_at_checked(size as usize)?;
    match after {
        [FRAME_END, rest @ ..] => Some((payload, rest)),
        _ => None,
    }
}

/// The arguments of basic.publish after the ticket.
#[inline(always)]
fn whole_arguments(arguments: &[u8]) -> Option<Publish<'_>> {
    let (&bits, exchange_and_key) = arguments.split_last()?;
    let (&exchange_len, after) = exchange_and_key.split_first()?;
    let (&key_len, routing_key) = after.get(usize::from(exchange_len)..)?.split_first()?;
    if routing_key.len() != usize::from(key_len) {
        return None;
    }
    Some(Publish {
        exchange_and_key,
        mandatory: bits & 1 != 0,
        immediate: bits & 2 != 0,
    })
}

/// Length in octets of a method frame with `arguments` octets of arguments.
const fn method_frame_len(arguments: usize) -> usize {
    FRAME_OVERHEAD + 4 + arguments
}
