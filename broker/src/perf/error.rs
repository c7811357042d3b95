//! Why a measurement could not be made.

use std::io;

/// What ends a measurement early. The text is for people.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// Options that do not fit together.
    #[error("{0}")]
    Usage(String),
    /// The operating system refused something.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, as in "connect to localhost:5672".
        what: String,
        source: io::Error,
    },
    /// The broker closed a channel or the connection and said why.
    #[error("the broker closed the {what}: {code} {text}")]
    ClosedByBroker {
        /// "connection" or "channel".
        what: &'static str,
        code: u16,
        text: String,
    },
    /// The broker closed the socket without a word, as many do when a login fails.
    #[error("the broker closed the socket {0}")]
    Disconnected(&'static str),
    /// The broker sent something that does not belong there.
    #[error("the broker sent {0}")]
    Unexpected(String),
    /// The broker did not answer in time.
    #[error("the broker did not answer {0} within {1} seconds")]
    NoAnswer(&'static str, u64),
    /// A run by count in which nothing happens any more.
    #[error("nothing happened for {seconds} seconds after {published} messages were published and {received} received")]
    Stalled {
        seconds: u64,
        published: u64,
        received: u64,
    },
    /// A thread of the generator ended by a bug.
    #[error("a {0} of the load generator failed")]
    WorkerFailed(&'static str),
}

impl PerfError {
    /// For `map_err` on operations of the system.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> PerfError {
        let what = what.into();
        move |source| PerfError::Io { what, source }
    }
}
