//! Requests that are answered through the pseudo queue `amq.rabbitmq.reply-to`.

use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Consumer};
use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::*;

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
