//! The broker as a whole: overview, nodes, and the small answers that tools ask for before anything else.

use std::sync::atomic::Ordering;

use leveret_routing::ExchangeKind;
use serde_json::Map;

use super::connections;
use super::listing::{self, Row};
use super::past::{Ranges, WithPast, retention};
use super::reply::{ApiError, Outcome, Reply};
use super::request::Request;
use super::vhosts::VhostSums;
use super::views::{
    ApplicationView, ChurnView, ContextView, DepthView, ListenerView, MessageStats, NameView, NodeView, ObjectTotals,
    OverviewView, PluggedView,
};
use crate::broker::Broker;
use crate::clock;
use crate::metrics::{COMPATIBLE_VERSION, Churn, Disk, Flow, process};

/// What stands where RabbitMQ names its Erlang.
const NO_ERLANG: &str = "n/a";

impl Row for NodeView {
    fn name(&self) -> &str {
        &self.name
    }
}

fn exchange_types() -> Vec<PluggedView> {
    plugged(&ExchangeKind::ALL.map(|kind| (kind.as_str(), "exchange type")))
}

fn plugged(named: &[(&'static str, &'static str)]) -> Vec<PluggedView> {
    let views = named.iter().map(|(name, description)| PluggedView {
        name,
        description,
        enabled: true,
    });
    views.collect()
}

fn listeners(broker: &Broker) -> Vec<ListenerView> {
    let listeners = broker.listeners().into_iter().map(|listener| ListenerView {
        node: broker.node_name.clone(),
        protocol: listener.protocol(),
        ip_address: listener.address.ip().to_string(),
        port: listener.address.port(),
        socket_opts: Map::new(),
    });
    listeners.collect()
}

fn contexts(broker: &Broker) -> Vec<ContextView> {
    let all = broker.listeners().into_iter();
    let contexts = all
        .filter(|listener| listener.purpose.starts_with("management"))
        .map(|listener| ContextView {
            node: broker.node_name.clone(),
            description: "Management API",
            path: "/",
            ip: listener.address.ip().to_string(),
            port: listener.address.port().to_string(),
        });
    contexts.collect()
}

/// `GET /api/overview`: who monitors sees the whole broker, others what their virtual hosts hold.
pub fn overview(request: &Request) -> Outcome {
    let broker = &request.broker;
    let whole = request.caller()?.user.is_monitoring();
    let mut sums = VhostSums::default();
    let mut totals = ObjectTotals::default();
    for vhost in request.seen_vhosts()? {
        sums.add(request, &vhost);
        totals.exchanges += vhost.exchanges().len() as u64;
    }
    let connections = connections::seen(request)?;
    totals.connections = connections.len() as u64;
    totals.channels = connections.iter().map(|info| u64::from(info.channels())).sum();
    (totals.queues, totals.consumers) = (sums.queues, sums.consumers);
    let (rates, with_figures) = (&request.rates, !request.without_figures());
    let message_stats = if whole {
        let stats = MessageStats::new(&Flow::of_broker(&broker.counters), &rates.flow);
        stats.with_disk(&Disk::of_broker(&broker.counters), &rates.disk)
    } else {
        MessageStats::new(&sums.flow, &sums.flow_rates).with_disk(&sums.disk, &sums.disk_rates)
    };
    let view = OverviewView {
        management_version: COMPATIBLE_VERSION,
        rates_mode: "basic",
        sample_retention_policies: retention(),
        exchange_types: exchange_types(),
        product_name: broker.config.product.clone(),
        product_version: broker.config.product_version.clone(),
        rabbitmq_version: COMPATIBLE_VERSION,
        cluster_name: broker.cluster_name(),
        erlang_version: NO_ERLANG,
        erlang_full_version: NO_ERLANG,
        disable_stats: !with_figures,
        enable_queue_totals: request.query_flag("enable_queue_totals"),
        message_stats: with_figures.then_some(message_stats),
        churn_rates: (whole && with_figures).then(|| ChurnView::new(&Churn::of_broker(&broker.counters), &rates.churn)),
        queue_totals: with_figures.then(|| DepthView::new(&sums.depth, &sums.depth_rates)),
        object_totals: totals,
        statistics_db_event_queue: 0,
        node: broker.node_name.clone(),
        listeners: whole.then(|| listeners(broker)),
        contexts: whole.then(|| contexts(broker)),
    };
    match Ranges::of(request)?.filter(|_| whole) {
        Some(ranges) => listing::object(request, &WithPast::of_broker(request, &view, &ranges)),
        None => listing::object(request, &view),
    }
}

impl Row for OverviewView {
    fn name(&self) -> &str {
        &self.node
    }
}

fn node(broker: &Broker) -> NodeView {
    let alarms = &broker.alarms;
    let fd_total = process::max_fds();
    let connections = broker.open_connections() as u64;
    NodeView {
        name: broker.node_name.clone(),
        kind: "disc",
        running: true,
        being_drained: broker.stopping.load(Ordering::Relaxed),
        partitions: [],
        os_pid: std::process::id().to_string(),
        uptime: clock::now().saturating_duration_since(broker.started).as_millis() as u64,
        processors: std::thread::available_parallelism().map_or(1, usize::from),
        run_queue: 0,
        rates_mode: "basic",
        fd_used: process::open_fds(),
        fd_total,
        sockets_used: connections,
        sockets_total: fd_total,
        // Where RabbitMQ has a process, there is a task here; nothing but file descriptors limits them.
        proc_used: connections,
        proc_total: fd_total,
        mem_used: process::resident_memory_bytes(),
        mem_limit: alarms.memory_limit_bytes.load(Ordering::Relaxed),
        mem_alarm: alarms.is_memory_on(),
        mem_calculation_strategy: "rss",
        disk_free: alarms.disk_free_bytes.load(Ordering::Relaxed),
        disk_free_limit: alarms.disk_free_limit_bytes.load(Ordering::Relaxed),
        disk_free_alarm: alarms.is_disk_on(),
        exchange_types: exchange_types(),
        auth_mechanisms: plugged(&[
            ("PLAIN", "SASL PLAIN authentication mechanism"),
            ("AMQPLAIN", "SASL AMQPLAIN authentication mechanism"),
        ]),
        applications: vec![ApplicationView {
            name: "leveret",
            description: "AMQP 0-9-1 message broker",
            version: env!("CARGO_PKG_VERSION"),
        }],
        contexts: contexts(broker),
        db_dir: broker.config.data_dir.display().to_string(),
        config_files: [],
        log_files: ["<stdout>"],
        enabled_plugins: ["rabbitmq_management"],
        churn: ChurnView::new(&Churn::of_broker(&broker.counters), &broker.rates.get().churn),
    }
}

/// `GET /api/nodes`.
pub fn nodes(request: &Request) -> Outcome {
    listing::list(request, vec![node(&request.broker)])
}

/// There is one node, and the path names it.
pub(super) fn this_node(request: &Request) -> Result<(), ApiError> {
    match request.part("node") == request.broker.node_name {
        true => Ok(()),
        false => Err(ApiError::NotFound),
    }
}

/// `GET /api/nodes/{node}`.
pub fn one_node(request: &Request) -> Outcome {
    this_node(request)?;
    listing::object(request, &node(&request.broker))
}

/// `GET /api/cluster-name`.
pub fn cluster_name(request: &Request) -> Outcome {
    Reply::json(&NameView {
        name: request.broker.cluster_name(),
    })
}

/// `GET /api/version`: of the RabbitMQ that this broker is compatible with.
pub fn version(_request: &Request) -> Outcome {
    Reply::json(&COMPATIBLE_VERSION)
}

/// `DELETE /api/reset` and `POST /api/rebalance/queues`: a broker that keeps nothing of the past has nothing to forget, and
/// one node nothing to move.
pub fn done(_request: &Request) -> Outcome {
    Ok(Reply::done())
}

/// `DELETE /api/reset/{node}`.
pub fn reset_node(request: &Request) -> Outcome {
    this_node(request)?;
    done(request)
}

/// `PUT /api/feature-flags/{name}/enable`: there are none.
pub fn enable_feature_flag(_request: &Request) -> Outcome {
    Err(ApiError::bad("unsupported"))
}

/// What RabbitMQ lists and this broker has none of: feature flags, extensions, shovels, federation links.
pub fn nothing(_request: &Request) -> Outcome {
    Reply::json(&[(); 0])
}
