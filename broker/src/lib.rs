//! Leveret, an AMQP 0-9-1 message broker.

pub mod auth;
pub mod cli;
pub mod config;
pub mod ctl;
pub mod logging;
pub mod server;
