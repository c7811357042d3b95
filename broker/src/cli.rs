//! The command line: `leveret serve`, `ctl`, `backup`, `check`, `config` and `perf`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Flag;
use crate::ctl::CtlArgs;
use crate::perf::PerfArgs;
use crate::upkeep::{BackupArgs, CheckArgs};

const EXAMPLES: &str = "\
Examples:
  leveret serve
      Start with data in ./data, AMQP on port 5672, management on 15672 and metrics on 15692 of all interfaces.
  leveret serve --config /etc/leveret/leveret.toml
      Start with a configuration file; leveret.example.toml explains every key.
  leveret config check /etc/rabbitmq/rabbitmq.conf
      See what a configuration file comes to before a broker reads it.
  leveret serve --data-dir /tmp/try --amqp-listen 127.0.0.1:0
      Start beside another broker on a free port, which the log names.
  leveret ctl add_vhost shop
  leveret ctl add_user alice < password.txt
  leveret ctl set_permissions -p shop alice '.*' '.*' '.*'
      Make a virtual host and a user, and let the one use the other.
  leveret ctl list_queues name messages consumers
      See how full the queues of virtual host / are.
  leveret backup /backups/monday
      Copy the data of the broker in ./data while it works; start a broker on the copy with --data-dir.
  leveret check /backups/monday
      See whether everything in a data directory is sound; --repair keeps what is.
  leveret perf throughput --uri amqp://guest:guest@localhost/%2f --size 16 --duration 5
      Measure how many messages a broker, any of AMQP 0-9-1, carries per second.

Keys of the file are also read from the environment: amqp_listen as LEVERET_AMQP_LISTEN, and so on.
Flags win over the environment, the environment wins over the file.

Exit codes: 0 success, 1 failure, 2 wrong usage or configuration.";

/// Leveret, an AMQP 0-9-1 message broker for RabbitMQ's clients.
#[derive(Debug, Parser)]
#[command(name = "leveret", version, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the broker until SIGTERM or Ctrl-C.
    Serve(ServeArgs),
    /// Look at and change a running broker on this machine, with the commands of rabbitmqctl.
    Ctl(CtlArgs),
    /// Copy the data of a running broker on this machine, with everything confirmed so far.
    Backup(BackupArgs),
    /// Verify the data of a broker that does not run: checksums, counts, order.
    Check(CheckArgs),
    /// Look at the configuration without starting a broker.
    Config(ConfigArgs),
    /// Measure a broker: throughput, latency, backlogs, idle connections.
    Perf(PerfArgs),
}

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every key with its value and where it comes from, or everything that is wrong; with the environment, as serve reads it.
    Check {
        /// Configuration file: TOML, or RabbitMQ's own form if its name ends with .conf.
        #[arg(value_name = "FILE", env = "LEVERET_CONFIG", hide_env_values = true)]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Configuration file: TOML, or RabbitMQ's own form if its name ends with .conf.
    #[arg(long, value_name = "FILE", env = "LEVERET_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Directory of everything that is kept; made if it does not exist [default: ./data].
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where AMQP clients connect; may be given several times; port 0 picks a free one [default: port 5672 of all interfaces].
    #[arg(long, value_name = "HOST:PORT")]
    pub amqp_listen: Vec<String>,
    /// Where Prometheus finds /metrics; may be given several times [default: port 15692 of all interfaces].
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics_listen: Vec<String>,
    /// Where the management API answers; may be given several times [default: port 15672 of all interfaces].
    #[arg(long, value_name = "HOST:PORT")]
    pub management_listen: Vec<String>,
    /// How log lines look: text or json [default: text].
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// error, warn, info, debug or trace, or directives such as info,leveret::net=debug [default: info].
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

impl ServeArgs {
    /// The flags that were given, as values of configuration keys. The configuration checks them.
    pub fn flags(&self) -> Vec<Flag> {
        let one = |key, value: &Option<String>| Flag {
            key,
            values: value.iter().cloned().collect(),
        };
        let flags = [
            one("data_dir", &self.data_dir),
            Flag {
                key: "amqp_listen",
                values: self.amqp_listen.clone(),
            },
            Flag {
                key: "metrics_listen",
                values: self.metrics_listen.clone(),
            },
            Flag {
                key: "management_listen",
                values: self.management_listen.clone(),
            },
            one("log_format", &self.log_format),
            one("log_level", &self.log_level),
        ];
        flags.into_iter().filter(|flag| !flag.values.is_empty()).collect()
    }
}
