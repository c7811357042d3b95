//! The catalogue (ERRORS.md in this package), sections 2 and 3: mistakes in frames. Test names begin with the row.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::raw::{
    BODY, BasicProperties, END, HEADER, HEARTBEAT, Login, METHOD, RawClient, Text, connection, header_payload, make,
    method_payload, open_virtual_host, short_string,
};

/// The largest frame that both sides agree on when the client takes what is offered.
const FRAME_MAX: u32 = 131_072;

/// Octets as Erlang prints them when they are no text.
fn erlang_binary(octets: &[u8]) -> String {
    let numbers: Vec<String> = octets.iter().map(u8::to_string).collect();
    format!("<<{}>>", numbers.join(","))
}

/// The first 7 octets of a frame.
fn frame_header(kind: u8, channel: u16, size: u32) -> Vec<u8> {
    [&[kind], &channel.to_be_bytes()[..], &size.to_be_bytes()].concat()
}

#[test]
fn row_019_handshake_methods_on_an_open_connection() {
    let broker = TestBroker::get();
    let text = "CHANNEL_ERROR - unexpected method in connection state running";

    let mut client = RawClient::connect(broker.amqp());
    client.send_start_ok(&Login::default());
    client.expect_connection_close(504, (10, 11), text);

    let mut client = RawClient::connect(broker.amqp());
    let tune_ok = connection::TuneOk {
        channel_max: 10,
        frame_max: FRAME_MAX,
        heartbeat: 0,
    };
    client.send(0, tune_ok);
    client.expect_connection_close(504, (10, 31), text);

    let mut client = RawClient::connect(broker.amqp());
    client.send(0, open_virtual_host("/"));
    client.expect_connection_close(504, (10, 40), text);
}

#[test]
fn row_020_content_on_channel_0() {
    let broker = TestBroker::get();
    let header = header_payload(60, 4, &[0, 0]);
    let mut client = RawClient::connect(broker.amqp());
    client.send_frame(HEADER, 0, &header);
    let text = format!("UNEXPECTED_FRAME - type 2, all octets = {}", erlang_binary(&header));
    client.expect_connection_close(505, (0, 0), text);

    let long = [[1, 2].repeat(10), vec![3]].concat();
    let mut client = RawClient::connect(broker.amqp());
    client.send_frame(BODY, 0, &long);
    let text = format!(
        "UNEXPECTED_FRAME - type 3, first 16 octets = {}",
        erlang_binary(&long[..16])
    );
    client.expect_connection_close(505, (0, 0), text);
}

#[test]
fn row_029_a_wrong_end_octet() {
    let broker = TestBroker::get();
    let declare = method_payload(
        50,
        10,
        &[&[0, 0], &short_string(b"some queue")[..], &[0, 0, 0, 0, 0]].concat(),
    );
    assert!(declare.len() > 16);
    let mut client = RawClient::with_channel(broker.amqp());
    client.send_bytes(&[&frame_header(METHOD, 1, declare.len() as u32), &declare[..], &[0xCD]].concat());
    let octets = erlang_binary(&declare[..16]);
    let text = format!("FRAME_ERROR - type 1, first 16 octets = {octets}: {{invalid_frame_end_marker,205}}");
    client.expect_connection_close(501, (0, 0), text);
}

#[test]
fn row_029_nothing_after_a_framing_error_is_looked_at() {
    let broker = TestBroker::get();
    let queue = broker.unique("after the error");
    let mut client = RawClient::with_channel(broker.amqp());
    let open = method_payload(20, 10, &[0]);
    client.send_bytes(&[&frame_header(METHOD, 2, open.len() as u32), &open[..], &[END ^ 1]].concat());
    let declare = leveret_integration_tests::raw::queue::Declare {
        exclusive: false,
        auto_delete: true,
        ..make::queue_declare(&queue)
    };
    client.send(1, declare);
    client.expect_connection_close(
        501,
        (0, 0),
        Text::StartingWith("FRAME_ERROR - type 1, all octets = <<".into()),
    );

    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, make::queue_declare_passive(&queue));
    client.expect_channel_close(1, 404, (50, 10), format!("NOT_FOUND - no queue '{queue}' in vhost '/'"));
}

#[test]
fn row_030_a_frame_above_frame_max() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send_bytes(&frame_header(BODY, 1, FRAME_MAX + 1));
    let size = FRAME_MAX + 1;
    let text = format!("FRAME_ERROR - type 3, all octets = <<>>: {{frame_too_large,{size},131064}}");
    client.expect_connection_close(501, (0, 0), text);

    let mut client = RawClient::with_channel(broker.amqp());
    client.send_bytes(&frame_header(METHOD, 1, u32::MAX));
    let text = "FRAME_ERROR - type 1, all octets = <<>>: {frame_too_large,4294967295,131064}";
    client.expect_connection_close(501, (0, 0), text);
}

#[test]
fn row_030_eight_octets_of_grace_are_given() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue;
    let body = vec![7; FRAME_MAX as usize];
    client.send(1, make::basic_publish("", queue.as_str()));
    client.send_header(1, BasicProperties::default(), body.len() as u64);
    client.send_frame(BODY, 1, &body);
    let _ok = client.call(1, make::basic_consume(queue.as_str()));
    assert!(client.expect_content(1).body == body);
}

#[test]
fn row_031_an_unknown_frame_type() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send_frame(4, 1, &[1, 2, 3]);
    client.expect_connection_close(
        501,
        (0, 0),
        "FRAME_ERROR - type 4, all octets = <<1,2,3>>: unknown_frame",
    );
}

#[test]
fn row_032_a_heartbeat_on_a_channel() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send_frame(HEARTBEAT, 1, &[]);
    client.expect_connection_close(505, (0, 0), "UNEXPECTED_FRAME - type 8, all octets = <<>>");
}

#[test]
fn row_033_a_publish_without_a_header() {
    let broker = TestBroker::get();
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, make::basic_publish("", "nobody"));
    client.send_frame(BODY, 1, b"body");
    client.expect_connection_close(505, (60, 40), text);

    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, make::basic_publish("", "nobody"));
    client.send(1, make::basic_publish("", "nobody"));
    client.expect_connection_close(505, (60, 40), text);
}

#[test]
fn row_034_a_header_of_another_class() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, make::basic_publish("", "nobody"));
    client.send_frame(HEADER, 1, &header_payload(10, 4, &[0, 0]));
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 10 instead";
    client.expect_connection_close(505, (60, 40), text);
}

#[test]
fn row_035_content_without_a_method() {
    let broker = TestBroker::get();
    let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    let mut client = RawClient::with_channel(broker.amqp());
    client.send_header(1, BasicProperties::default(), 4);
    client.expect_connection_close(505, (0, 0), text);

    let mut client = RawClient::with_channel(broker.amqp());
    client.send_frame(BODY, 1, b"body");
    client.expect_connection_close(505, (0, 0), text);
}

#[test]
fn row_036_a_method_while_body_is_due() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, make::basic_publish("", "nobody"));
    client.send_header(1, BasicProperties::default(), 4);
    client.send_frame(BODY, 1, b"bo");
    client.send(1, make::basic_publish("", "nobody"));
    let text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    client.expect_connection_close(505, (60, 40), text);
}

#[test]
fn row_037_a_body_longer_than_announced() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, make::basic_publish("", "nobody"));
    client.send_header(1, BasicProperties::default(), 4);
    client.send_frame(BODY, 1, b"five!");
    let text = "FRAME_ERROR - content body frame exceeds remaining content size";
    client.expect_connection_close(501, (60, 40), text);
}

#[test]
fn row_038_an_announced_body_above_512_mebibytes() {
    let broker = TestBroker::get();
    for size in [536_870_913, u64::MAX] {
        let mut client = RawClient::with_channel(broker.amqp());
        client.send(1, make::basic_publish("", "nobody"));
        client.send_header(1, BasicProperties::default(), size);
        let text = format!("FRAME_ERROR - content body size {size} exceeds maximum allowed size 536870912");
        client.expect_connection_close(501, (60, 40), text);
    }
}

#[test]
fn row_039_arguments_that_cannot_be_decoded() {
    let broker = TestBroker::get();
    // A queue.declare that ends in its name, one whose table is cut, and a header whose table is.
    let cut_name = method_payload(50, 10, &[0, 0, 200, b'q']);
    let cut_table = [&[0, 0][..], &short_string(b"q"), &[0, 0, 0, 0, 99, 1, b'a']].concat();
    let unknown_type = [&[0, 0][..], &short_string(b"q"), &[0, 0, 0, 0, 4, 1, b'a', b'?', 1]].concat();
    for payload in [
        cut_name,
        method_payload(50, 10, &cut_table),
        method_payload(50, 10, &unknown_type),
    ] {
        let mut client = RawClient::with_channel(broker.amqp());
        client.send_frame(METHOD, 1, &payload);
        let text = Text::StartingWith("FRAME_ERROR - cannot decode <<".into());
        client.expect_connection_close(501, (50, 10), text);
    }
}

#[test]
fn row_040_a_short_string_that_is_not_utf_8() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let arguments = [&[0, 0][..], &short_string(b"q\xff\xfe"), &[0, 0, 0, 0, 0]].concat();
    client.send_method_bytes(1, 50, 10, &arguments);
    client.expect_connection_close(501, (0, 0), "FRAME_ERROR - Malformed UTF-8 in shortstr");
}

#[test]
fn row_041_an_unknown_class_or_method() {
    let broker = TestBroker::get();
    for (class_id, method_id) in [(61, 10), (50, 99), (0, 0), (u16::MAX, u16::MAX)] {
        let mut client = RawClient::with_channel(broker.amqp());
        client.send_method_bytes(1, class_id, method_id, &[]);
        let text = Text::StartingWith("NOT_IMPLEMENTED - ".into());
        client.expect_connection_close(540, (class_id, method_id), text);
    }
}
