//! The catalogue (ERRORS.md in this package), section 1: mistakes before the connection is open. Test names begin with the row.

use leveret_integration_tests::raw::{
    AMQPClass, AMQPFrame, AMQPValue, FieldTable, Login, RawClient, channel, connection, long_string, make,
    open_virtual_host, raw_table, short_string,
};
use leveret_integration_tests::{TestBroker, wait};
use std::time::{Duration, Instant};

/// Refused logins are answered late, so that guessing is slow. By the catalogue after about 3 seconds.
const SHORTEST_DELAY: Duration = Duration::from_secs(2);

/// What the broker answers to any other protocol.
const AMQP_0_9_1: &[u8] = b"AMQP\x00\x00\x09\x01";

fn assert_answers_with_its_header(broker: &TestBroker, bytes: &[u8]) {
    let mut client = RawClient::socket(broker.amqp());
    client.send_bytes(bytes);
    assert_eq!(client.read_to_end(), AMQP_0_9_1, "after {bytes:?}");
}

#[test]
fn row_001_another_protocol_version() {
    let broker = TestBroker::get();
    let headers = [
        b"AMQP\x00\x00\x09\x02",
        b"AMQP\x03\x01\x00\x00",
        b"AMQP\x00\x01\x00\x00",
        b"AMQP\x09\x09\x09\x09",
    ];
    for header in headers {
        assert_answers_with_its_header(&broker, header);
    }
    assert_answers_with_its_header(&broker, b"HELO ME\n");
}

#[test]
fn row_001_the_old_form_of_the_header_is_taken() {
    let broker = TestBroker::get();
    let mut client = RawClient::socket(broker.amqp());
    client.send_bytes(b"AMQP\x01\x01\x00\x09");
    let _start: connection::Start = client.expect(0);
}

#[test]
fn row_002_http_or_tls_on_the_plain_port() {
    let broker = TestBroker::get();
    assert_answers_with_its_header(&broker, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let client_hello = [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), &[7; 501]].concat();
    assert_answers_with_its_header(&broker, &client_hello);
    // The broker writes the line before it hangs up, but the test's reader of the log may be a little behind.
    for word in ["HTTP", "TLS"] {
        wait::until(&format!("a log line that names {word}"), || {
            let lines = broker.log_lines();
            lines
                .is_none_or(|lines| lines.iter().any(|line| line.contains(word)))
                .then_some(())
        });
    }
}

#[test]
fn row_003_an_unfinished_handshake_is_dropped_without_a_word() {
    let broker = TestBroker::get();
    let started = Instant::now();
    let mut silent = RawClient::socket(broker.amqp());
    let (mut stuck, _start) = RawClient::started(broker.amqp());
    let mut half_way = RawClient::tuned(broker.amqp(), &Login::default());
    for client in [&mut silent, &mut stuck, &mut half_way] {
        client.expect_end_of_stream();
    }
    assert!(
        started.elapsed() > Duration::from_secs(5),
        "honest clients may need a few seconds"
    );
}

/// Answers `connection.start` with `mechanism` and `response` and waits for the socket to be closed.
fn assert_refused_without_a_word(broker: &TestBroker, mechanism: &str, response: &[u8]) {
    let (mut client, _start) = RawClient::started(broker.amqp());
    let started = Instant::now();
    client.send(0, start_ok(mechanism, response));
    client.expect_end_of_stream();
    let waited = started.elapsed();
    assert!(waited >= SHORTEST_DELAY, "{mechanism} was refused after {waited:?}");
}

fn start_ok(mechanism: &str, response: &[u8]) -> connection::StartOk {
    connection::StartOk {
        mechanism: mechanism.into(),
        response: response.into(),
        locale: "en_US".into(),
        ..Default::default()
    }
}

#[test]
fn row_004_an_unknown_mechanism() {
    let broker = TestBroker::get();
    let (_client, start) = RawClient::started(broker.amqp());
    let offered = start.mechanisms.to_string();
    assert!(offered.split(' ').any(|mechanism| mechanism == "PLAIN"), "{offered}");
    assert_refused_without_a_word(&broker, "UNHEARD-OF", b"\0guest\0guest");
}

const WRONG_LOGINS: [(&str, &str); 3] = [("guest", "wrong"), ("nobody", "guest"), ("guest", "")];

#[test]
fn row_005_a_wrong_login_of_a_client_that_understands_the_refusal() {
    let broker = TestBroker::get();
    for (user, password) in WRONG_LOGINS {
        let login = Login::of(user, password, "/").with_capability("authentication_failure_close");
        let (mut client, _start) = RawClient::started(broker.amqp());
        client.send_start_ok(&login);
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                    For details see the broker logfile.";
        client.expect_connection_close(403, (0, 0), text);
    }
}

#[test]
fn row_006_a_wrong_login_of_another_client() {
    let broker = TestBroker::get();
    std::thread::scope(|scope| {
        for (user, password) in WRONG_LOGINS {
            let response = format!("\0{user}\0{password}");
            let broker = &broker;
            scope.spawn(move || assert_refused_without_a_word(broker, "PLAIN", response.as_bytes()));
        }
    });
}

#[test]
fn row_007_a_malformed_plain_response() {
    let broker = TestBroker::get();
    std::thread::scope(|scope| {
        for response in [
            b"".as_slice(),
            b"guest",
            b"guest\0guest",
            b"\0guest",
            b"\0guest\0guest\0",
        ] {
            let broker = &broker;
            scope.spawn(move || assert_refused_without_a_word(broker, "PLAIN", response));
        }
    });
}

/// An AMQPLAIN response: the entries of a table without the size before them.
fn amqplain(entries: &[(&str, AMQPValue)]) -> Vec<u8> {
    let entries: Vec<(&str, Vec<u8>)> = entries
        .iter()
        .map(|(name, value)| match value {
            AMQPValue::LongString(text) => (*name, [b"S", &long_string(text.as_bytes())[..]].concat()),
            AMQPValue::LongInt(number) => (*name, [b"I", &number.to_be_bytes()[..]].concat()),
            other => panic!("not needed here: {other:?}"),
        })
        .collect();
    let entries: Vec<(&str, &[u8])> = entries.iter().map(|(name, value)| (*name, &value[..])).collect();
    raw_table(&entries)[4..].to_vec()
}

#[test]
fn row_008_an_incomplete_amqplain_response() {
    let broker = TestBroker::get();
    let guest = AMQPValue::LongString("guest".into());
    let responses = [
        amqplain(&[("LOGIN", guest.clone())]),
        amqplain(&[("PASSWORD", guest.clone())]),
        amqplain(&[("LOGIN", AMQPValue::LongInt(1)), ("PASSWORD", guest.clone())]),
        b"\x05LOGINS\xff\xff\xff\xff".to_vec(),
    ];
    std::thread::scope(|scope| {
        for response in &responses {
            let broker = &broker;
            scope.spawn(move || assert_refused_without_a_word(broker, "AMQPLAIN", response));
        }
    });
}

#[test]
fn row_008_a_complete_amqplain_response_logs_in() {
    let broker = TestBroker::get();
    let guest = AMQPValue::LongString("guest".into());
    let (mut client, _start) = RawClient::started(broker.amqp());
    let response = amqplain(&[("LOGIN", guest.clone()), ("PASSWORD", guest)]);
    client.send(0, start_ok("AMQPLAIN", &response));
    let tune: connection::Tune = client.expect(0);
    client.send_tune_ok(&Login::default(), &tune);
    let _ok = client.call(0, open_virtual_host("/"));
}

fn login_with_property_of(octets: usize) -> Login {
    let mut client_properties = FieldTable::default();
    client_properties.insert("product".into(), AMQPValue::LongString("x".repeat(octets).into()));
    Login {
        client_properties,
        ..Login::default()
    }
}

#[test]
fn row_009_a_frame_above_8192_octets_before_tune() {
    let broker = TestBroker::get();
    let (mut client, _start) = RawClient::started(broker.amqp());
    client.send_start_ok(&login_with_property_of(9000));
    client.expect_end_of_stream();
}

#[test]
fn row_009_a_large_start_ok_below_that_is_taken() {
    let broker = TestBroker::get();
    RawClient::connect_as(broker.amqp(), &login_with_property_of(8000)).close();
}

#[test]
fn row_010_a_method_that_is_not_due_in_the_handshake() {
    let broker = TestBroker::get();
    let (mut client, _start) = RawClient::started(broker.amqp());
    client.send(0, open_virtual_host("/"));
    client.expect_end_of_stream();

    let (mut client, _start) = RawClient::started(broker.amqp());
    client.send_start_ok(&Login::default());
    let _tune: connection::Tune = client.expect(0);
    client.send(0, open_virtual_host("/"));
    client.expect_end_of_stream();
}

#[test]
fn row_011_a_method_on_a_channel_before_open_ok() {
    let broker = TestBroker::get();
    let mut client = RawClient::tuned(broker.amqp(), &Login::default());
    client.send(1, channel::Open {});
    // RabbitMQ 3.10 says 505 before it hangs up, newer ones by the catalogue nothing. Either will do: the client is known.
    match client.next_frame() {
        None => {}
        Some(AMQPFrame::Method(0, AMQPClass::Connection(connection::AMQPMethod::Close(close)))) => {
            assert_eq!(
                (close.reply_code, close.class_id, close.method_id),
                (505, 0, 0),
                "{close:?}"
            );
            client.send(0, connection::CloseOk {});
            client.expect_end_of_stream();
        }
        Some(other) => panic!("expected the end of the stream, got {other:?}"),
    }
}

#[test]
fn row_012_tune_ok_out_of_range() {
    let broker = TestBroker::get();
    let too_high = "is higher than the maximum allowed value";
    let cases = [
        (2047, 131_073, format!("frame_max = 131073 {too_high} (131072)")),
        (2047, 0, format!("frame_max = 0 (no limit) {too_high} (131072)")),
        (
            2047,
            4095,
            "frame_max = 4095 is lower than the minimum allowed value (4096)".to_owned(),
        ),
        (2048, 131_072, format!("channel_max = 2048 {too_high} (2047)")),
        (0, 131_072, format!("channel_max = 0 (no limit) {too_high} (2047)")),
    ];
    for (channel_max, frame_max, text) in cases {
        let login = Login {
            tune_ok: Some(connection::TuneOk {
                channel_max,
                frame_max,
                heartbeat: 0,
            }),
            ..Login::default()
        };
        let mut client = RawClient::tuned(broker.amqp(), &login);
        client.expect_connection_close(530, (10, 31), format!("NOT_ALLOWED - negotiated {text}"));
    }
}

#[test]
fn row_012_small_frames_and_few_channels_are_taken() {
    let broker = TestBroker::get();
    let login = Login {
        tune_ok: Some(connection::TuneOk {
            channel_max: 1,
            frame_max: 4096,
            heartbeat: 0,
        }),
        ..Login::default()
    };
    let mut client = RawClient::connect_as(broker.amqp(), &login);
    client.open_channel(1);
    let queue = client.call(1, make::queue_declare("")).queue;
    let sent = vec![7; 3 * 4096];
    client.publish_to(1, "", queue.as_str(), &sent);
    let consume = make::basic_consume(queue.as_str());
    let _ok = client.call(1, consume);
    let received = client.expect_content(1);
    assert!(received.body == sent);
    assert!(
        received.largest_frame <= 4096,
        "a frame of {} octets",
        received.largest_frame
    );
}

#[test]
fn row_013_a_virtual_host_that_does_not_exist() {
    let broker = TestBroker::get();
    let name = broker.unique("no such vhost");
    let mut client = RawClient::tuned(broker.amqp(), &Login::default());
    client.send(0, open_virtual_host(&name));
    client.expect_connection_close(530, (10, 40), format!("NOT_ALLOWED - vhost {name} not found"));
}

#[test]
fn row_014_no_permission_in_the_virtual_host() {
    let broker = TestBroker::get();
    let Some(ctl) = broker.ctl() else { return };
    let user = broker.unique("stranger");
    ctl.run(&["add_user", &user, "secret"]);
    let mut client = RawClient::tuned(broker.amqp(), &Login::of(&user, "secret", "/"));
    client.send(0, open_virtual_host("/"));
    let text = format!("NOT_ALLOWED - access to vhost '/' refused for user '{user}'");
    client.expect_connection_close(530, (10, 40), text);
    ctl.run(&["delete_user", &user]);
}

#[test]
fn a_socket_that_says_nothing_or_half_a_header_does_no_harm() {
    let broker = TestBroker::get();
    drop(RawClient::socket(broker.amqp()));
    let mut client = RawClient::socket(broker.amqp());
    client.send_bytes(b"AMQ");
    client.shut_down_writing();
    assert_eq!(client.read_to_end(), b"");
    wait::until("the broker still answers", || {
        RawClient::connect(broker.amqp()).close();
        Some(())
    });
}

#[test]
fn bytes_that_are_no_frame_before_login_close_the_socket() {
    let broker = TestBroker::get();
    let bad_end = [&[1, 0, 0, 0, 0, 0, 4, 0, 10, 0, 11][..], &[0]].concat();
    let undecodable = [
        &[1, 0, 0, 0, 0, 0, 9, 0, 10, 0, 11][..],
        &short_string(b"oops"),
        &[0xCE],
    ]
    .concat();
    for bytes in [bad_end, undecodable, vec![9; 64]] {
        let (mut client, _start) = RawClient::started(broker.amqp());
        client.send_bytes(&bytes);
        client.expect_end_of_stream();
    }
}
