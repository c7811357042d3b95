//! Whether clients are served: a broker may be told to serve none for a while.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::broker::Broker;
use crate::protocol::error::AmqpError;
use crate::protocol::reply_code::ReplyCode;

/// RabbitMQ's words.
const MAINTENANCE: &str = "Node was put into maintenance mode";

/// Whether the broker is drained.
#[derive(Default)]
pub struct Drained(AtomicBool);

impl Broker {
    /// Takes the broker out of service: its clients are told goodbye, and no others are let in. Management goes on.
    pub fn drain(&self) -> usize {
        self.drained.0.store(true, Ordering::SeqCst);
        let closed = self.close_connections(MAINTENANCE, |_| true);
        tracing::warn!(
            closed,
            "drained: no clients are served until 'leveret ctl undrain' or a restart"
        );
        closed
    }

    /// Takes it back into service.
    pub fn undrain(&self) {
        self.drained.0.store(false, Ordering::SeqCst);
        tracing::info!("clients are served again");
    }

    /// Is the broker out of service?
    pub fn is_drained(&self) -> bool {
        self.drained.0.load(Ordering::SeqCst)
    }

    /// Refuses who was on its way in when the broker was drained.
    pub fn check_in_service(&self) -> Result<(), AmqpError> {
        if self.is_drained() {
            return Err(AmqpError::new(ReplyCode::ConnectionForced, MAINTENANCE));
        }
        Ok(())
    }

    /// Why clients are not served, if they are not. An alarm is no reason, for consumers go on.
    pub fn out_of_service(&self) -> Option<&'static str> {
        if let Some(error) = self.store.failed() {
            tracing::debug!("not ready: storage has failed: {error}");
            return Some("storage has failed");
        }
        if self.stopping.load(Ordering::Relaxed) {
            return Some("the broker is stopping");
        }
        self.is_drained().then_some("the broker is drained")
    }
}
