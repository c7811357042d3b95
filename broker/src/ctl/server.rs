//! The broker's side of the socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use super::error::{CtlError, ErrorKind};
use super::protocol::{MAX_REQUEST_BYTES, Request, Response, parse_request, to_line};

/// Clients served at once; a further one waits.
const MAX_CLIENTS: usize = 32;

/// A client that neither asks nor reads for this long is disconnected.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after a failed accept, for example when file descriptors have run out.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Only the user that runs the broker (and root) may connect.
const SOCKET_MODE: u32 = 0o600;

const ROOT_UID: u32 = 0;

/// What the broker does with a request. Called on a thread that may block, as when it waits for the store.
pub trait CtlHandler: Send + Sync + 'static {
    fn handle(&self, request: Request) -> Response;
}

/// Why there can be no socket for `leveret ctl`. `Display` reads after "cannot".
#[derive(Debug, Error)]
pub enum CtlBindError {
    #[error("listen on {}: another broker answers there; stop it or choose another data directory", path.display())]
    InUse { path: PathBuf },
    #[error("listen on {}: {reason}; set ctl_socket to a path that is short and may be written", path.display())]
    Failed { path: PathBuf, reason: io::Error },
}

/// A socket that waits for `leveret ctl`. The file is removed when this is dropped.
#[derive(Debug)]
pub struct CtlServer {
    listener: UnixListener,
    path: PathBuf,
    owner_uid: u32,
}

impl CtlServer {
    /// Makes the socket, with mode 0600. Removes one that a killed broker left behind. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, CtlBindError> {
        remove_stale_socket(path)?;
        let failed = |reason| CtlBindError::Failed {
            path: path.to_owned(),
            reason,
        };
        let listener = UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        let owner_uid = std::fs::metadata(path).map_err(failed)?.uid();
        Ok(Self {
            listener,
            path: path.to_owned(),
            owner_uid,
        })
    }

    /// Serves clients until the future is dropped, which disconnects them.
    pub async fn serve<H: CtlHandler>(self, handler: Arc<H>) {
        let mut clients = JoinSet::new();
        loop {
            while clients.try_join_next().is_some() {}
            if clients.len() >= MAX_CLIENTS {
                clients.join_next().await;
            }
            match self.listener.accept().await {
                Ok((stream, _)) => match self.allowed_uid(&stream) {
                    Some(uid) => {
                        let handler = Arc::clone(&handler);
                        clients.spawn(async move {
                            if let Err(error) = serve_client(stream, uid, handler).await {
                                tracing::debug!(%error, "ctl client lost");
                            }
                        });
                    }
                    None => {
                        tracing::warn!(path = %self.path.display(), "another user tried to connect to the ctl socket");
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the ctl socket");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    /// Which user of the system connects, if it may. The mode of the file does the same, but not on every file system and not
    /// before it is set.
    fn allowed_uid(&self, stream: &UnixStream) -> Option<u32> {
        let uid = stream.peer_cred().ok()?.uid();
        (uid == self.owner_uid || uid == ROOT_UID).then_some(uid)
    }
}

impl Drop for CtlServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn remove_stale_socket(path: &Path) -> Result<(), CtlBindError> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(CtlBindError::InUse { path: path.to_owned() });
    }
    std::fs::remove_file(path).map_err(|reason| CtlBindError::Failed {
        path: path.to_owned(),
        reason,
    })
}

/// Answers one request after the other until the client goes.
async fn serve_client<H: CtlHandler>(stream: UnixStream, uid: u32, handler: Arc<H>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut bounded = (&mut read).take(MAX_REQUEST_BYTES as u64);
        timeout(IDLE_TIMEOUT, bounded.read_until(b'\n', &mut line)).await??;
        if line.is_empty() {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        let response = if whole {
            respond(&line, uid, &handler).await
        } else {
            Response::Error(request_too_long())
        };
        let bytes = to_line(&response)
            .or_else(|error| to_line(&Response::Error(error)))
            .map_err(io::Error::other)?;
        timeout(IDLE_TIMEOUT, write.write_all(&bytes)).await??;
        if !whole {
            return Ok(());
        }
    }
}

async fn respond<H: CtlHandler>(line: &[u8], uid: u32, handler: &Arc<H>) -> Response {
    let request = match parse_request(line) {
        Ok(request) => request,
        Err(error) => return Response::Error(error),
    };
    let change = (!request.only_asks()).then(|| request.described());
    let handler = Arc::clone(handler);
    let response = spawn_blocking(move || handler.handle(request)).await;
    let response = response.unwrap_or_else(|_| {
        let text = "the command failed; see the broker's log";
        Response::Error(CtlError::new(ErrorKind::Internal, text))
    });
    if let Some(change) = change {
        match &response {
            Response::Ok(_) => tracing::info!(uid, "ctl: {change}"),
            Response::Error(error) => tracing::info!(uid, "ctl: {change}: {error}"),
        }
    }
    response
}

fn request_too_long() -> CtlError {
    CtlError::new(
        ErrorKind::Invalid,
        format!("a request must be one line of at most {MAX_REQUEST_BYTES} bytes"),
    )
}
