//! The commands of `leveret ctl` about topic permissions.

use clap::Subcommand;

use super::command::InVhost;
use super::protocol::Request;

#[derive(Debug, Subcommand)]
pub(super) enum TopicPermissionCommand {
    /// Let a user publish to a topic exchange, and bind from it, only with routing keys that match.
    #[command(name = "set_topic_permissions")]
    Set {
        #[command(flatten)]
        place: InVhost,
        user: String,
        exchange: String,
        /// What it may publish: a regular expression over routing keys, in which {username}, {vhost} and {client_id} are
        /// filled in.
        #[arg(allow_hyphen_values = true)]
        write: String,
        /// What it may bind.
        #[arg(allow_hyphen_values = true)]
        read: String,
    },
    /// Let a user use all routing keys of an exchange again, or of all exchanges.
    #[command(name = "clear_topic_permissions")]
    Clear {
        #[command(flatten)]
        place: InVhost,
        user: String,
        exchange: Option<String>,
    },
    /// List whose routing keys are restricted in a virtual host.
    #[command(name = "list_topic_permissions")]
    List {
        #[command(flatten)]
        place: InVhost,
    },
    /// List how a user's routing keys are restricted in each virtual host.
    #[command(name = "list_user_topic_permissions")]
    ListOfUser { user: String },
}

impl TopicPermissionCommand {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::Set {
                place,
                user,
                exchange,
                write,
                read,
            } => Request::SetTopicPermissions {
                vhost: place.vhost,
                user,
                exchange,
                write,
                read,
            },
            Self::Clear { place, user, exchange } => Request::ClearTopicPermissions {
                vhost: place.vhost,
                user,
                exchange,
            },
            Self::List { place } => Request::ListTopicPermissions { vhost: place.vhost },
            Self::ListOfUser { user } => Request::ListUserTopicPermissions { user },
        }
    }
}
