//! Tutorial 3, "Publish/Subscribe": sends a log line to everybody who is listening.

use lapin::{BasicProperties, ExchangeKind, Result, options::*, types::FieldTable};
use rabbitmq_tutorials::{arguments, message_or, open_channel};

#[tokio::main]
async fn main() -> Result<()> {
    let (connection, channel) = open_channel().await?;

    // A fanout exchange copies a message into every queue bound to it. Who listens is not the sender's business;
    // if nobody does, the message is dropped.
    channel
        .exchange_declare(
            "logs".into(),
            ExchangeKind::Fanout,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await?;

    let message = message_or(&arguments(), "info: Hello World!");
    channel
        .basic_publish(
            "logs".into(),
            "".into(),
            BasicPublishOptions::default(),
            message.as_bytes(),
            BasicProperties::default(),
        )
        .await?;
    println!(" [x] Sent '{message}'");

    connection.close(200, "Goodbye".into()).await
}
