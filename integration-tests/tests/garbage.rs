//! Bytes that nobody should send. The broker may close what it likes, but it lives on and answers others.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::random::Random;
use leveret_integration_tests::raw::{END, METHOD, PROTOCOL_HEADER, RawClient, frame_bytes, make};

/// A client that is not impressed by whatever the other connections do.
struct Witness {
    client: RawClient,
    queue: String,
}

impl Witness {
    fn new(broker: &TestBroker) -> Self {
        let mut client = RawClient::with_channel(broker.amqp());
        let queue = client.call(1, make::queue_declare("")).queue.to_string();
        let _ok = client.call(1, make::basic_consume(&queue));
        Self { client, queue }
    }

    /// Sends a message through the broker and back.
    fn check(&mut self) {
        self.client.publish_to(1, "", &self.queue, b"still there?");
        assert_eq!(self.client.expect_content(1).body, b"still there?");
    }
}

/// Sends what `make_bytes` gives on 50 sockets. All of them are open at once, because before login the broker takes
/// its time with refusing.
fn assert_harmless_before_login(seed: u64, make_bytes: impl Fn(&mut Random) -> Vec<u8>) {
    let broker = TestBroker::get();
    let mut witness = Witness::new(&broker);
    let mut random = Random::new(seed);
    let mut clients: Vec<RawClient> = (0..50).map(|_| RawClient::socket(broker.amqp())).collect();
    for client in &mut clients {
        client.send_bytes(&make_bytes(&mut random));
        client.shut_down_writing();
    }
    for client in &mut clients {
        client.read_to_end();
    }
    witness.check();
}

#[test]
fn random_bytes_on_a_fresh_socket_do_no_harm() {
    assert_harmless_before_login(0x5eed_0001, |random| {
        let length = 1 + random.below(2000);
        random.bytes(length)
    });
}

#[test]
fn random_bytes_after_the_protocol_header_do_no_harm() {
    assert_harmless_before_login(0x5eed_0002, |random| {
        let length = 1 + random.below(2000);
        [&PROTOCOL_HEADER[..], &random.bytes(length)].concat()
    });
}

#[test]
fn frames_with_random_payloads_before_login_do_no_harm() {
    assert_harmless_before_login(0x5eed_0006, |random| {
        let length = random.below(200);
        let payload = [&[0, 10, 0, 11][..], &random.bytes(length)].concat();
        [&PROTOCOL_HEADER[..], &frame_bytes(METHOD, 0, &payload)].concat()
    });
}

#[test]
fn well_formed_frames_with_random_payloads_do_no_harm() {
    let broker = TestBroker::get();
    let mut witness = Witness::new(&broker);
    let mut random = Random::new(0x5eed_0003);
    for _ in 0..200 {
        let mut client = RawClient::with_channel(broker.amqp());
        for _ in 0..5 {
            let (kind, channel) = ([1, 1, 1, 2, 3, 8][random.below(6)], random.below(3) as u16);
            let length = random.below(64);
            client.send_bytes(&frame_bytes(kind, channel, &random.bytes(length)));
        }
        client.shut_down_writing();
        client.read_to_end();
    }
    witness.check();
}

/// Every method of the specification with random arguments: here the payload gets past the ids.
#[test]
fn known_methods_with_random_arguments_do_no_harm() {
    let broker = TestBroker::get();
    let mut witness = Witness::new(&broker);
    let mut random = Random::new(0x5eed_0004);
    let classes: [(u16, &[u16]); 8] = [
        (10, &[10, 11, 20, 21, 30, 31, 40, 41, 51, 60, 61, 70, 71]),
        (20, &[10, 11, 20, 21, 40, 41]),
        (30, &[10, 11]),
        (40, &[10, 11, 20, 21, 30, 31, 40, 51]),
        (50, &[10, 11, 20, 21, 30, 31, 40, 41, 50, 51]),
        (
            60,
            &[
                10, 11, 20, 21, 30, 31, 40, 50, 60, 70, 71, 72, 80, 90, 100, 110, 111, 120,
            ],
        ),
        (85, &[10, 11]),
        (90, &[10, 11, 20, 21, 30, 31]),
    ];
    for (class_id, methods) in classes {
        for method_id in methods {
            for _ in 0..4 {
                let mut client = RawClient::with_channel(broker.amqp());
                let length = random.below(48);
                // Small octets make plausible lengths, so that more of them decode.
                let arguments: Vec<u8> = random.bytes(length).iter().map(|octet| octet % 7).collect();
                client.send_method_bytes(1, class_id, *method_id, &arguments);
                client.shut_down_writing();
                client.read_to_end();
            }
        }
    }
    witness.check();
}

#[test]
fn valid_conversations_with_flipped_bits_do_no_harm() {
    let broker = TestBroker::get();
    let mut witness = Witness::new(&broker);
    let mut random = Random::new(0x5eed_0005);
    let conversation = recorded_conversation();
    for _ in 0..200 {
        let mut bytes = conversation.clone();
        for _ in 0..1 + random.below(3) {
            let position = random.below(bytes.len());
            bytes[position] ^= 1 << random.below(8);
        }
        let mut client = RawClient::connect(broker.amqp());
        client.send_bytes(&bytes);
        client.shut_down_writing();
        client.read_to_end();
    }
    witness.check();
}

#[test]
fn conversations_that_stop_at_any_octet_do_no_harm() {
    let broker = TestBroker::get();
    let mut witness = Witness::new(&broker);
    let conversation = recorded_conversation();
    for length in 0..conversation.len() {
        let mut client = RawClient::connect(broker.amqp());
        client.send_bytes(&conversation[..length]);
        client.shut_down_writing();
        client.read_to_end();
    }
    witness.check();
}

/// What a client says that opens a channel, declares a queue with arguments, publishes to it, consumes and acknowledges.
fn recorded_conversation() -> Vec<u8> {
    use leveret_integration_tests::client::{arguments, text};
    use leveret_integration_tests::raw::{
        AMQPContentHeader, AMQPFrame, BasicProperties, Method, basic, channel, encode,
    };
    let method = |method: leveret_integration_tests::raw::AMQPClass| encode(&AMQPFrame::Method(1, method));
    let properties = BasicProperties::default()
        .with_content_type("text/plain".into())
        .with_headers(arguments([("key", text("value"))]))
        .with_delivery_mode(2);
    let header = AMQPContentHeader {
        class_id: 60,
        body_size: 4,
        properties,
    };
    let consume = basic::Consume {
        no_ack: false,
        ..make::basic_consume("")
    };
    [
        method(channel::Open {}.wrap()),
        method(make::queue_declare_with("", arguments([("x-unheard-of", text("value"))])).wrap()),
        method(make::queue_bind("", "amq.direct", "fuzz").wrap()),
        method(make::basic_publish("amq.direct", "fuzz").wrap()),
        encode(&AMQPFrame::Header(1, header)),
        encode(&AMQPFrame::Body(1, b"body".to_vec())),
        method(consume.wrap()),
        method(make::basic_ack(1).wrap()),
    ]
    .concat()
}

#[test]
fn a_frame_that_arrives_octet_by_octet_is_one_frame() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let arguments = [&[0, 0][..], b"\x00", &[4], &0_u32.to_be_bytes()].concat();
    let payload = [&[0, 50, 0, 10][..], &arguments].concat();
    let bytes = frame_bytes(METHOD, 1, &payload);
    assert_eq!(bytes.last(), Some(&END));
    for octet in bytes {
        client.send_bytes(&[octet]);
    }
    let ok: leveret_integration_tests::raw::queue::DeclareOk = client.expect(1);
    assert!(ok.queue.as_str().starts_with("amq.gen-"));
}
