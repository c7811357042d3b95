//! Random names: server-named queues, consumer tags, reply tokens.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Random bytes in a name; 22 characters of base64.
const RANDOM_BYTES: usize = 16;

/// Makes names that are not guessed and do not repeat.
pub struct Names {
    /// Mixed into every name, so that names stay unique should the system's randomness ever fail.
    counter: AtomicU64,
}

impl Names {
    /// A source of names.
    pub fn new() -> Names {
        Names {
            counter: AtomicU64::new(1),
        }
    }

    /// A queue name for a client that left it to the server.
    pub fn server_queue(&self) -> String {
        format!("amq.gen-{}", self.random())
    }

    /// A consumer tag for a client that left it to the server.
    pub fn consumer_tag(&self) -> String {
        format!("amq.ctag-{}", self.random())
    }

    /// The secret part of a direct reply-to name.
    pub fn reply_token(&self) -> String {
        self.random()
    }

    fn random(&self) -> String {
        let mut bytes = [0; RANDOM_BYTES];
        if let Err(error) = getrandom::fill(&mut bytes) {
            tracing::error!("no randomness from the system: {error}");
            let number = self.counter.fetch_add(1, Ordering::Relaxed);
            bytes[..8].copy_from_slice(&number.to_be_bytes());
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

impl Default for Names {
    fn default() -> Self {
        Names::new()
    }
}

/// The name of this machine, `localhost` when it has none.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "localhost".to_owned()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_prefix_and_length_of_rabbitmq() {
        let names = Names::new();
        assert_eq!(names.server_queue().len(), "amq.gen-".len() + 22);
        assert_eq!(names.consumer_tag().len(), "amq.ctag-".len() + 22);
        assert_ne!(names.reply_token(), names.reply_token());
    }
}
