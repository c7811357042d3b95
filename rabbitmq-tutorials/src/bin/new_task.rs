//! Tutorial 2, "Work Queues": puts a task into a queue that several workers share.
//!
//! `new_task First task...` sends the words as one message; every dot in it stands for a second of work.

use lapin::{BasicProperties, Result, options::*, types::FieldTable};
use rabbitmq_tutorials::{arguments, message_or, open_channel};

#[tokio::main]
async fn main() -> Result<()> {
    let (connection, channel) = open_channel().await?;

    // A durable queue is still there after the broker has been restarted ...
    channel
        .queue_declare(
            "task_queue".into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await?;

    // ... and so is a message in it, if the message is persistent, which is what delivery mode 2 means.
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let message = message_or(&arguments(), "Hello World!");
    channel
        .basic_publish(
            "".into(),
            "task_queue".into(),
            BasicPublishOptions::default(),
            message.as_bytes(),
            persistent,
        )
        .await?;
    println!(" [x] Sent '{message}'");

    connection.close(200, "Goodbye".into()).await
}
