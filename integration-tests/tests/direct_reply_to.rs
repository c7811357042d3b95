//! Requests that are answered through the pseudo queue `amq.rabbitmq.reply-to`.

use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Consumer};
use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::*;
use leveret_integration_tests::raw::{self, AMQPClass, RawClient, basic, make};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Sends a request whose answer shall come to this channel's reply consumer.
async fn request(channel: &Channel, queue: &str, correlation_id: &str, body: &str) {
    let properties = BasicProperties::default()
        .with_reply_to(REPLY_TO.into())
        .with_correlation_id(correlation_id.into());
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), queue.into(), options, body.as_bytes(), properties)
        .await
        .unwrap();
}

/// Takes one request and gives its `reply_to`, correlation id and body.
async fn take(server: &mut Consumer) -> (String, String, String) {
    let request = next(server).await;
    let reply_to = request.properties.reply_to().as_ref().expect("reply_to").to_string();
    let correlation_id = request
        .properties
        .correlation_id()
        .as_ref()
        .expect("correlation_id")
        .to_string();
    (reply_to, correlation_id, body(&request))
}

async fn answer(channel: &Channel, reply_to: &str, correlation_id: &str, body: &str) {
    let properties = BasicProperties::default().with_correlation_id(correlation_id.into());
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), reply_to.into(), options, body.as_bytes(), properties)
        .await
        .unwrap();
}

#[tokio::test]
async fn answers_come_back_to_the_channel_that_asked() {
    let broker = TestBroker::get();
    let (_server_connection, server) = open(broker.amqp()).await;
    let queue = broker.unique("requests");
    server.queue(&queue, QueueDeclareOptions::default().auto_delete()).await;
    let mut requests = server.consume_no_ack(&queue).await;

    let mut callers = Vec::new();
    for number in 0..3 {
        let (connection, channel) = open(broker.amqp()).await;
        let answers = channel.consume_no_ack(REPLY_TO).await;
        for call in 0..2 {
            request(
                &channel,
                &queue,
                &call.to_string(),
                &format!("caller {number} call {call}"),
            )
            .await;
        }
        callers.push((connection, channel, answers));
    }

    let mut taken = Vec::new();
    for _ in 0..6 {
        taken.push(take(&mut requests).await);
    }
    // Answered the other way round, so that nothing comes right by luck.
    for (reply_to, correlation_id, body) in taken.iter().rev() {
        assert!(reply_to.starts_with("amq.rabbitmq.reply-to."), "{reply_to}");
        answer(&server, reply_to, correlation_id, &format!("answer to {body}")).await;
    }
    for (number, (_, _, answers)) in callers.iter_mut().enumerate() {
        for call in [1, 0] {
            let answer = next(answers).await;
            assert_eq!(
                answer.properties.correlation_id().as_ref().unwrap().as_str(),
                call.to_string()
            );
            assert_eq!(body(&answer), format!("answer to caller {number} call {call}"));
        }
    }
}

#[tokio::test]
async fn a_reply_queue_can_be_asked_for_while_its_channel_lives() {
    let broker = TestBroker::get();
    let (connection, caller) = open(broker.amqp()).await;
    let server = connection.create_channel().await.unwrap();
    let queue = server.own_queue().await;
    let mut requests = server.consume_no_ack(&queue).await;
    let _answers = caller.consume_no_ack(REPLY_TO).await;
    request(&caller, &queue, "1", "hello").await;
    let (reply_to, _, _) = take(&mut requests).await;
    assert_eq!(server.counts(&reply_to).await, (0, 1));

    caller.close(200, "Goodbye".into()).await.unwrap();
    let passive = QueueDeclareOptions::default().passive();
    let error = server
        .queue_declare(reply_to.as_str().into(), passive, FieldTable::default())
        .await;
    let (code, text) = refusal(&error.unwrap_err());
    assert_eq!(
        (code, text),
        (404, format!("NOT_FOUND - no queue '{reply_to}' in vhost '/'"))
    );
}

#[tokio::test]
async fn an_answer_to_nobody_is_dropped_or_returned() {
    let broker = TestBroker::get();
    let (connection, caller) = open(broker.amqp()).await;
    let server = connection.create_channel().await.unwrap();
    server.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let queue = server.own_queue().await;
    let mut requests = server.consume_no_ack(&queue).await;
    let _answers = caller.consume_no_ack(REPLY_TO).await;
    request(&caller, &queue, "1", "hello").await;
    let (reply_to, correlation_id, _) = take(&mut requests).await;
    caller.close(200, "Goodbye".into()).await.unwrap();

    answer(&server, &reply_to, &correlation_id, "too late").await;
    server.publish_confirmed("", &queue, b"the channel is still open").await;
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let (key, properties) = (reply_to.as_str().into(), BasicProperties::default());
    let confirm = server
        .basic_publish("".into(), key, mandatory, b"too late", properties)
        .await
        .unwrap();
    let returned = confirm.await.unwrap().take_message().expect("a returned message");
    assert_eq!(returned.reply_code, 312);
}

/// A client with a reply consumer on channel 1, and the name that stands for it, as a server sees it.
fn caller_and_name(broker: &TestBroker) -> (RawClient, String) {
    let mut caller = RawClient::with_channel(broker.amqp());
    let consume = basic::Consume {
        no_ack: true,
        ..make::basic_consume(REPLY_TO)
    };
    let _ok = caller.call(1, consume);
    let inbox = caller.call(1, make::queue_declare("")).queue.to_string();
    let properties = raw::BasicProperties::default().with_reply_to(REPLY_TO.into());
    caller.publish(1, make::basic_publish("", &inbox), properties, b"question");
    caller.send(1, make::basic_get(&inbox));
    let asked = caller.expect_content(1);
    let name = asked.properties.reply_to().as_ref().expect("reply_to").to_string();
    caller.send(1, make::basic_ack(1));
    (caller, name)
}

#[test]
fn a_mandatory_answer_counts_as_routed_and_only_by_its_key_at_the_default_exchange() {
    let broker = TestBroker::get();
    let (mut caller, name) = caller_and_name(&broker);
    let mut server = RawClient::with_channel(broker.amqp());
    let mandatory = |exchange: &str| basic::Publish {
        mandatory: true,
        ..make::basic_publish(exchange, &name)
    };
    server.publish(1, mandatory(""), Default::default(), b"answer");
    assert_eq!(caller.expect_content(1).body, b"answer");
    // Through another exchange the name is a routing key like any other.
    server.publish(1, mandatory("amq.direct"), Default::default(), b"astray");
    let returned = server.expect_content(1);
    assert!(matches!(
        returned.method,
        AMQPClass::Basic(basic::AMQPMethod::Return(_))
    ));
    assert_eq!(returned.body, b"astray");
}

#[test]
fn an_answer_has_no_place_to_wait_in_and_its_name_is_no_queue() {
    let broker = TestBroker::get();
    let (mut caller, name) = caller_and_name(&broker);
    let mut server = RawClient::with_channel(broker.amqp());
    // It can be asked for, as a server does that wonders whether anybody waits for its answer.
    let asked = server.call(1, make::queue_declare_passive(&name));
    assert_eq!((asked.message_count, asked.consumer_count), (0, 1));
    server.publish_to(1, "", &name, b"one");
    server.publish_to(1, "", &name, b"two");
    assert_eq!(caller.expect_content(1).body, b"one");
    assert_eq!(caller.expect_content(1).body, b"two");
    // After the cancel nobody does, and another consumer of replies has another name or the same, but gets no old answer.
    let AMQPClass::Basic(basic::AMQPMethod::Deliver(last)) = ({
        server.publish_to(1, "", &name, b"three");
        caller.expect_content(1).method
    }) else {
        panic!("no delivery");
    };
    let cancel = basic::Cancel {
        consumer_tag: last.consumer_tag,
        nowait: false,
    };
    let _ok = caller.call(1, cancel);
    server.send(1, make::queue_declare_passive(&name));
    server.expect_channel_close(1, 404, (50, 10), format!("NOT_FOUND - no queue '{name}' in vhost '/'"));
    server.publish_to(1, "", &name, b"late");
    let consume = basic::Consume {
        no_ack: true,
        ..make::basic_consume(REPLY_TO)
    };
    let _ok = caller.call(1, consume);
    let _still_there = caller.call(1, make::queue_declare(""));
}

#[test]
fn each_channel_has_its_own_answers() {
    let broker = TestBroker::get();
    let (mut caller, first) = caller_and_name(&broker);
    caller.open_channel(2);
    let consume = basic::Consume {
        no_ack: true,
        ..make::basic_consume(REPLY_TO)
    };
    let _ok = caller.call(2, consume);
    let inbox = caller.call(2, make::queue_declare("")).queue.to_string();
    let properties = raw::BasicProperties::default().with_reply_to(REPLY_TO.into());
    caller.publish(2, make::basic_publish("", &inbox), properties, b"question");
    caller.send(2, make::basic_get(&inbox));
    let second = caller
        .expect_content(2)
        .properties
        .reply_to()
        .as_ref()
        .expect("reply_to")
        .to_string();
    assert_ne!(first, second);
    let mut server = RawClient::with_channel(broker.amqp());
    server.publish_to(1, "", &second, b"to the second");
    assert_eq!(caller.expect_content(2).body, b"to the second");
    server.publish_to(1, "", &first, b"to the first");
    assert_eq!(caller.expect_content(1).body, b"to the first");
}
