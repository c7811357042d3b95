//! The commands of `leveret ctl` that close connections.

use clap::Subcommand;

use super::command::InVhost;
use super::protocol::Request;

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "they are the names of the commands")]
pub(super) enum ConnectionCommand {
    /// Close a client's connection, named as in list_connections name.
    CloseConnection {
        name: String,
        /// What the client is told.
        reason: String,
    },
    /// Close the connections of a virtual host, or all of them.
    CloseAllConnections {
        #[command(flatten)]
        place: InVhost,
        /// Those of all virtual hosts.
        #[arg(long, conflicts_with = "vhost")]
        global: bool,
        /// Close so many at most, the oldest first; 0 for no limit.
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        limit: usize,
        /// What the clients are told.
        reason: String,
    },
    /// Close the connections of a user.
    CloseAllUserConnections {
        user: String,
        /// What the clients are told.
        reason: String,
    },
}

impl ConnectionCommand {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::CloseConnection { name, reason } => Request::CloseConnection { name, reason },
            Self::CloseAllConnections {
                place,
                global,
                limit,
                reason,
            } => Request::CloseAllConnections {
                vhost: (!global).then_some(place.vhost),
                limit: (limit > 0).then_some(limit),
                reason,
            },
            Self::CloseAllUserConnections { user, reason } => Request::CloseAllUserConnections { user, reason },
        }
    }
}
