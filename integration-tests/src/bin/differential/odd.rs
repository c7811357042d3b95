//! Frames that no client library sends: contents in pieces, methods that only brokers send, things at the wrong time.

use crate::operations::{Odd, Operation};
use crate::values::any;
use leveret_integration_tests::random::Random;
use leveret_integration_tests::raw::{BODY, HEADER, HEARTBEAT, METHOD, header_payload, method_payload, short_string};

/// A channel that sequences never open.
const NEVER_OPENED: u16 = 77;

/// basic.publish to the default exchange with an empty key.
fn publish() -> (u16, u16, Vec<u8>) {
    (
        60,
        40,
        [&[0, 0][..], &short_string(b""), &short_string(b""), &[0]].concat(),
    )
}

fn method((class_id, method_id, arguments): (u16, u16, Vec<u8>)) -> (u8, Vec<u8>) {
    (METHOD, method_payload(class_id, method_id, &arguments))
}

fn header(class_id: u16, body_size: u64) -> (u8, Vec<u8>) {
    (HEADER, header_payload(class_id, body_size, &[0, 0]))
}

fn odd(what: &'static str, frames: Vec<(u8, Vec<u8>)>) -> Odd {
    Odd {
        what,
        channel: None,
        frames,
    }
}

fn on(channel: u16, odd: Odd) -> Odd {
    Odd {
        channel: Some(channel),
        ..odd
    }
}

pub fn operation(random: &mut Random) -> Operation {
    let all = contents().into_iter().chain(methods()).collect::<Vec<Odd>>();
    let number = any(random, &(0..all.len()).collect::<Vec<usize>>());
    Operation::Odd(all[number].clone())
}

/// Contents that are not as they should be.
fn contents() -> Vec<Odd> {
    let body = |text: &[u8]| (BODY, text.to_vec());
    let select = method((85, 10, vec![0]));
    vec![
        odd("a header without a method", vec![header(60, 1)]),
        odd("a body without a method", vec![body(b"x")]),
        odd(
            "a publish followed by a method",
            vec![method(publish()), select.clone()],
        ),
        odd("a publish followed by a body", vec![method(publish()), body(b"x")]),
        odd(
            "a publish with a header of another class",
            vec![method(publish()), header(50, 1)],
        ),
        odd(
            "a header followed by a method",
            vec![method(publish()), header(60, 1), select],
        ),
        odd("a second header", vec![method(publish()), header(60, 1), header(60, 1)]),
        odd(
            "a body that is too long",
            vec![method(publish()), header(60, 1), body(b"xyz")],
        ),
        odd(
            "a body larger than may be announced",
            vec![method(publish()), header(60, 1 << 40)],
        ),
        odd(
            "a body after an empty message",
            vec![method(publish()), header(60, 0), body(b"x")],
        ),
        odd(
            "an empty body frame, then the body",
            vec![method(publish()), header(60, 1), body(b""), body(b"x")],
        ),
        odd(
            "properties that are cut short",
            vec![method(publish()), (HEADER, header_payload(60, 0, &[0x80, 0, 5, b'a']))],
        ),
    ]
}

/// Methods that are not due, or none at all.
fn methods() -> Vec<Odd> {
    let named = |class_id, method_id, arguments: &[u8]| method((class_id, method_id, arguments.to_vec()));
    let declare = |name: &[u8], flags: u8| {
        let arguments = [&[0, 0][..], &short_string(name), &[flags], &[0, 0, 0, 0]].concat();
        method((50, 10, arguments))
    };
    let deliver = [
        &short_string(b"t0")[..],
        &[0; 8],
        &[0],
        &short_string(b""),
        &short_string(b""),
    ]
    .concat();
    vec![
        odd("a heartbeat on a channel", vec![(HEARTBEAT, Vec::new())]),
        odd("a frame of an unknown type", vec![(4, b"abc".to_vec())]),
        odd("channel.open twice", vec![named(20, 10, &[0])]),
        odd("channel.open-ok from the client", vec![named(20, 11, &[0, 0, 0, 0])]),
        odd(
            "basic.deliver from the client",
            vec![named(60, 60, &deliver), header(60, 0)],
        ),
        odd("queue.declare-ok from the client", vec![named(50, 11, &[0; 9])]),
        odd("basic.get-empty from the client", vec![named(60, 72, &[0])]),
        odd("queue.declare cut short", vec![named(50, 10, &[0, 0, 5, b'a'])]),
        odd(
            "queue.declare with octets left over",
            vec![named(50, 10, &[0, 0, 1, b'q', 0, 0, 0, 0, 0, 9, 9])],
        ),
        odd("a queue name that is not UTF-8", vec![declare(&[0xff, 0xfe], 0b10)]),
        odd("a queue name with a line break", vec![declare(b"q\r\n0", 0)]),
        odd("a prefetch size", vec![named(60, 10, &[0, 0, 0, 7, 0, 1, 0])]),
        odd("a method of no class", vec![named(33, 10, &[])]),
        odd("a method that the class does not have", vec![named(50, 99, &[])]),
        on(
            NEVER_OPENED,
            odd("queue.declare on a channel that is not open", vec![declare(b"q0", 0)]),
        ),
        on(
            NEVER_OPENED,
            odd(
                "channel.close on a channel that is not open",
                vec![named(20, 40, &[0; 7])],
            ),
        ),
        on(
            NEVER_OPENED,
            odd(
                "channel.close-ok on a channel that is not open",
                vec![named(20, 41, &[])],
            ),
        ),
        on(
            NEVER_OPENED,
            odd("a header on a channel that is not open", vec![header(60, 1)]),
        ),
        on(0, odd("connection.open again", vec![named(10, 40, &[1, b'/', 0, 0])])),
        on(0, odd("connection.tune-ok again", vec![named(10, 31, &[0; 8])])),
        on(
            0,
            odd("a method of another class on channel 0", vec![declare(b"q0", 0)]),
        ),
        on(0, odd("a header on channel 0", vec![header(60, 1)])),
    ]
}
