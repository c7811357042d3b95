//! The two brokers: RabbitMQ as Debian packages it, as a node of its own, and the leveret binary.

use crate::operations::Request;
use crate::player::{Addresses, Stage};
use leveret_integration_tests::Broker;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const RABBITMQ_SERVER: &str = "/usr/lib/rabbitmq/bin/rabbitmq-server";

/// The management API, and the types of exchanges that Leveret has built in.
const PLUGINS: &str = "[rabbitmq_management,rabbitmq_consistent_hash_exchange,rabbitmq_random_exchange,\
                       rabbitmq_recent_history_exchange,rabbitmq_sharding].";

/// RabbitMQ takes its time, more so on a busy machine.
const START_SECONDS: u64 = 120;
const STOP_SECONDS: u64 = 30;

/// Both brokers, running, empty.
pub struct Brokers {
    pub rabbitmq: RabbitMq,
    pub leveret: Broker,
}

impl Brokers {
    pub fn start() -> Result<Self, String> {
        let rabbitmq = RabbitMq::start()?;
        let leveret = Broker::start();
        Ok(Self { rabbitmq, leveret })
    }

    /// A virtual host of this name at RabbitMQ and at Leveret, made if need be.
    pub fn stages<'a>(&self, virtual_host: &'a str) -> Result<[Stage<'a>; 2], String> {
        let leveret = Addresses {
            amqp: self.leveret.amqp(),
            management: self.leveret.management(),
        };
        let stages = [self.rabbitmq.addresses(), leveret].map(|addresses| Stage {
            addresses,
            virtual_host,
        });
        let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
        for stage in &stages {
            let vhost = put(format!("/api/vhosts/{virtual_host}"), "{}");
            let permissions = put(format!("/api/permissions/{virtual_host}/guest"), everything);
            for request in [vhost, permissions] {
                let status = stage.status_of(&request);
                if !status.starts_with("20") {
                    return Err(format!("PUT {} at {stage:?} is answered with {status}", request.path));
                }
            }
        }
        Ok(stages)
    }
}

fn put(path: String, body: &str) -> Request {
    Request {
        method: "PUT",
        path,
        body: body.to_owned(),
    }
}

/// Whether RabbitMQ can be started here.
pub fn rabbitmq_is_installed() -> bool {
    Path::new(RABBITMQ_SERVER).exists()
}

/// A node with its own name, ports and folders, and few plug-ins. It ends when this is dropped.
pub struct RabbitMq {
    launcher: Child,
    addresses: Addresses,
    folder: TempDir,
}

impl RabbitMq {
    fn start() -> Result<Self, String> {
        let folder = tempfile::Builder::new()
            .prefix("leveret-differential-")
            .tempdir()
            .map_err(|error| format!("no folder for RabbitMQ: {error}"))?;
        let addresses = Addresses {
            amqp: free_address()?,
            management: free_address()?,
        };
        let launcher = launch(folder.path(), addresses, free_address()?.port())
            .map_err(|error| format!("RabbitMQ does not start: {error}"))?;
        let mut node = Self {
            launcher,
            addresses,
            folder,
        };
        node.wait_until_it_listens()?;
        Ok(node)
    }

    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    fn wait_until_it_listens(&mut self) -> Result<(), String> {
        let give_up = Instant::now() + Duration::from_secs(START_SECONDS);
        let Addresses { amqp, management } = self.addresses;
        while [amqp, management].iter().any(|it| TcpStream::connect(it).is_err()) {
            let ended = self.launcher.try_wait().ok().flatten();
            if ended.is_some() || Instant::now() > give_up {
                let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                return Err(format!("RabbitMQ did not start ({ended:?}):\n{log}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The Erlang node's process, which its launcher is waiting for.
    fn process_id(&self) -> Option<String> {
        let text = fs::read_to_string(self.folder.path().join("pid")).ok()?;
        Some(text.trim().to_owned())
    }

    fn signal(&self, signal: &str) {
        let process_id = self.process_id().unwrap_or_else(|| self.launcher.id().to_string());
        let _ = Command::new("kill").args([signal, &process_id]).status();
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.signal("-TERM");
        let give_up = Instant::now() + Duration::from_secs(STOP_SECONDS);
        while matches!(self.launcher.try_wait(), Ok(None)) {
            if Instant::now() > give_up {
                self.signal("-KILL");
                let _ = self.launcher.kill();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn launch(folder: &Path, addresses: Addresses, distribution_port: u16) -> std::io::Result<Child> {
    let path = |name: &str| -> PathBuf { folder.join(name) };
    fs::write(path("plugins"), PLUGINS)?;
    let Addresses { amqp, management } = addresses;
    fs::write(
        path("rabbitmq.conf"),
        format!(
            "listeners.tcp.1 = {amqp}\nmanagement.tcp.ip = {}\nmanagement.tcp.port = {}\nlog.file.level = critical\n",
            management.ip(),
            management.port()
        ),
    )?;
    let log = fs::File::create(path("log"))?;
    // Threads that wait busily would take the machine from everybody else.
    let erlang = "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none";
    Command::new(RABBITMQ_SERVER)
        .env("HOME", folder)
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", path("rabbitmq"))
        .env(
            "RABBITMQ_NODENAME",
            format!("leveret-differential-{}@localhost", std::process::id()),
        )
        .env("RABBITMQ_DIST_PORT", distribution_port.to_string())
        .env("RABBITMQ_MNESIA_BASE", folder)
        .env("RABBITMQ_LOG_BASE", folder)
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
        .env("RABBITMQ_PID_FILE", path("pid"))
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", erlang)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

/// A port of the loopback interface that nobody listens on.
fn free_address() -> Result<SocketAddr, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port: {error}"))
}
