//! The commands of `leveret ctl` about global parameters.

use clap::Subcommand;
use serde_json::Value;

use super::protocol::Request;
use crate::broker::CLUSTER_NAME;

#[derive(Debug, Subcommand)]
pub(super) enum ParameterCommand {
    /// Set a global parameter, for tools that keep such.
    #[command(name = "set_global_parameter")]
    SetGlobal {
        name: String,
        /// JSON such as {"a": 1}.
        value: String,
    },
    /// Clear a global parameter.
    #[command(name = "clear_global_parameter")]
    ClearGlobal { name: String },
    /// List global parameters.
    #[command(name = "list_global_parameters")]
    ListGlobal,
    /// Give the cluster another name, which clients and metrics are told.
    #[command(name = "set_cluster_name")]
    SetClusterName { name: String },
}

impl ParameterCommand {
    pub(super) fn into_request(self) -> Request {
        match self {
            Self::SetGlobal { name, value } => Request::SetGlobalParameter { name, value },
            Self::ClearGlobal { name } => Request::ClearGlobalParameter { name },
            Self::ListGlobal => Request::ListGlobalParameters {},
            Self::SetClusterName { name } => Request::SetGlobalParameter {
                name: CLUSTER_NAME.to_owned(),
                value: Value::from(name).to_string(),
            },
        }
    }
}
