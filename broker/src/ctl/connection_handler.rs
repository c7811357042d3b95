//! What the broker does with the commands that close connections.

use super::error::{CtlError, ErrorKind};
use super::handler::find;
use super::protocol::{Reply, Request, Response};
use crate::broker::Broker;

/// Executes the request if it closes connections; gives it back if it does not.
pub fn handle(broker: &Broker, request: Request) -> Result<Response, Request> {
    let closed = match request {
        Request::CloseConnection { name, reason } => close_one(broker, &name, &reason),
        Request::CloseAllConnections { vhost, limit, reason } => close_all(broker, vhost.as_deref(), limit, &reason),
        Request::CloseAllUserConnections { user, reason } => {
            let closed = broker.close_connections(&reason, |identity| *identity.user == *user);
            Ok(told(closed))
        }
        other => return Err(other),
    };
    Ok(closed.into())
}

fn close_one(broker: &Broker, name: &str, reason: &str) -> Result<Reply, CtlError> {
    match broker.close_connection(name, reason) {
        true => Ok(Reply::Done),
        false => Err(CtlError::new(ErrorKind::NotFound, format!("no connection '{name}'"))),
    }
}

fn close_all(broker: &Broker, vhost: Option<&str>, limit: Option<usize>, reason: &str) -> Result<Reply, CtlError> {
    if let Some(name) = vhost {
        find(broker, name)?;
    }
    let matches = |of: &str| vhost.is_none_or(|vhost| vhost == of);
    let limit = limit.unwrap_or(usize::MAX);
    let closed = broker.close_some_connections(limit, reason, |identity| matches(&identity.vhost));
    Ok(told(closed))
}

fn told(closed: usize) -> Reply {
    Reply::Message(format!("{closed} connections closed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::ConnectionInfo;
    use crate::clock;
    use crate::config::Config;
    use leveret_storage::{Store, StoreOptions};
    use prometheus::Registry;
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::Arc;

    fn broker() -> Arc<Broker> {
        let store = Store::in_memory(StoreOptions::default());
        crate::startup::start(Config::default(), store, &Registry::new()).unwrap()
    }

    fn connect(broker: &Broker, user: &str, vhost: &str) -> Arc<ConnectionInfo> {
        let id = broker.next_connection_id();
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let info = ConnectionInfo::new(id, address(40_000 + id.0 as u16), address(5672), 131_072, clock::now());
        info.set_user(user, "PLAIN");
        info.set_vhost(vhost);
        let info = Arc::new(info);
        broker.connection_accepted(&info);
        info
    }

    fn is_closing(info: &ConnectionInfo) -> bool {
        info.outbox.lock().next_event().is_some()
    }

    fn answer(broker: &Broker, request: Request) -> String {
        match handle(broker, request) {
            Ok(Response::Ok(Reply::Message(text))) => text,
            Ok(Response::Error(error)) => error.text,
            other => panic!("{other:?}"),
        }
    }

    fn close_all(vhost: Option<&str>, limit: Option<usize>) -> Request {
        Request::CloseAllConnections {
            vhost: vhost.map(str::to_owned),
            limit,
            reason: "be gone".to_owned(),
        }
    }

    #[test]
    fn those_of_one_virtual_host_are_closed_and_others_stay() {
        let broker = broker();
        broker.add_vhost("shop").unwrap();
        let (here, there) = (connect(&broker, "guest", "/"), connect(&broker, "guest", "shop"));
        assert_eq!(answer(&broker, close_all(Some("shop"), None)), "1 connections closed");
        assert_eq!((is_closing(&here), is_closing(&there)), (false, true));
        assert_eq!(answer(&broker, close_all(None, None)), "2 connections closed");
        assert!(is_closing(&here) && is_closing(&there));
        let missing = "virtual host 'nowhere' does not exist";
        assert_eq!(answer(&broker, close_all(Some("nowhere"), None)), missing);
    }

    #[test]
    fn of_many_the_oldest_are_closed_first() {
        let broker = broker();
        let connections = [1, 2, 3].map(|_| connect(&broker, "guest", "/"));
        assert_eq!(answer(&broker, close_all(Some("/"), Some(2))), "2 connections closed");
        assert_eq!(connections.map(|info| is_closing(&info)), [true, true, false]);
    }

    #[test]
    fn those_of_one_user_are_closed_in_every_virtual_host() {
        let broker = broker();
        let (guest, other) = (connect(&broker, "guest", "/"), connect(&broker, "alice", "/"));
        let request = Request::CloseAllUserConnections {
            user: "alice".to_owned(),
            reason: "be gone".to_owned(),
        };
        assert_eq!(answer(&broker, request), "1 connections closed");
        assert_eq!((is_closing(&guest), is_closing(&other)), (false, true));
    }
}
