//! The command line of `leveret ctl`.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::check_command::CheckCommand;
use super::client::{ClientError, CtlClient};
use super::connection_command::ConnectionCommand;
use super::definitions_command::{DefinitionsCommand, write_file};
use super::error::ErrorKind;
use super::exchange_command::ExchangeCommand;
use super::node_command::NodeCommand;
use super::output::{Formatter, print};
use super::parameter_command::ParameterCommand;
use super::password::HashPassword;
use super::permission_command::PermissionCommand;
use super::place::PlaceArgs;
use super::policy_command::PolicyCommand;
use super::protocol::{Reply, Request};
use super::queue_command::QueueCommand;
use super::topic_permission_command::TopicPermissionCommand;
use super::user_command::UserCommand;
use super::vhost_command::VhostCommand;

#[derive(Debug, Args)]
pub struct CtlArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// How lists are printed.
    #[arg(long, value_enum, default_value_t, global = true)]
    formatter: Formatter,
    /// Accepted for scripts made for rabbitmqctl; nothing but results is printed anyway.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Accepted for scripts made for rabbitmqctl: the broker is found by its data directory or socket.
    #[arg(short, long, global = true, value_name = "NODE")]
    node: Option<String>,
    /// Leave the line with the names of the columns out.
    #[arg(short, long, visible_alias = "no-table-headers", global = true)]
    silent: bool,
    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Args)]
pub(super) struct InVhost {
    /// Virtual host.
    #[arg(short = 'p', long, value_name = "VHOST", default_value = "/")]
    pub(super) vhost: String,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Columns to show, such as name messages consumers. A wrong one is answered with all that there are.
    pub(super) columns: Vec<String>,
}

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
enum CtlCommand {
    /// Wait until the broker accepts commands.
    AwaitStartup {
        /// Seconds to wait at most.
        #[arg(short, long, default_value_t = 60)]
        timeout: u64,
    },
    #[command(flatten)]
    Node(NodeCommand),
    #[command(flatten)]
    Vhost(VhostCommand),
    #[command(flatten)]
    User(UserCommand),
    /// Show the version of this program. No broker need run.
    Version,
    /// Print the hash of a password, for definitions and configurations. No broker need run.
    HashPassword(HashPassword),
    #[command(flatten)]
    Permission(PermissionCommand),
    #[command(flatten)]
    TopicPermission(TopicPermissionCommand),
    #[command(flatten)]
    Queue(QueueCommand),
    #[command(flatten)]
    Exchange(ExchangeCommand),
    #[command(flatten)]
    Connection(ConnectionCommand),
    #[command(flatten)]
    Policy(PolicyCommand),
    #[command(flatten)]
    Parameter(ParameterCommand),
    #[command(flatten)]
    Check(CheckCommand),
    #[command(flatten)]
    Definitions(DefinitionsCommand),
}

/// Executes the command and prints the answer. The error is one line.
pub fn run(args: CtlArgs) -> Result<(), String> {
    let without_broker = match &args.command {
        CtlCommand::HashPassword(command) => Some(command.hash()?),
        CtlCommand::Version => Some(env!("CARGO_PKG_VERSION").to_owned()),
        _ => None,
    };
    if let Some(text) = without_broker {
        return show(&Reply::Message(text), args.formatter, args.silent);
    }
    let place = args.place.place();
    let client = match &args.command {
        CtlCommand::AwaitStartup { timeout } => CtlClient::connect_within(place, Duration::from_secs(*timeout)),
        _ => CtlClient::connect(place),
    };
    let mut client = client.map_err(|error| error.to_string())?;
    let into = match &args.command {
        CtlCommand::Definitions(command) => command.file(),
        _ => None,
    };
    if let CtlCommand::Connection(command) = &args.command
        && let Some(closed) = command.close_slowly(&mut client)
    {
        return show(&closed.map_err(|error| error.to_string())?, args.formatter, args.silent);
    }
    let Some(request) = args.command.into_request()? else {
        return Ok(());
    };
    let reply = client.call(&request).map_err(|error| match error {
        ClientError::Refused(error) if error.kind == ErrorKind::Unhealthy => {
            format!("{} failed: {error}", request.name())
        }
        ClientError::Refused(error) => format!("cannot {}: {error}", request.name()),
        other => other.to_string(),
    })?;
    if let Some(path) = into {
        return write_file(&path, &reply, args.formatter);
    }
    show(&reply, args.formatter, args.silent)
}

/// Prints the answer, without the names of columns if it is to be `silent`.
fn show(reply: &Reply, formatter: Formatter, silent: bool) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match print(reply, formatter, !silent, &mut out).and_then(|()| out.flush()) {
        // Whoever read the list has seen enough, as in `leveret ctl list_queues | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| format!("cannot print the answer: {error}")),
    }
}

impl CtlCommand {
    /// The request for the broker; none for a command that is done when it is connected.
    fn into_request(self) -> Result<Option<Request>, String> {
        Ok(Some(match self {
            Self::AwaitStartup { .. } | Self::HashPassword(_) | Self::Version => return Ok(None),
            Self::Node(command) => command.into_request()?,
            Self::Vhost(command) => command.into_request(),
            Self::User(command) => command.into_request()?,
            Self::Permission(command) => command.into_request(),
            Self::TopicPermission(command) => command.into_request(),
            Self::Queue(command) => command.into_request(),
            Self::Exchange(command) => command.into_request(),
            Self::Connection(command) => command.into_request(),
            Self::Policy(command) => command.into_request(),
            Self::Parameter(command) => command.into_request(),
            Self::Check(command) => command.into_request()?,
            Self::Definitions(command) => command.into_request()?,
        }))
    }
}
