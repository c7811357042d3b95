//! Field tables nested so deeply that a recursive decoder runs out of stack. They are refused before anything decodes them.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::raw::{
    BODY, HEADER, Login, METHOD, RawClient, Text, array_nested, connection, header_payload, long_string, make,
    method_payload, raw_table, short_string, table_nested,
};

/// The deepest nesting that is taken.
const DEPTH_MAX: usize = 100;

/// Far beyond what a thread's stack holds, and still within one frame.
const DEPTHS_TOO_DEEP: [usize; 3] = [DEPTH_MAX + 2, 1_000, 18_000];

/// A table and an array of that depth, as field tables.
fn nested(depth: usize) -> [Vec<u8>; 2] {
    [table_nested(depth), array_nested(depth)]
}

fn start_ok(client_properties: &[u8], mechanism: &[u8], response: &[u8]) -> Vec<u8> {
    let arguments = [
        client_properties,
        &short_string(mechanism),
        &long_string(response),
        &short_string(b"en_US"),
    ];
    method_payload(10, 11, &arguments.concat())
}

#[test]
fn before_login_a_deeply_nested_table_closes_the_socket() {
    let broker = TestBroker::get();
    // 1,000 tables still fit into a frame of 8,192 octets, which is the limit before login.
    for depth in [DEPTH_MAX + 2, 1_000] {
        for table in nested(depth) {
            let (mut client, _start) = RawClient::started(broker.amqp());
            client.send_frame(METHOD, 0, &start_ok(&table, b"PLAIN", b"\0guest\0guest"));
            client.expect_end_of_stream();
        }
    }
    RawClient::connect(broker.amqp()).close();
}

#[test]
fn a_deeply_nested_amqplain_response_closes_the_socket() {
    let broker = TestBroker::get();
    for table in nested(1_000) {
        let (mut client, _start) = RawClient::started(broker.amqp());
        client.send_frame(METHOD, 0, &start_ok(&raw_table(&[]), b"AMQPLAIN", &table[4..]));
        client.expect_end_of_stream();
    }
    RawClient::connect(broker.amqp()).close();
}

/// Every method with a table: its ids and all that stands before the table.
fn methods_with_tables() -> Vec<(u16, u16, Vec<u8>)> {
    let (ticket, name) = ([0, 0], short_string(b"name"));
    let names = |count: usize| [&ticket[..], &name.repeat(count)].concat();
    let with_flags = |octets: Vec<u8>| [octets, vec![0]].concat();
    vec![
        (40, 10, with_flags(names(2))),
        (40, 30, with_flags(names(3))),
        (40, 40, with_flags(names(3))),
        (50, 10, with_flags(names(1))),
        (50, 20, with_flags(names(3))),
        (50, 50, names(3)),
        (60, 20, with_flags(names(2))),
    ]
}

#[test]
fn on_every_method_that_takes_a_table_deep_nesting_costs_the_connection() {
    let broker = TestBroker::get();
    for (class_id, method_id, before) in methods_with_tables() {
        for depth in DEPTHS_TOO_DEEP {
            for table in nested(depth) {
                let mut client = RawClient::with_channel(broker.amqp());
                client.send_method_bytes(1, class_id, method_id, &[&before[..], &table].concat());
                assert_frame_error(&mut client);
            }
        }
    }
    RawClient::connect(broker.amqp()).close();
}

#[test]
fn in_message_headers_deep_nesting_costs_the_connection() {
    let broker = TestBroker::get();
    let headers_flag = (1_u16 << 13).to_be_bytes();
    for depth in DEPTHS_TOO_DEEP {
        for table in nested(depth) {
            let mut client = RawClient::with_channel(broker.amqp());
            client.send(1, make::basic_publish("amq.headers", ""));
            let properties = [&headers_flag[..], &table].concat();
            client.send_frame(HEADER, 1, &header_payload(60, 4, &properties));
            client.send_frame(BODY, 1, b"body");
            assert_frame_error(&mut client);
        }
    }
    RawClient::connect(broker.amqp()).close();
}

#[test]
fn nesting_up_to_the_limit_is_taken() {
    let broker = TestBroker::get();
    let mut client = RawClient::connect_as(broker.amqp(), &Login::default());
    client.open_channel(1);
    // With the table around the arrays, and the innermost array, the limit is just kept.
    let depth = DEPTH_MAX - 2;
    for (number, table) in nested(depth).into_iter().enumerate() {
        let name = short_string(format!("{}-{number}", broker.unique("nested")).as_bytes());
        let exclusive = [4];
        let arguments = [&[0, 0][..], &name, &exclusive, &table].concat();
        client.send_method_bytes(1, 50, 10, &arguments);
        // Read as bytes: the tests' own decoder is recursive.
        let (kind, channel, payload) = client.next_frame_bytes();
        assert_eq!(
            (kind, channel, &payload[..4]),
            (METHOD, 1, &[0, 50, 0, 11][..]),
            "queue.declare-ok"
        );
    }
    client.close();
}

#[track_caller]
fn assert_frame_error(client: &mut RawClient) {
    let close: connection::Close = client.expect(0);
    assert_eq!(close.reply_code, 501, "{close:?}");
    assert!(close.reply_text.as_str().starts_with("FRAME_ERROR - "), "{close:?}");
    client.send(0, connection::CloseOk {});
    client.expect_end_of_stream();
}

#[test]
fn a_table_that_is_longer_than_its_frame_or_its_parent_costs_the_connection() {
    let broker = TestBroker::get();
    let longer_than_frame = [&u32::MAX.to_be_bytes()[..], b"\x01aF"].concat();
    let longer_than_parent = raw_table(&[("a", &[b"F", &100_u32.to_be_bytes()[..]].concat())]);
    let key_longer_than_table = long_string(b"\xffa");
    for table in [longer_than_frame, longer_than_parent, key_longer_than_table] {
        let mut client = RawClient::with_channel(broker.amqp());
        let arguments = [&[0, 0][..], &short_string(b"name"), &[0], &table].concat();
        client.send_method_bytes(1, 50, 10, &arguments);
        client.expect_connection_close(501, (50, 10), Text::StartingWith("FRAME_ERROR - ".into()));
    }
}
