//! What the broker counts and how it is scraped.

mod counters;
pub mod endpoint;
mod families;
mod figures;
pub mod history;
mod objects;
pub mod past;
pub mod process;
pub mod rates;
pub mod routed;
mod scrape;
mod snapshot;
mod text;

pub use counters::{Counters, LoginAttempts};
pub use figures::{Churn, Counted, Depth, Disk, Flow, Octets, Publishes, Trend};
pub use rates::Rates;
pub use snapshot::COMPATIBLE_VERSION;
