//! The health checks of `leveret ctl`: success, or exit code 1 and what is wrong.

use std::net::IpAddr;

use clap::Subcommand;

use super::password::given_or_read;
use super::protocol::Request;

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "they are the names of the commands")]
pub(super) enum CheckCommand {
    /// Fail unless the broker has started and its store works.
    CheckRunning,
    /// Fail while an alarm, or a store in trouble, keeps publishers waiting.
    #[command(visible_alias = "check_local_alarms")]
    CheckAlarms,
    /// Fail unless every virtual host can be used.
    CheckVirtualHosts,
    /// Fail unless the broker listens on this port.
    CheckPortListener { port: u16 },
    /// Fail unless the broker listens for this protocol: amqp, amqp/ssl, http, https, http/prometheus or https/prometheus.
    CheckProtocolListener { protocol: String },
    /// Fail unless the user has this password.
    AuthenticateUser {
        name: String,
        /// Read from standard input if it is not given.
        #[arg(allow_hyphen_values = true)]
        password: Option<String>,
    },
    /// Fail unless a broker answers.
    Ping,
    /// Fail unless every listener of the broker takes a TCP connection.
    CheckPortConnectivity {
        /// Connect to this address in place of the one that each listener has.
        #[arg(short, long)]
        address: Option<IpAddr>,
    },
}

impl CheckCommand {
    pub(super) fn into_request(self) -> Result<Request, String> {
        Ok(match self {
            Self::AuthenticateUser { name, password } => Request::AuthenticateUser {
                name,
                password: given_or_read(password)?,
            },
            Self::CheckRunning => Request::CheckRunning {},
            Self::CheckAlarms => Request::CheckAlarms {},
            Self::CheckVirtualHosts => Request::CheckVirtualHosts {},
            Self::CheckPortListener { port } => Request::CheckPortListener { port },
            Self::CheckProtocolListener { protocol } => Request::CheckProtocolListener { protocol },
            Self::Ping => Request::Ping {},
            Self::CheckPortConnectivity { address } => Request::CheckPortConnectivity { address },
        })
    }
}
