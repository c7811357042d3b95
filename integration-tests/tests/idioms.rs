//! What frameworks do that a client by hand would not: ask passively first, declare again in another way, name queues anew after
//! each reconnect, and read class, method and text of refusals.

use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};
use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::*;
use leveret_integration_tests::raw::{self, RawClient, basic, make};

/// MassTransit and others send whatever integer type their language has at hand; so do two versions of one program.
#[tokio::test]
async fn a_queue_is_declared_again_with_numbers_of_every_type() {
    let broker = TestBroker::get();
    let (_connection, channel) = open(broker.amqp()).await;
    let name = broker.unique("numbers");
    let declare = async |ttl: AMQPValue, priority: AMQPValue| {
        let arguments = arguments([("x-message-ttl", ttl), ("x-max-priority", priority)]);
        let options = QueueDeclareOptions::exclusive();
        channel.queue_declare(name.as_str().into(), options, arguments).await
    };
    let types: [fn(u8) -> AMQPValue; 7] = [
        |it| AMQPValue::ShortShortInt(it as i8),
        AMQPValue::ShortShortUInt,
        |it| AMQPValue::ShortInt(it.into()),
        |it| AMQPValue::ShortUInt(it.into()),
        |it| AMQPValue::LongInt(it.into()),
        |it| AMQPValue::LongUInt(it.into()),
        |it| AMQPValue::LongLongInt(it.into()),
    ];
    for number in types {
        declare(number(100), number(5)).await.unwrap();
    }
    let (code, said) = refusal(
        &declare(AMQPValue::LongInt(101), AMQPValue::LongInt(5))
            .await
            .unwrap_err(),
    );
    assert_eq!(code, 406);
    assert!(said.contains("inequivalent arg 'x-message-ttl'"), "{said}");
    assert!(said.contains("received '101' but current is '100'"), "{said}");
}

/// Spring asks whether a queue is there, on a channel that may die of the answer, and branches on code, class and method.
#[test]
fn spring_learns_from_ids_and_texts_what_went_wrong() {
    let broker = TestBroker::get();
    let name = broker.unique("spring");
    let mut client = RawClient::with_channel(broker.amqp());
    client.send(1, make::queue_declare_passive(&name));
    client.expect_channel_close(1, 404, (50, 10), format!("NOT_FOUND - no queue '{name}' in vhost '/'"));
    let _ok = client.call(1, make::queue_declare(&name));
    assert_eq!(client.call(1, make::queue_declare_passive(&name)).message_count, 0);
    let passive = raw::exchange::Declare {
        passive: true,
        ..make::exchange_declare(&name, "direct")
    };
    client.send(1, passive);
    client.expect_channel_close(
        1,
        404,
        (40, 10),
        format!("NOT_FOUND - no exchange '{name}' in vhost '/'"),
    );
    let exclusive = basic::Consume {
        exclusive: true,
        ..make::basic_consume(&name)
    };
    let _ok = client.call(1, exclusive.clone());
    client.open_channel(2);
    client.send(2, exclusive);
    let text = format!("ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use");
    client.expect_channel_close(2, 403, (60, 20), text);
}

/// Celery's `rpc` backend and `inspect`: a reply queue that is exclusive, auto-delete and expires, and a fanout to all workers.
#[tokio::test]
async fn celery_has_a_reply_queue_per_client_and_talks_to_all_workers() {
    let broker = TestBroker::get();
    let pidbox = broker.unique("celery.pidbox");
    let (_connections, workers) = {
        let mut all = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (connection, channel) = open(broker.amqp()).await;
            channel.exchange(&pidbox, lapin::ExchangeKind::Fanout).await;
            // kombu: neither durable nor exclusive, which RabbitMQ 4.3 refuses.
            let name = broker.unique("worker.celery.pidbox");
            let options = QueueDeclareOptions::default().auto_delete();
            let expires = arguments([
                ("x-expires", AMQPValue::LongInt(10_000)),
                ("x-message-ttl", AMQPValue::LongInt(300_000)),
            ]);
            channel
                .queue_declare(name.as_str().into(), options, expires)
                .await
                .unwrap();
            channel.bind(&name, &pidbox, "").await;
            let consumer = channel.consume_no_ack(&name).await;
            all.0.push(connection);
            all.1.push((channel, consumer));
        }
        all
    };
    let (_connection, caller) = open(broker.amqp()).await;
    let reply = broker.unique("reply.celery.pidbox");
    let options = QueueDeclareOptions {
        auto_delete: true,
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let expires = arguments([("x-expires", AMQPValue::Double(10_000.0))]);
    let refused = caller.queue_declare(reply.as_str().into(), options, expires).await;
    let (code, said) = refusal(&refused.unwrap_err());
    assert_eq!((code, said.contains("expected integer")), (406, true), "{said}");
    let (_connection, caller) = open(broker.amqp()).await;
    let expires = arguments([("x-expires", AMQPValue::LongInt(10_000))]);
    caller
        .queue_declare(reply.as_str().into(), options, expires)
        .await
        .unwrap();
    let mut replies = caller.consume_no_ack(&reply).await;
    let properties = BasicProperties::default().with_reply_to(reply.as_str().into());
    let ask = caller.basic_publish(
        pidbox.as_str().into(),
        "".into(),
        BasicPublishOptions::default(),
        b"ping",
        properties,
    );
    ask.await.unwrap();
    for (channel, mut consumer) in workers {
        let asked = next(&mut consumer).await;
        let reply_to = asked.properties.reply_to().clone().expect("reply_to");
        channel.publish("", reply_to.as_str(), b"pong").await;
    }
    assert_eq!(next_bodies(&mut replies, 2).await, ["pong", "pong"]);
}

/// Declares what a client with a reply queue has, as it does after each connect.
async fn connect_with_replies(broker: &TestBroker, exchange: &str) -> (lapin::Connection, Channel, String) {
    let (connection, channel) = open(broker.amqp()).await;
    let queue = channel.own_queue().await;
    channel.bind(&queue, exchange, "replies").await;
    (connection, channel, queue)
}

#[tokio::test]
async fn a_client_that_reconnects_has_a_new_queue_and_nothing_is_left_of_the_old_one() {
    let broker = TestBroker::get();
    let (_connection, observer) = open(broker.amqp()).await;
    let exchange = broker.unique("replies");
    let options = ExchangeDeclareOptions::default();
    let declare = observer.exchange_declare(
        exchange.as_str().into(),
        lapin::ExchangeKind::Direct,
        options,
        FieldTable::default(),
    );
    declare.await.unwrap();
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let (connection, channel, queue) = connect_with_replies(&broker, &exchange).await;
        observer.publish_confirmed(&exchange, "replies", b"here").await;
        assert_eq!(channel.drain(&queue).await, ["here"]);
        assert!(queue.starts_with("amq.gen-") && names.insert(queue), "{names:?}");
        connection.close(200, "OK".into()).await.unwrap();
    }
    // Its bindings went with it: the exchange has none, so it may be deleted.
    let unused = ExchangeDeleteOptions {
        if_unused: true,
        ..ExchangeDeleteOptions::default()
    };
    observer
        .exchange_delete(exchange.as_str().into(), unused)
        .await
        .unwrap();
}

/// A client that asks for the name that the broker gave it before: names with `amq.` are the broker's.
#[tokio::test]
async fn a_server_made_name_is_asked_for_again_only_while_its_queue_lives() {
    let broker = TestBroker::get();
    let (connection, channel) = open(broker.amqp()).await;
    let name = channel.own_queue().await;
    channel.queue(&name, QueueDeclareOptions::exclusive()).await;
    connection.close(200, "OK".into()).await.unwrap();
    let (_connection, channel) = open(broker.amqp()).await;
    let again = channel.queue_declare(
        name.as_str().into(),
        QueueDeclareOptions::exclusive(),
        FieldTable::default(),
    );
    let (code, said) = refusal(&again.await.unwrap_err());
    assert_eq!(
        (code, said.contains("contains reserved prefix 'amq.*'")),
        (403, true),
        "{said}"
    );
}
