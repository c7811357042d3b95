//! The other side of the socket: `leveret ctl` itself. Blocking, because it does one thing at a time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::error::CtlError;
use super::place::Place;
use super::protocol::{MAX_RESPONSE_BYTES, Reply, Request, Response, to_line};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two attempts to reach a broker that is starting.
const STARTUP_POLL: Duration = Duration::from_millis(50);

/// Why a command did not succeed. `Display` is one line.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error(
        "cannot reach the broker: no broker is running with {place}; start one with 'leveret serve', or name its --data-dir"
    )]
    NotRunning { place: Place },
    #[error("cannot reach the broker with {place}: {reason}; run this as the user that runs the broker")]
    NotAllowed { place: Place, reason: io::Error },
    #[error("cannot reach the broker with {place}: {reason}")]
    Lost { place: Place, reason: io::Error },
    #[error("cannot understand the broker's answer: {0}; use the leveret program that runs the broker")]
    BadAnswer(String),
    #[error("{0}")]
    Refused(#[from] CtlError),
}

/// A connection to a running broker.
#[derive(Debug)]
pub struct CtlClient {
    stream: BufReader<UnixStream>,
    place: Place,
}

impl CtlClient {
    /// Connects to the broker of this place.
    pub fn connect(place: Place) -> Result<Self, ClientError> {
        let place = place.found();
        let stream = match open(&place.socket()) {
            Ok(stream) => stream,
            Err(reason) => return Err(unreachable_broker(place, reason)),
        };
        Ok(Self {
            stream: BufReader::new(stream),
            place,
        })
    }

    /// For a command that may take as long as it likes.
    pub fn with_patience(self) -> Result<Self, ClientError> {
        self.waiting(None)
    }

    /// Waits so long for answers, or without end.
    pub fn waiting(self, timeout: Option<Duration>) -> Result<Self, ClientError> {
        match self.stream.get_ref().set_read_timeout(timeout) {
            Ok(()) => Ok(self),
            Err(reason) => Err(ClientError::Lost {
                place: self.place,
                reason,
            }),
        }
    }

    /// As [`CtlClient::connect`], but waits for a broker that is starting, no longer than the timeout.
    pub fn connect_within(place: Place, patience: Duration) -> Result<Self, ClientError> {
        let deadline = Instant::now() + patience;
        loop {
            match Self::connect(place.clone()) {
                Err(ClientError::NotRunning { .. }) if Instant::now() < deadline => std::thread::sleep(STARTUP_POLL),
                result => return result,
            }
        }
    }

    /// Sends a request and waits for the answer.
    pub fn call(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let line = to_line(request)?;
        let answer = self.exchange(&line).map_err(|reason| ClientError::Lost {
            place: self.place.clone(),
            reason,
        })?;
        match serde_json::from_slice(&answer) {
            Ok(Response::Ok(reply)) => Ok(reply),
            Ok(Response::Error(error)) => Err(ClientError::Refused(error)),
            Err(error) => Err(ClientError::BadAnswer(error.to_string())),
        }
    }

    fn exchange(&mut self, line: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.get_mut().write_all(line)?;
        let mut answer = Vec::new();
        self.stream
            .by_ref()
            .take(MAX_RESPONSE_BYTES)
            .read_until(b'\n', &mut answer)?;
        if answer.last() == Some(&b'\n') {
            Ok(answer)
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

fn open(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

fn unreachable_broker(place: Place, reason: io::Error) -> ClientError {
    match reason.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { place },
        io::ErrorKind::PermissionDenied => ClientError::NotAllowed { place, reason },
        _ => ClientError::Lost { place, reason },
    }
}
