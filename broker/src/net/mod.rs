//! Sockets: listening, what comes before a client's first byte (PROXY protocol, TLS), and one task per connection.

pub mod connection;
pub mod entrance;
pub mod http;
pub mod inherited;
pub mod listener;
pub mod portions;
pub mod proxy;
pub mod seats;
pub mod stream;
pub mod tls;
