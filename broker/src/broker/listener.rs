//! The addresses that the broker listens on, and the names that RabbitMQ has for what is spoken there.

use std::fmt;
use std::net::SocketAddr;

/// An address that the broker listens on. Prints as `amqp 127.0.0.1:5672`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What it is for: amqp, management or metrics, or amqp_tls and so on.
    pub purpose: &'static str,
    /// Its address.
    pub address: SocketAddr,
}

impl Listener {
    /// The name that RabbitMQ gives to what is spoken on it.
    pub fn protocol(&self) -> &'static str {
        match self.purpose {
            "amqp_tls" => "amqp/ssl",
            "management" => "http",
            "management_tls" => "https",
            "metrics_tls" => "https/prometheus",
            "metrics" => "http/prometheus",
            other => other,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.purpose, self.address)
    }
}

/// The protocol that is asked for by one of the names that RabbitMQ knows it by.
pub fn protocol_asked(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.as_str() {
        "amqp" | "amqp091" | "amqp0.9.1" | "amqp0-9-1" => "amqp".to_owned(),
        "amqps" | "amqp/ssl" => "amqp/ssl".to_owned(),
        "prometheus" => "http/prometheus".to_owned(),
        _ => name,
    }
}
