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
    /// Show what the broker listens on.
    Listeners,
    /// Show what keeps publishers waiting, without failing for it as check_alarms does.
    Alarms,
    /// Show the broker as the only node of its cluster.
    ClusterStatus,
    /// Show every key of the configuration, the value in force and where it comes from.
    Environment,
    /// Show the version of the broker that runs.
    ServerVersion,
    /// Block publishers above this memory, until the broker restarts or reads its configuration again.
    #[command(override_usage = "leveret ctl set_vm_memory_high_watermark FRACTION | absolute SIZE")]
    SetVmMemoryHighWatermark {
        /// A fraction of the memory such as 0.4 (0 blocks all publishers), or 'absolute' and a size such as 2GiB.
        #[arg(value_name = "LIMIT", num_args = 1..=2, required = true)]
        limit: Vec<String>,
    },
    /// Block publishers when less of the disk is free, until the broker restarts or reads its configuration again.
    #[command(override_usage = "leveret ctl set_disk_free_limit SIZE | mem_relative FACTOR")]
    SetDiskFreeLimit {
        /// A size such as 5GB, or 'mem_relative' and a factor of the memory such as 1.5.
        #[arg(value_name = "LIMIT", num_args = 1..=2, required = true)]
        limit: Vec<String>,
    },
}

impl NodeCommand {
    pub(super) fn into_request(self) -> Result<Request, String> {
        Ok(match self {
            Self::Status => Request::Status {},
            Self::Drain => Request::Drain {},
            Self::Undrain => Request::Undrain {},
            Self::Listeners => Request::Listeners {},
            Self::Alarms => Request::Alarms {},
            Self::ClusterStatus => Request::ClusterStatus {},
            Self::Environment => Request::Environment {},
            Self::ServerVersion => Request::ServerVersion {},
            Self::SetVmMemoryHighWatermark { limit } => {
                let (value, absolute) = limit_and_kind(limit, "absolute")?;
                Request::SetVmMemoryHighWatermark { value, absolute }
            }
            Self::SetDiskFreeLimit { limit } => {
                let (value, mem_relative) = limit_and_kind(limit, "mem_relative")?;
                Request::SetDiskFreeLimit { value, mem_relative }
            }
        })
    }
}

/// `LIMIT` or `KIND LIMIT`.
fn limit_and_kind(mut words: Vec<String>, kind: &str) -> Result<(String, bool), String> {
    let limit = words.pop().unwrap_or_default();
    match words.first() {
        None if limit == kind => Err(format!("a value is missing behind '{kind}'")),
        None => Ok((limit, false)),
        Some(word) if word == kind => Ok((limit, true)),
        Some(word) => Err(format!(
            "expected a limit, or '{kind}' and a limit, found '{word} {limit}'"
        )),
    }
}
