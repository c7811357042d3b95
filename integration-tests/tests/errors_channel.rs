//! The catalogue (ERRORS.md in this package), section 4, and the rules that hold for every close. Test names begin with the row.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::raw::{
    AMQPClass, BasicProperties, Login, Method, RawClient, basic, channel, confirm, connection, exchange, make, queue,
    tx,
};

#[test]
fn row_042_a_method_on_a_channel_that_is_not_open() {
    let broker = TestBroker::get();
    let methods = [
        make::queue_declare("").wrap(),
        make::exchange_delete("amq.nothing").wrap(),
        make::basic_ack(1).wrap(),
        confirm::Select { nowait: true }.wrap(),
        tx::Select {}.wrap(),
        channel::Flow { active: true }.wrap(),
    ];
    for method in methods {
        let ids = (method.get_amqp_class_id(), method.get_amqp_method_id());
        let mut client = RawClient::connect(broker.amqp());
        client.send(1, method);
        client.expect_connection_close(504, ids, "CHANNEL_ERROR - expected 'channel.open'");
    }
}

#[test]
fn row_042_a_publish_on_a_channel_that_is_not_open() {
    let broker = TestBroker::get();
    let mut client = RawClient::connect(broker.amqp());
    client.publish_to(7, "", "nobody", b"body");
    client.expect_connection_close(504, (60, 40), "CHANNEL_ERROR - expected 'channel.open'");
}

#[test]
fn row_042_a_method_on_a_channel_that_was_closed() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let close = channel::Close {
        reply_code: 200,
        reply_text: "Goodbye".into(),
        ..Default::default()
    };
    let _ok = client.call(1, close);
    client.send(1, make::queue_declare(""));
    client.expect_connection_close(504, (50, 10), "CHANNEL_ERROR - expected 'channel.open'");
}

#[test]
fn row_043_channel_open_twice() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, channel::Open {});
    client.expect_connection_close(504, (20, 10), "CHANNEL_ERROR - second 'channel.open' seen");
}

#[test]
fn row_044_more_channels_than_negotiated() {
    let broker = TestBroker::get();
    let login = Login {
        tune_ok: Some(connection::TuneOk {
            channel_max: 2,
            frame_max: 131_072,
            heartbeat: 0,
        }),
        ..Login::default()
    };
    let mut client = RawClient::connect_as(broker.amqp(), &login);
    client.open_channel(1);
    client.open_channel(2);
    client.send(3, channel::Open {});
    let text = "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)";
    // RabbitMQ refuses before it looks at the method.
    client.expect_connection_close(530, (0, 0), text);
}

#[test]
fn row_047_channel_flow_stops_and_resumes_deliveries() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.open_channel(2);
    let queue = client.call(1, make::queue_declare("")).queue;
    let _ok = client.call(1, make::basic_consume(queue.as_str()));
    assert!(!client.call(1, channel::Flow { active: false }).active);

    client.publish_to(2, "", queue.as_str(), b"held back");
    let counts = client.call(2, make::queue_declare_passive(queue.as_str()));
    assert_eq!((counts.message_count, counts.consumer_count), (1, 1));

    client.send(1, channel::Flow { active: true });
    let ok: channel::FlowOk = client.expect(1);
    assert!(ok.active);
    assert_eq!(client.expect_content(1).body, b"held back");
}

#[test]
fn row_048_methods_that_only_a_server_sends() {
    let broker = TestBroker::get();
    let methods = [
        queue::DeclareOk::default().wrap(),
        exchange::DeclareOk {}.wrap(),
        basic::QosOk {}.wrap(),
        basic::GetEmpty {}.wrap(),
        channel::OpenOk {}.wrap(),
        confirm::SelectOk {}.wrap(),
        tx::CommitOk {}.wrap(),
    ];
    for method in methods {
        let ids = (method.get_amqp_class_id(), method.get_amqp_method_id());
        let mut client = RawClient::with_channel(broker.amqp());
        client.send(1, method);
        client.expect_connection_close(503, ids, "COMMAND_INVALID - unimplemented method");
    }
}

#[test]
fn a_reply_text_is_cut_at_255_octets() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let name = broker.unique(&"long ".repeat(45));
    client.send(1, make::queue_declare_passive(&name));
    let full = format!("NOT_FOUND - no queue '{name}' in vhost '/'");
    assert!(full.len() > 255);
    let close: channel::Close = client.expect(1);
    assert_eq!((close.reply_code, close.class_id, close.method_id), (404, 50, 10));
    let text = close.reply_text.as_str();
    assert!(text.len() <= 255);
    // How the cut is marked is not said; that most of the text is there matters.
    assert_eq!(text[..240], full[..240]);
}

#[test]
fn after_channel_close_everything_on_the_channel_is_ignored_until_close_ok() {
    let broker = TestBroker::get();
    let queue = broker.unique("ignored");
    let mut client = RawClient::with_channel(broker.amqp());
    client.open_channel(2);
    let declare = queue::Declare {
        exclusive: false,
        auto_delete: true,
        ..make::queue_declare(&queue)
    };
    client.send(1, make::queue_declare_passive(&queue));
    client.send(1, declare);
    client.publish_to(1, "", "nobody", b"a body");
    client.send(1, make::basic_ack(99));
    client.send(1, basic::Qos::default());
    client.expect_channel_close(1, 404, (50, 10), format!("NOT_FOUND - no queue '{queue}' in vhost '/'"));

    // Nothing of it was done, and the other channel has not noticed anything.
    client.send(2, make::queue_declare_passive(&queue));
    client.expect_channel_close(2, 404, (50, 10), format!("NOT_FOUND - no queue '{queue}' in vhost '/'"));
    client.close();
}

#[test]
fn after_connection_close_everything_but_close_ok_is_ignored() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, channel::Open {});
    client.send(1, channel::Open {});
    client.send(1, make::queue_declare(""));
    client.publish(
        1,
        make::basic_publish("", "nobody"),
        BasicProperties::default(),
        b"a body",
    );
    client.expect_connection_close(504, (20, 10), "CHANNEL_ERROR - second 'channel.open' seen");
}

#[test]
fn nowait_does_not_suppress_errors() {
    let broker = TestBroker::get();
    let name = broker.unique("missing");
    let mut client = RawClient::with_channel(broker.amqp());
    let declare = queue::Declare {
        nowait: true,
        ..make::queue_declare_passive(&name)
    };
    client.send(1, declare);
    client.expect_channel_close(1, 404, (50, 10), format!("NOT_FOUND - no queue '{name}' in vhost '/'"));
    let bind = queue::Bind {
        nowait: true,
        ..make::queue_bind(&name, "amq.direct", "key")
    };
    client.send(1, bind);
    client.expect_channel_close(1, 404, (50, 20), format!("NOT_FOUND - no queue '{name}' in vhost '/'"));
}

#[test]
fn a_method_of_a_channel_on_channel_0_costs_the_connection() {
    let broker = TestBroker::get();
    for method in [make::queue_declare_passive("q").wrap(), channel::Open {}.wrap()] {
        let mut client = RawClient::connect(broker.amqp());
        client.send(0, method);
        let close: connection::Close = client.expect(0);
        assert!((501..=541).contains(&close.reply_code), "{close:?}");
        client.send(0, connection::CloseOk {});
        client.expect_end_of_stream();
    }
}

#[test]
fn a_closed_channel_number_may_be_used_again_at_once() {
    let broker = TestBroker::get();
    let mut client = RawClient::connect(broker.amqp());
    for _ in 0..100 {
        client.open_channel(1);
        let queue = client.call(1, make::queue_declare("")).queue;
        let _ok = client.call(1, make::basic_consume(queue.as_str()));
        client.publish_to(1, "", queue.as_str(), b"perhaps on its way while the channel is closed");
        let close = channel::Close {
            reply_code: 200,
            ..Default::default()
        };
        client.send(1, close);
        loop {
            match client.next_frame() {
                Some(leveret_integration_tests::raw::AMQPFrame::Method(1, AMQPClass::Channel(method))) => {
                    assert!(matches!(method, channel::AMQPMethod::CloseOk(_)), "{method:?}");
                    break;
                }
                Some(_delivery) => {}
                None => panic!("the socket was closed"),
            }
        }
    }
}
