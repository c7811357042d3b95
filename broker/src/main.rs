//! The program `leveret`: arguments, configuration, log, runtime, and the exit code.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use leveret::allocator::{self, Allocator};
use leveret::cli::{Cli, Command, ConfigArgs, ConfigCommand, ServeArgs};
use leveret::config::Loaded;
use leveret::perf::PerfError;
use leveret::reload::ConfigSource;
use leveret::{ctl, logging, manual, perf, server, upkeep};

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

/// Exit code of a broker that could not start or had to stop, of a refused `ctl` command, and of a store that is not sound.
const FAILURE: u8 = 1;
/// Exit code of wrong usage or configuration; clap uses the same.
const BAD_USAGE: u8 = 2;
/// How long tasks that outlived the broker's orderly stop may still take.
const LEFTOVERS_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    allocator::keep_less();
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return bad_usage(&error),
    };
    match command {
        Command::Serve(args) => serve(&args),
        Command::Ctl(args) => match ctl::run(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(error.code, error),
        },
        Command::Backup(args) => match upkeep::run_backup(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(FAILURE, error),
        },
        Command::Check(args) => match upkeep::run_check(&args) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(FAILURE),
            Err(error) => fail(FAILURE, error),
        },
        Command::Config(args) => config_check(args),
        Command::Completions { shell } => written(manual::print_completions(shell)),
        Command::Man { directory } => written(manual::write_manual(directory.as_deref())),
        Command::Perf(args) => match perf::run(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error @ PerfError::Usage(_)) => fail(BAD_USAGE, error),
            Err(error) => fail(FAILURE, error),
        },
    }
}

/// Wrong usage of `leveret ctl` has rabbitmqctl's code; to be asked for help is none.
fn bad_usage(error: &clap::Error) -> ExitCode {
    // Where it cannot be printed nobody reads it.
    let _ = error.print();
    let is_ctl = std::env::args_os().nth(1).is_some_and(|command| command == "ctl");
    match error.exit_code() {
        0 => ExitCode::SUCCESS,
        _ if is_ctl => ExitCode::from(ctl::USAGE),
        _ => ExitCode::from(BAD_USAGE),
    }
}

fn written(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has seen enough, as `head` does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(FAILURE, format_args!("cannot write: {error}")),
    }
}

/// Says what would be in force, or everything that is wrong.
fn config_check(args: ConfigArgs) -> ExitCode {
    let ConfigArgs {
        command: ConfigCommand::Check { file },
    } = args;
    match upkeep::check_config(file) {
        Ok(text) => written(io::stdout().write_all(text.as_bytes())),
        Err(mistakes) => {
            for mistake in mistakes {
                eprintln!("leveret: {mistake}");
            }
            ExitCode::from(BAD_USAGE)
        }
    }
}

fn serve(args: &ServeArgs) -> ExitCode {
    let source = ConfigSource {
        file: args.config.clone(),
        flags: args.flags(),
    };
    let Loaded {
        config,
        settings,
        warnings,
    } = match source.load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(BAD_USAGE, format_args!("cannot read the configuration: {error}")),
    };
    if let Err(reason) = logging::init(config.log_format, &config.log_level) {
        return fail(FAILURE, format_args!("cannot start the log: {reason}"));
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.worker_threads)
        .thread_name("leveret-worker")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(
                FAILURE,
                format_args!("cannot start threads: {error}; lower worker_threads"),
            );
        }
    };
    let result = runtime.block_on(server::run(config, settings, source));
    runtime.shutdown_timeout(LEFTOVERS_TIMEOUT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILURE, format_args!("cannot {error}")),
    }
}

fn fail(code: u8, error: impl Display) -> ExitCode {
    eprintln!("leveret: {error}");
    ExitCode::from(code)
}
