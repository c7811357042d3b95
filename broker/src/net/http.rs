//! Listeners that speak HTTP: the management API and the metrics. Everything a client can hold is bounded: connections,
//! the size of a request's head, and the time for it. What the requests mean is their router's.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::response::Response;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use super::entrance::{Entrance, Transport};
use super::portions::Portions;
use super::seats::{Seat, Seats};

/// Connections at once, of all listeners of one router together; for a further one an idle one is closed.
const HTTP_CONNECTIONS_MAX: usize = 256;
/// Most bytes of a request line with its headers.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 64;
/// Time for a whole head to arrive; a connection without a request is closed after it, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that takes nothing of its answer for so long is disconnected.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for a connection that has to make room to take the rest of its last answer.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of answers that wait for their clients; for more of them those are disconnected that have taken theirs for longest.
const ANSWERS_BYTES_MAX: usize = 128 << 20;
/// Pause after a failed accept, most often for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address that a request came from, among the extensions of the request.
#[derive(Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What the listeners of one router share.
#[derive(Clone)]
pub struct Site {
    router: Router,
    seats: Arc<Seats>,
}

impl Site {
    /// A router for any number of listeners.
    pub fn new(router: Router) -> Site {
        Site {
            router,
            seats: Seats::new(HTTP_CONNECTIONS_MAX, ANSWERS_BYTES_MAX),
        }
    }

    /// Answers requests until `stop` changes; those under way are finished.
    pub async fn serve(self, listener: TcpListener, entrance: Entrance, mut stop: watch::Receiver<bool>) {
        loop {
            let seat = tokio::select! {
                seat = self.seats.take() => seat,
                _ = stop.changed() => return,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = stop.changed() => return,
            };
            match accepted {
                Ok((socket, peer)) => {
                    let (router, entrance, stop) = (self.router.clone(), entrance.clone(), stop.clone());
                    tokio::spawn(async move {
                        come_in(socket, peer, &entrance, router, seat, stop).await;
                    });
                }
                Err(error) => {
                    tracing::error!("cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn come_in(
    socket: TcpStream,
    peer: SocketAddr,
    entrance: &Entrance,
    router: Router,
    seat: Arc<Seat>,
    mut stop: watch::Receiver<bool>,
) {
    // The kernel gives up on a client that does not read; nothing here has to watch it.
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&socket, STALL_TIMEOUT.as_millis() as u32) {
        tracing::debug!(%peer, "cannot set TCP_USER_TIMEOUT: {error}");
    }
    let arrived = tokio::select! {
        arrived = entrance.admit(socket, peer) => arrived,
        () = seat.is_needed() => None,
        _ = stop.changed() => None,
    };
    let Some(arrived) = arrived else { return };
    match arrived.stream {
        Transport::Plain(socket) => answer(socket, arrived.peer, router, seat, stop).await,
        Transport::Tls(stream) => answer(stream, arrived.peer, router, seat, stop).await,
    }
}

async fn answer<S>(stream: S, peer: SocketAddr, router: Router, seat: Arc<Seat>, mut stop: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = TowerToHyperService::new(router.layer(Extension(Peer(peer))));
    let service = service_fn(|request| {
        let work = seat.work();
        let answer = router.call(request);
        let seat = &seat;
        async move {
            let response = answer.await?;
            let held = seat.hold(length(&response));
            drop(work);
            Ok::<_, Infallible>(response.map(|body| Portions::of(body, held)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = seat.is_needed() => {
            connection.as_mut().graceful_shutdown();
            loop {
                match timeout(LEAVE_TIMEOUT, connection.as_mut()).await {
                    Ok(ended) => break ended,
                    Err(_) if seat.works() => {}
                    Err(_) => break Ok(()),
                }
            }
        }
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, "a connection over HTTP ended: {error}");
    }
}

/// Bytes of an answer's body; whoever answers here has made it whole.
fn length(response: &Response) -> usize {
    let length = response.body().size_hint().lower();
    usize::try_from(length).unwrap_or(usize::MAX)
}
