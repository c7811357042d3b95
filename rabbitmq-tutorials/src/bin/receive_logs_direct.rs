//! Tutorial 4, "Routing": prints the log lines of the severities named on the command line.

use futures_lite::StreamExt;
use lapin::{ExchangeKind, Result, options::*, types::FieldTable};
use rabbitmq_tutorials::{arguments, open_channel, usage};

#[tokio::main]
async fn main() -> Result<()> {
    let severities = arguments();
    if severities.is_empty() {
        usage("receive_logs_direct [info] [warning] [error]");
    }

    let (_connection, channel) = open_channel().await?;
    channel
        .exchange_declare(
            "direct_logs".into(),
            ExchangeKind::Direct,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let queue = channel
        .queue_declare("".into(), QueueDeclareOptions::exclusive(), FieldTable::default())
        .await?;
    let queue = queue.name().clone();

    // One queue may have several bindings: one for each severity we want to see.
    for severity in severities {
        channel
            .queue_bind(
                queue.clone(),
                "direct_logs".into(),
                severity.into(),
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
