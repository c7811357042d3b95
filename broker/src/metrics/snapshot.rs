//! Gauges: what there is at the moment of a scrape.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntCounter, IntGauge, Opts, Registry};

use super::{objects, process};
use crate::broker::{Broker, ConnectionInfo};
use crate::clock;
use crate::vhost::QueueMoment;

/// The version that dashboards compare with RabbitMQ's.
pub const COMPATIBLE_VERSION: &str = "4.3.5";

/// Adds up what the virtual hosts hold.
#[derive(Default)]
struct Totals {
    queues: usize,
    sum: QueueMoment,
}

impl Totals {
    fn of(broker: &Broker) -> Totals {
        let mut totals = Totals::default();
        for queue in broker.vhosts().iter().flat_map(|vhost| vhost.queues()) {
            totals.queues += 1;
            totals.sum.add(&queue.moment());
        }
        totals
    }
}

/// All gauges of this moment; `endpoint` is the page they are for.
pub fn gather(broker: &Broker, endpoint: &str) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, value: u64| -> Result<(), prometheus::Error> {
        let gauge = IntGauge::new(format!("rabbitmq_{name}"), help)?;
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(Box::new(gauge))
    };
    let connections = broker.connections();
    let channels: u64 = connections.iter().map(|info| u64::from(info.channels())).sum();
    let totals = Totals::of(broker);
    gauge("connections", "Open connections", broker.open_connections() as u64)?;
    in_flow(&registry, &connections)?;
    gauge("channels", "Channels", channels)?;
    gauge("queues", "Queues", totals.queues as u64)?;
    let consumers = totals.sum.counts.consumers as u64;
    gauge("consumers", "Consumers", consumers)?;
    for (metric, value) in objects::of_all_queues(totals.sum) {
        gauge(metric.name, metric.help, value)?;
    }
    gauge("process_open_fds", "Open file descriptors", process::open_fds())?;
    gauge("process_max_fds", "Limit of open file descriptors", process::max_fds())?;
    gauge(
        "process_open_tcp_sockets",
        "Open TCP connections of AMQP",
        broker.open_connections() as u64,
    )?;
    gauge(
        "process_max_tcp_sockets",
        "Limit of TCP connections, which is that of file descriptors",
        process::max_fds(),
    )?;
    gauge(
        "process_resident_memory_bytes",
        "Resident memory",
        process::resident_memory_bytes(),
    )?;
    alarms(broker, &gauge)?;
    let uptime = clock::now().saturating_duration_since(broker.started);
    let seconds = Gauge::new("rabbitmq_erlang_uptime_seconds", "Time since the broker started")?;
    seconds.set(uptime.as_secs_f64());
    registry.register(Box::new(seconds))?;
    let publishers = connections.iter().filter(|info| info.publishes()).count();
    let protocol = [("protocol", "amqp091")];
    labelled(
        &registry,
        "global_publishers",
        "Connections that publish",
        &protocol,
        publishers as f64,
    )?;
    labelled(&registry, "global_consumers", "Consumers", &protocol, consumers as f64)?;
    octets(&registry, broker)?;
    information(&registry, broker, endpoint)?;
    Ok(registry.gather())
}

/// What passed through all connections, those that are closed included.
fn octets(registry: &Registry, broker: &Broker) -> Result<(), prometheus::Error> {
    let octets = broker.octets();
    for (direction, help, count) in [
        ("incoming", "Octets received on all connections", octets.received),
        ("outgoing", "Octets sent on all connections", octets.sent),
    ] {
        let counter = IntCounter::new(format!("rabbitmq_connection_{direction}_bytes_total"), help)?;
        counter.inc_by(count);
        registry.register(Box::new(counter))?;
    }
    Ok(())
}

/// Who holds the memory, in RabbitMQ's categories: what queues hold is told, all else is one sum.
pub fn memory_breakdown(broker: &Broker, endpoint: &str) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let registry = Registry::new();
    let queues = Totals::of(broker).sum.counts.memory_bytes;
    let others = process::resident_memory_bytes().saturating_sub(queues);
    let gauge = |name: &str, help: &str, bytes: u64| labelled(&registry, name, help, &[], bytes as f64);
    gauge(
        "memory_classic_queue_erlang_process_bytes",
        "Memory that messages in queues take",
        queues,
    )?;
    gauge(
        "memory_other_system_bytes",
        "All other memory that the process has resident",
        others,
    )?;
    information(&registry, broker, endpoint)?;
    Ok(registry.gather())
}

/// Limits of memory and disk, and what is beyond them.
fn alarms(
    broker: &Broker,
    gauge: &impl Fn(&str, &str, u64) -> Result<(), prometheus::Error>,
) -> Result<(), prometheus::Error> {
    let alarms = &broker.alarms;
    let limit = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    gauge(
        "resident_memory_limit_bytes",
        "Memory above which publishers are blocked",
        limit(&alarms.memory_limit_bytes),
    )?;
    gauge(
        "disk_space_available_bytes",
        "Free disk space",
        limit(&alarms.disk_free_bytes),
    )?;
    gauge(
        "disk_space_available_limit_bytes",
        "Free disk space below which publishers are blocked",
        limit(&alarms.disk_free_limit_bytes),
    )?;
    let alarm = |on: bool| u64::from(on);
    gauge(
        "alarms_memory_used_watermark",
        "1 while the memory alarm is on",
        alarm(alarms.is_memory_on()),
    )?;
    gauge(
        "alarms_free_disk_space_watermark",
        "1 while the disk alarm is on",
        alarm(alarms.is_disk_on()),
    )?;
    gauge(
        "alarms_file_descriptor_limit",
        "Always 0: who finds no file descriptor is refused, and nobody else is stopped",
        0,
    )?;
    gauge(
        "alarms_storage",
        "1 while the store cannot write: it has failed, or waits for room on the disk",
        alarm(broker.store.trouble().is_some()),
    )
}

/// The one gauge that RabbitMQ has no name for.
fn in_flow(registry: &Registry, connections: &[Arc<ConnectionInfo>]) -> Result<(), prometheus::Error> {
    let now = clock::now();
    let gauge = IntGauge::new(
        "leveret_connections_in_flow",
        "Connections that waited for consumers within the last second",
    )?;
    gauge.set(connections.iter().filter(|info| info.is_in_flow(now)).count() as i64);
    registry.register(Box::new(gauge))
}

fn information(registry: &Registry, broker: &Broker, endpoint: &str) -> Result<(), prometheus::Error> {
    let cluster_name = broker.cluster_name();
    let identity = [
        ("rabbitmq_node", broker.node_name.as_str()),
        ("rabbitmq_cluster", cluster_name.as_str()),
        ("rabbitmq_cluster_permanent_id", cluster_name.as_str()),
        ("rabbitmq_endpoint", endpoint),
    ];
    labelled(
        registry,
        "identity_info",
        "Names of this node and its cluster",
        &identity,
        1.0,
    )?;
    let build = [
        ("rabbitmq_version", COMPATIBLE_VERSION),
        ("prometheus_plugin_version", env!("CARGO_PKG_VERSION")),
        ("prometheus_client_version", env!("CARGO_PKG_VERSION")),
        ("erlang_version", "n/a"),
        ("product_name", broker.config.product.as_str()),
        ("product_version", broker.config.product_version.as_str()),
    ];
    labelled(registry, "build_info", "Versions", &build, 1.0)
}

fn labelled(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[(&str, &str)],
    value: f64,
) -> Result<(), prometheus::Error> {
    let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
    let values: Vec<&str> = labels.iter().map(|(_, value)| *value).collect();
    let family = GaugeVec::new(Opts::new(format!("rabbitmq_{name}"), help), &names)?;
    family.with_label_values(&values).set(value);
    registry.register(Box::new(family))
}
