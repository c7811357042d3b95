//! The body of an answer, handed to its connection in portions: what a slow client has not taken is known to be held.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use super::seats::Held;

/// Bytes of a portion. The next is asked for when most of this one is in the socket.
const PORTION_BYTES: usize = 64 << 10;

/// A body, and that it is held.
pub struct Portions {
    body: Body,
    rest: Bytes,
    _held: Held,
}

impl Portions {
    /// Of a whole body.
    pub fn of(body: Body, held: Held) -> Portions {
        Portions {
            body,
            rest: Bytes::new(),
            _held: held,
        }
    }

    fn portion(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(PORTION_BYTES);
        Frame::data(self.rest.split_to(length))
    }
}

impl HttpBody for Portions {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.portion())));
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    self.portion()
                }
                Err(trailers) => trailers,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        match body.exact() {
            Some(body) => SizeHint::with_exact(rest + body),
            None => {
                let mut hint = SizeHint::new();
                hint.set_lower(rest + body.lower());
                hint
            }
        }
    }
}
