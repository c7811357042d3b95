//! Leveret, an AMQP 0-9-1 message broker.
//!
//! From the wire to the disk: [`net`] owns sockets and hands their bytes to a [`session`], which speaks [`protocol`] and
//! calls the operations of a [`vhost`]; a virtual host routes through `leveret-routing` into its [`queue`]s, and what is
//! durable goes to `leveret-storage`. [`protocol`], [`session`] and [`queue`] do no I/O and read no clock.
//! ARCHITECTURE.md tells the whole story.

pub mod alarms;
pub mod allocator;
pub mod auth;
pub mod broker;
pub mod cli;
pub mod clock;
pub mod config;
pub mod ctl;
pub mod definitions;
pub mod json;
pub mod limits;
pub mod logging;
pub mod logins;
pub mod management;
pub mod manual;
pub mod metrics;
pub mod names;
pub mod net;
pub mod notify;
pub mod oauth_keys;
pub mod owner;
pub mod perf;
pub mod policy;
pub mod protocol;
pub mod queue;
pub mod reload;
pub mod server;
pub mod service;
pub mod session;
pub mod settings;
pub mod startup;
pub mod timer;
pub mod upkeep;
pub mod vhost;
