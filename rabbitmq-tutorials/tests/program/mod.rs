//! Running the tutorial programs and reading what they print.

use leveret_integration_tests::{Broker, wait};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

/// The tutorials use fixed names, so on a broker that is not ours they run one after the other.
static EXTERNAL_BROKER: Mutex<()> = Mutex::new(());

/// A broker for one scenario: one of our own, or the one of `AMQP_URL`.
pub struct Scenario {
    url: String,
    _broker: Option<Broker>,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Scenario {
    pub fn start() -> Self {
        if let Ok(url) = std::env::var("AMQP_URL") {
            let turn = EXTERNAL_BROKER
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            return Self {
                url,
                _broker: None,
                _turn: Some(turn),
            };
        }
        let broker = Broker::start();
        Self {
            url: format!("amqp://guest:guest@{}/%2f", broker.amqp()),
            _broker: Some(broker),
            _turn: None,
        }
    }

    /// Starts a program that runs until it is stopped, and waits until it says that it is ready.
    pub fn start_receiver(&self, executable: &str, arguments: &[&str], ready: &str) -> Program {
        let program = self.spawn(executable, arguments);
        program.wait_for(|lines| lines.iter().any(|line| line == ready));
        program
    }

    /// Runs a program to its end, which must be a success, and returns what it printed.
    pub fn run(&self, executable: &str, arguments: &[&str]) -> Vec<String> {
        self.spawn(executable, arguments).finish()
    }

    /// Starts a program and returns at once.
    pub fn spawn(&self, executable: &str, arguments: &[&str]) -> Program {
        let mut process = Command::new(executable)
            .args(arguments)
            .env("AMQP_URL", &self.url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stdout, collected) = (process.stdout.take().unwrap(), Arc::clone(&lines));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                collected.lock().unwrap().push(line);
            }
        });
        Program {
            process,
            lines,
            reader: Some(reader),
        }
    }
}

/// A running tutorial program. It is killed when this is dropped.
pub struct Program {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Program {
    /// What the program has printed so far, without the line that says it is ready.
    pub fn printed(&self) -> Vec<String> {
        self.lines.lock().unwrap().iter().skip(1).cloned().collect()
    }

    /// Waits until the program has printed exactly `expected` after the line that says it is ready.
    #[track_caller]
    pub fn expect(&self, expected: &[&str]) {
        self.wait_for(|lines| lines.len() > expected.len());
        assert_eq!(self.printed(), expected);
    }

    /// Waits until `condition` holds for the printed lines.
    #[track_caller]
    pub fn wait_for(&self, condition: impl Fn(&[String]) -> bool) {
        wait::until("a program prints what it should", || {
            condition(&self.lines.lock().unwrap()).then_some(())
        });
    }

    /// Waits for the program to end successfully and returns all it has printed.
    pub fn finish(mut self) -> Vec<String> {
        let status = wait::until("a program ends", || self.process.try_wait().unwrap());
        assert!(status.success(), "{status}");
        self.reader.take().unwrap().join().unwrap();
        self.lines.lock().unwrap().clone()
    }

    /// Kills the program as `kill -9` does: it cannot say goodbye to the broker.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
