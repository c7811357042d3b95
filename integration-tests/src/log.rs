//! What the broker writes: kept for failed tests, and read for the addresses it listens on.

use crate::wait::DEADLINE;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Instant;

/// How many lines a failed test prints.
const TAIL_LINES: usize = 60;

/// The output of one run of the broker, both streams together.
#[derive(Default)]
pub struct Log {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    /// Address by protocol, from the lines that announce a listener.
    listeners: HashMap<String, SocketAddr>,
    open_streams: usize,
}

impl Log {
    /// Collects `stream` in a thread of its own until it ends.
    pub fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        self.state.lock().unwrap().open_streams += 1;
        let log = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                log.add(line);
            }
            log.state.lock().unwrap().open_streams -= 1;
            log.changed.notify_all();
        });
    }

    fn add(&self, line: String) {
        let mut state = self.state.lock().unwrap();
        if let Some((protocol, address)) = listener(&line) {
            state.listeners.entry(protocol).or_insert(address);
        }
        state.lines.push(line);
        self.changed.notify_all();
    }

    /// Waits until the broker has said where it listens for `protocol`. `Err` when it ended or took too long.
    pub fn wait_for_listener(&self, protocol: &str) -> Result<SocketAddr, String> {
        let give_up = Instant::now() + DEADLINE;
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(address) = state.listeners.get(protocol) {
                return Ok(*address);
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() || state.open_streams == 0 {
                return Err(format!("no line says where it listens for {protocol}"));
            }
            state = self.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.state.lock().unwrap().lines.clone()
    }

    /// The last lines, for the report of a failed test.
    pub fn tail(&self) -> String {
        let state = self.state.lock().unwrap();
        let first = state.lines.len().saturating_sub(TAIL_LINES);
        state.lines[first..].join("\n")
    }
}

/// Reads `{"message":"listening","protocol":"amqp","address":"127.0.0.1:5672"}`, with the fields at the top level or
/// under `fields`, where `tracing` puts them.
pub fn listener(line: &str) -> Option<(String, SocketAddr)> {
    let event: serde_json::Value = serde_json::from_str(line.trim()).ok()?;
    let field = |name: &str| {
        event
            .get("fields")
            .and_then(|fields| fields.get(name))
            .or_else(|| event.get(name))?
            .as_str()
    };
    if field("message")? != "listening" {
        return None;
    }
    Some((field("protocol")?.to_owned(), field("address")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listener_lines_are_read_with_nested_and_with_flat_fields() {
        let nested =
            r#"{"level":"INFO","fields":{"message":"listening","protocol":"amqp","address":"127.0.0.1:4711"}}"#;
        let flat = r#"{"message":"listening","protocol":"metrics","address":"[::1]:4712"}"#;
        assert_eq!(
            listener(nested),
            Some(("amqp".into(), "127.0.0.1:4711".parse().unwrap()))
        );
        assert_eq!(listener(flat), Some(("metrics".into(), "[::1]:4712".parse().unwrap())));
    }

    #[test]
    fn other_lines_are_not_taken_for_listeners() {
        for line in [
            "",
            "listening on 127.0.0.1:1",
            r#"{"message":"listening"}"#,
            r#"{"fields":{"message":"closed"}}"#,
        ] {
            assert_eq!(listener(line), None, "{line}");
        }
    }
}
