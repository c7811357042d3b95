//! Tutorial 1, "Hello World!": prints every message that arrives in a queue.

use futures_lite::StreamExt;
use lapin::{Result, options::*, types::FieldTable};

#[tokio::main]
async fn main() -> Result<()> {
    let (_connection, channel) = rabbitmq_tutorials::open_channel().await?;
    channel
        .queue_declare("hello".into(), QueueDeclareOptions::default(), FieldTable::default())
        .await?;

    // With `no_ack` the broker forgets a message as soon as it has sent it. Tutorial 2 shows how not to lose any.
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut consumer = channel
        .basic_consume("hello".into(), "".into(), options, FieldTable::default())
        .await?;
    println!(" [*] Waiting for messages. To exit press CTRL+C");

    while let Some(delivery) = consumer.next().await {
        let message = delivery?.data;
        println!(" [x] Received '{}'", String::from_utf8_lossy(&message));
    }
    Ok(())
}
