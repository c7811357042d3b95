//! Tutorial 3, "Publish/Subscribe": prints every log line that is sent while this program runs.

use futures_lite::StreamExt;
use lapin::{ExchangeKind, Result, options::*, types::FieldTable};
use rabbitmq_tutorials::open_channel;

#[tokio::main]
async fn main() -> Result<()> {
    let (_connection, channel) = open_channel().await?;
    channel
        .exchange_declare(
            "logs".into(),
            ExchangeKind::Fanout,
            ExchangeDeclareOptions::default(),
            FieldTable::default(),
        )
        .await?;

    // A queue of our own: the broker picks a fresh name because we give none,
    // and deletes the queue with this connection because it is exclusive.
    let queue = channel
        .queue_declare("".into(), QueueDeclareOptions::exclusive(), FieldTable::default())
        .await?;
    let queue = queue.name().clone();

    // The binding tells the exchange to send messages to our queue. A fanout exchange ignores the routing key.
    channel
        .queue_bind(
            queue.clone(),
            "logs".into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;

    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut consumer = channel
        .basic_consume(queue, "".into(), options, FieldTable::default())
        .await?;
    println!(" [*] Waiting for logs. To exit press CTRL+C");

    while let Some(delivery) = consumer.next().await {
        let message = delivery?.data;
        println!(" [x] Received '{}'", String::from_utf8_lossy(&message));
    }
    Ok(())
}
