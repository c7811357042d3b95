//! The commands of `leveret ctl` about queues and who consumes from them.

use clap::Subcommand;

use super::command::{InVhost, List};
use super::protocol::Request;

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(super) enum QueueCommand {
    /// List queues.
    ListQueues {
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        list: List,
    },
    /// List consumers.
    ListConsumers {
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        list: List,
    },
    /// Drop all messages of a queue that wait for a consumer.
    PurgeQueue {
        #[command(flatten)]
        place: InVhost,
        name: String,
    },
    /// Change arguments of a queue; its messages and consumers stay.
    #[command(alias = "alter-queue")]
    AlterQueue {
        #[command(flatten)]
        place: InVhost,
        name: String,
        /// A JSON object such as {"message-ttl": 60000, "max-length": null}; null removes an argument.
        arguments: String,
    },
    /// Delete a queue and its messages.
    DeleteQueue {
        #[command(flatten)]
        place: InVhost,
        name: String,
        /// Only if it holds no messages.
        #[arg(short = 'e', long = "if-empty")]
        if_empty: bool,
        /// Only if it has no consumers.
        #[arg(short = 'u', long = "if-unused")]
        if_unused: bool,
    },
}

impl QueueCommand {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::ListQueues { place, list } => Request::ListQueues {
                vhost: place.vhost,
                columns: list.columns,
            },
            Self::ListConsumers { place, list } => Request::ListConsumers {
                vhost: place.vhost,
                columns: list.columns,
            },
            Self::PurgeQueue { place, name } => Request::PurgeQueue {
                vhost: place.vhost,
                name,
            },
            Self::AlterQueue { place, name, arguments } => Request::AlterQueue {
                vhost: place.vhost,
                name,
                arguments,
            },
            Self::DeleteQueue {
                place,
                name,
                if_empty,
                if_unused,
            } => Request::DeleteQueue {
                vhost: place.vhost,
                name,
                if_empty,
                if_unused,
            },
        }
    }
}
