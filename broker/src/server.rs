//! The broker: everything put together.

use thiserror::Error;

use crate::config::Config;

/// Why the broker could not start or had to stop. `Display` reads after "cannot".
#[derive(Debug, Error)]
pub enum StartError {
    #[error("wait for signals: {0}")]
    Signals(std::io::Error),
}

/// Runs the broker until it is told to stop.
pub async fn run(config: Config) -> Result<(), StartError> {
    tracing::info!(data_dir = %config.data_dir.display(), "started");
    tokio::signal::ctrl_c().await.map_err(StartError::Signals)
}
