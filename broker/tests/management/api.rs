//! A broker with its API on a port of its own, and the few lines of HTTP that the tests speak.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use leveret::broker::Broker;
use leveret::config::Config;
use leveret::management::Door;
use leveret::net::entrance::Entrance;
use leveret::net::tls::Purpose;
use leveret_storage::{Store, StoreOptions};
use prometheus::Registry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// No answer takes longer than this.
const DEADLINE: Duration = Duration::from_secs(60);

/// A broker in memory with user guest, an administrator, and its API.
pub struct Api {
    pub broker: Arc<Broker>,
    pub address: SocketAddr,
    _runtime: Runtime,
    _stop: watch::Sender<bool>,
}

/// `Authorization` for `user:password`.
pub fn basic(login: &str) -> String {
    format!("Basic {}", BASE64.encode(login))
}

/// Status, head and body of an answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Api {
    pub fn start() -> Api {
        Api::configured(Config::default())
    }

    pub fn configured(config: Config) -> Api {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let store = Store::in_memory(StoreOptions::default());
        let broker = leveret::startup::start(config, store, &Registry::new()).unwrap();
        let (stop, stopped) = watch::channel(false);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let entrance = Entrance::new(&broker, Purpose::Http, None);
        runtime.spawn(Door::new(broker.clone()).site().serve(listener, entrance, stopped));
        Api {
            broker,
            address,
            _runtime: runtime,
            _stop: stop,
        }
    }

    /// A request of guest.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask_as(Some("guest:guest"), method, path, body)
    }

    /// A request of somebody, or of nobody.
    pub fn ask_as(&self, login: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
        self.ask_with(login.map(basic).as_deref(), method, path, body)
    }

    /// A request with this `Authorization`, or without.
    pub fn ask_with(&self, authorization: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
        let authorization = authorization.map(|given| format!("Authorization: {given}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{}Connection: close\r\nContent-Length: {}\r\n\r\n",
            self.address,
            authorization.unwrap_or_default(),
            body.len()
        );
        self.send(&[head.as_bytes(), body.as_bytes()].concat())
    }

    /// Sends bytes and reads until the broker closes.
    pub fn send(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        // The broker may answer, and close, before it has read everything.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert!(!answer.is_empty(), "no answer: {error}");
        }
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Answer {
            status: status.unwrap_or_else(|| panic!("no answer of HTTP: {answer}")),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    /// A request of guest that must have this status.
    #[track_caller]
    pub fn expect(&self, status: u16, method: &str, path: &str, body: &str) -> Answer {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        answer
    }

    /// The JSON of a GET of guest that must succeed.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.expect(200, "GET", path, "").json()
    }
}
