//! The command line of `leveret ctl`.

use std::io::{self, Write as _};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::check_command::CheckCommand;
use super::client::{ClientError, CtlClient};
use super::connection_command::ConnectionCommand;
use super::definitions_command::{DefinitionsCommand, write_file};
use super::error::Failure;
use super::exchange_command::ExchangeCommand;
use super::node_command::NodeCommand;
use super::output::{Formatter, print};
use super::parameter_command::ParameterCommand;
use super::password::HashPassword;
use super::permission_command::PermissionCommand;
use super::place::{Place, PlaceArgs};
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
    /// Seconds to wait for the broker's answer, or infinity; await_startup waits so long for the broker.
    #[arg(short, long, global = true, value_name = "SECONDS", value_parser = parse_timeout)]
    timeout: Option<Timeout>,
    /// Accepted for scripts made for rabbitmqctl: nothing is looked up by the names of hosts.
    #[arg(short, long, global = true)]
    longnames: bool,
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
    AwaitStartup,
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

/// How long to wait; without end for none.
type Timeout = Option<Duration>;

/// So long `await_startup` waits by default.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// Shortest wait for an answer.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

/// Longer is without end for every purpose.
const TIMEOUT_SECONDS_MAX: f64 = 1e9;

fn parse_timeout(text: &str) -> Result<Timeout, String> {
    if text == "infinity" {
        return Ok(None);
    }
    let seconds: f64 = text.parse().unwrap_or(f64::NAN);
    if (0.0..=TIMEOUT_SECONDS_MAX).contains(&seconds) {
        return Ok(Some(Duration::from_secs_f64(seconds)));
    }
    Err("expected a number of seconds, or infinity".to_owned())
}

/// Executes the command and prints the answer. The error is one line.
pub fn run(args: CtlArgs) -> Result<(), Failure> {
    let without_broker = match &args.command {
        CtlCommand::HashPassword(command) => Some(command.hash().map_err(Failure::data)?),
        CtlCommand::Version => Some(env!("CARGO_PKG_VERSION").to_owned()),
        _ => None,
    };
    if let Some(text) = without_broker {
        return show(&Reply::Message(text), args.formatter, args.silent);
    }
    let unreachable = |error| Failure::of("", error);
    let waits = matches!(args.command, CtlCommand::AwaitStartup);
    let mut client = connect(args.place.place(), waits, args.timeout).map_err(unreachable)?;
    let into = match &args.command {
        CtlCommand::Definitions(command) => command.file(),
        _ => None,
    };
    if let CtlCommand::Connection(command) = &args.command
        && let Some(closed) = command.close_slowly(&mut client)
    {
        let closed = closed.map_err(|error| Failure::of("close_all_connections", error))?;
        return show(&closed, args.formatter, args.silent);
    }
    let Some(request) = args.command.into_request().map_err(Failure::data)? else {
        return Ok(());
    };
    let reply = client
        .call(&request)
        .map_err(|error| Failure::of(&request.name(), error))?;
    if let Some(path) = into {
        return write_file(&path, &reply, args.formatter).map_err(Failure::output);
    }
    show(&reply, args.formatter, args.silent)
}

fn connect(place: Place, waits: bool, timeout: Option<Timeout>) -> Result<CtlClient, ClientError> {
    if waits {
        let patience = timeout.unwrap_or(Some(STARTUP_TIMEOUT));
        return CtlClient::connect_within(place, patience.unwrap_or(Duration::from_secs_f64(TIMEOUT_SECONDS_MAX)));
    }
    let client = CtlClient::connect(place)?;
    match timeout {
        // A wait of no time at all is none for sockets.
        Some(timeout) => client.waiting(timeout.map(|timeout| timeout.max(TIMEOUT_MIN))),
        None => Ok(client),
    }
}

/// Prints the answer, without the names of columns if it is to be `silent`.
fn show(reply: &Reply, formatter: Formatter, silent: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match print(reply, formatter, !silent, &mut out).and_then(|()| out.flush()) {
        // Whoever read the list has seen enough, as in `leveret ctl list_queues | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| Failure::output(format!("cannot print the answer: {error}"))),
    }
}

impl CtlCommand {
    /// The request for the broker; none for a command that is done when it is connected.
    fn into_request(self) -> Result<Option<Request>, String> {
        Ok(Some(match self {
            Self::AwaitStartup | Self::HashPassword(_) | Self::Version => return Ok(None),
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
