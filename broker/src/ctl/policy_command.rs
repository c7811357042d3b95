//! The part of the command line about policies and limits.

use clap::{Args, Subcommand};

use super::command::InVhost;
use super::protocol::{PolicyRequest, Request};

#[derive(Debug, Args)]
pub(super) struct SetPolicy {
    #[command(flatten)]
    place: InVhost,
    /// Of several policies that match, the one with the highest priority applies.
    #[arg(long, default_value_t = 0, allow_hyphen_values = true)]
    priority: i64,
    /// all, exchanges, queues, classic_queues, quorum_queues or streams.
    #[arg(long, default_value = "all")]
    apply_to: String,
    name: String,
    /// A regular expression; names of queues and exchanges are searched for it.
    #[arg(allow_hyphen_values = true)]
    pattern: String,
    /// A JSON object such as {"message-ttl": 60000}.
    definition: String,
}

#[derive(Debug, Args)]
pub(super) struct NameInVhost {
    #[command(flatten)]
    place: InVhost,
    name: String,
}

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(super) enum PolicyCommand {
    /// Set a policy for all queues and exchanges whose names match, now and later.
    SetPolicy(SetPolicy),
    /// Clear a policy; what it had set is undone.
    ClearPolicy(NameInVhost),
    /// List policies.
    ListPolicies {
        #[command(flatten)]
        place: InVhost,
    },
    /// Set an operator policy, which bounds what arguments and policies of queues ask for.
    SetOperatorPolicy(SetPolicy),
    /// Clear an operator policy.
    ClearOperatorPolicy(NameInVhost),
    /// List operator policies.
    ListOperatorPolicies {
        #[command(flatten)]
        place: InVhost,
    },
    /// Limit what a virtual host may have; a negative limit is none.
    SetVhostLimits {
        #[command(flatten)]
        place: InVhost,
        /// A JSON object such as {"max-connections": 100, "max-queues": 1000}.
        limits: String,
    },
    /// Remove the limits of a virtual host.
    ClearVhostLimits {
        #[command(flatten)]
        place: InVhost,
    },
    /// Show the limits of a virtual host, or list those of all.
    ListVhostLimits {
        #[command(flatten)]
        place: InVhost,
        /// Of all virtual hosts.
        #[arg(long)]
        global: bool,
    },
    /// Limit what a user may have; a negative limit is none.
    SetUserLimits {
        user: String,
        /// A JSON object such as {"max-connections": 10, "max-channels": 100}.
        limits: String,
    },
    /// Remove a limit of a user.
    ClearUserLimits {
        user: String,
        /// max-connections, max-channels or all.
        limit: String,
    },
    /// List the limits of users, or show those of one.
    ListUserLimits {
        /// Of this user.
        #[arg(long)]
        user: Option<String>,
        /// Of all users, as without --user.
        #[arg(long, conflicts_with = "user")]
        global: bool,
    },
}

impl PolicyCommand {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::SetPolicy(policy) => policy.into_request(false),
            Self::SetOperatorPolicy(policy) => policy.into_request(true),
            Self::ClearPolicy(policy) => policy.into_clear_request(false),
            Self::ClearOperatorPolicy(policy) => policy.into_clear_request(true),
            Self::ListPolicies { place } => Request::ListPolicies {
                operator: false,
                vhost: place.vhost,
            },
            Self::ListOperatorPolicies { place } => Request::ListPolicies {
                operator: true,
                vhost: place.vhost,
            },
            Self::SetVhostLimits { place, limits } => Request::SetVhostLimits {
                vhost: place.vhost,
                limits,
            },
            Self::ClearVhostLimits { place } => Request::ClearVhostLimits { vhost: place.vhost },
            Self::ListVhostLimits { place, global } => Request::ListVhostLimits {
                vhost: (!global).then_some(place.vhost),
            },
            Self::SetUserLimits { user, limits } => Request::SetUserLimits { user, limits },
            Self::ClearUserLimits { user, limit } => Request::ClearUserLimits { user, limit },
            Self::ListUserLimits { user, .. } => Request::ListUserLimits { user },
        }
    }
}

impl SetPolicy {
    fn into_request(self, operator: bool) -> Request {
        Request::SetPolicy(Box::new(PolicyRequest {
            operator,
            vhost: self.place.vhost,
            name: self.name,
            pattern: self.pattern,
            definition: self.definition,
            priority: self.priority,
            apply_to: self.apply_to,
        }))
    }
}

impl NameInVhost {
    fn into_clear_request(self, operator: bool) -> Request {
        Request::ClearPolicy {
            operator,
            vhost: self.place.vhost,
            name: self.name,
        }
    }
}
