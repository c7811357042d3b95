//! What the broker counts and how it is scraped.

mod counters;
pub mod endpoint;
pub mod process;
mod snapshot;

pub use counters::Counters;
