//! Tutorial 5, "Topics": prints the log lines whose routing key matches one of the patterns on the command line.
//!
//! In a pattern `*` stands for exactly one word and `#` for any number of words, also for none: `receive_logs_topic "kern.*" "*.critical"`.

use futures_lite::StreamExt;
use lapin::{ExchangeKind, Result, options::*, types::FieldTable};
use rabbitmq_tutorials::{arguments, open_channel, usage};

#[tokio::main]
async fn main() -> Result<()> {
    let patterns = arguments();
    if patterns.is_empty() {
        usage("receive_logs_topic [pattern]...");
    }

    let (_connection, channel) = open_channel().await?;
    channel
        .exchange_declare(
            "topic_logs".into(),
            ExchangeKind::Topic,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let queue = channel
        .queue_declare("".into(), QueueDeclareOptions::exclusive(), FieldTable::default())
        .await?;
    let queue = queue.name().clone();

    // One queue may have several bindings. A message that matches more than one of them still arrives only once.
    for pattern in patterns {
        channel
            .queue_bind(
                queue.clone(),
                "topic_logs".into(),
                pattern.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }

    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut consumer = channel
        .basic_consume(queue, "".into(), options, FieldTable::default())
        .await?;
    println!(" [*] Waiting for logs. To exit press CTRL+C");

    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let message = String::from_utf8_lossy(&delivery.data);
        println!(" [x] Received '{}':'{message}'", delivery.routing_key);
    }
    Ok(())
}
