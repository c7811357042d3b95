//! Consumers.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::channels;
use super::listing::{self, Row};
use super::reply::Outcome;
use super::request::Request;
use super::views::{ConsumerView, ObjectName};
use crate::broker::Broker;
use crate::json::table_json;
use crate::queue::Activity;
use crate::vhost::{QueueHandle, Vhost};

impl Row for ConsumerView {
    fn name(&self) -> &str {
        &self.consumer_tag
    }
}

/// `GET /api/consumers` and `/api/consumers/{vhost}`.
pub fn list(request: &Request) -> Outcome {
    let vhosts = request.seen_vhosts()?;
    let rows = vhosts.iter().flat_map(|vhost| of_vhost(&request.broker, vhost));
    listing::list(request, rows.collect())
}

/// All consumers of a virtual host, by queue and tag.
pub fn of_vhost(broker: &Broker, vhost: &Vhost) -> Vec<ConsumerView> {
    let queues = vhost.queues();
    of_queues(broker, &queues)
}

/// The consumers of some queues, by queue and tag.
pub fn of_queues(broker: &Broker, queues: &[Arc<QueueHandle>]) -> Vec<ConsumerView> {
    let rows = queues.iter().flat_map(|queue| of_queue(&broker.node_name, queue));
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by(|a, b| (&a.queue.name, &a.consumer_tag).cmp(&(&b.queue.name, &b.consumer_tag)));
    rows
}

/// The tag of the consumer that is active where only one may be.
pub fn single_active_tag(queue: &QueueHandle) -> Option<String> {
    let (outbox, channel, origin) = {
        let queue = queue.lock();
        let handle = &queue.single_active_consumer()?.spec.handle;
        (handle.outbox.clone(), handle.channel, handle.origin)
    };
    let outbox = outbox.lock();
    outbox.consumer_tag(channel, origin)
}

/// The consumers of a queue.
pub fn of_queue(node: &str, queue: &QueueHandle) -> Vec<ConsumerView> {
    // Copied under the queue's lock; the outboxes are looked at after it is released.
    let specs: Vec<_> = queue
        .lock()
        .consumers()
        .map(|view| {
            let (spec, handle) = (view.spec, &view.spec.handle);
            let consumer = (handle.connection.clone(), handle.channel, handle.origin);
            (
                consumer,
                spec.no_ack,
                spec.exclusive,
                spec.prefetch_count,
                (spec.priority, spec.timeout_millis),
                view.activity,
            )
        })
        .collect();
    let of_queue = queue.in_force().arguments.consumer_timeout_ms;
    let views = specs.into_iter().map(
        |(consumer, no_ack, exclusive, prefetch_count, (priority, timeout), activity)| {
            let (info, channel, origin) = consumer;
            let (consumer_tag, given) = {
                let outbox = info.outbox.lock();
                let tag = outbox.consumer_tag(channel, origin).unwrap_or_default();
                (tag, outbox.consumer_arguments(channel, origin))
            };
            let priority = (priority != 0).then(|| ("x-priority".to_owned(), priority.into()));
            let own_timeout = timeout.map(|millis| ("x-consumer-timeout".to_owned(), millis.into()));
            ConsumerView {
                consumer_tag,
                queue: ObjectName {
                    name: queue.name.to_string(),
                    vhost: queue.vhost.to_string(),
                },
                channel_details: channels::details(node, &info, channel),
                ack_required: !no_ack,
                active: activity != Activity::Waiting,
                activity_status: activity.name(),
                exclusive,
                prefetch_count,
                consumer_timeout: timeout.or(of_queue).unwrap_or(0),
                arguments: match given.map(|given| table_json(&given)) {
                    Some(Value::Object(given)) => given,
                    _ => priority.into_iter().chain(own_timeout).collect::<Map<_, _>>(),
                },
            }
        },
    );
    views.collect()
}
