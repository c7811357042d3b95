//! The commands of `leveret ctl` about the broker as a whole.

use clap::Subcommand;

use super::protocol::Request;

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(super) enum NodeCommand {
    /// Show what the broker is and does.
    Status,
    /// Take the broker out of service: its clients are told goodbye, no others are let in, and it is not ready.
    Drain,
    /// Take it back into service.
    #[command(visible_alias = "revive")]
    Undrain,
}

impl NodeCommand {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::Status => Request::Status {},
            Self::Drain => Request::Drain {},
            Self::Undrain => Request::Undrain {},
        }
    }
}
