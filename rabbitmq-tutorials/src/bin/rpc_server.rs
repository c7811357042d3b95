//! Tutorial 6, "RPC": answers requests for Fibonacci numbers.

use futures_lite::StreamExt;
use lapin::{BasicProperties, Result, options::*, types::FieldTable};
use rabbitmq_tutorials::open_channel;

#[tokio::main]
async fn main() -> Result<()> {
    let (_connection, channel) = open_channel().await?;
    channel
        .queue_declare(
            "rpc_queue".into(),
            QueueDeclareOptions::default(),
            FieldTable::default(),
        )
        .await?;

    // One request at a time, so that several servers share the load fairly.
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let mut requests = channel
        .basic_consume(
            "rpc_queue".into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    println!(" [x] Awaiting RPC requests");

    while let Some(request) = requests.next().await {
        let request = request?;
        let answer = match String::from_utf8_lossy(&request.data).parse::<u32>() {
            Ok(n) => {
                println!(" [.] fib({n})");
                fib(n).to_string()
            }
            Err(_) => "not a number".to_owned(),
        };

        // The request says in `reply_to` into which queue the answer belongs. The correlation id goes back as it came:
        // by it the client knows which of its requests this answers.
        let reply_to = request.properties.reply_to().clone().unwrap_or_default();
        let mut properties = BasicProperties::default();
        if let Some(correlation_id) = request.properties.correlation_id() {
            properties = properties.with_correlation_id(correlation_id.clone());
        }
        channel
            .basic_publish(
                "".into(),
                reply_to,
                BasicPublishOptions::default(),
                answer.as_bytes(),
                properties,
            )
            .await?;
        request.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

/// The slowest way to compute the `n`th Fibonacci number, so that there is something to wait for.
fn fib(n: u32) -> u64 {
    match n {
        0 | 1 => u64::from(n),
        n => fib(n - 1) + fib(n - 2),
    }
}
