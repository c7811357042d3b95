//! The commands of `leveret ctl` about connections and their channels.

use std::time::Duration;

use clap::Subcommand;

use super::client::{ClientError, CtlClient};
use super::command::{InVhost, List};
use super::error::ErrorKind;
use super::protocol::{Reply, Request};

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "they are the names of the commands")]
pub(super) enum ConnectionCommand {
    /// List connections of all virtual hosts.
    ListConnections(List),
    /// List channels of all virtual hosts.
    ListChannels(List),
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
        /// Wait so many milliseconds after each, so that not all clients come back at once.
        #[arg(long = "per-connection-delay", value_name = "MILLISECONDS", default_value_t = 0)]
        per_connection_delay: u64,
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
            Self::ListConnections(List { columns }) => Request::ListConnections { columns },
            Self::ListChannels(List { columns }) => Request::ListChannels { columns },
            Self::CloseConnection { name, reason } => Request::CloseConnection { name, reason },
            Self::CloseAllConnections {
                place,
                global,
                limit,
                per_connection_delay: _,
                reason,
            } => Request::CloseAllConnections {
                vhost: (!global).then_some(place.vhost),
                limit: (limit > 0).then_some(limit),
                reason,
            },
            Self::CloseAllUserConnections { user, reason } => Request::CloseAllUserConnections { user, reason },
        }
    }

    /// Closes connections one by one, if that is asked for. Whoever stops the command stops the closing.
    pub(super) fn close_slowly(&self, client: &mut CtlClient) -> Option<Result<Reply, ClientError>> {
        match self {
            Self::CloseAllConnections {
                place,
                global,
                limit,
                per_connection_delay: delay @ 1..,
                reason,
            } => {
                let vhost = (!global).then_some(place.vhost.as_str());
                let limit = if *limit == 0 { usize::MAX } else { *limit };
                Some(close_one_by_one(
                    client,
                    vhost,
                    limit,
                    Duration::from_millis(*delay),
                    reason,
                ))
            }
            _ => None,
        }
    }
}

/// The connections that there are now, the oldest first.
fn close_one_by_one(
    client: &mut CtlClient,
    vhost: Option<&str>,
    limit: usize,
    delay: Duration,
    reason: &str,
) -> Result<Reply, ClientError> {
    // None of them: it is asked only whether there is such a virtual host.
    client.call(&Request::CloseAllConnections {
        vhost: vhost.map(str::to_owned),
        limit: Some(0),
        reason: reason.to_owned(),
    })?;
    let columns = ["name", "vhost"].map(str::to_owned).to_vec();
    let Reply::Table(table) = client.call(&Request::ListConnections { columns })? else {
        return Err(ClientError::BadAnswer("no list of connections".to_owned()));
    };
    let rows = table.rows.iter().filter_map(|row| match row.as_slice() {
        [name, of] => Some((name.as_str()?, of.as_str()?)),
        _ => None,
    });
    let mut closed = 0;
    for (name, _) in rows
        .filter(|(_, of)| vhost.is_none_or(|vhost| vhost == *of))
        .take(limit)
    {
        if closed > 0 {
            std::thread::sleep(delay);
        }
        let close = Request::CloseConnection {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        match client.call(&close) {
            Ok(_) => closed += 1,
            // It has gone by itself.
            Err(ClientError::Refused(error)) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Reply::Message(format!("{closed} connections closed")))
}
