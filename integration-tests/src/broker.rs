//! Running the real binary.

use crate::ctl::Ctl;
use crate::log::{Log, listener};
use crate::wait;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use tempfile::TempDir;

/// A `leveret serve` of our own, with its data in a temporary folder. It is killed when this is dropped.
pub struct Broker {
    process: Child,
    log: Arc<Log>,
    amqp: SocketAddr,
    metrics: SocketAddr,
    management: SocketAddr,
    data_dir: PathBuf,
    _temporary: Option<TempDir>,
    settings: Settings,
}

/// What a broker is started with, each time.
struct Settings {
    amqp_listen: String,
    environment: Vec<(String, String)>,
}

impl Broker {
    /// Starts a broker on an empty data folder.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// As [`Broker::start_unless_external`], with keys of the configuration set, by the names they have in the
    /// environment without `LEVERET_`.
    pub fn start_configured(settings: &[(&str, &str)]) -> Option<Self> {
        if crate::shared::external().is_some() {
            eprintln!("left out: this test configures its own broker");
            return None;
        }
        Some(Self::start_as("127.0.0.1:0", settings))
    }

    /// As [`Broker::start`], with another address for AMQP.
    pub fn start_on(amqp_listen: &str) -> Self {
        Self::start_as(amqp_listen, &[])
    }

    /// As [`Broker::start`], on a folder of the caller, which may have data.
    pub fn start_in(data_dir: &Path) -> Self {
        Self::start_with(data_dir.to_owned(), None, "127.0.0.1:0", &[])
    }

    /// As [`Broker::start_in`], with keys of the configuration as for [`Broker::start_configured`].
    pub fn start_in_with(data_dir: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_with(data_dir.to_owned(), None, "127.0.0.1:0", settings)
    }

    fn start_as(amqp_listen: &str, settings: &[(&str, &str)]) -> Self {
        let data_dir = tempfile::Builder::new().prefix("leveret-test-").tempdir().unwrap();
        Self::start_with(data_dir.path().to_owned(), Some(data_dir), amqp_listen, settings)
    }

    fn start_with(data_dir: PathBuf, temporary: Option<TempDir>, amqp_listen: &str, settings: &[(&str, &str)]) -> Self {
        let settings = Settings {
            amqp_listen: amqp_listen.to_owned(),
            environment: settings
                .iter()
                .map(|(key, value)| (format!("LEVERET_{key}"), (*value).to_owned()))
                .collect(),
        };
        let (process, log, [amqp, metrics, management]) = launch(&data_dir, &settings);
        Self {
            process,
            log,
            amqp,
            metrics,
            management,
            data_dir,
            _temporary: temporary,
            settings,
        }
    }

    /// Starts a broker, or gives none when the tests run against an external broker, which they must not stop.
    pub fn start_unless_external() -> Option<Self> {
        if crate::shared::external().is_some() {
            eprintln!("left out: this test starts and stops its own broker");
            return None;
        }
        Some(Self::start())
    }

    pub fn amqp(&self) -> SocketAddr {
        self.amqp
    }

    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// Where the management API answers.
    pub fn management(&self) -> SocketAddr {
        self.management
    }

    /// Where it listens for what the log calls `protocol`, such as `amqp_tls`.
    pub fn listener(&self, protocol: &str) -> SocketAddr {
        self.log
            .wait_for_listener(protocol)
            .unwrap_or_else(|reason| panic!("{reason}\n{}", self.log.tail()))
    }

    /// Waits for a line of the log with this text.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        wait::until(&format!("the log says {text}"), || {
            let lines = self.log.lines();
            lines.iter().any(|line| line.contains(text)).then_some(())
        });
    }

    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    pub fn ctl(&self) -> Ctl {
        Ctl::of_data_dir(binary(), &self.data_dir)
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// The last of what the broker has written in its current run.
    pub fn log_tail(&self) -> String {
        self.log.tail()
    }

    /// Everything the broker has written in its current run.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Whether the process still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Kills the broker with SIGKILL: it gets no chance to tidy up.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Sends SIGTERM and returns at once.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends SIGHUP and returns at once.
    pub fn hang_up(&self) {
        self.signal("-HUP");
    }

    /// Sends SIGKILL and returns at once; [`Broker::kill`] waits for the end.
    pub fn send_kill(&self) {
        self.signal("-KILL");
    }

    fn signal(&self, signal: &str) {
        let signalled = Command::new("kill")
            .args([signal, &self.process.id().to_string()])
            .status()
            .unwrap();
        assert!(signalled.success(), "kill {signal} failed");
    }

    /// Waits for the broker to end by itself.
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait::until("the broker ends", || self.process.try_wait().unwrap())
    }

    /// Stops the broker in an orderly way and insists that it reports success.
    pub fn stop(&mut self) {
        self.terminate();
        let status = self.wait_for_exit();
        assert!(status.success(), "the broker ended with {status}\n{}", self.log.tail());
    }

    /// Starts the broker again after it was killed, and kills it as soon as it has written `lines` lines, at the latest
    /// when it listens.
    pub fn kill_while_starting(&self, lines: usize) {
        let mut process = serve_command(&self.data_dir, &self.settings.amqp_listen)
            .envs(self.settings.environment.iter().cloned())
            .spawn()
            .unwrap();
        let log = Arc::new(Log::default());
        log.follow(process.stdout.take().unwrap());
        log.follow(process.stderr.take().unwrap());
        wait::until("the broker starts", || {
            let written = log.lines();
            let listens = written.iter().any(|line| listener(line).is_some());
            (written.len() >= lines || listens).then_some(())
        });
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sets a key of the configuration, by its name in the environment without `LEVERET_`, from the next start on.
    pub fn set(&mut self, key: &str, value: &str) {
        let key = format!("LEVERET_{key}");
        self.settings.environment.retain(|(set, _)| *set != key);
        self.settings.environment.push((key, value.to_owned()));
    }

    /// Whether the store writes chunks anew and frees disk space all the time, from the next start on. Only a debug build does.
    pub fn set_restless(&mut self, restless: bool) {
        let name = "TEST_LEVERET_RESTLESS_STORE";
        self.settings.environment.retain(|(set, _)| set != name);
        if restless {
            self.settings.environment.push((name.to_owned(), "1".to_owned()));
        }
    }

    /// Starts the broker again on the same data folder, after it was killed or stopped. The ports are new ones.
    pub fn start_again(&mut self) {
        assert!(!self.is_running(), "stop the broker before starting it again");
        let (process, log, [amqp, metrics, management]) = launch(&self.data_dir, &self.settings);
        self.process = process;
        self.log = log;
        self.amqp = amqp;
        self.metrics = metrics;
        self.management = management;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let ended_before = self.process.try_wait();
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!(
                "broker (ended before the test: {ended_before:?}) wrote:\n{}",
                self.log.tail()
            );
        }
    }
}

fn launch(data_dir: &Path, settings: &Settings) -> (Child, Arc<Log>, [SocketAddr; 3]) {
    let mut command = serve_command(data_dir, &settings.amqp_listen);
    command.envs(settings.environment.iter().cloned());
    let mut process = command.spawn().unwrap_or_else(|error| {
        panic!(
            "{}: {error}; build it with `cargo build -p leveret` or set LEVERET_BIN",
            binary().display()
        )
    });
    let log = Arc::new(Log::default());
    log.follow(process.stdout.take().unwrap());
    log.follow(process.stderr.take().unwrap());
    let listeners = log.wait_for_listener("amqp").and_then(|amqp| {
        Ok([
            amqp,
            log.wait_for_listener("metrics")?,
            log.wait_for_listener("management")?,
        ])
    });
    match listeners {
        Ok(listeners) => (process, log, listeners),
        Err(reason) => {
            let _ = process.kill();
            let status = process.wait();
            panic!("the broker did not start: {reason} ({status:?})\n{}", log.tail());
        }
    }
}

/// `leveret serve`, not yet started, its output piped.
pub fn serve_command(data_dir: &Path, amqp_listen: &str) -> Command {
    let mut command = Command::new(binary());
    remove_settings(&mut command);
    command
        .arg("serve")
        .arg("--data-dir")
        .arg(data_dir)
        .args(["--amqp-listen", amqp_listen])
        .args(["--metrics-listen", "127.0.0.1:0"])
        .args(["--management-listen", "127.0.0.1:0"])
        .args(["--log-format", "json"])
        // How full the machine's disk is by now concerns no test that does not say so.
        .env("LEVERET_DISK_FREE_LIMIT", "64MiB")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Takes the settings of whoever runs the tests out of the environment of `command`.
pub fn remove_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("LEVERET_") || name_text.starts_with("RABBITMQ_") {
            command.env_remove(&name);
        }
    }
}

/// The binary under test: `LEVERET_BIN`, else the one that cargo built beside this test executable.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("LEVERET_BIN") {
        return path.into();
    }
    let executable = std::env::current_exe().unwrap();
    let folder = executable.parent().unwrap();
    // Tests lie one folder deeper than programs.
    let target = if folder.ends_with("deps") {
        folder.parent().unwrap()
    } else {
        folder
    };
    target.join("leveret")
}
