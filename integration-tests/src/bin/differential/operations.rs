//! What a client does: one step of a sequence.
//!
//! A step says what is meant rather than what is sent, so that the same step can be taken at two brokers which number
//! deliveries and name queues in their own ways: the third unacked delivery, the queue named by the broker last.

use leveret_integration_tests::raw::{AMQPClass, BasicProperties, basic};
use std::fmt;
use std::time::Duration;

use crate::describe;

/// Begins the place of a name that the broker made for a queue: `gen:0` is the latest, `gen:1` the one before.
pub const GENERATED: &str = "gen:";
/// Begins the place of a reply-to name that came with a message, counted as [`GENERATED`].
pub const REPLY: &str = "reply:";

/// An operation on a channel of a connection.
#[derive(Clone, Debug)]
pub struct Step {
    pub connection: usize,
    pub channel: u16,
    pub operation: Operation,
    /// How long the broker is left alone afterwards, before it is asked what came of it.
    pub rest: Duration,
}

impl Step {
    /// The same with a longer rest.
    pub fn resting(&self, times: u32) -> Self {
        Self {
            rest: self.rest * times,
            ..self.clone()
        }
    }
}

#[derive(Clone, Debug)]
pub enum Operation {
    /// Any method that carries no content and no delivery tag.
    Method(AMQPClass),
    Publish {
        publish: basic::Publish,
        properties: Box<BasicProperties>,
        body: Vec<u8>,
    },
    Settle(Settle),
    /// Frames that are no method of their own, or none that is due.
    Odd(Odd),
    CloseChannel,
    CloseConnection,
    /// Of the management API.
    Request(Request),
    /// Nobody does anything for longer than [`crate::features::LEASE_MILLIS`].
    Rest,
}

/// A request of the management API. Of its answer only the status is told.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: &'static str,
    pub path: String,
    pub body: String,
}

/// Settles deliveries of the channel.
#[derive(Clone, Debug)]
pub struct Settle {
    pub verb: Verb,
    pub pick: Pick,
    pub multiple: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Ack,
    Nack { requeue: bool },
    Reject { requeue: bool },
}

/// Which delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This one of the unacked, counted from the oldest and round again.
    Unacked(usize),
    /// Tag 0, which with `multiple` means all.
    Zero,
    /// One that was settled before.
    Again,
    /// One that never was.
    Unknown,
}

/// Something that no client library sends.
#[derive(Clone, Debug)]
pub struct Odd {
    pub what: &'static str,
    /// Goes to the step's channel unless another is named here.
    pub channel: Option<u16>,
    /// Type and payload of each frame.
    pub frames: Vec<(u8, Vec<u8>)>,
}

impl Operation {
    /// Whether a broker answers it with a method of its own, unless it refuses.
    pub fn is_answered(&self) -> bool {
        match self {
            Self::Method(method) => describe::is_answered(method),
            Self::CloseChannel | Self::CloseConnection => true,
            Self::Publish { .. } | Self::Settle(_) | Self::Odd(_) | Self::Request(_) | Self::Rest => false,
        }
    }

    /// Whether it may cost the connection. What happens to several channels at once has no order, so the others are closed
    /// before, one by one.
    pub fn endangers_connection(&self) -> bool {
        match self {
            Self::Method(method) => describe::endangers_connection(method),
            Self::Publish { publish, .. } => publish.immediate,
            Self::Odd(_) | Self::CloseConnection => true,
            Self::Settle(_) | Self::CloseChannel | Self::Request(_) | Self::Rest => false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{} {}", self.connection, self.channel, self.operation)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => write!(f, "{}", describe::method(method)),
            Self::Publish {
                publish,
                properties,
                body,
            } => {
                let method = AMQPClass::Basic(basic::AMQPMethod::Publish(publish.clone()));
                let content = describe::content(properties, body);
                write!(f, "{} {content}", describe::method(&method))
            }
            Self::Settle(settle) => write!(f, "{settle}"),
            Self::Odd(odd) => match odd.channel {
                Some(channel) => write!(f, "{} (on channel {channel})", odd.what),
                None => write!(f, "{}", odd.what),
            },
            Self::CloseChannel => write!(f, "channel.close"),
            Self::CloseConnection => write!(f, "connection.close"),
            Self::Request(it) => write!(f, "{} {} {}", it.method, it.path, it.body),
            Self::Rest => write!(f, "rest"),
        }
    }
}

impl fmt::Display for Settle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, requeue) = match self.verb {
            Verb::Ack => ("ack", false),
            Verb::Nack { requeue } => ("nack", requeue),
            Verb::Reject { requeue } => ("reject", requeue),
        };
        write!(f, "basic.{verb} {:?}", self.pick)?;
        if self.multiple {
            write!(f, " multiple")?;
        }
        if requeue {
            write!(f, " requeue")?;
        }
        Ok(())
    }
}
