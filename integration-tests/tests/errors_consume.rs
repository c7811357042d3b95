//! The catalogue (ERRORS.md in this package), section 7, without permissions, limits and streams. Test names begin with the row.

use lapin::types::AMQPValue;
use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::{arguments, text};
use leveret_integration_tests::raw::{AMQPClass, AMQPFrame, Login, Method, RawClient, basic, channel, make};

/// A client with channel 1 and an exclusive queue.
fn client_and_queue(broker: &TestBroker) -> (RawClient, String) {
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue.to_string();
    (client, queue)
}

#[test]
fn row_109_a_prefetch_size() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    // prefetch_size 1000, prefetch_count 1, global off.
    client.send_method_bytes(1, 60, 10, &[0, 0, 3, 232, 0, 1, 0]);
    client.expect_connection_close(540, (60, 10), "NOT_IMPLEMENTED - prefetch_size!=0 (1000)");
}

#[test]
fn row_110_a_consumer_tag_used_twice() {
    let broker = TestBroker::get();
    let (mut client, queue) = client_and_queue(&broker);
    client.open_channel(2);
    let consume = basic::Consume {
        consumer_tag: "mine".into(),
        ..make::basic_consume(&queue)
    };
    let _ok = client.call(1, consume.clone());
    let _another_channel_has_tags_of_its_own = client.call(2, consume.clone());
    client.send(1, consume);
    client.expect_connection_close(530, (60, 20), "NOT_ALLOWED - attempt to reuse consumer tag 'mine'");
}

#[test]
fn row_110_a_tag_is_free_again_after_cancel() {
    let broker = TestBroker::get();
    let (mut client, queue) = client_and_queue(&broker);
    let consume = basic::Consume {
        consumer_tag: "mine".into(),
        ..make::basic_consume(&queue)
    };
    let cancel = basic::Cancel {
        consumer_tag: "mine".into(),
        nowait: false,
    };
    for _ in 0..3 {
        let _ok = client.call(1, consume.clone());
        assert_eq!(client.call(1, cancel.clone()).consumer_tag, cancel.consumer_tag);
    }
}

#[test]
fn row_111_exclusive_use() {
    let broker = TestBroker::get();
    let (mut client, queue) = client_and_queue(&broker);
    client.open_channel(2);
    let shared = make::basic_consume(&queue);
    let exclusive = basic::Consume {
        exclusive: true,
        ..shared.clone()
    };
    let text = format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use");
    for (first, second) in [(&exclusive, &shared), (&exclusive, &exclusive), (&shared, &exclusive)] {
        let consumer_tag = client.call(1, first.clone()).consumer_tag;
        client.send(2, second.clone());
        client.expect_channel_close(2, 403, (60, 20), text.clone());
        let cancel = basic::Cancel {
            consumer_tag,
            nowait: false,
        };
        let _ok = client.call(1, cancel);
    }
}

#[test]
fn row_111_exclusive_use_of_a_queue_with_a_single_active_consumer() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let single = arguments([("x-single-active-consumer", AMQPValue::Boolean(true))]);
    let queue = client.call(1, make::queue_declare_with("", single)).queue.to_string();
    let exclusive = basic::Consume {
        exclusive: true,
        ..make::basic_consume(&queue)
    };
    client.send(1, exclusive);
    let text = format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use");
    client.expect_channel_close(1, 403, (60, 20), text);
}

#[test]
fn row_121_a_get_on_a_quorum_queue_with_a_single_active_consumer() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let single = arguments([
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("x-queue-type", text("quorum")),
    ]);
    let queue = client.call(1, make::queue_declare_with("", single)).queue.to_string();
    client.send(1, make::basic_get(&queue));
    let text = format!(
        "RESOURCE_LOCKED - cannot obtain access to locked queue '{queue}' in vhost '/'. basic.get operations are not \
         supported by quorum queues with single active consumer"
    );
    client.expect_channel_close(1, 405, (60, 70), text);
}

#[test]
fn row_113_a_priority_that_is_no_integer() {
    let broker = TestBroker::get();
    let (mut client, queue) = client_and_queue(&broker);
    let consume = basic::Consume {
        arguments: arguments([("x-priority", text("high"))]),
        ..make::basic_consume(&queue)
    };
    client.send(1, consume);
    let text = format!(
        "PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{queue}' in vhost '/': \
         \"expected integer, got longstr\""
    );
    client.expect_channel_close(1, 406, (60, 20), text);
}

#[test]
fn row_122_a_delivery_tag_that_is_not_outstanding() {
    let broker = TestBroker::get();
    let (mut client, queue) = client_and_queue(&broker);
    let nack = |delivery_tag, multiple| basic::Nack {
        delivery_tag,
        multiple,
        requeue: false,
    };
    let ack = |delivery_tag, multiple| basic::Ack { delivery_tag, multiple };
    let cases = [
        (ack(82, false).wrap(), 82),
        (ack(82, true).wrap(), 82),
        (nack(83, false).wrap(), 83),
        (nack(83, true).wrap(), 83),
        (
            basic::Reject {
                delivery_tag: 84,
                requeue: true,
            }
            .wrap(),
            84,
        ),
        (ack(u64::MAX, false).wrap(), u64::MAX),
    ];
    for (method, delivery_tag) in cases {
        let ids = (method.get_amqp_class_id(), method.get_amqp_method_id());
        client.send(1, method);
        let text = format!("PRECONDITION_FAILED - unknown delivery tag {delivery_tag}");
        client.expect_channel_close(1, 406, ids, text);
    }

    // Settled once is settled.
    client.publish_to(1, "", &queue, b"message");
    let _ok = client.call(1, make::basic_consume(&queue));
    client.expect_content(1);
    client.send(1, make::basic_ack(1));
    client.send(1, make::basic_ack(1));
    client.expect_channel_close(1, 406, (60, 80), "PRECONDITION_FAILED - unknown delivery tag 1");
}

#[test]
fn row_123_an_ack_for_a_delivery_that_needs_none() {
    let broker = TestBroker::get();
    let (mut client, queue) = client_and_queue(&broker);
    let consume = basic::Consume {
        no_ack: true,
        ..make::basic_consume(&queue)
    };
    let _ok = client.call(1, consume);
    client.publish_to(1, "", &queue, b"message");
    client.expect_content(1);
    client.send(1, make::basic_ack(1));
    client.expect_channel_close(1, 406, (60, 80), "PRECONDITION_FAILED - unknown delivery tag 1");
}

/// Only the late delivery goes back; the channel lives on, and what is said of the old delivery is ignored.
#[test]
fn row_126_a_delivery_that_is_held_too_long() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let timeout = arguments([("x-consumer-timeout", AMQPValue::LongInt(300))]);
    let queue = client.call(1, make::queue_declare_with("", timeout)).queue.to_string();
    client.open_channel(2);
    let _ok = client.call(1, make::basic_consume(&queue));
    client.publish_to(1, "", &queue, b"message");
    client.expect_content(1);
    let preferred = basic::Consume {
        no_ack: true,
        arguments: arguments([("x-priority", AMQPValue::LongInt(1))]),
        ..make::basic_consume(&queue)
    };
    let _ok = client.call(2, preferred);
    client.expect_content(2);
    client.send(1, make::basic_ack(1));
    assert_eq!(client.call(1, make::queue_declare_passive(&queue)).consumer_count, 2);
    client.send(1, make::basic_ack(1));
    client.expect_channel_close(1, 406, (60, 80), "PRECONDITION_FAILED - unknown delivery tag 1");
}

#[test]
fn delivery_tags_belong_to_their_channel() {
    let broker = TestBroker::get();
    let (mut client, queue) = client_and_queue(&broker);
    client.open_channel(2);
    client.publish_to(1, "", &queue, b"message");
    let _ok = client.call(1, make::basic_consume(&queue));
    client.expect_content(1);
    client.send(2, make::basic_ack(1));
    client.expect_channel_close(2, 406, (60, 80), "PRECONDITION_FAILED - unknown delivery tag 1");
}

#[test]
fn row_124_cancelling_an_unknown_tag_is_no_error() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let cancel = basic::Cancel {
        consumer_tag: "nobody".into(),
        nowait: false,
    };
    assert_eq!(client.call(1, cancel).consumer_tag.as_str(), "nobody");
}

#[test]
fn row_125_recover_without_requeue_gives_the_messages_to_the_same_consumer() {
    let broker = TestBroker::get();
    let (mut client, queue) = client_and_queue(&broker);
    client.open_channel(2);
    let _ok = client.call(1, make::basic_consume(&queue));
    client.publish_to(1, "", &queue, b"message");
    client.expect_content(1);
    let _another_consumer = client.call(2, make::basic_consume(&queue));
    let _ok = client.call(1, basic::Recover { requeue: false });
    let again = client.expect_content(1);
    let AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)) = again.method else {
        panic!("no delivery: {again:?}")
    };
    assert!(deliver.redelivered);
    assert_eq!(again.body, b"message");
}

#[test]
fn row_127_a_deleted_queue_cancels_the_consumers_of_those_who_want_to_know() {
    let broker = TestBroker::get();
    for wants_to_know in [true, false] {
        let login = match wants_to_know {
            true => Login::default().with_capability("consumer_cancel_notify"),
            false => Login::default(),
        };
        let mut client = RawClient::connect_as(broker.amqp(), &login);
        client.open_channel(1);
        let queue = client.call(1, make::queue_declare("")).queue;
        let consumer_tag = client.call(1, make::basic_consume(queue.as_str())).consumer_tag;
        client.send(1, make::queue_delete(queue.as_str()));
        client.send(1, channel::Flow { active: true });

        let mut cancelled = false;
        loop {
            match client.next_method().1 {
                AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
                    assert_eq!((cancel.consumer_tag, cancel.nowait), (consumer_tag.clone(), true));
                    cancelled = true;
                }
                AMQPClass::Channel(_flow_ok) => break,
                _delete_ok => {}
            }
        }
        if wants_to_know && !cancelled {
            let cancel: basic::Cancel = client.expect(1);
            assert_eq!((cancel.consumer_tag, cancel.nowait), (consumer_tag, true));
        }
        assert!(wants_to_know || !cancelled, "cancelled without having asked for it");
    }
}

#[test]
fn consume_ok_comes_before_the_first_delivery_and_cancel_ok_after_the_last() {
    let broker = TestBroker::get();
    let (mut client, queue) = client_and_queue(&broker);
    for number in 0..100_u8 {
        client.publish_to(1, "", &queue, &[number]);
    }
    // `call` fails when anything but the answer comes first.
    let consumer_tag = client.call(1, make::basic_consume(&queue)).consumer_tag;
    let cancel = basic::Cancel {
        consumer_tag,
        nowait: false,
    };
    client.send(1, cancel);
    let mut cancelled = false;
    let mut delivered = 0;
    client.open_channel_collecting(2, |frame| match frame {
        AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::Deliver(_))) => {
            assert!(!cancelled, "a delivery after cancel-ok");
            delivered += 1;
        }
        AMQPFrame::Method(1, AMQPClass::Basic(basic::AMQPMethod::CancelOk(_))) => cancelled = true,
        _content => {}
    });
    assert!(cancelled);
    assert!(delivered <= 100);
}
