//! One broker for all tests that run at the same moment.

use crate::broker::Broker;
use crate::ctl::Ctl;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// A test that has not ended by then gets its broker killed, which ends every wait of its clients with an error.
const TEST_TIMEOUT: Duration = Duration::from_secs(240);

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
            eprintln!("the shared broker wrote last:\n{}", broker.log_tail());
        } else {
            assert!(
                broker.is_running(),
                "the broker died during this test\n{}",
                broker.log_tail()
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

/// The address in `LEVERET_TEST_AMQP`.
pub fn external() -> Option<SocketAddr> {
    let address = std::env::var("LEVERET_TEST_AMQP").ok()?;
    Some(resolve(&address))
}

fn resolve(address: &str) -> SocketAddr {
    let mut addresses = address
        .to_socket_addrs()
        .unwrap_or_else(|error| panic!("{address}: {error}"));
    addresses.next().unwrap()
}
