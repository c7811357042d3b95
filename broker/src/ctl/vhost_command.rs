//! The commands of `leveret ctl` about virtual hosts.

use clap::Subcommand;

use super::command::{InVhost, List};
use super::protocol::Request;

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(super) enum VhostCommand {
    /// Make a virtual host. One that is there stays as it is.
    AddVhost {
        name: String,
        /// A sentence.
        #[arg(long, default_value_t)]
        description: String,
        /// Words with commas between them.
        #[arg(long, value_delimiter = ',')]
        tags: Vec<String>,
        /// classic or quorum, for tools.
        #[arg(long = "default-queue-type")]
        default_queue_type: Option<String>,
    },
    /// Delete a virtual host with all its queues and messages.
    DeleteVhost { name: String },
    /// Refuse to delete a virtual host until the protection is taken back.
    EnableVhostDeletionProtection { name: String },
    /// Let a protected virtual host be deleted again.
    DisableVhostDeletionProtection { name: String },
    /// Publish copies of all messages that are published and delivered to amq.rabbitmq.trace, until trace_off or a restart.
    TraceOn(InVhost),
    /// Publish no copies any more.
    TraceOff(InVhost),
    /// List virtual hosts.
    ListVhosts(List),
    /// Change what is said about a virtual host, and how it takes declarations that differ from what is there.
    UpdateVhostMetadata {
        name: String,
        /// A sentence.
        #[arg(long)]
        description: Option<String>,
        /// Words with commas between them.
        #[arg(long, value_delimiter = ',')]
        tags: Option<Vec<String>>,
        /// classic or quorum, for tools; undefined for none.
        #[arg(long = "default-queue-type")]
        default_queue_type: Option<String>,
        /// strict, warn or adopt; default for the configured rule.
        #[arg(long = "redeclare-rule")]
        redeclare_rule: Option<String>,
    },
}

impl VhostCommand {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::AddVhost {
                name,
                description,
                tags,
                default_queue_type,
            } => Request::AddVhost {
                name,
                description,
                tags: tags.into_iter().filter(|tag| !tag.is_empty()).collect(),
                default_queue_type,
            },
            Self::DeleteVhost { name } => Request::DeleteVhost { name },
            Self::EnableVhostDeletionProtection { name } => Request::ProtectVhost { name, protected: true },
            Self::DisableVhostDeletionProtection { name } => Request::ProtectVhost { name, protected: false },
            Self::TraceOn(InVhost { vhost }) => Request::TraceVhost { vhost, on: true },
            Self::TraceOff(InVhost { vhost }) => Request::TraceVhost { vhost, on: false },
            Self::ListVhosts(List { columns }) => Request::ListVhosts { columns },
            Self::UpdateVhostMetadata {
                name,
                description,
                tags,
                default_queue_type,
                redeclare_rule,
            } => Request::UpdateVhostMetadata {
                name,
                description,
                tags: tags.map(|tags| tags.into_iter().filter(|tag| !tag.is_empty()).collect()),
                default_queue_type,
                redeclare_rule,
            },
        }
    }
}
