//! The commands of `leveret ctl` about what users may do.

use clap::Subcommand;

use super::command::InVhost;
use super::protocol::Request;

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "they are the names of the commands")]
pub(super) enum PermissionCommand {
    /// Let a user configure, write to and read from what its name matches.
    SetPermissions {
        #[command(flatten)]
        place: InVhost,
        user: String,
        /// What it may declare and delete: a regular expression over names, '' for none, '.*' for all.
        #[arg(allow_hyphen_values = true)]
        configure: String,
        /// What it may publish to.
        #[arg(allow_hyphen_values = true)]
        write: String,
        /// What it may consume from.
        #[arg(allow_hyphen_values = true)]
        read: String,
    },
    /// Take a user's access to a virtual host away.
    ClearPermissions {
        #[command(flatten)]
        place: InVhost,
        user: String,
    },
    /// List who may do what in a virtual host.
    ListPermissions {
        #[command(flatten)]
        place: InVhost,
    },
    /// List what a user may do in each virtual host.
    ListUserPermissions { user: String },
}

impl PermissionCommand {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::SetPermissions {
                place,
                user,
                configure,
                write,
                read,
            } => Request::SetPermissions {
                vhost: place.vhost,
                user,
                configure,
                write,
                read,
            },
            Self::ClearPermissions { place, user } => Request::ClearPermissions {
                vhost: place.vhost,
                user,
            },
            Self::ListPermissions { place } => Request::ListPermissions { vhost: place.vhost },
            Self::ListUserPermissions { user } => Request::ListUserPermissions { user },
        }
    }
}
