//! Where the deliveries of a channel come from, and how many there were.

use std::sync::Arc;

use amq_protocol::types::FieldTable;

use crate::metrics::Flow;
use crate::protocol::field_table::{decode_table, encode_table};
use crate::queue::ConsumerKey;
use crate::vhost::QueueHandle;

/// Longer arguments of a consumer are not kept: listings show only those that mean something.
const CONSUMER_ARGUMENTS_BYTES_MAX: usize = 4096;

/// A consumer, or `basic.get` on one queue.
pub struct Origin {
    /// The queue that owns the message until it is settled.
    pub queue: Arc<QueueHandle>,
    /// The consumer there; for `basic.get` the key of no consumer.
    pub key: Option<ConsumerKey>,
    /// Bytes of the consumer tag, empty for `basic.get`.
    pub consumer_tag: Box<[u8]>,
    /// What basic.consume gave as arguments, encoded; none if there were none, or too many to be kept.
    arguments: Option<Box<[u8]>>,
    /// Is this a consumer that has not been cancelled?
    pub consuming: bool,
    /// Deliveries not yet settled.
    pub outstanding: u32,
    /// What it was given to be acknowledged, and what without.
    pub delivered: u64,
    pub delivered_no_ack: u64,
    /// What of both was given again.
    pub redelivered: u64,
    /// What it has acknowledged.
    pub acked: u64,
}

impl Origin {
    /// `basic.get` on a queue.
    pub fn get(queue: &Arc<QueueHandle>) -> Origin {
        Origin {
            queue: queue.clone(),
            key: None,
            consumer_tag: Box::default(),
            arguments: None,
            consuming: false,
            outstanding: 0,
            delivered: 0,
            delivered_no_ack: 0,
            redelivered: 0,
            acked: 0,
        }
    }

    /// A consumer whose key in its queue is not known yet.
    pub fn consumer(queue: &Arc<QueueHandle>, consumer_tag: &[u8], arguments: &FieldTable) -> Origin {
        Origin {
            consumer_tag: consumer_tag.into(),
            arguments: kept(arguments),
            consuming: true,
            ..Origin::get(queue)
        }
    }

    /// The tag as a text.
    pub fn tag(&self) -> Option<String> {
        let (_length, tag) = self.consumer_tag.split_first()?;
        Some(String::from_utf8_lossy(tag).into_owned())
    }

    /// The arguments, as far as they are kept.
    pub fn arguments(&self) -> Option<FieldTable> {
        decode_table(self.arguments.as_deref()?).ok()
    }

    /// What went this way; gets are counted elsewhere, but their acknowledgements are not.
    pub fn flow(&self) -> Flow<u64> {
        let is_get = self.consumer_tag.is_empty();
        Flow {
            deliver: if is_get { 0 } else { self.delivered },
            deliver_no_ack: self.delivered_no_ack,
            redeliver: self.redelivered,
            ack: self.acked,
            ..Flow::default()
        }
    }
}

fn kept(arguments: &FieldTable) -> Option<Box<[u8]>> {
    if arguments.inner().is_empty() {
        return None;
    }
    let mut encoded = Vec::new();
    encode_table(arguments, &mut encoded);
    (encoded.len() <= CONSUMER_ARGUMENTS_BYTES_MAX).then(|| encoded.into())
}
