//! Tutorial 5, "Topics": sends a log line under a routing key of several words, such as `facility.severity`.
//!
//! `emit_log_topic kern.critical A critical kernel error` sends the words after the first one with the routing key `kern.critical`.

use lapin::{BasicProperties, ExchangeKind, Result, options::*, types::FieldTable};
use rabbitmq_tutorials::{arguments, message_or, open_channel};

#[tokio::main]
async fn main() -> Result<()> {
    let (connection, channel) = open_channel().await?;

    // A topic exchange compares the dot-separated words of the routing key with the patterns of its bindings.
    channel
        .exchange_declare(
            "topic_logs".into(),
            ExchangeKind::Topic,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await?;

    let words = arguments();
    let routing_key = words.first().map_or("anonymous.info", String::as_str);
    let message = message_or(words.get(1..).unwrap_or_default(), "Hello World!");
    channel
        .basic_publish(
            "topic_logs".into(),
            routing_key.into(),
            BasicPublishOptions::default(),
            message.as_bytes(),
            BasicProperties::default(),
        )
        .await?;
    println!(" [x] Sent '{routing_key}':'{message}'");

    connection.close(200, "Goodbye".into()).await
}
