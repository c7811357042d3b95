//! The management API over HTTP: what RabbitMQ's tools, probes and client libraries ask for, under RabbitMQ's paths.
//!
//! It is a door and nothing more: a handler takes a request apart, calls the operation that AMQP calls too, and puts the
//! outcome into JSON. [`routes`] is the table of all resources with the rights they need; a request whose caller may not make
//! it never reaches a handler. Handlers block on locks and disk, so they run beside the threads that serve AMQP.

mod access;
mod bindings;
mod channels;
mod connections;
mod consumers;
mod definitions;
mod exchanges;
mod health;
mod large_bodies;
mod limits;
mod listing;
mod logins;
mod memory;
mod messages;
mod openapi;
mod overview;
mod parameters;
mod past;
mod policies;
mod queue_view;
mod queues;
mod reply;
mod request;
mod route;
mod routes;
mod server;
#[cfg(test)]
mod testing;
mod topic_permissions;
mod ui;
mod users;
mod vhosts;
mod views;

pub use access::{Rights, require_monitoring};
pub use route::{Route, Verb, VhostRule};
pub use routes::ROUTES;
pub use server::Door;
