//! Tutorial 2, "Work Queues": takes one task at a time and works on it, a second for every dot in the message.
//!
//! `worker 0.1` is a faster worker: it needs a tenth of a second for a dot.

use futures_lite::StreamExt;
use lapin::{Result, options::*, types::FieldTable};
use rabbitmq_tutorials::{arguments, open_channel, usage};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<()> {
    let seconds = arguments().first().map_or(Ok(1.0), |word| word.parse());
    let Some(time_per_dot) = seconds.ok().and_then(|s| Duration::try_from_secs_f64(s).ok()) else {
        usage("worker [seconds per dot]");
    };

    let (_connection, channel) = open_channel().await?;
    channel
        .queue_declare(
            "task_queue".into(),
            QueueDeclareOptions::durable(),
            FieldTable::default(),
        )
        .await?;

    // Without this the broker would hand out tasks in turn, however busy a worker is. With a prefetch count of 1
    // it gives a worker the next task only when the worker has acknowledged the one before.
    channel.basic_qos(1, BasicQosOptions::default()).await?;

    let mut consumer = channel
        .basic_consume(
            "task_queue".into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    println!(" [*] Waiting for messages. To exit press CTRL+C");

    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let task = String::from_utf8_lossy(&delivery.data);
        println!(" [x] Received '{task}'");

        let dots = task.matches('.').count();
        tokio::time::sleep(time_per_dot.mul_f64(dots as f64)).await;
        println!(" [x] Done");

        // Only now is the task settled. If this program dies before, the broker gives the task to another worker.
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
