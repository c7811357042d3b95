//! What the broker does with the health checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::error::{CtlError, ErrorKind};
use super::protocol::{Reply, Request, Response};
use crate::broker::{Broker, Listener, protocol_asked};

/// How long a listener may take to accept a connection that tries it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Executes the request if it is a check; gives it back if it is not.
pub fn handle(broker: &Broker, request: Request) -> Result<Response, Request> {
    let node = &broker.node_name;
    let passed = match request {
        Request::CheckRunning {} => {
            storage_works(broker).map(|()| format!("{} on node {node} is running", product(broker)))
        }
        Request::CheckAlarms {} => no_alarms(broker).map(|()| format!("node {node} has no alarms")),
        Request::CheckVirtualHosts {} => {
            storage_works(broker).map(|()| format!("all virtual hosts of node {node} can be used"))
        }
        Request::CheckPortListener { port } => {
            listens_on(&broker.listeners(), port).map(|()| format!("node {node} listens on port {port}"))
        }
        Request::CheckProtocolListener { protocol } => {
            speaks(&broker.listeners(), &protocol).map(|()| format!("node {node} listens for protocol {protocol}"))
        }
        Request::Ping {} => Ok("Ping succeeded".to_owned()),
        Request::CheckPortConnectivity { address } => {
            let listeners = broker.listeners();
            all_accept(&listeners, address)
                .map(|()| format!("node {node} takes connections on ports {}", ports(&listeners)))
        }
        other => return Err(other),
    };
    Ok(passed.map(Reply::Message).into())
}

fn product(broker: &Broker) -> &str {
    &broker.config.product
}

fn unhealthy(text: impl Into<String>) -> CtlError {
    CtlError::new(ErrorKind::Unhealthy, text)
}

/// All virtual hosts have one store: they work together or not at all.
fn storage_works(broker: &Broker) -> Result<(), CtlError> {
    match broker.store.failed() {
        Some(error) => Err(unhealthy(format!("storage has failed: {error}"))),
        None => Ok(()),
    }
}

fn no_alarms(broker: &Broker) -> Result<(), CtlError> {
    let troubles = broker.troubles();
    if troubles.is_empty() {
        return Ok(());
    }
    Err(unhealthy(format!(
        "node {} has alarms: {}",
        broker.node_name,
        troubles.join("; ")
    )))
}

fn listens_on(listeners: &[Listener], port: u16) -> Result<(), CtlError> {
    if listeners.iter().any(|listener| listener.address.port() == port) {
        return Ok(());
    }
    Err(unhealthy(format!(
        "nothing listens on port {port}; there are listeners on ports {}",
        ports(listeners)
    )))
}

fn speaks(listeners: &[Listener], asked: &str) -> Result<(), CtlError> {
    let protocol = protocol_asked(asked);
    let mut spoken: Vec<&str> = listeners.iter().map(Listener::protocol).collect();
    spoken.sort_unstable();
    spoken.dedup();
    if spoken.contains(&protocol.as_str()) {
        return Ok(());
    }
    Err(unhealthy(format!(
        "nothing listens for protocol {asked}; there are listeners for {}",
        spoken.join(", ")
    )))
}

fn ports(listeners: &[Listener]) -> String {
    let mut ports: Vec<u16> = listeners.iter().map(|listener| listener.address.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
    ports.join(", ")
}

/// Connects to each listener and hangs up.
fn all_accept(listeners: &[Listener], address: Option<IpAddr>) -> Result<(), CtlError> {
    let refusal = |listener: &Listener| {
        let target = target(listener.address, address);
        let refused = TcpStream::connect_timeout(&target, CONNECT_TIMEOUT).err()?;
        Some(format!("{} {target}: {refused}", listener.purpose))
    };
    let refusals: Vec<String> = listeners.iter().filter_map(refusal).collect();
    if refusals.is_empty() {
        return Ok(());
    }
    Err(unhealthy(format!("cannot connect to {}", refusals.join("; "))))
}

/// Where to connect to. Who listens on all addresses listens on the loopback one.
fn target(listener: SocketAddr, address: Option<IpAddr>) -> SocketAddr {
    let own = match listener.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(address.unwrap_or(own), listener.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use leveret_storage::{Store, StoreOptions};
    use prometheus::Registry;
    use std::net::TcpListener;
    use std::sync::Arc;

    fn broker() -> Arc<Broker> {
        let store = Store::in_memory(StoreOptions::default());
        crate::startup::start(Config::default(), store, &Registry::new()).unwrap()
    }

    fn check(broker: &Broker, request: Request) -> Result<String, CtlError> {
        match handle(broker, request) {
            Ok(Response::Ok(Reply::Message(text))) => Ok(text),
            Ok(Response::Error(error)) => Err(error),
            other => panic!("{other:?}"),
        }
    }

    fn listener(socket: &TcpListener) -> Listener {
        Listener {
            purpose: "amqp",
            address: socket.local_addr().unwrap(),
        }
    }

    #[test]
    fn a_broker_that_is_well_passes() {
        let broker = broker();
        for request in [
            Request::CheckRunning {},
            Request::CheckAlarms {},
            Request::CheckVirtualHosts {},
            Request::CheckPortConnectivity { address: None },
            Request::Ping {},
        ] {
            assert!(check(&broker, request.clone()).is_ok(), "{request:?}");
        }
    }

    #[test]
    fn alarms_are_told_by_name() {
        let broker = broker();
        broker.alarms.set(true, true);
        let error = check(&broker, Request::CheckAlarms {}).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unhealthy);
        let node = &broker.node_name;
        let expected = format!("node {node} has alarms: low on memory & low on disk");
        assert_eq!(error.text, expected);
        assert!(check(&broker, Request::CheckRunning {}).is_ok(), "it runs all the same");
    }

    #[test]
    fn a_port_without_a_listener_is_told_with_those_that_have_one() {
        let broker = broker();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = listener(&socket);
        let port = listener.address.port();
        broker.set_listeners(vec![listener]);
        assert!(check(&broker, Request::CheckPortListener { port }).is_ok());
        let error = check(&broker, Request::CheckPortListener { port: 1 }).unwrap_err();
        let expected = format!("nothing listens on port 1; there are listeners on ports {port}");
        assert_eq!(error.text, expected);
    }

    #[test]
    fn a_protocol_is_known_by_each_of_its_names_and_a_missing_one_is_told() {
        let broker = broker();
        let at = |purpose| Listener {
            purpose,
            address: "127.0.0.1:1".parse().unwrap(),
        };
        broker.set_listeners(vec![at("metrics"), at("amqp_tls")]);
        let speaks = |protocol: &str| {
            let protocol = protocol.to_owned();
            check(&broker, Request::CheckProtocolListener { protocol })
        };
        for name in ["amqps", "amqp/ssl", "AMQP/SSL", "prometheus", "http/prometheus"] {
            assert!(speaks(name).is_ok(), "{name}");
        }
        let error = speaks("amqp").unwrap_err();
        let expected = "nothing listens for protocol amqp; there are listeners for amqp/ssl, http/prometheus";
        assert_eq!(error.text, expected);
    }

    #[test]
    fn a_listener_that_takes_no_connections_is_told() {
        let broker = broker();
        let (open, closed) = (
            TcpListener::bind("127.0.0.1:0").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
        );
        broker.set_listeners(vec![listener(&open), listener(&closed)]);
        let all = || check(&broker, Request::CheckPortConnectivity { address: None });
        assert!(all().is_ok());
        let address = closed.local_addr().unwrap();
        drop(closed);
        let error = all().unwrap_err();
        assert!(
            error.text.starts_with(&format!("cannot connect to amqp {address}: ")),
            "{error}"
        );
    }

    #[test]
    fn listeners_on_all_addresses_are_tried_on_the_loopback_one() {
        let tried = |listener: &str, address: Option<&str>| {
            let address = address.map(|address| address.parse().unwrap());
            target(listener.parse().unwrap(), address).to_string()
        };
        assert_eq!(tried("0.0.0.0:1", None), "127.0.0.1:1");
        assert_eq!(tried("[::]:1", None), "[::1]:1");
        assert_eq!(tried("10.0.0.7:1", None), "10.0.0.7:1");
        assert_eq!(tried("0.0.0.0:1", Some("10.0.0.8")), "10.0.0.8:1");
    }
}
