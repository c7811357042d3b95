//! The catalogue (ERRORS.md in this package): rows about streams, which Leveret does not have. A client that tries is told so when
//! it declares one, and nothing it does afterwards costs it its connection. Test names begin with the rows.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::{arguments, text};
use leveret_integration_tests::raw::{AMQPClass, AMQPValue, FieldTable, RawClient, basic, make, queue};

/// What a stream is declared as.
fn stream(name: &str, further: FieldTable) -> queue::Declare {
    let mut all = arguments([("x-queue-type", text("stream"))]);
    for (key, value) in further.inner() {
        all.insert(key.clone(), value.clone());
    }
    queue::Declare {
        durable: true,
        exclusive: false,
        ..make::queue_declare_with(name, all)
    }
}

/// A client that has been refused a stream.
fn refused(broker: &TestBroker, name: &str, further: FieldTable) -> RawClient {
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, stream(name, further));
    let text = format!(
        "PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue '{name}' in vhost '/': \
         \"unsupported queue type 'stream'\""
    );
    client.expect_channel_close(1, 406, (50, 10), text);
    client
}

#[test]
fn rows_091_and_095_a_stream_with_arguments_that_are_wrong() {
    let broker = TestBroker::get();
    for further in [
        arguments([("x-max-age", text("soon"))]),
        arguments([("x-stream-max-segment-size-bytes", AMQPValue::LongLongInt(3_000_000_001))]),
        arguments([("x-stream-filter-size-bytes", AMQPValue::LongInt(1))]),
        arguments([("x-stream-filter-size-bytes", text("16"))]),
    ] {
        refused(&broker, &broker.unique("stream"), further).close();
    }
    // A queue of another type has no use for them either, right or wrong.
    for name in [
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-stream-filter-size-bytes",
    ] {
        let mut client = RawClient::with_channel(broker.amqp());
        client.send(1, make::queue_declare_with("q", arguments([(name, text("16"))])));
        let text = format!(
            "PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/' of queue type rabbit_classic_queue"
        );
        client.expect_channel_close(1, 406, (50, 10), text);
    }
}

#[test]
fn rows_104_and_120_purging_or_getting_from_a_stream_that_was_refused() {
    let broker = TestBroker::get();
    let name = broker.unique("stream");
    let mut client = refused(&broker, &name, FieldTable::default());
    let missing = format!("NOT_FOUND - no queue '{name}' in vhost '/'");
    client.send(1, make::queue_purge(&name));
    client.expect_channel_close(1, 404, (50, 30), missing.as_str());
    client.send(1, make::basic_get(&name));
    client.expect_channel_close(1, 404, (60, 70), missing.as_str());
}

#[test]
fn rows_115_and_116_and_118_consuming_from_a_stream_that_was_refused() {
    let broker = TestBroker::get();
    let name = broker.unique("stream");
    let mut client = refused(&broker, &name, FieldTable::default());
    let missing = format!("NOT_FOUND - no queue '{name}' in vhost '/'");
    let without_prefetch = make::basic_consume(&name);
    let without_acknowledgements = basic::Consume {
        no_ack: true,
        ..make::basic_consume(&name)
    };
    let from_nowhere = basic::Consume {
        arguments: arguments([("x-stream-offset", text("foo"))]),
        ..make::basic_consume(&name)
    };
    for consume in [without_prefetch, without_acknowledgements, from_nowhere] {
        client.send(1, consume);
        client.expect_channel_close(1, 404, (60, 20), missing.as_str());
    }
}

/// The row is about quorum queues too, which are all like classic ones here.
#[test]
fn row_117_a_prefetch_of_the_channel_counts_for_quorum_queues_too() {
    let broker = TestBroker::get();
    let name = broker.unique("quorum");
    let mut client = RawClient::with_channel(broker.amqp());
    let declare = queue::Declare {
        durable: true,
        exclusive: false,
        ..make::queue_declare_with(&name, arguments([("x-queue-type", text("quorum"))]))
    };
    let _ok = client.call(1, declare);
    let qos = basic::Qos {
        prefetch_count: 1,
        global: true,
    };
    let _ok = client.call(1, qos);
    client.publish_to(1, "", &name, b"one");
    client.publish_to(1, "", &name, b"two");
    let _ok = client.call(1, make::basic_consume(&name));
    assert_eq!(client.expect_content(1).body, b"one");
    let counts = client.call(1, make::queue_declare_passive(&name));
    assert_eq!(counts.message_count, 1, "the second waits for the first");
    client.send(1, make::basic_ack(1));
    assert_eq!(client.expect_content(1).body, b"two");
    let _ok = client.call(1, make::queue_delete(&name));
}

#[test]
fn row_142_publishing_to_a_stream_that_was_refused() {
    let broker = TestBroker::get();
    let name = broker.unique("stream");
    let mut client = refused(&broker, &name, FieldTable::default());
    let publish = basic::Publish {
        mandatory: true,
        ..make::basic_publish("", &name)
    };
    client.publish(1, publish, Default::default(), b"m");
    let AMQPClass::Basic(basic::AMQPMethod::Return(returned)) = client.expect_content(1).method else {
        panic!("it was not returned");
    };
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    client.close();
}
