//! Publishing: confirms, returns, sizes and properties.

use lapin::options::*;
use lapin::types::{AMQPValue, FieldArray};
use lapin::{BasicProperties, Confirmation};
use leveret_integration_tests::client::*;
use leveret_integration_tests::raw::{
    self, AMQPClass, BODY, HEADER, RawClient, basic, confirm, header_payload, long_string, queue, raw_table,
    short_string,
};
use leveret_integration_tests::{Broker, TestBroker, wait};
use std::collections::BTreeSet;

#[tokio::test]
async fn every_publish_is_confirmed_and_stored_in_order() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut confirms = Vec::new();
    for number in 0..1000 {
        let (body, options) = (number.to_string(), BasicPublishOptions::default());
        let properties = BasicProperties::default();
        let publish = channel.basic_publish("".into(), queue.as_str().into(), options, body.as_bytes(), properties);
        confirms.push(publish.await.unwrap());
    }
    for confirm in confirms {
        assert_eq!(
            wait::within("a confirm", confirm).await.unwrap(),
            Confirmation::Ack(None)
        );
    }
    let expected: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    assert_eq!(channel.drain(&queue).await, expected);
}

#[test]
fn confirms_number_the_publishes_of_their_channel_from_one() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = declare_own_queue(&mut client);
    client.publish_to(1, "", &queue, b"before confirm.select, so not counted");
    let _ok = client.call(1, confirm::Select { nowait: false });
    let _ok = client.call(1, confirm::Select { nowait: false });
    for _ in 0..10 {
        client.publish_to(1, "", &queue, b"counted");
    }
    client.publish_to(1, "amq.direct", "to nobody", b"counted too");

    let mut outstanding: BTreeSet<u64> = (1..=11).collect();
    while !outstanding.is_empty() {
        let ack: basic::Ack = client.expect(1);
        let known = match ack.multiple {
            true => outstanding.extract_if(..=ack.delivery_tag, |_| true).count() > 0,
            false => outstanding.remove(&ack.delivery_tag),
        };
        assert!(known, "{ack:?} confirms nothing of {outstanding:?}");
    }
}

#[tokio::test]
async fn row_139_an_unroutable_mandatory_message_is_returned_whole() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default().with_message_id("m-1".into());
    let (exchange, key) = ("amq.direct", broker.unique("nobody"));
    let publish = channel.basic_publish(
        exchange.into(),
        key.as_str().into(),
        mandatory,
        b"lost",
        properties.clone(),
    );
    let Confirmation::Ack(Some(returned)) = publish.await.unwrap().await.unwrap() else {
        panic!("not returned")
    };
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!(
        (returned.exchange.as_str(), returned.routing_key.as_str()),
        (exchange, key.as_str())
    );
    assert_eq!((body(&returned).as_str(), &returned.properties), ("lost", &properties));
}

#[test]
fn the_return_comes_before_the_confirm() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let _ok = client.call(1, confirm::Select { nowait: false });
    let publish = basic::Publish {
        exchange: "amq.fanout".into(),
        routing_key: broker.unique("nobody").as_str().into(),
        mandatory: true,
        ..Default::default()
    };
    // amq.fanout may have bindings of other tests; an exchange of our own has none.
    let exchange = broker.unique("empty");
    let declare = raw::exchange::Declare {
        exchange: exchange.as_str().into(),
        kind: "fanout".into(),
        auto_delete: true,
        ..Default::default()
    };
    let _ok = client.call(1, declare);
    let publish = basic::Publish {
        exchange: exchange.as_str().into(),
        ..publish
    };
    client.publish(1, publish, BasicProperties::default(), b"back to me");
    let returned = client.expect_content(1);
    assert!(
        matches!(returned.method, AMQPClass::Basic(basic::AMQPMethod::Return(_))),
        "{returned:?}"
    );
    assert_eq!(returned.body, b"back to me");
    let ack: basic::Ack = client.expect(1);
    assert_eq!(ack.delivery_tag, 1);
}

#[tokio::test]
async fn messages_of_any_size_arrive_as_they_were_sent() {
    let broker = TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    let mut consumer = channel.consume_no_ack(&queue).await;
    let frame = connection.configuration().frame_max() as usize - 8;
    let sizes = [
        0,
        1,
        4095,
        4096,
        4097,
        frame - 1,
        frame,
        frame + 1,
        2 * frame,
        2 * frame + 1,
        5 * 1024 * 1024,
    ];
    for size in sizes {
        let sent: Vec<u8> = (0..size).map(|position| (position % 251) as u8).collect();
        channel.publish("", &queue, &sent).await;
        let received = next(&mut consumer).await;
        assert!(
            received.data == sent,
            "{size} bytes came back as {}",
            received.data.len()
        );
    }
}

#[tokio::test]
async fn all_properties_and_header_types_pass_through() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    let nested = arguments([("inner", AMQPValue::LongLongInt(i64::MIN)), ("empty", text(""))]);
    let array = FieldArray::from(vec![AMQPValue::Boolean(true), text("element"), AMQPValue::Void]);
    let headers = arguments([
        ("boolean", AMQPValue::Boolean(false)),
        ("short short", AMQPValue::ShortShortInt(-1)),
        ("short", AMQPValue::ShortInt(-300)),
        ("long", AMQPValue::LongInt(-70_000)),
        ("double", AMQPValue::Double(0.5)),
        ("timestamp", AMQPValue::Timestamp(1_700_000_000)),
        ("table", AMQPValue::FieldTable(nested)),
        ("array", AMQPValue::FieldArray(array)),
        ("bytes", AMQPValue::ByteArray(vec![0, 255, 206].into())),
    ]);
    let properties = BasicProperties::default()
        .with_content_type("application/octet-stream".into())
        .with_content_encoding("identity".into())
        .with_headers(headers)
        .with_delivery_mode(2)
        .with_priority(7)
        .with_correlation_id("correlation".into())
        .with_reply_to("reply".into())
        .with_expiration("600000".into())
        .with_message_id("message".into())
        .with_timestamp(1_700_000_001)
        .with_type("type".into())
        .with_user_id("guest".into())
        .with_app_id("app".into())
        .with_cluster_id("cluster".into());
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), queue.as_str().into(), options, b"body", properties.clone())
        .await
        .unwrap();
    let mut consumer = channel.consume_no_ack(&queue).await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.properties, properties);
    assert_eq!(
        (delivery.exchange.as_str(), delivery.routing_key.as_str()),
        ("", queue.as_str())
    );
    assert!(!delivery.redelivered);
}

/// The headers hold what a codec that parses and writes tables again would lose: the order of keys, a key that is there
/// twice, and the type `L`, which means the same as `l`.
#[test]
fn header_bytes_come_back_exactly_as_they_were_sent() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = declare_own_queue(&mut client);
    let headers = raw_table(&[
        ("z", &[b"S", &long_string(b"last letter first")[..]].concat()),
        ("a", b"t\x01"),
        ("a", b"t\x00"),
        ("u", b"u\xff\xfe"),
        ("l", b"L\x00\x00\x00\x00\x00\x00\x00\x2a"),
        ("v", b"V"),
        ("d", b"D\x02\x00\x00\x01\x00"),
    ]);
    // Content type, headers, delivery mode and message id.
    let flags: u16 = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 7;
    let properties = [
        &flags.to_be_bytes()[..],
        &short_string(b"text/plain"),
        &headers,
        &[1],
        &short_string(b"id"),
    ];
    let header = header_payload(60, 4, &properties.concat());

    let publish = basic::Publish {
        routing_key: queue.as_str().into(),
        ..Default::default()
    };
    client.send(1, publish);
    client.send_frame(HEADER, 1, &header);
    client.send_frame(BODY, 1, b"body");

    let get = basic::Get {
        queue: queue.as_str().into(),
        no_ack: true,
    };
    let got = wait::until("the message arrives", || {
        client.send(1, get.clone());
        let (kind, channel, method) = client.next_frame_bytes();
        assert_eq!((kind, channel), (raw::METHOD, 1));
        const GET_OK: [u8; 4] = [0, 60, 0, 71];
        method.starts_with(&GET_OK).then(|| client.next_frame_bytes())
    });
    assert_eq!(got, (HEADER, 1, header));
    assert_eq!(client.next_frame_bytes(), (BODY, 1, b"body".to_vec()));
}

#[test]
fn contents_on_different_channels_may_be_interleaved() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.open_channel(2);
    let queue = declare_own_queue(&mut client);
    let publish = basic::Publish {
        routing_key: queue.as_str().into(),
        ..Default::default()
    };
    client.send(1, publish.clone());
    client.send(2, publish);
    client.send_header(2, BasicProperties::default(), 6);
    client.send_header(1, BasicProperties::default(), 5);
    client.send_frame(BODY, 1, b"fi");
    client.send_frame(BODY, 2, b"second");
    client.send_frame(BODY, 1, b"");
    client.send_frame(BODY, 1, b"rst");
    let consume = basic::Consume {
        queue: queue.as_str().into(),
        no_ack: true,
        ..Default::default()
    };
    let _ok = client.call(1, consume);
    let mut bodies = [client.expect_content(1).body, client.expect_content(1).body];
    bodies.sort();
    assert_eq!(bodies, [b"first".to_vec(), b"second".to_vec()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_stamped_with_time_and_node_where_that_is_asked_for() {
    let settings = [
        ("SET_HEADER_TIMESTAMP", "missing"),
        ("SET_HEADER_ROUTING_NODE", "overwrite"),
        ("NODE_NAME", "rabbit@burrow"),
    ];
    let Some(broker) = Broker::start_configured(&settings) else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let queue = channel.own_queue().await;
    let since_1970 = || {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
    };
    let before = since_1970();
    let said = lapin::BasicProperties::default()
        .with_timestamp(7)
        .with_headers(arguments([("x-routed-by", text("elsewhere"))]));
    // The second of two that are alike takes the short way.
    for properties in [
        said,
        lapin::BasicProperties::default(),
        lapin::BasicProperties::default(),
    ] {
        let options = BasicPublishOptions::default();
        let publish = channel.basic_publish("".into(), queue.as_str().into(), options, b"m", properties);
        publish.await.unwrap().await.unwrap();
    }
    let after = since_1970();
    for timestamp in [Some(7), None, None] {
        let got = channel.get(&queue).await.expect("a message");
        let headers = got.properties.headers().as_ref().expect("headers").inner();
        assert_eq!(headers.get("x-routed-by"), Some(&text("rabbit@burrow")));
        let Some(AMQPValue::LongLongInt(millis)) = headers.get("timestamp_in_ms") else {
            panic!("{headers:?}");
        };
        let millis = *millis as u128;
        assert!((before.as_millis()..=after.as_millis()).contains(&millis), "{millis}");
        let seconds = timestamp.unwrap_or((millis / 1000) as u64);
        assert_eq!(*got.properties.timestamp(), Some(seconds));
    }
}

/// Declares an exclusive queue on channel 1.
fn declare_own_queue(client: &mut RawClient) -> String {
    let declare = queue::Declare {
        exclusive: true,
        ..Default::default()
    };
    client.call(1, declare).queue.to_string()
}
