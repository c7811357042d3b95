//! SIGHUP: what can be read again while the broker runs is read again.

use std::sync::Arc;

use tokio::signal::unix::Signal;

use crate::broker::Broker;
use crate::net::tls;

/// Reads certificates again at every SIGHUP.
pub async fn at_hangup(mut hangup: Signal, broker: Arc<Broker>) {
    while hangup.recv().await.is_some() {
        tracing::info!("SIGHUP: reading again what can be read again");
        if let Some(tls) = broker.tls.get() {
            tls::reload_and_tell(tls, None).await;
        }
    }
}
