//! Publishes that are encoded once and sent many times.

use std::ops::Range;

use amq_protocol::protocol::basic;

use super::connection::CHANNEL;
use crate::protocol::AMQPClass;
use crate::protocol::content::{BASIC_CLASS_ID, PERSISTENT};
use crate::protocol::frame::{FRAME_END, FRAME_OVERHEAD, FrameKind};
use crate::protocol::method::encode_method;
use crate::protocol::wire::{put_u8, put_u16, put_u32, put_u64, short_string};

/// Octets at the beginning of a body that hold the time it was sent, if the body is that long.
pub const STAMP_LEN: usize = 8;

/// Flag word with `delivery_mode` alone.
const DELIVERY_MODE_FLAG: u16 = 0x1000;

/// Many basic.publish with their contents, back to back. All are of one length; their routing keys take turns.
pub struct Batch {
    octets: Vec<u8>,
    message_len: usize,
    messages: usize,
    /// Where in each message the stamp lies, if the body has room for it.
    stamp_at: Option<usize>,
    /// Message that is sent next: the turns of the keys go on where they stopped.
    next: usize,
}

/// What every message of a batch is like.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    pub exchange: &'a str,
    /// Octets of the body.
    pub size: usize,
    pub persistent: bool,
    pub frame_max: u32,
    /// Most octets of the batch, unless one message for each routing key takes more.
    pub batch_bytes: usize,
    /// Bodies that cannot be compressed, each with other octets; else they are zeros.
    pub random: bool,
}

impl Batch {
    /// `routing_keys` are of one length and not empty.
    pub fn new(shape: Shape<'_>, routing_keys: &[String]) -> Batch {
        let mut octets = Vec::new();
        for key in routing_keys {
            write_publish(&mut octets, shape, key);
        }
        let keys = routing_keys.len().max(1);
        let round = octets.clone();
        let message_len = round.len() / keys;
        while octets.len() + round.len() <= shape.batch_bytes {
            if shape.random {
                routing_keys
                    .iter()
                    .for_each(|key| write_publish(&mut octets, shape, key));
            } else {
                octets.extend_from_slice(&round);
            }
        }
        let stamp_at = routing_keys.first().filter(|_| shape.size >= STAMP_LEN).map(|key| {
            let mut method = Vec::new();
            encode_method(&mut method, CHANNEL, &publish(shape.exchange, key));
            let first_body_frame = method.len() + header_frame_len(shape.persistent);
            first_body_frame + FRAME_OVERHEAD - 1
        });
        Batch {
            messages: octets.len() / message_len.max(1),
            octets,
            message_len,
            stamp_at,
            next: 0,
        }
    }

    /// Chooses up to `count` messages to be sent next; how many there are. They wait until then.
    pub fn choose(&mut self, count: usize) -> Range<usize> {
        if self.next == self.messages {
            self.next = 0;
        }
        let from = self.next;
        self.next = self.messages.min(from.saturating_add(count));
        from..self.next
    }

    /// Writes a time into one message, if its body is long enough; 0 is no time.
    pub fn stamp(&mut self, message: usize, nanos: u64) {
        let Some(at) = self.stamp_at else { return };
        let from = message * self.message_len + at;
        if let Some(stamp) = self.octets.get_mut(from..from + STAMP_LEN) {
            stamp.copy_from_slice(&nanos.to_be_bytes());
        }
    }

    /// The octets of messages, without the first `sent` of them.
    pub fn octets(&self, messages: &Range<usize>, sent: usize) -> &[u8] {
        let octets = messages.start * self.message_len..messages.end * self.message_len;
        self.octets
            .get(octets)
            .and_then(|octets| octets.get(sent..))
            .unwrap_or_default()
    }
}

fn publish(exchange: &str, routing_key: &str) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Publish(basic::Publish {
        exchange: short_string(exchange),
        routing_key: short_string(routing_key),
        mandatory: false,
        immediate: false,
    }))
}

const fn header_frame_len(persistent: bool) -> usize {
    FRAME_OVERHEAD + 14 + if persistent { 1 } else { 0 }
}

fn write_publish(out: &mut Vec<u8>, shape: Shape<'_>, routing_key: &str) {
    encode_method(out, CHANNEL, &publish(shape.exchange, routing_key));
    put_frame_head(
        out,
        FrameKind::Header,
        header_frame_len(shape.persistent) - FRAME_OVERHEAD,
    );
    put_u16(out, BASIC_CLASS_ID);
    put_u16(out, 0);
    put_u64(out, shape.size as u64);
    if shape.persistent {
        put_u16(out, DELIVERY_MODE_FLAG);
        put_u8(out, PERSISTENT);
    } else {
        put_u16(out, 0);
    }
    put_u8(out, FRAME_END);
    let payload_max = (shape.frame_max as usize).saturating_sub(FRAME_OVERHEAD).max(1);
    let mut left = shape.size;
    while left > 0 {
        let part = left.min(payload_max);
        put_frame_head(out, FrameKind::Body, part);
        let start = out.len();
        out.resize(start + part, 0);
        if shape.random
            && let Some(body) = out.get_mut(start..)
        {
            // Without randomness the octets are zeros, which measures something else but breaks nothing.
            let _ = getrandom::fill(body);
        }
        put_u8(out, FRAME_END);
        left -= part;
    }
}

fn put_frame_head(out: &mut Vec<u8>, kind: FrameKind, payload_len: usize) {
    put_u8(out, kind.octet());
    put_u16(out, CHANNEL);
    put_u32(out, u32::try_from(payload_len).unwrap_or(u32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::next_frame;
    use crate::protocol::hot::parse_whole_publish;

    const FRAME_MAX: u32 = 131_072;
    const BATCH_BYTES: usize = 64 * 1024;

    fn shape(size: usize, persistent: bool) -> Shape<'static> {
        Shape {
            exchange: "e",
            size,
            persistent,
            frame_max: FRAME_MAX,
            batch_bytes: BATCH_BYTES,
            random: false,
        }
    }

    #[test]
    fn random_bodies_differ_from_message_to_message() {
        let random = Shape {
            random: true,
            ..shape(64, true)
        };
        let batch = Batch::new(random, &keys(2));
        let bodies: std::collections::HashSet<&[u8]> = batch
            .octets
            .chunks(batch.message_len)
            .map(|message| &message[message.len() - 65..])
            .collect();
        assert_eq!(bodies.len(), batch.messages);
    }

    fn keys(count: usize) -> Vec<String> {
        (0..count).map(|index| format!("key-{index}")).collect()
    }

    #[test]
    fn every_message_of_a_batch_can_be_read_and_carries_its_stamp() {
        let mut batch = Batch::new(shape(16, true), &keys(3));
        assert!(batch.octets.len() <= BATCH_BYTES);
        assert_eq!(batch.messages % 3, 0);
        for message in 0..batch.messages {
            batch.stamp(message, message as u64 + 7);
        }
        let chosen = batch.choose(usize::MAX);
        let mut rest = batch.octets(&chosen, 0);
        for message in 0..batch.messages {
            let whole = parse_whole_publish(rest, FRAME_MAX).unwrap();
            let key = format!("key-{}", message % 3);
            assert_eq!(
                (whole.channel, whole.publish.names()),
                (CHANNEL, Some(("e", key.as_str())))
            );
            assert_eq!(whole.header.properties, [0x10, 0, 2]);
            assert_eq!(whole.body[..8], (message as u64 + 7).to_be_bytes());
            rest = &rest[whole.encoded_len..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn the_turns_of_the_keys_go_on_from_batch_to_batch() {
        let mut batch = Batch::new(shape(0, false), &keys(2));
        let total = batch.messages;
        let mut seen = 0;
        for _ in 0..3 {
            let chosen = batch.choose(total - 1);
            let mut rest = batch.octets(&chosen, 0);
            while let Some(whole) = parse_whole_publish(rest, FRAME_MAX) {
                let key = format!("key-{}", seen % 2);
                assert_eq!(whole.publish.names().map(|names| names.1), Some(key.as_str()));
                seen += 1;
                rest = &rest[whole.encoded_len..];
            }
        }
        // The second choice stops at the end of the buffer.
        assert_eq!(seen, 2 * (total - 1) + 1);
    }

    #[test]
    fn a_body_above_frame_max_is_split() {
        let mut batch = Batch::new(shape(300_000, false), &keys(1));
        assert_eq!(batch.messages, 1);
        batch.stamp(0, u64::MAX);
        let chosen = batch.choose(9);
        assert_eq!(chosen, 0..1);
        let mut rest = batch.octets(&chosen, 0);
        let mut frames = Vec::new();
        while let Some(frame) = next_frame(rest, FRAME_MAX).unwrap() {
            frames.push((frame.kind, frame.payload.len(), frame.payload[..8].to_vec()));
            rest = &rest[frame.encoded_len()..];
        }
        assert!(rest.is_empty());
        let lens: Vec<_> = frames.iter().map(|frame| frame.1).collect();
        assert_eq!(lens[2..], [131_064, 131_064, 37_872]);
        assert_eq!(frames[2].2, [0xFF; 8]);
    }

    #[test]
    fn a_body_that_is_too_short_has_no_stamp() {
        let mut batch = Batch::new(shape(7, false), &keys(1));
        let before = batch.octets.clone();
        batch.stamp(0, u64::MAX);
        assert_eq!(batch.octets, before);
    }

    #[test]
    fn what_was_sent_in_part_goes_on_where_it_stopped() {
        let mut batch = Batch::new(shape(16, false), &keys(1));
        let chosen = batch.choose(2);
        assert_eq!(batch.octets(&chosen, 0).len(), 2 * batch.message_len);
        assert_eq!(batch.octets(&chosen, 5).len(), 2 * batch.message_len - 5);
        assert!(batch.octets(&chosen, 2 * batch.message_len).is_empty());
    }
}
