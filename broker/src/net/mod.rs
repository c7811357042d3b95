//! Sockets: listening, and one task per connection.

pub mod connection;
pub mod listener;
