//! What the broker counts and how it is scraped.

mod counters;
pub mod endpoint;
pub mod process;
pub mod rates;
mod snapshot;

pub use counters::Counters;
pub use rates::Rates;
pub use snapshot::COMPATIBLE_VERSION;
