//! Our codec and amq-protocol's are the same on everything both of them do.

use crate::protocol::error::DecodeCause;
use crate::protocol::frame::next_frame;
use crate::protocol::hot::{
    self, parse_ack, parse_nack, parse_publish, parse_reject, parse_whole_publish, write_ack, write_deliver,
    write_get_ok, write_nack, write_return,
};
use crate::protocol::message::MessageView;
use crate::protocol::method::{class_and_method, decode_method, encode_method};
use crate::protocol::method_table::{ALL_IDS, spec};
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::testing::{arguments, generated, generated_header, properties, short_strings};
use crate::protocol::wire;
use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, parse_frame};
use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, parse_class};
use amq_protocol::types::ShortString;
use proptest::prelude::*;

const FRAME_MAX: u32 = 131_072;

fn basic_frame(channel: u16, method: basic::AMQPMethod) -> AMQPFrame {
    AMQPFrame::Method(channel, AMQPClass::Basic(method))
}

/// Method, header and body frames as amq-protocol encodes them, the body cut for `frame_max`.
fn generated_content(
    channel: u16,
    method: basic::AMQPMethod,
    properties: &BasicProperties,
    body: &[u8],
    frame_max: u32,
) -> Vec<u8> {
    let header = AMQPContentHeader {
        class_id: 60,
        body_size: body.len() as u64,
        properties: properties.clone(),
    };
    let mut out = generated(&basic_frame(channel, method));
    out.extend(generated(&AMQPFrame::Header(channel, header)));
    for part in body.chunks(frame_max as usize - 8) {
        out.extend(generated(&AMQPFrame::Body(channel, part.to_vec())));
    }
    out
}

/// A message with its exchange, routing key, properties and body.
#[derive(Clone, Debug)]
struct Sample {
    exchange: ShortString,
    routing_key: ShortString,
    properties: BasicProperties,
    body: Vec<u8>,
}

fn samples() -> impl Strategy<Value = Sample> {
    let body = prop_oneof![
        Just(Vec::new()),
        any::<Vec<u8>>(),
        (0..20_000_usize).prop_map(|len| vec![7; len])
    ];
    (short_strings(), short_strings(), properties(), body).prop_map(|(exchange, routing_key, properties, body)| {
        Sample {
            exchange,
            routing_key,
            properties,
            body,
        }
    })
}

impl Sample {
    fn exchange_and_key(&self) -> Vec<u8> {
        wire::exchange_and_key(self.exchange.as_str(), self.routing_key.as_str()).unwrap()
    }

    fn header(&self) -> Vec<u8> {
        generated_header(&self.properties, self.body.len() as u64)
    }

    /// Calls `write` with the message as the writers take it.
    fn written(&self, write: impl FnOnce(&mut Vec<u8>, &MessageView<'_>)) -> Vec<u8> {
        let (exchange_and_key, header) = (self.exchange_and_key(), self.header());
        let view = MessageView {
            exchange_and_key: &exchange_and_key,
            header: &header,
            body: &self.body,
        };
        let mut out = vec![0xAA];
        write(&mut out, &view);
        assert_eq!(out.remove(0), 0xAA);
        out
    }

    fn publish(&self, mandatory: bool, immediate: bool) -> basic::AMQPMethod {
        basic::AMQPMethod::Publish(basic::Publish {
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            mandatory,
            immediate,
        })
    }
}

/// Ids of any method, and arguments as the table of types has them.
fn method_payloads() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(ALL_IDS).prop_flat_map(|(class_id, method_id)| {
        let ids = [class_id.to_be_bytes(), method_id.to_be_bytes()].concat();
        arguments(spec(class_id, method_id).unwrap().arguments)
            .prop_map(move |arguments| [ids.clone(), arguments].concat())
    })
}

proptest! {
    #[test]
    fn a_method_of_any_arguments_decodes_as_amq_protocol_decodes_it(payload in method_payloads()) {
        let decoded = decode_method(&payload).unwrap();
        prop_assert_eq!(parse_class(&payload[..]), Ok((&[][..], decoded.clone())));
        prop_assert_eq!(class_and_method(&payload), Some((decoded.get_amqp_class_id(), decoded.get_amqp_method_id())));

        let mut frame = Vec::new();
        encode_method(&mut frame, 9, &decoded);
        prop_assert_eq!(parse_frame(&frame[..]), Ok((&[][..], AMQPFrame::Method(9, decoded.clone()))));
        let frame = next_frame(&frame, FRAME_MAX).unwrap().unwrap();
        prop_assert_eq!(decode_method(frame.payload).unwrap(), decoded);
    }

    #[test]
    fn a_truncated_or_extended_method_is_malformed(payload in method_payloads(), end: prop::sample::Index) {
        let end = end.index(payload.len());
        prop_assert_eq!(decode_method(&payload[..end]).unwrap_err().cause, DecodeCause::Malformed);
        let extended = [&payload[..], &[0]].concat();
        prop_assert_eq!(decode_method(&extended).unwrap_err().cause, DecodeCause::Malformed);
    }

    #[test]
    fn a_mutated_method_is_accepted_exactly_if_amq_protocol_accepts_all_of_it(
        mut payload in method_payloads(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        for (at, octet) in changes {
            let at = at.index(payload.len());
            payload[at] = octet;
        }
        let accepted = matches!(parse_class(&payload[..]), Ok((rest, _)) if rest.is_empty());
        prop_assert_eq!(decode_method(&payload).is_ok(), accepted);
    }

    #[test]
    fn any_bytes_are_a_method_or_an_error(bytes: Vec<u8>) {
        let _ = decode_method(&bytes);
        let _ = (parse_publish(&bytes), parse_ack(&bytes), parse_nack(&bytes), parse_reject(&bytes));
        let _ = parse_whole_publish(&bytes, FRAME_MAX);
    }

    #[test]
    fn settlements_are_read_as_amq_protocol_wrote_them(channel: u16, delivery_tag: u64, multiple: bool, requeue: bool) {
        let payload = |method| {
            let frame = generated(&basic_frame(channel, method));
            frame[7..frame.len() - 1].to_vec()
        };
        let ack = payload(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple }));
        prop_assert_eq!(parse_ack(&ack), Ok(hot::Ack { delivery_tag, multiple }));
        let nack = payload(basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple, requeue }));
        prop_assert_eq!(parse_nack(&nack), Ok(hot::Nack { delivery_tag, multiple, requeue }));
        let reject = payload(basic::AMQPMethod::Reject(basic::Reject { delivery_tag, requeue }));
        prop_assert_eq!(parse_reject(&reject), Ok(hot::Reject { delivery_tag, requeue }));
        for end in 0..ack.len() {
            prop_assert_eq!(parse_ack(&ack[..end]).unwrap_err().cause, DecodeCause::Malformed);
            prop_assert_eq!(parse_nack(&nack[..end]).unwrap_err().cause, DecodeCause::Malformed);
            prop_assert_eq!(parse_reject(&reject[..end]).unwrap_err().cause, DecodeCause::Malformed);
        }
        prop_assert!(parse_ack(&nack).is_err());
    }

    #[test]
    fn confirms_are_written_as_amq_protocol_writes_them(channel: u16, delivery_tag: u64, multiple: bool) {
        let mut out = Vec::new();
        write_ack(&mut out, channel, delivery_tag, multiple);
        let ack = basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple });
        prop_assert_eq!(&out, &generated(&basic_frame(channel, ack)));
        out.clear();
        write_nack(&mut out, channel, delivery_tag, multiple);
        let nack = basic::AMQPMethod::Nack(basic::Nack { delivery_tag, multiple, requeue: false });
        prop_assert_eq!(&out, &generated(&basic_frame(channel, nack)));
    }

    #[test]
    fn a_delivery_is_written_as_amq_protocol_writes_it(
        sample in samples(), channel: u16, consumer_tag in short_strings(), delivery_tag: u64, redelivered: bool,
        frame_max in prop_oneof![Just(4096), Just(FRAME_MAX), 9..200_u32],
    ) {
        let tag = wire::shortstr(consumer_tag.as_str()).unwrap();
        let written = sample.written(|out, view| {
            write_deliver(out, channel, &tag, delivery_tag, redelivered, view, frame_max);
        });
        let deliver = basic::AMQPMethod::Deliver(basic::Deliver {
            consumer_tag,
            delivery_tag,
            redelivered,
            exchange: sample.exchange.clone(),
            routing_key: sample.routing_key.clone(),
        });
        prop_assert_eq!(written, generated_content(channel, deliver, &sample.properties, &sample.body, frame_max));
    }

    #[test]
    fn a_get_ok_is_written_as_amq_protocol_writes_it(
        sample in samples(), channel: u16, delivery_tag: u64, redelivered: bool, message_count: u32,
    ) {
        let written = sample.written(|out, view| {
            write_get_ok(out, channel, delivery_tag, redelivered, message_count, view, 4096);
        });
        let get_ok = basic::AMQPMethod::GetOk(basic::GetOk {
            delivery_tag,
            redelivered,
            exchange: sample.exchange.clone(),
            routing_key: sample.routing_key.clone(),
            message_count,
        });
        prop_assert_eq!(written, generated_content(channel, get_ok, &sample.properties, &sample.body, 4096));
    }

    #[test]
    fn a_return_is_written_as_amq_protocol_writes_it(sample in samples(), channel: u16, reply_text in short_strings()) {
        let written = sample.written(|out, view| {
            write_return(out, channel, ReplyCode::NoRoute, reply_text.as_str(), view, 4096);
        });
        let returned = basic::AMQPMethod::Return(basic::Return {
            reply_code: 312,
            reply_text,
            exchange: sample.exchange.clone(),
            routing_key: sample.routing_key.clone(),
        });
        prop_assert_eq!(written, generated_content(channel, returned, &sample.properties, &sample.body, 4096));
    }

    #[test]
    fn a_publish_is_read_whole_and_from_its_method_alike(
        sample in samples(), channel: u16, mandatory: bool, immediate: bool, after: Vec<u8>,
    ) {
        let frames = generated_content(
            channel, sample.publish(mandatory, immediate), &sample.properties, &sample.body, FRAME_MAX,
        );
        let input = [&frames[..], &after].concat();
        let whole = parse_whole_publish(&input, FRAME_MAX).unwrap();
        let exchange_and_key = sample.exchange_and_key();
        prop_assert_eq!(whole.publish, hot::Publish {
            exchange_and_key: &exchange_and_key,
            mandatory,
            immediate,
        });
        prop_assert_eq!(whole.publish.names(), Some((sample.exchange.as_str(), sample.routing_key.as_str())));
        prop_assert_eq!(whole.channel, channel);
        prop_assert_eq!(whole.header.payload, sample.header());
        prop_assert_eq!(whole.header.body_size, sample.body.len() as u64);
        prop_assert_eq!(whole.body, &sample.body[..]);
        prop_assert_eq!(whole.encoded_len, frames.len());

        let method = next_frame(&input, FRAME_MAX).unwrap().unwrap();
        prop_assert_eq!(parse_publish(method.payload).unwrap(), whole.publish);
    }

    #[test]
    fn a_publish_that_is_not_all_there_is_not_taken_whole(sample in samples(), end: prop::sample::Index) {
        let frames = generated_content(1, sample.publish(true, false), &sample.properties, &sample.body, FRAME_MAX);
        prop_assert_eq!(parse_whole_publish(&frames[..end.index(frames.len())], FRAME_MAX), None);
    }

    #[test]
    fn a_mutated_publish_is_taken_whole_only_if_every_frame_is_valid(
        sample in samples(), at: prop::sample::Index, octet: u8,
    ) {
        let mut input = generated_content(1, sample.publish(true, false), &sample.properties, &sample.body, FRAME_MAX);
        let at = at.index(input.len());
        input[at] = octet;
        if let Some(whole) = parse_whole_publish(&input, FRAME_MAX) {
            let method = next_frame(&input, FRAME_MAX).unwrap().unwrap();
            match whole.publish.names() {
                Some(_) => prop_assert_eq!(parse_publish(method.payload).unwrap(), whole.publish),
                None => prop_assert!(parse_publish(method.payload).is_err()),
            }
            let header = next_frame(&input[method.encoded_len()..], FRAME_MAX).unwrap().unwrap();
            prop_assert_eq!((header.channel, header.payload), (whole.channel, whole.header.payload));
            prop_assert_eq!(whole.header.body_size, whole.body.len() as u64);
        }
    }
}

#[test]
fn a_body_in_two_frames_is_not_taken_whole() {
    let sample = Sample {
        exchange: "x".into(),
        routing_key: "k".into(),
        properties: BasicProperties::default(),
        body: vec![1; 100],
    };
    let frames = generated_content(1, sample.publish(false, false), &sample.properties, &sample.body, 80);
    assert_eq!(parse_whole_publish(&frames, FRAME_MAX), None);
    assert!(next_frame(&frames, FRAME_MAX).unwrap().is_some());
}

#[test]
fn frames_of_another_channel_in_between_are_not_taken_whole() {
    let sample = Sample {
        exchange: "x".into(),
        routing_key: "k".into(),
        properties: BasicProperties::default(),
        body: vec![1; 10],
    };
    let frames = generated_content(
        1,
        sample.publish(false, false),
        &sample.properties,
        &sample.body,
        FRAME_MAX,
    );
    let method_len = next_frame(&frames, FRAME_MAX).unwrap().unwrap().encoded_len();
    let mut between = frames[..method_len].to_vec();
    wire::put_u8(&mut between, 8);
    between.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0xCE]);
    between.extend_from_slice(&frames[method_len..]);
    assert_eq!(parse_whole_publish(&between, FRAME_MAX), None);
    let mut other_channel = frames;
    other_channel[method_len + 2] = 2;
    assert_eq!(parse_whole_publish(&other_channel, FRAME_MAX), None);
}

#[test]
fn a_frame_above_the_limit_is_not_taken_whole() {
    let sample = Sample {
        exchange: "x".into(),
        routing_key: "k".into(),
        properties: BasicProperties::default(),
        body: vec![1; 5000],
    };
    let frames = generated_content(
        1,
        sample.publish(false, false),
        &sample.properties,
        &sample.body,
        FRAME_MAX,
    );
    assert!(parse_whole_publish(&frames, FRAME_MAX).is_some());
    assert_eq!(parse_whole_publish(&frames, 4096), None);
}

#[test]
fn a_reply_text_above_255_bytes_is_cut_in_a_return() {
    let view = MessageView {
        exchange_and_key: &[0, 0],
        header: &[0; 14],
        body: &[],
    };
    let mut out = Vec::new();
    write_return(&mut out, 1, ReplyCode::NoRoute, &"é".repeat(200), &view, 4096);
    let frame = next_frame(&out, FRAME_MAX).unwrap().unwrap();
    let Ok(AMQPClass::Basic(basic::AMQPMethod::Return(returned))) = decode_method(frame.payload) else {
        panic!("not a basic.return");
    };
    assert_eq!(returned.reply_text.as_str(), "é".repeat(127));
}
