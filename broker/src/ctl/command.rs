//! The command line of `leveret ctl`.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::check_command::CheckCommand;
use super::client::{ClientError, CtlClient};
use super::connection_command::ConnectionCommand;
use super::error::ErrorKind;
use super::output::{Formatter, print};
use super::parameter_command::ParameterCommand;
use super::password::{HashPassword, given_or_read};
use super::place::PlaceArgs;
use super::policy_command::PolicyCommand;
use super::protocol::{Reply, Request};
use super::topic_permission_command::TopicPermissionCommand;
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
    /// Show what the broker is and does.
    Status,
    /// Take the broker out of service: its clients are told goodbye, no others are let in, and it is not ready.
    Drain,
    /// Take it back into service.
    #[command(visible_alias = "revive")]
    Undrain,
    #[command(flatten)]
    Vhost(VhostCommand),
    /// Make a user, without permissions.
    AddUser {
        name: String,
        /// Read from standard input if it is not given, which keeps it out of the shell's history.
        #[arg(allow_hyphen_values = true)]
        password: Option<String>,
    },
    /// Delete a user and close its connections.
    DeleteUser { name: String },
    /// Give a user another password.
    ChangePassword {
        name: String,
        /// Read from standard input if it is not given.
        #[arg(allow_hyphen_values = true)]
        password: Option<String>,
    },
    /// Print the hash of a password, for definitions and configurations. No broker need run.
    HashPassword(HashPassword),
    /// Replace the tags of a user, such as administrator, monitoring or management.
    SetUserTags { name: String, tags: Vec<String> },
    /// List users and their tags.
    ListUsers,
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
    #[command(flatten)]
    TopicPermission(TopicPermissionCommand),
    /// List queues.
    ListQueues {
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        list: List,
    },
    /// List exchanges.
    ListExchanges {
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        list: List,
    },
    /// List bindings.
    ListBindings {
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        list: List,
    },
    /// List connections of all virtual hosts.
    ListConnections(List),
    /// List channels of all virtual hosts.
    ListChannels(List),
    /// List consumers.
    ListConsumers {
        #[command(flatten)]
        place: InVhost,
        #[command(flatten)]
        list: List,
    },
    #[command(flatten)]
    Policy(PolicyCommand),
    #[command(flatten)]
    Parameter(ParameterCommand),
    /// List the messages that a delayed exchange keeps until their time has come.
    ListDelayedMessages {
        #[command(flatten)]
        place: InVhost,
        exchange: String,
    },
    /// Drop one of them.
    CancelDelayedMessage {
        #[command(flatten)]
        place: InVhost,
        exchange: String,
        /// As listed.
        id: u64,
    },
    /// Drop all messages of a queue that wait for a consumer.
    PurgeQueue {
        #[command(flatten)]
        place: InVhost,
        name: String,
    },
    /// Change arguments of a queue; its messages and consumers stay.
    #[command(alias = "alter-queue")]
    AlterQueue {
        #[command(flatten)]
        place: InVhost,
        name: String,
        /// A JSON object such as {"message-ttl": 60000, "max-length": null}; null removes an argument.
        arguments: String,
    },
    /// Delete a queue and its messages.
    DeleteQueue {
        #[command(flatten)]
        place: InVhost,
        name: String,
        /// Only if it holds no messages.
        #[arg(short = 'e', long = "if-empty")]
        if_empty: bool,
        /// Only if it has no consumers.
        #[arg(short = 'u', long = "if-unused")]
        if_unused: bool,
    },
    #[command(flatten)]
    Connection(ConnectionCommand),
    #[command(flatten)]
    Check(CheckCommand),
    /// Write everything that was declared as a definitions file of RabbitMQ's form.
    ExportDefinitions {
        /// Where to; standard output if it is not given or '-'.
        file: Option<PathBuf>,
    },
    /// Make what a definitions file has and the broker has not; what differs is changed or told.
    ImportDefinitions {
        /// The file; standard input if it is not given or '-'.
        file: Option<PathBuf>,
        /// Change nothing, only say what would change.
        #[arg(long = "dry-run")]
        dry_run: bool,
    },
}

/// Executes the command and prints the answer. The error is one line.
pub fn run(args: CtlArgs) -> Result<(), String> {
    if let CtlCommand::HashPassword(command) = args.command {
        let hash = Reply::Message(command.hash()?);
        return show(&hash, args.formatter, args.silent);
    }
    let place = args.place.place();
    let client = match &args.command {
        CtlCommand::AwaitStartup { timeout } => CtlClient::connect_within(place, Duration::from_secs(*timeout)),
        _ => CtlClient::connect(place),
    };
    let mut client = client.map_err(|error| error.to_string())?;
    let into = match &args.command {
        CtlCommand::ExportDefinitions { file } => file.clone().filter(|file| is_file(file)),
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
        let request = match self {
            Self::AwaitStartup { .. } | Self::HashPassword(_) => return Ok(None),
            Self::Status => Request::Status {},
            Self::Drain => Request::Drain {},
            Self::Undrain => Request::Undrain {},
            Self::Vhost(command) => command.into_request(),
            Self::AddUser { name, password } => Request::AddUser {
                name,
                password: given_or_read(password)?,
            },
            Self::DeleteUser { name } => Request::DeleteUser { name },
            Self::ChangePassword { name, password } => Request::ChangePassword {
                name,
                password: given_or_read(password)?,
            },
            Self::SetUserTags { name, tags } => Request::SetUserTags { name, tags },
            Self::ListUsers => Request::ListUsers {},
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
            Self::TopicPermission(command) => command.into_request(),
            Self::ListQueues { place, list } => Request::ListQueues {
                vhost: place.vhost,
                columns: list.columns,
            },
            Self::ListExchanges { place, list } => Request::ListExchanges {
                vhost: place.vhost,
                columns: list.columns,
            },
            Self::ListBindings { place, list } => Request::ListBindings {
                vhost: place.vhost,
                columns: list.columns,
            },
            Self::ListConnections(List { columns }) => Request::ListConnections { columns },
            Self::ListChannels(List { columns }) => Request::ListChannels { columns },
            Self::ListConsumers { place, list } => Request::ListConsumers {
                vhost: place.vhost,
                columns: list.columns,
            },
            Self::Policy(command) => command.into_request(),
            Self::Parameter(command) => command.into_request(),
            Self::ListDelayedMessages { place, exchange } => Request::ListDelayedMessages {
                vhost: place.vhost,
                exchange,
            },
            Self::CancelDelayedMessage { place, exchange, id } => Request::CancelDelayedMessage {
                vhost: place.vhost,
                exchange,
                id,
            },
            Self::PurgeQueue { place, name } => Request::PurgeQueue {
                vhost: place.vhost,
                name,
            },
            Self::AlterQueue { place, name, arguments } => Request::AlterQueue {
                vhost: place.vhost,
                name,
                arguments,
            },
            Self::DeleteQueue {
                place,
                name,
                if_empty,
                if_unused,
            } => Request::DeleteQueue {
                vhost: place.vhost,
                name,
                if_empty,
                if_unused,
            },
            Self::Connection(command) => command.into_request(),
            Self::Check(command) => command.into_request()?,
            Self::ExportDefinitions { .. } => Request::ExportDefinitions {},
            Self::ImportDefinitions { file, dry_run } => Request::ImportDefinitions {
                definitions: read_json(file.filter(|file| is_file(file)))?,
                dry_run,
            },
        };
        Ok(Some(request))
    }
}

/// `-` stands for standard input or output.
fn is_file(path: &Path) -> bool {
    path.as_os_str() != "-"
}

/// Writes the answer into a file.
fn write_file(path: &Path, reply: &Reply, formatter: Formatter) -> Result<(), String> {
    let mut text = Vec::new();
    let written = print(reply, formatter, true, &mut text).and_then(|()| std::fs::write(path, text));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Reads JSON from a file or standard input.
fn read_json(file: Option<PathBuf>) -> Result<Value, String> {
    let name = file
        .as_ref()
        .map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let mut text = Vec::new();
    let read = match &file {
        Some(path) => std::fs::read(path).map(|read| text = read),
        None => io::stdin().lock().read_to_end(&mut text).map(|_| ()),
    };
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("cannot read {name}: it is no JSON: {error}"))
}
