//! The harness of the integration tests: it runs the real `leveret` binary and talks to it as clients do, and as no client would.
//!
//! - [`broker`] starts, stops, kills and restarts the binary. Most tests share one: see [`shared`].
//! - [`raw`] is a small blocking AMQP client that sends whatever bytes it is told to.
//! - [`client`] holds the few lines that most lapin tests begin with.
//! - [`crash`] kills brokers and cuts the power, and knows what must be there afterwards.
//! - [`wait`] waits for conditions. Tests do not sleep.
//! - [`certificates`] and [`tokens`] are made with openssl, [`tunnel`] carries clients over TLS.
//! - [`ctl`] runs `leveret ctl`, [`scrape`] reads the metrics.
//!
//! # Environment
//!
//! | variable | meaning |
//! |---|---|
//! | `LEVERET_BIN` | the binary to test; default: `leveret` beside the test executable's folder, as cargo puts it |
//! | `LEVERET_TEST_AMQP` | `HOST:PORT` of a running broker to use instead. Tests that must start or stop one are left out |
//! | `LEVERET_TEST_METRICS` | `HOST:PORT` of that broker's metrics |
//! | `LEVERET_TEST_CTL` | program that takes the place of `leveret ctl` for that broker |

pub mod broker;
pub mod certificates;
pub mod client;
pub mod crash;
pub mod ctl;
mod log;
pub mod random;
pub mod raw;
pub mod scrape;
pub mod shared;
pub mod tokens;
pub mod tunnel;
pub mod wait;

pub use broker::Broker;
pub use shared::TestBroker;
