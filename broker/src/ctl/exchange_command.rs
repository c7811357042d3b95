//! The commands of `leveret ctl` about exchanges, their bindings, and what they keep for later.

use clap::Subcommand;

use super::command::{InVhost, List};
use super::protocol::Request;

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(super) enum ExchangeCommand {
    /// List exchanges.
    ListExchanges {
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        list: List,
    },
    /// List bindings.
    ListBindings {
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        list: List,
    },
    /// List the messages that a delayed exchange keeps until their time has come.
    ListDelayedMessages {
        #[command(flatten)]
        place: InVhost,
        exchange: String,
    },
    /// Drop one of them.
    CancelDelayedMessage {
        #[command(flatten)]
        place: InVhost,
        exchange: String,
        /// As listed.
        id: u64,
    },
}

impl ExchangeCommand {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::ListExchanges { place, list } => Request::ListExchanges {
                vhost: place.vhost,
                columns: list.columns,
            },
            Self::ListBindings { place, list } => Request::ListBindings {
                vhost: place.vhost,
                columns: list.columns,
            },
            Self::ListDelayedMessages { place, exchange } => Request::ListDelayedMessages {
                vhost: place.vhost,
                exchange,
            },
            Self::CancelDelayedMessage { place, exchange, id } => Request::CancelDelayedMessage {
                vhost: place.vhost,
                exchange,
                id,
            },
        }
    }
}
