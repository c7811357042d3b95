//! Queues: lists, one queue, declare, delete, purge.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::channels;
use super::connections::connection_details;
use super::consumers;
use super::listing::{self, Row};
use super::past::{Ranges, WithPast};
use super::queue_view::{QueueFigures, QueueTotals, QueueView};
use super::reply::{ApiError, Outcome, Reply};
use super::request::Request;
use super::views::{
    ConnectionDetails, ConsumerView, DepthView, IncomingView, MessageStats, ObjectName, PublishCount,
    QueueDeliveriesView,
};
use crate::json::table_json;
use crate::metrics::past;
use crate::metrics::rates::QueueRates;
use crate::metrics::routed::routed;
use crate::metrics::{Depth, Disk, Flow};
use crate::policy::{Applied, Policy};
use crate::vhost::queues::{DeleteConditions, QueueDeclaration};
use crate::vhost::{QueueHandle, QueueMoment};

/// What a list tells of its queues, each beside what the one before it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    /// How they were declared.
    Definition,
    /// How many messages they have.
    Totals,
    /// All of it.
    Figures,
}

impl Told {
    /// Totals have to be asked for, as in RabbitMQ, and only who wants no figures can.
    fn of(request: &Request) -> Told {
        match (request.without_figures(), request.query_flag("enable_queue_totals")) {
            (false, _) => Told::Figures,
            (true, true) => Told::Totals,
            (true, false) => Told::Definition,
        }
    }
}

/// A queue at one moment. Its lock is held while its counts are copied, and not while they are written as JSON.
pub struct QueueRow {
    told: Told,
    queue: Arc<QueueHandle>,
    node: Arc<str>,
    moment: QueueMoment,
    rates: QueueRates,
    policies: Applied,
    owner: Option<ConnectionDetails>,
    single_active_consumer_tag: Option<String>,
    consumers: Option<Vec<ConsumerView>>,
    deliveries: Option<Vec<QueueDeliveriesView>>,
    incoming: Option<Vec<IncomingView>>,
}

impl QueueRow {
    fn view(&self) -> QueueView<'_> {
        let queue = &self.queue;
        let properties = &queue.properties;
        QueueView {
            name: &queue.name,
            vhost: &queue.vhost,
            node: &self.node,
            kind: properties.arguments.queue_type.name(),
            state: "running",
            durable: properties.durable,
            auto_delete: properties.auto_delete,
            exclusive: properties.exclusive_owner.is_some(),
            arguments: table_json(queue.arguments().table()),
            policy: name_of(&self.policies.policy),
            operator_policy: name_of(&self.policies.operator_policy),
            effective_policy_definition: self.policies.definition(),
            totals: (self.told == Told::Totals).then(|| self.totals_view()),
            figures: (self.told == Told::Figures).then(|| self.figures()),
        }
    }

    fn totals_view(&self) -> QueueTotals {
        QueueTotals {
            messages: self.moment.counts.ready + self.moment.counts.unacked,
            messages_ready: self.moment.counts.ready,
            messages_unacknowledged: self.moment.counts.unacked,
        }
    }

    fn figures(&self) -> QueueFigures<'_> {
        let (counts, whereabouts) = (&self.moment.counts, &self.moment.whereabouts);
        let capacity = f64::from(u8::from(counts.consumers_keep_up()));
        QueueFigures {
            consumers: counts.consumers,
            consumer_capacity: capacity,
            consumer_utilisation: capacity,
            exclusive_consumer_tag: None,
            single_active_consumer_tag: self.single_active_consumer_tag.as_deref(),
            owner_pid_details: self.owner.as_ref(),
            depth: DepthView::new(&Depth::of_queue(counts), &self.rates.depth),
            head_message_timestamp: self.moment.head_timestamp(),
            memory: counts.memory_bytes,
            message_bytes: counts.ready_bytes + counts.unacked_bytes,
            message_bytes_paged_out: whereabouts.paged_out.bytes,
            message_bytes_persistent: whereabouts.persistent.bytes,
            message_bytes_ram: whereabouts.in_memory().bytes,
            message_bytes_ready: counts.ready_bytes,
            message_bytes_unacknowledged: counts.unacked_bytes,
            messages_paged_out: whereabouts.paged_out.messages,
            messages_persistent: whereabouts.persistent.messages,
            messages_ram: whereabouts.in_memory().messages,
            messages_ready_ram: whereabouts.ready_in_memory.messages,
            messages_unacknowledged_ram: whereabouts.unacked_in_memory.messages,
            message_stats: self.message_stats(),
            consumer_details: self.consumers.as_deref(),
            deliveries: self.deliveries.as_deref(),
            incoming: self.incoming.as_deref(),
        }
    }

    fn message_stats(&self) -> Option<MessageStats> {
        let totals = &self.moment.totals;
        let stats = MessageStats::if_any(&Flow::of_queue(totals), &self.rates.flow)?;
        Some(stats.with_disk(&Disk::of_queue(totals), &self.rates.disk))
    }

    /// A number, if what is told goes so far.
    fn figure(&self, least: Told, number: impl Into<Value>) -> Option<Value> {
        (self.told >= least).then(|| number.into())
    }
}

impl Serialize for QueueRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

impl Row for QueueRow {
    fn name(&self) -> &str {
        &self.queue.name
    }

    fn column(&self, path: &str) -> Option<Value> {
        let (properties, counts) = (&self.queue.properties, &self.moment.counts);
        Some(match path {
            "name" => (*self.queue.name).into(),
            "vhost" => (*self.queue.vhost).into(),
            "node" => (*self.node).into(),
            "type" => properties.arguments.queue_type.name().into(),
            "state" => "running".into(),
            "durable" => properties.durable.into(),
            "auto_delete" => properties.auto_delete.into(),
            "exclusive" => properties.exclusive_owner.is_some().into(),
            "arguments" => table_json(self.queue.arguments().table()),
            "consumers" => return self.figure(Told::Figures, counts.consumers),
            "messages" => return self.figure(Told::Totals, counts.ready + counts.unacked),
            "messages_ready" => return self.figure(Told::Totals, counts.ready),
            "messages_unacknowledged" => return self.figure(Told::Totals, counts.unacked),
            "message_bytes" => return self.figure(Told::Figures, counts.ready_bytes + counts.unacked_bytes),
            "memory" => return self.figure(Told::Figures, counts.memory_bytes),
            _ => return None,
        })
    }
}

/// Makes rows of queues that share what has to be looked up once.
struct Rows<'a> {
    told: Told,
    request: &'a Request,
    node: Arc<str>,
}

impl<'a> Rows<'a> {
    fn new(request: &'a Request) -> Rows<'a> {
        Rows {
            told: Told::of(request),
            request,
            node: request.broker.node_name.as_str().into(),
        }
    }

    fn row(&self, queue: Arc<QueueHandle>) -> QueueRow {
        let moment = match self.told {
            Told::Definition => QueueMoment::default(),
            Told::Totals | Told::Figures => queue.moment(),
        };
        let has_figures = self.told == Told::Figures;
        let owner = queue.properties.exclusive_owner.filter(|_| has_figures);
        let owner = owner.and_then(|owner| self.request.broker.connection(owner));
        QueueRow {
            told: self.told,
            node: self.node.clone(),
            moment,
            rates: self.request.rates.queue(queue.id.0),
            policies: queue.in_force().policies.clone(),
            owner: owner.map(|owner| connection_details(&owner)),
            single_active_consumer_tag: has_figures.then(|| consumers::single_active_tag(&queue)).flatten(),
            consumers: None,
            deliveries: None,
            incoming: None,
            queue,
        }
    }
}

fn name_of(policy: &Option<Arc<Policy>>) -> Option<&str> {
    policy.as_ref().map(|policy| policy.spec.name.as_str())
}

/// `GET /api/queues` and `/api/queues/{vhost}`.
pub fn list(request: &Request) -> Outcome {
    let rows = Rows::new(request);
    let mut listed = Vec::new();
    for vhost in request.seen_vhosts()? {
        let mut queues = vhost.queues();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        listed.extend(queues.into_iter().map(|queue| rows.row(queue)));
    }
    listing::list(request, listed)
}

/// `GET /api/queues/{vhost}/{name}`.
pub fn get(request: &Request) -> Outcome {
    let queue = find(request)?;
    let mut row = Rows::new(request).row(queue.clone());
    if row.told == Told::Figures {
        row.incoming = Some(incoming(request, &queue)?);
        row.deliveries = Some(channels::deliveries_of(&request.broker, &queue));
        row.consumers = Some(consumers::of_queue(&request.broker.node_name, &queue));
    }
    let Some(ranges) = Ranges::of(request)? else {
        return listing::object(request, &row);
    };
    let (key, queue) = (format!("queue {}", queue.id.0), Arc::downgrade(&queue));
    let look = move || queue.upgrade().map(|queue| queue.moment());
    listing::object(request, &WithPast::of(request, &row, &ranges, key, &past::QUEUE, look))
}

/// What came to a queue through each exchange.
fn incoming(request: &Request, queue: &QueueHandle) -> Result<Vec<IncomingView>, ApiError> {
    let mut incoming = routed(&request.broker, &[request.vhost()?]);
    incoming.retain(|routed| routed.queue.id == queue.id);
    let views = incoming.iter().map(|routed| IncomingView {
        exchange: ObjectName {
            name: routed.exchange.name.to_string(),
            vhost: queue.vhost.to_string(),
        },
        stats: PublishCount { publish: routed.count },
    });
    Ok(views.collect())
}

/// `PUT /api/queues/{vhost}/{name}`: queue.declare.
pub fn put(request: &Request) -> Outcome {
    let (vhost, fields) = (request.vhost()?, request.fields()?);
    let name = request.part("name");
    if name.is_empty() {
        return Err(ApiError::bad("a queue needs a name"));
    }
    let declaration = QueueDeclaration {
        name,
        server_named: false,
        passive: false,
        durable: fields.flag("durable", false)?,
        exclusive: false,
        auto_delete: fields.flag("auto_delete", false)?,
        arguments: fields.table("arguments")?,
    };
    let is_new = vhost.find_queue(name).is_none();
    let declared = vhost.declare_queue(&request.actor(&vhost)?, declaration)?;
    request.wait(declared.durable)?;
    Ok(Reply::put(is_new))
}

/// `DELETE /api/queues/{vhost}/{name}`: queue.delete, with `if-empty` and `if-unused`.
pub fn delete(request: &Request) -> Outcome {
    let queue = find(request)?;
    let conditions = DeleteConditions {
        if_unused: request.query_flag("if-unused"),
        if_empty: request.query_flag("if-empty"),
    };
    let vhost = request.vhost()?;
    let (_, durable) = vhost.delete_queue(&request.actor(&vhost)?, &queue.name, conditions)?;
    request.wait(durable)?;
    Ok(Reply::done())
}

/// `DELETE /api/queues/{vhost}/{name}/contents`: queue.purge.
pub fn purge(request: &Request) -> Outcome {
    let queue = find(request)?;
    let vhost = request.vhost()?;
    let (_, durable) = vhost.purge_queue(&request.actor(&vhost)?, &queue.name)?;
    request.wait(durable)?;
    Ok(Reply::done())
}

/// `POST /api/queues/{vhost}/{name}/actions`: those that RabbitMQ had for mirrors, of which there are none to be brought up to date.
pub fn act(request: &Request) -> Outcome {
    find(request)?;
    match request.fields()?.some_text("action")? {
        "sync" | "cancel_sync" => Ok(Reply::done()),
        unknown => Err(ApiError::bad(format!("unknown action '{unknown}'"))),
    }
}

/// The queue in the path.
pub fn find(request: &Request) -> Result<Arc<QueueHandle>, ApiError> {
    request
        .vhost()?
        .find_queue(request.part("name"))
        .ok_or(ApiError::NotFound)
}
