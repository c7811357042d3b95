//! Tutorial 6, "RPC": asks the server for Fibonacci numbers, 30 or those named on the command line.

use futures_lite::StreamExt;
use lapin::{BasicProperties, Channel, Consumer, Result, options::*, types::FieldTable};
use rabbitmq_tutorials::{arguments, open_channel};

#[tokio::main]
async fn main() -> Result<()> {
    let mut numbers = arguments();
    if numbers.is_empty() {
        numbers.push("30".to_owned());
    }

    let (connection, channel) = open_channel().await?;

    // One queue of our own receives the answers to all our requests.
    let callback_queue = channel
        .queue_declare("".into(), QueueDeclareOptions::exclusive(), FieldTable::default())
        .await?;
    let options = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let mut answers = channel
        .basic_consume(callback_queue.name().clone(), "".into(), options, FieldTable::default())
        .await?;

    // All requests go out before the first answer is awaited, so several servers can work on them at once.
    for (id, number) in numbers.iter().enumerate() {
        println!(" [x] Requesting fib({number})");
        request(&channel, callback_queue.name().as_str(), id, number).await?;
    }
    for answer in collect_answers(&mut answers, numbers.len()).await? {
        println!(" [.] Got '{answer}'");
    }

    connection.close(200, "Goodbye".into()).await
}

/// Sends one request. The server returns `id` with its answer.
async fn request(channel: &Channel, callback_queue: &str, id: usize, number: &str) -> Result<()> {
    let properties = BasicProperties::default()
        .with_reply_to(callback_queue.into())
        .with_correlation_id(id.to_string().into());
    channel
        .basic_publish(
            "".into(),
            "rpc_queue".into(),
            BasicPublishOptions::default(),
            number.as_bytes(),
            properties,
        )
        .await?;
    Ok(())
}

/// Waits for `count` answers and returns them in the order of the requests, whatever the order in which they arrive.
async fn collect_answers(answers: &mut Consumer, count: usize) -> Result<Vec<String>> {
    let mut collected = vec![None; count];
    while collected.contains(&None) {
        let Some(answer) = answers.next().await else {
            break;
        };
        let answer = answer?;

        // An answer with an unknown correlation id is not ours; it is ignored rather than trusted.
        let id = answer.properties.correlation_id().as_ref();
        let slot = id.and_then(|id| collected.get_mut(id.as_str().parse::<usize>().ok()?));
        if let Some(slot) = slot {
            *slot = Some(String::from_utf8_lossy(&answer.data).into_owned());
        }
    }
    Ok(collected.into_iter().flatten().collect())
}
