//! `leveret ctl`: rabbitmqctl's commands over a local socket.
//!
//! [`protocol`] is what goes over the socket, [`server`] the broker's side, [`client`] the other; `command`
//! is the command line and `output` what is printed.

pub mod answer;
mod check_command;
mod checks;
pub mod client;
mod command;
mod connection_command;
mod connection_handler;
mod definitions_command;
mod error;
mod exchange_command;
mod handler;
mod listings;
mod node_command;
mod node_handler;
mod output;
mod parameter_command;
mod password;
mod permission_command;
pub mod place;
mod policy_command;
mod policy_handler;
pub mod protocol;
mod queue_command;
pub mod rows;
pub mod server;
pub mod topic_permission_command;
mod user_command;
mod user_handler;
mod vhost_command;
mod vhost_handler;

pub use command::{CtlArgs, run};
pub use error::{CtlError, ErrorKind, Failure, USAGE};
pub use protocol::{Password, Reply, Request, Response, Status, Table};
pub use server::{CtlHandler, CtlServer};
