//! The lines that most lapin tests begin with.

use crate::wait::{DEADLINE, within};
use futures_lite::StreamExt;
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::*;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, Error, ErrorKind, ExchangeKind};
use std::net::SocketAddr;

/// Connects as `guest` to `/`.
pub async fn connect(address: SocketAddr) -> Connection {
    within("a connection opens", try_connect(address, "guest", "guest", "/"))
        .await
        .expect("a connection")
}

/// Connects with what is given, or says why not.
pub async fn try_connect(
    address: SocketAddr,
    user: &str,
    password: &str,
    virtual_host: &str,
) -> lapin::Result<Connection> {
    let virtual_host = virtual_host.replace('/', "%2f");
    let url = format!("amqp://{user}:{password}@{address}/{virtual_host}");
    Connection::connect(&url, ConnectionProperties::default()).await
}

/// A connection as `guest` to `/` with one channel.
pub async fn open(address: SocketAddr) -> (Connection, Channel) {
    let connection = connect(address).await;
    let channel = connection.create_channel().await.expect("a channel");
    (connection, channel)
}

/// The reply code and text with which the broker refused something.
#[track_caller]
pub fn refusal(error: &Error) -> (u16, String) {
    match error.kind() {
        ErrorKind::ProtocolError(error) => (error.get_id(), error.get_message().to_string()),
        other => panic!("not a refusal by the broker: {other:?}"),
    }
}

/// Arguments of a declaration, a binding or a consumer.
pub fn arguments<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

/// A text as a value of a table.
pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The commands that tests use most, with the defaults they use most. All of them must succeed within [`DEADLINE`].
#[allow(
    async_fn_in_trait,
    reason = "used in this workspace only, where no bounds on the futures are needed"
)]
pub trait Shortcuts {
    /// Declares an exclusive queue and returns the name that the broker gave it.
    async fn own_queue(&self) -> String;

    /// Declares a queue.
    async fn queue(&self, name: &str, options: QueueDeclareOptions);

    /// Declares an auto-delete exchange.
    async fn exchange(&self, name: &str, kind: ExchangeKind);

    /// Binds a queue to an exchange.
    async fn bind(&self, queue: &str, exchange: &str, routing_key: &str);

    /// Publishes without properties and does not wait for a confirm.
    async fn publish(&self, exchange: &str, routing_key: &str, body: &[u8]);

    /// Publishes a persistent message and waits for its confirm, which must be an ack. Turns confirms on.
    async fn publish_confirmed(&self, exchange: &str, routing_key: &str, body: &[u8]);

    /// Starts a consumer that acknowledges by hand.
    async fn consume(&self, queue: &str) -> Consumer;

    /// Starts a consumer whose messages count as acknowledged when they are sent.
    async fn consume_no_ack(&self, queue: &str) -> Consumer;

    /// Gets one message that is to be acknowledged by hand.
    async fn get(&self, queue: &str) -> Option<BasicGetMessage>;

    /// Ready messages and consumers of a queue.
    async fn counts(&self, queue: &str) -> (u32, u32);

    /// Waits until a queue has that many ready messages.
    async fn wait_for_messages(&self, queue: &str, count: u32);

    /// Waits until a queue has that many consumers.
    async fn wait_for_consumers(&self, queue: &str, count: u32);

    /// Takes all messages of a queue and returns their bodies as text.
    async fn drain(&self, queue: &str) -> Vec<String>;
}

impl Shortcuts for Channel {
    async fn own_queue(&self) -> String {
        let declare = self.queue_declare("".into(), QueueDeclareOptions::exclusive(), FieldTable::default());
        let queue = within("queue.declare", declare).await.expect("queue.declare");
        queue.name().to_string()
    }

    async fn queue(&self, name: &str, options: QueueDeclareOptions) {
        let declare = self.queue_declare(name.into(), options, FieldTable::default());
        within("queue.declare", declare).await.expect("queue.declare");
    }

    async fn exchange(&self, name: &str, kind: ExchangeKind) {
        let options = ExchangeDeclareOptions {
            auto_delete: true,
            ..ExchangeDeclareOptions::default()
        };
        let declare = self.exchange_declare(name.into(), kind, options, FieldTable::default());
        within("exchange.declare", declare).await.expect("exchange.declare");
    }

    async fn bind(&self, queue: &str, exchange: &str, routing_key: &str) {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let bind = self.queue_bind(queue.into(), exchange.into(), routing_key.into(), options, arguments);
        within("queue.bind", bind).await.expect("queue.bind");
    }

    async fn publish(&self, exchange: &str, routing_key: &str, body: &[u8]) {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let publish = self.basic_publish(exchange.into(), routing_key.into(), options, body, properties);
        within("basic.publish", publish).await.expect("basic.publish");
    }

    async fn publish_confirmed(&self, exchange: &str, routing_key: &str, body: &[u8]) {
        let select = self.confirm_select(ConfirmSelectOptions::default());
        within("confirm.select", select).await.expect("confirm.select");
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions::default();
        let publish = self.basic_publish(exchange.into(), routing_key.into(), options, body, properties);
        let confirm = within("basic.publish", publish).await.expect("basic.publish");
        let confirmation = within("a confirm", confirm).await.expect("a confirm");
        assert!(confirmation.is_ack(), "{confirmation:?}");
    }

    async fn consume(&self, queue: &str) -> Consumer {
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consume = self.basic_consume(queue.into(), "".into(), options, arguments);
        within("basic.consume", consume).await.expect("basic.consume")
    }

    async fn consume_no_ack(&self, queue: &str) -> Consumer {
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consume = self.basic_consume(queue.into(), "".into(), options, FieldTable::default());
        within("basic.consume", consume).await.expect("basic.consume")
    }

    async fn get(&self, queue: &str) -> Option<BasicGetMessage> {
        let get = self.basic_get(queue.into(), BasicGetOptions::default());
        within("basic.get", get).await.expect("basic.get")
    }

    async fn counts(&self, queue: &str) -> (u32, u32) {
        let passive = QueueDeclareOptions::default().passive();
        let declare = self.queue_declare(queue.into(), passive, FieldTable::default());
        let queue = within("queue.declare", declare).await.expect("passive queue.declare");
        (queue.message_count(), queue.consumer_count())
    }

    async fn wait_for_messages(&self, queue: &str, count: u32) {
        let condition = || async { (self.counts(queue).await.0 == count).then_some(()) };
        crate::wait::until_async(&format!("{count} messages in {queue}"), condition).await;
    }

    async fn wait_for_consumers(&self, queue: &str, count: u32) {
        let condition = || async { (self.counts(queue).await.1 == count).then_some(()) };
        crate::wait::until_async(&format!("{count} consumers of {queue}"), condition).await;
    }

    async fn drain(&self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = within("basic.get", self.basic_get(queue.into(), options))
            .await
            .expect("basic.get")
        {
            bodies.push(body(&message));
        }
        bodies
    }
}

/// The body of a message as text.
pub fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

/// The next delivery of a consumer, which must come within [`DEADLINE`].
pub async fn next(consumer: &mut Consumer) -> Delivery {
    within("a delivery", consumer.next())
        .await
        .expect("the consumer was cancelled")
        .expect("a delivery")
}

/// The bodies of the next `count` deliveries, none of them acknowledged.
pub async fn next_bodies(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut bodies = Vec::with_capacity(count);
    for _ in 0..count {
        bodies.push(body(&next(consumer).await));
    }
    bodies
}

/// Waits until the broker has cancelled the consumer.
pub async fn wait_for_cancel(consumer: &mut Consumer) {
    let ended = within("the consumer is cancelled", consumer.next()).await;
    assert!(ended.is_none(), "{ended:?}");
}

/// Waits until the connection has ended and returns what ended it.
pub async fn wait_for_end(connection: &Connection) -> Option<Error> {
    let mut events = connection.events_listener();
    let ended = async {
        while connection.status().connected() {
            match events.next().await {
                Some(lapin::Event::Error(error)) => return Some(error),
                Some(_) => {}
                None => return None,
            }
        }
        None
    };
    tokio::time::timeout(DEADLINE, ended)
        .await
        .expect("the connection ends")
}
