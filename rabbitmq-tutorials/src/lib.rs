//! What all the tutorial programs share: how they find and reach the broker, and how they read their command line.
//!
//! The programs are the twelve of the [RabbitMQ tutorials](https://www.rabbitmq.com/tutorials), under the same names and
//! printing the same lines. Each of them is short and meant to be read; start with `src/bin/send.rs` and `src/bin/receive.rs`.

use lapin::{Channel, Connection, ConnectionProperties, Result};

/// Where the broker is when `AMQP_URL` does not say otherwise. `%2f` is the virtual host `/`, escaped as URLs require.
pub const DEFAULT_AMQP_URL: &str = "amqp://guest:guest@127.0.0.1:5672/%2f";

/// Opens a connection to the broker named by the environment variable `AMQP_URL`.
///
/// A connection is one TCP socket. Keep it alive for as long as you use its channels: when it is dropped, it closes.
pub async fn connect() -> Result<Connection> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| DEFAULT_AMQP_URL.to_owned());
    Connection::connect(&url, ConnectionProperties::default()).await
}

/// Opens a connection and one channel on it. All of AMQP's commands are sent through a channel.
pub async fn open_channel() -> Result<(Connection, Channel)> {
    let connection = connect().await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// The words of the command line, without the name of the program.
pub fn arguments() -> Vec<String> {
    std::env::args().skip(1).collect()
}

/// The words of `words` as one message, or `default` when there are none.
pub fn message_or(words: &[String], default: &str) -> String {
    if words.is_empty() {
        default.to_owned()
    } else {
        words.join(" ")
    }
}

/// Ends the program with a line that says how to call it.
pub fn usage(text: &str) -> ! {
    eprintln!("Usage: {text}");
    std::process::exit(1)
}
