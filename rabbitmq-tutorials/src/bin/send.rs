//! Tutorial 1, "Hello World!": sends a single message to a queue.

use lapin::{BasicProperties, Result, options::*, types::FieldTable};

#[tokio::main]
async fn main() -> Result<()> {
    let (connection, channel) = rabbitmq_tutorials::open_channel().await?;

    // Sender and receiver both declare the queue, because either may be started first. Declaring it again changes nothing.
    channel
        .queue_declare("hello".into(), QueueDeclareOptions::default(), FieldTable::default())
        .await?;

    // A message always goes to an exchange. The one with the empty name, which every broker has,
    // puts it into the queue that is named by the routing key.
    channel
        .basic_publish(
            "".into(),
            "hello".into(),
            BasicPublishOptions::default(),
            b"Hello World!",
            BasicProperties::default(),
        )
        .await?;
    println!(" [x] Sent 'Hello World!'");

    // Publishing returns before the message has left this program; an orderly close waits until it has.
    connection.close(200, "Goodbye".into()).await
}
