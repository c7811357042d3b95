//! Running the real binary.

use crate::ctl::Ctl;
use crate::log::{Log, listener};
use crate::wait;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tempfile::TempDir;

/// A test that has not ended by then gets its broker killed, which ends every wait of its clients with an error.
const TEST_TIMEOUT: Duration = Duration::from_secs(240);

/// A `leveret serve` of our own, with its data in a temporary folder. It is killed when this is dropped.
pub struct Broker {
    process: Child,
    log: Arc<Log>,
    amqp: SocketAddr,
    metrics: SocketAddr,
    data_dir: TempDir,
    amqp_listen: String,
}

impl Broker {
    /// Starts a broker on an empty data folder.
    pub fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// As [`Broker::start`], with another address for AMQP.
    pub fn start_on(amqp_listen: &str) -> Self {
        let data_dir = tempfile::Builder::new().prefix("leveret-test-").tempdir().unwrap();
        let (process, log, amqp, metrics) = launch(data_dir.path(), amqp_listen);
        Self {
            process,
            log,
            amqp,
            metrics,
            data_dir,
            amqp_listen: amqp_listen.to_owned(),
        }
    }

    /// Starts a broker, or gives none when the tests run against an external broker, which they must not stop.
    pub fn start_unless_external() -> Option<Self> {
        if external().is_some() {
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

    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    pub fn ctl(&self) -> Ctl {
        Ctl::of_data_dir(binary(), self.data_dir.path())
    }

    pub fn process_id(&self) -> u32 {
        self.process.id()
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
        let signalled = Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status()
            .unwrap();
        assert!(signalled.success(), "kill -TERM failed");
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
        let mut process = serve_command(self.data_dir.path(), &self.amqp_listen).spawn().unwrap();
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

    /// Starts the broker again on the same data folder, after it was killed or stopped. The ports are new ones.
    pub fn start_again(&mut self) {
        assert!(!self.is_running(), "stop the broker before starting it again");
        let (process, log, amqp, metrics) = launch(self.data_dir.path(), &self.amqp_listen);
        self.process = process;
        self.log = log;
        self.amqp = amqp;
        self.metrics = metrics;
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

fn launch(data_dir: &Path, amqp_listen: &str) -> (Child, Arc<Log>, SocketAddr, SocketAddr) {
    let mut process = serve_command(data_dir, amqp_listen).spawn().unwrap_or_else(|error| {
        panic!(
            "{}: {error}; build it with `cargo build -p leveret` or set LEVERET_BIN",
            binary().display()
        )
    });
    let log = Arc::new(Log::default());
    log.follow(process.stdout.take().unwrap());
    log.follow(process.stderr.take().unwrap());
    let listeners = log
        .wait_for_listener("amqp")
        .and_then(|amqp| Ok((amqp, log.wait_for_listener("metrics")?)));
    match listeners {
        Ok((amqp, metrics)) => (process, log, amqp, metrics),
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
        .args(["--log-format", "json"])
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
    let test_executable = std::env::current_exe().unwrap();
    let target = test_executable.ancestors().nth(2).unwrap();
    target.join("leveret")
}

/// The address in `LEVERET_TEST_AMQP`.
fn external() -> Option<SocketAddr> {
    let address = std::env::var("LEVERET_TEST_AMQP").ok()?;
    Some(resolve(&address))
}

fn resolve(address: &str) -> SocketAddr {
    let mut addresses = address
        .to_socket_addrs()
        .unwrap_or_else(|error| panic!("{address}: {error}"));
    addresses.next().unwrap()
}

/// The broker for tests that neither stop nor restart it: shared with all tests that run at the same moment, started
/// with the first of them and killed with the last. Such tests therefore pick [`TestBroker::unique`] names.
pub struct TestBroker {
    amqp: SocketAddr,
    shared: Option<Arc<SharedBroker>>,
    _watchdog: Watchdog,
}

struct SharedBroker {
    broker: Mutex<Broker>,
    amqp: SocketAddr,
}

static SHARED: Mutex<Weak<SharedBroker>> = Mutex::new(Weak::new());

impl TestBroker {
    /// The shared broker, or the one of `LEVERET_TEST_AMQP`.
    pub fn get() -> Self {
        let shared = match external() {
            Some(_) => None,
            None => Some(shared_broker()),
        };
        let amqp = shared
            .as_ref()
            .map_or_else(|| external().unwrap(), |shared| shared.amqp);
        let watchdog = Watchdog::start(shared.as_ref());
        Self {
            amqp,
            shared,
            _watchdog: watchdog,
        }
    }

    pub fn amqp(&self) -> SocketAddr {
        self.amqp
    }

    /// `None` for an external broker whose metrics address is not known.
    pub fn metrics(&self) -> Option<SocketAddr> {
        match &self.shared {
            Some(shared) => Some(shared.broker.lock().unwrap().metrics()),
            None => std::env::var("LEVERET_TEST_METRICS")
                .ok()
                .map(|address| resolve(&address)),
        }
    }

    /// `None` for an external broker without `LEVERET_TEST_CTL`.
    pub fn ctl(&self) -> Option<Ctl> {
        match &self.shared {
            Some(shared) => Some(shared.broker.lock().unwrap().ctl()),
            None => std::env::var_os("LEVERET_TEST_CTL").map(|program| Ctl::of_program(program.into())),
        }
    }

    /// What the broker has written, or nothing for an external one.
    pub fn log_lines(&self) -> Option<Vec<String>> {
        let shared = self.shared.as_ref()?;
        Some(shared.broker.lock().unwrap().log_lines())
    }

    /// Whether the broker under test is not ours: its texts and limits may be another version's.
    pub fn is_external(&self) -> bool {
        self.shared.is_none()
    }

    /// A name that no other test uses, in this run or in another.
    pub fn unique(&self, name: &str) -> String {
        unique(name)
    }
}

/// A name that no other test uses, in this run or in another.
pub fn unique(name: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{SystemTime, UNIX_EPOCH};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let milliseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{milliseconds:x}-{:x}-{number}", std::process::id())
}

fn shared_broker() -> Arc<SharedBroker> {
    // A test that failed to start the broker leaves the lock poisoned; the next may try again.
    let mut current = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(shared) = current.upgrade() {
        let alive = shared.broker.lock().is_ok_and(|mut broker| broker.is_running());
        if alive {
            return shared;
        }
    }
    let broker = Broker::start();
    let shared = Arc::new(SharedBroker {
        amqp: broker.amqp(),
        broker: Mutex::new(broker),
    });
    *current = Arc::downgrade(&shared);
    shared
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        let Ok(mut broker) = shared.broker.lock() else {
            return;
        };
        if std::thread::panicking() {
            eprintln!("the shared broker wrote last:\n{}", broker.log.tail());
        } else {
            assert!(
                broker.is_running(),
                "the broker died during this test\n{}",
                broker.log.tail()
            );
        }
    }
}

/// Ends a test that hangs.
struct Watchdog {
    _cancel_on_drop: std::sync::mpsc::Sender<()>,
}

impl Watchdog {
    fn start(shared: Option<&Arc<SharedBroker>>) -> Self {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let shared = shared.map(Arc::downgrade);
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        std::thread::spawn(move || {
            use std::sync::mpsc::RecvTimeoutError::Timeout;
            if !matches!(receiver.recv_timeout(TEST_TIMEOUT), Err(Timeout)) {
                return;
            }
            eprintln!("{test} has not ended within {TEST_TIMEOUT:?}");
            match shared.map(|shared| shared.upgrade()) {
                None => std::process::abort(),
                Some(None) => {}
                Some(Some(shared)) => shared.broker.lock().unwrap().kill(),
            }
        });
        Self {
            _cancel_on_drop: sender,
        }
    }
}
