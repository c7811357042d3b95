//! Tutorial 4, "Routing": sends a log line under a severity.
//!
//! `emit_log_direct error The disk is full` sends the words after the first one with the routing key `error`.

use lapin::{BasicProperties, ExchangeKind, Result, options::*, types::FieldTable};
use rabbitmq_tutorials::{arguments, message_or, open_channel};

#[tokio::main]
async fn main() -> Result<()> {
    let (connection, channel) = open_channel().await?;

    // A direct exchange sends a message to the queues that are bound with exactly its routing key.
    channel
        .exchange_declare(
            "direct_logs".into(),
            ExchangeKind::Direct,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await?;

    let words = arguments();
    let severity = words.first().map_or("info", String::as_str);
    let message = message_or(words.get(1..).unwrap_or_default(), "Hello World!");
    channel
        .basic_publish(
            "direct_logs".into(),
            severity.into(),
            BasicPublishOptions::default(),
            message.as_bytes(),
            BasicProperties::default(),
        )
        .await?;
    println!(" [x] Sent '{severity}':'{message}'");

    connection.close(200, "Goodbye".into()).await
}
