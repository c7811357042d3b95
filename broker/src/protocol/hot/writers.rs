//! Writers of whole frames. Each message reserves its room once and is written in a few pieces: appending field by
//! field costs several times as much.

use super::method_frame_len;
use crate::protocol::frame::{FRAME_END, FRAME_OVERHEAD, payload_max};
use crate::protocol::message::MessageView;
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::wire::SHORTSTR_MAX_BYTES;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// Appends a basic.deliver with its content.
///
/// `consumer_tag` is a short string as it lies on the wire, length octet first. The body is split so that no frame
/// exceeds `frame_max` octets; an empty one has no frame.
#[inline]
pub fn write_deliver(
    out: &mut Vec<u8>,
    channel: u16,
    consumer_tag: &[u8],
    delivery_tag: u64,
    redelivered: bool,
    message: &MessageView<'_>,
    frame_max: u32,
) {
    let arguments = consumer_tag.len() + 9 + message.exchange_and_key.len();
    out.reserve(method_frame_len(arguments) + content_len(message, frame_max));
    out.extend_from_slice(&method_head(channel, 60, arguments));
    out.extend_from_slice(consumer_tag);
    out.extend_from_slice(&tag_and_bits(delivery_tag, u8::from(redelivered)));
    out.extend_from_slice(message.exchange_and_key);
    write_content(out, channel, message, frame_max);
}

/// Appends a basic.get-ok with its content; `message_count` is how many stay in the queue.
pub fn write_get_ok(
    out: &mut Vec<u8>,
    channel: u16,
    delivery_tag: u64,
    redelivered: bool,
    message_count: u32,
    message: &MessageView<'_>,
    frame_max: u32,
) {
    let arguments = 9 + message.exchange_and_key.len() + 4;
    out.reserve(method_frame_len(arguments) + content_len(message, frame_max));
    out.extend_from_slice(&method_head(channel, 71, arguments));
    out.extend_from_slice(&tag_and_bits(delivery_tag, u8::from(redelivered)));
    out.extend_from_slice(message.exchange_and_key);
    out.extend_from_slice(&message_count.to_be_bytes());
    write_content(out, channel, message, frame_max);
}

/// Appends a basic.return with its content. The reply text is cut at 255 bytes.
pub fn write_return(
    out: &mut Vec<u8>,
    channel: u16,
    reply_code: ReplyCode,
    reply_text: &str,
    message: &MessageView<'_>,
    frame_max: u32,
) {
    let text = reply_text
        .as_bytes()
        .get(..reply_text.floor_char_boundary(SHORTSTR_MAX_BYTES))
        .unwrap_or_default();
    let arguments = 3 + text.len() + message.exchange_and_key.len();
    out.reserve(method_frame_len(arguments) + content_len(message, frame_max));
    out.extend_from_slice(&method_head(channel, 50, arguments));
    let [code0, code1] = reply_code.number().to_be_bytes();
    out.extend_from_slice(&[code0, code1, text.len() as u8]);
    out.extend_from_slice(text);
    out.extend_from_slice(message.exchange_and_key);
    write_content(out, channel, message, frame_max);
}

/// Appends a basic.ack: the confirm of a publish, or with `multiple` of all up to it.
#[inline]
pub fn write_ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    write_confirm(out, channel, 80, delivery_tag, u8::from(multiple));
}

/// Appends a basic.nack: the broker could not take a publish, or with `multiple` any up to it. The `requeue` bit has no
/// meaning in this direction and is not set.
#[inline]
pub fn write_nack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    write_confirm(out, channel, 120, delivery_tag, u8::from(multiple));
}

#[inline]
fn write_confirm(out: &mut Vec<u8>, channel: u16, method_id: u8, delivery_tag: u64, bits: u8) {
    let [c0, c1] = channel.to_be_bytes();
    let [t0, t1, t2, t3, t4, t5, t6, t7] = delivery_tag.to_be_bytes();
    out.extend_from_slice(&[
        METHOD, c0, c1, 0, 0, 0, 13, 0, 60, 0, method_id, t0, t1, t2, t3, t4, t5, t6, t7, bits, FRAME_END,
    ]);
}

/// Octets of the header frame and all body frames; for an empty body one envelope too many.
#[inline]
fn content_len(message: &MessageView<'_>, frame_max: u32) -> usize {
    let part_max = body_part_max(frame_max);
    // Nearly every body fits one frame; a division would cost as much as copying a hundred octets.
    let body_frames = if message.body.len() <= part_max {
        1
    } else {
        message.body.len().div_ceil(part_max)
    };
    FRAME_OVERHEAD + message.header.len() + message.body.len() + body_frames * FRAME_OVERHEAD
}

/// Appends the end of the method frame, the header frame and the body frames.
#[inline]
fn write_content(out: &mut Vec<u8>, channel: u16, message: &MessageView<'_>, frame_max: u32) {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = (message.header.len() as u32).to_be_bytes();
    out.extend_from_slice(&[FRAME_END, HEADER, c0, c1, s0, s1, s2, s3]);
    out.extend_from_slice(message.header);
    for part in message.body.chunks(body_part_max(frame_max)) {
        let [s0, s1, s2, s3] = (part.len() as u32).to_be_bytes();
        out.extend_from_slice(&[FRAME_END, BODY, c0, c1, s0, s1, s2, s3]);
        out.extend_from_slice(part);
    }
    out.push(FRAME_END);
}

/// Largest part of a body in one frame; never 0, so that a body always ends.
#[inline]
fn body_part_max(frame_max: u32) -> usize {
    payload_max(frame_max).max(1) as usize
}

/// The beginning of a frame with a method of class basic.
#[inline]
fn method_head(channel: u16, method_id: u8, arguments: usize) -> [u8; 11] {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = (arguments as u32 + 4).to_be_bytes();
    [METHOD, c0, c1, s0, s1, s2, s3, 0, 60, 0, method_id]
}

#[inline]
fn tag_and_bits(delivery_tag: u64, bits: u8) -> [u8; 9] {
    let [t0, t1, t2, t3, t4, t5, t6, t7] = delivery_tag.to_be_bytes();
    [t0, t1, t2, t3, t4, t5, t6, t7, bits]
}
