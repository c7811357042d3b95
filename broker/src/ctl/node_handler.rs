//! What the broker does with the commands about itself as a whole.

use serde_json::{Map, Value, json};
use toml::Value as Setting;

use super::error::{CtlError, ErrorKind};
use super::protocol::{Reply, Report, Request, Response, Status};
use crate::alarms::available_memory_bytes;
use crate::broker::{Broker, Listener};
use crate::clock;
use crate::config::{available_cores, size_of};
use crate::metrics::process;

/// Executes the request if it is about the broker as a whole; gives it back if it is not.
pub fn handle(broker: &Broker, request: Request) -> Result<Response, Request> {
    let answer = match request {
        Request::Status {} => Ok(Reply::Status(Box::new(status(broker)))),
        Request::Drain {} => {
            broker.drain();
            Ok(Reply::Done)
        }
        Request::Undrain {} => {
            broker.undrain();
            Ok(Reply::Done)
        }
        Request::Listeners {} => Ok(report(listeners(broker))),
        Request::Alarms {} => Ok(report(alarms(broker))),
        Request::ClusterStatus {} => Ok(report(cluster_status(broker))),
        Request::Environment {} => Ok(report(environment(broker))),
        Request::ServerVersion {} => Ok(Reply::Message(env!("CARGO_PKG_VERSION").to_owned())),
        Request::SetVmMemoryHighWatermark { value, absolute } => set_memory_watermark(broker, &value, absolute),
        Request::SetDiskFreeLimit { value, mem_relative } => set_disk_free_limit(broker, &value, mem_relative),
        other => return Err(other),
    };
    Ok(answer.into())
}

fn report(report: Report) -> Reply {
    Reply::Report(Box::new(report))
}

fn status(broker: &Broker) -> Status {
    let mut status = Status {
        product: broker.config.product.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node_name: broker.node_name.clone(),
        cluster_name: broker.cluster_name(),
        pid: std::process::id(),
        uptime_seconds: clock::now().saturating_duration_since(broker.started).as_secs(),
        data_dir: broker.config.data_dir.display().to_string(),
        listeners: broker.listeners().iter().map(ToString::to_string).collect(),
        alarms: broker.troubles(),
        vhosts: broker.vhosts().len() as u64,
        connections: broker.open_connections() as u64,
        channels: broker.connections().iter().map(|info| u64::from(info.channels())).sum(),
        memory_bytes: process::resident_memory_bytes(),
        open_files: process::open_fds(),
        ..Status::default()
    };
    for queue in broker.vhosts().iter().flat_map(|vhost| vhost.queues()) {
        let counts = queue.counts();
        status.queues += 1;
        status.consumers += counts.consumers as u64;
        status.messages_ready += counts.ready as u64;
        status.messages_unacknowledged += counts.unacked as u64;
    }
    status
}

/// RabbitMQ's words for what a listener is for.
fn purpose(protocol: &str) -> &str {
    match protocol {
        "amqp" => "AMQP 0-9-1",
        "amqp/ssl" => "AMQP 0-9-1 over TLS",
        "http" => "HTTP API",
        "https" => "HTTP API over TLS (HTTPS)",
        "http/prometheus" => "Prometheus exporter API over HTTP",
        "https/prometheus" => "Prometheus exporter API over TLS (HTTPS)",
        other => other,
    }
}

/// An address as RabbitMQ writes it: that of IPv6 in brackets.
fn interface(listener: &Listener) -> String {
    match listener.address.ip() {
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        std::net::IpAddr::V4(ip) => ip.to_string(),
    }
}

fn listener_line(listener: &Listener) -> String {
    let (interface, port, protocol) = (interface(listener), listener.address.port(), listener.protocol());
    let purpose = purpose(protocol);
    format!("interface: {interface}, port: {port}, protocol: {protocol}, purpose: {purpose}")
}

fn listener_maps(broker: &Broker) -> Vec<Value> {
    let map = |listener: &Listener| {
        json!({
            "node": broker.node_name,
            "protocol": listener.protocol(),
            "interface": interface(listener),
            "port": listener.address.port(),
            "purpose": purpose(listener.protocol()),
        })
    };
    broker.listeners().iter().map(map).collect()
}

fn listeners(broker: &Broker) -> Report {
    let line = |listener: &Listener| format!("I{}", &listener_line(listener)[1..]);
    Report {
        lines: broker.listeners().iter().map(line).collect(),
        json: json!({"result": "ok", "node": broker.node_name, "listeners": listener_maps(broker)}),
    }
}

/// The resources of which there is too little, by RabbitMQ's names.
fn short_resources(broker: &Broker) -> Vec<&'static str> {
    let memory = broker.alarms.is_memory_on().then_some("memory");
    let disk = broker.alarms.is_disk_on().then_some("disk");
    memory.into_iter().chain(disk).collect()
}

/// The alarms, and a store in trouble, which RabbitMQ has no alarm for and which keeps publishers waiting as well.
fn alarm_lines(broker: &Broker) -> Vec<String> {
    let node = &broker.node_name;
    let alarms = short_resources(broker).into_iter().map(|resource| match resource {
        "memory" => format!("Memory alarm on node {node}"),
        _ => format!("Free disk space alarm on node {node}"),
    });
    let trouble = broker.store.trouble();
    let trouble = trouble.map(|error| format!("Storage alarm on node {node}: {error}"));
    alarms.chain(trouble).collect()
}

fn alarms(broker: &Broker) -> Report {
    let node = &broker.node_name;
    let lines = alarm_lines(broker);
    if lines.is_empty() {
        return Report {
            lines: vec![format!("Node {node} reported no alarms, local or clusterwide")],
            json: json!({"result": "ok", "node": node, "alarms": []}),
        };
    }
    let message = format!("Node {node} reported alarms");
    let json = json!({"result": "ok", "node": node, "local": lines, "global": [], "message": message});
    Report { lines, json }
}

fn cluster_status(broker: &Broker) -> Report {
    let (node, name, cores) = (&broker.node_name, broker.cluster_name(), available_cores());
    let (product, version) = (&broker.config.product, env!("CARGO_PKG_VERSION"));
    let maintenance = match broker.is_drained() {
        true => "marked for maintenance",
        false => "not under maintenance",
    };
    let or_none = |lines: Vec<String>| match lines.is_empty() {
        true => vec!["(none)".to_owned()],
        false => lines,
    };
    let listeners = broker.listeners();
    let listeners = listeners
        .iter()
        .map(|listener| format!("Node: {node}, {}", listener_line(listener)));
    let basics = vec![
        format!("Cluster name: {name}"),
        format!("Total CPU cores available cluster-wide: {cores}"),
    ];
    let sections = [
        ("Basics", basics),
        ("Disk Nodes", vec![node.clone()]),
        ("Running Nodes", vec![node.clone()]),
        ("Versions", vec![format!("{node}: {product} {version}")]),
        ("CPU Cores", vec![format!("Node: {node}, available CPU cores: {cores}")]),
        (
            "Maintenance status",
            vec![format!("Node: {node}, status: {maintenance}")],
        ),
        ("Alarms", or_none(alarm_lines(broker))),
        ("Network Partitions", or_none(Vec::new())),
        ("Listeners", or_none(listeners.collect())),
    ];
    let mut lines = Vec::new();
    for (title, section) in sections {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend([title.to_owned(), String::new()]);
        lines.extend(section);
    }
    let alarm = |resource| json!({"type": "resource_limit", "resource": resource, "node": node});
    let of_node = |value: Value| json!({ node: value });
    let versions = json!({"rabbitmq_name": product, "rabbitmq_version": version, "erlang_version": "n/a"});
    let json = json!({
        "cluster_name": name,
        "cluster_tags": [],
        "disk_nodes": [node],
        "running_nodes": [node],
        "versions": of_node(versions),
        "cpu_cores": of_node(json!(cores)),
        "maintenance_status": of_node(json!(maintenance)),
        "alarms": short_resources(broker).into_iter().map(alarm).collect::<Vec<_>>(),
        "partitions": {},
        "listeners": of_node(listener_maps(broker).into()),
        "feature_flags": [],
    });
    Report { lines, json }
}

fn environment(broker: &Broker) -> Report {
    let settings = broker.live_settings();
    let keys: Map<String, Value> = settings
        .values()
        .map(|(key, value)| (key.to_owned(), serde_json::to_value(value).unwrap_or_default()))
        .collect();
    Report {
        lines: settings.describe().lines().map(str::to_owned).collect(),
        json: json!({ "leveret": keys }),
    }
}

/// How long what is set here holds.
const UNTIL: &str = "until the broker restarts or reads its configuration again; the file stays as it is";

fn invalid(reason: impl Into<String>) -> CtlError {
    CtlError::new(ErrorKind::Invalid, reason)
}

fn set_memory_watermark(broker: &Broker, value: &str, absolute: bool) -> Result<Reply, CtlError> {
    let (setting, said) = if absolute {
        let bytes = size_of(value).map_err(invalid)?;
        (bytes_setting(bytes)?, format!("{bytes} bytes"))
    } else {
        let fraction: f64 = number(value)?;
        (Setting::Float(fraction), format!("{fraction} of the memory"))
    };
    broker.set_for_now("memory_high_watermark", setting).map_err(invalid)?;
    Ok(Reply::Message(format!("publishers are blocked above {said}, {UNTIL}")))
}

fn set_disk_free_limit(broker: &Broker, value: &str, mem_relative: bool) -> Result<Reply, CtlError> {
    let bytes = match mem_relative {
        true => (number(value)? * available_memory_bytes() as f64) as u64,
        false => size_of(value).map_err(invalid)?,
    };
    broker
        .set_for_now("disk_free_limit", bytes_setting(bytes)?)
        .map_err(invalid)?;
    Ok(Reply::Message(format!(
        "publishers are blocked when less than {bytes} bytes of the disk are free, {UNTIL}"
    )))
}

fn bytes_setting(bytes: u64) -> Result<Setting, CtlError> {
    let bytes = i64::try_from(bytes).map_err(|_| invalid(format!("{bytes} bytes are too much")))?;
    Ok(Setting::Integer(bytes))
}

fn number(text: &str) -> Result<f64, CtlError> {
    let number = text
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| invalid(format!("expected a number such as 0.4, found '{text}'")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, DiskFreeLimit, MemoryWatermark};
    use leveret_storage::{Store, StoreOptions};
    use prometheus::Registry;
    use std::sync::Arc;

    fn broker() -> Arc<Broker> {
        let config = Config {
            node_name: "rabbit@here".to_owned(),
            ..Config::default()
        };
        let store = Store::in_memory(StoreOptions::default());
        let broker = crate::startup::start(config, store, &Registry::new()).unwrap();
        let at = |purpose, address: &str| Listener {
            purpose,
            address: address.parse().unwrap(),
        };
        broker.set_listeners(vec![at("amqp", "[::]:5672"), at("management_tls", "10.0.0.7:15671")]);
        broker
    }

    fn ask(broker: &Broker, request: Request) -> Result<Reply, CtlError> {
        match handle(broker, request).unwrap() {
            Response::Ok(reply) => Ok(reply),
            Response::Error(error) => Err(error),
        }
    }

    fn report_of(broker: &Broker, request: Request) -> Report {
        match ask(broker, request).unwrap() {
            Reply::Report(report) => *report,
            other => panic!("{other:?}"),
        }
    }

    fn set_memory(broker: &Broker, value: &str, absolute: bool) -> Result<Reply, CtlError> {
        let value = value.to_owned();
        ask(broker, Request::SetVmMemoryHighWatermark { value, absolute })
    }

    fn set_disk(broker: &Broker, value: &str, mem_relative: bool) -> Result<Reply, CtlError> {
        let value = value.to_owned();
        ask(broker, Request::SetDiskFreeLimit { value, mem_relative })
    }

    #[test]
    fn listeners_are_told_as_rabbitmq_diagnostics_tells_them() {
        let said = report_of(&broker(), Request::Listeners {});
        let lines = [
            "Interface: [::], port: 5672, protocol: amqp, purpose: AMQP 0-9-1",
            "Interface: 10.0.0.7, port: 15671, protocol: https, purpose: HTTP API over TLS (HTTPS)",
        ];
        assert_eq!(said.lines, lines);
        let first = json!({
            "node": "rabbit@here", "protocol": "amqp", "interface": "[::]", "port": 5672, "purpose": "AMQP 0-9-1",
        });
        assert_eq!(said.json["listeners"][0], first);
        assert_eq!(said.json["result"], "ok");
    }

    #[test]
    fn alarms_are_told_without_failing_for_them() {
        let broker = broker();
        let quiet = report_of(&broker, Request::Alarms {});
        assert_eq!(
            quiet.lines,
            ["Node rabbit@here reported no alarms, local or clusterwide"]
        );
        assert_eq!(quiet.json["alarms"], json!([]));
        broker.alarms.set(true, true);
        let loud = report_of(&broker, Request::Alarms {});
        let lines = [
            "Memory alarm on node rabbit@here",
            "Free disk space alarm on node rabbit@here",
        ];
        assert_eq!(loud.lines, lines);
        assert_eq!(loud.json["local"], json!(lines));
    }

    #[test]
    fn the_cluster_is_this_node() {
        let broker = broker();
        broker.alarms.set(false, true);
        broker.drain();
        let said = report_of(&broker, Request::ClusterStatus {});
        let text = said.lines.join("\n");
        for part in [
            "Basics\n\nCluster name: ",
            "\n\nRunning Nodes\n\nrabbit@here\n\n",
            "\n\nAlarms\n\nFree disk space alarm on node rabbit@here\n\n",
            "Node: rabbit@here, status: marked for maintenance",
            "\n\nNetwork Partitions\n\n(none)\n\nListeners\n\nNode: rabbit@here, interface: [::], port: 5672, ",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(said.json["running_nodes"], json!(["rabbit@here"]));
        let alarm = json!([{"type": "resource_limit", "resource": "disk", "node": "rabbit@here"}]);
        assert_eq!(said.json["alarms"], alarm);
        assert_eq!(said.json["listeners"]["rabbit@here"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn a_limit_that_is_set_counts_at_once_and_says_where_it_came_from() {
        let broker = broker();
        set_memory(&broker, "0.25", false).unwrap();
        assert_eq!(broker.live().memory_high_watermark, MemoryWatermark::Fraction(0.25));
        set_memory(&broker, "0", false).unwrap();
        assert_eq!(broker.live().memory_high_watermark, MemoryWatermark::Fraction(0.0));
        set_memory(&broker, "1", false).unwrap();
        assert_eq!(
            broker.live().memory_high_watermark,
            MemoryWatermark::Fraction(1.0),
            "not a byte"
        );
        set_memory(&broker, "2GiB", true).unwrap();
        assert_eq!(broker.live().memory_high_watermark, MemoryWatermark::Bytes(2 << 30));
        set_disk(&broker, "5GB", false).unwrap();
        assert_eq!(broker.live().disk_free_limit, DiskFreeLimit::Bytes(5_000_000_000));
        set_disk(&broker, "1.5", true).unwrap();
        let memory = available_memory_bytes();
        assert!(matches!(broker.live().disk_free_limit, DiskFreeLimit::Bytes(bytes) if bytes > memory));

        let said = report_of(&broker, Request::Environment {});
        let lines = said.lines.join("\n");
        assert!(
            lines.contains("memory_high_watermark = 2147483648  # leveret ctl"),
            "{lines}"
        );
        assert!(lines.contains("heartbeat = \"60s\"  # default"), "{lines}");
        assert!(lines.contains("default_pass = (not shown)  # default"), "{lines}");
        let keys = &said.json["leveret"];
        assert_eq!(keys["memory_high_watermark"], json!(2_147_483_648_u64));
        assert_eq!(keys["heartbeat"], json!("60s"));
        assert_eq!(keys["loopback_users"], json!(["guest"]));
        assert_eq!(keys["default_pass"], json!("(not shown)"));
    }

    #[test]
    fn limits_that_make_no_sense_are_refused_and_change_nothing() {
        let broker = broker();
        let before = broker.live();
        for (value, absolute) in [
            ("1.5", false),
            ("-1", false),
            ("NaN", false),
            ("2GiB", false),
            ("", false),
            ("x", true),
        ] {
            let error = set_memory(&broker, value, absolute).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{value}");
        }
        for (value, mem_relative) in [
            ("-5", false),
            ("1.5", false),
            ("99999999999999TB", false),
            ("inf", true),
            ("1e300", true),
        ] {
            let error = set_disk(&broker, value, mem_relative).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{value}");
        }
        assert_eq!(*broker.live(), *before);
    }
}
