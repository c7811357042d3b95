//! Where RabbitMQ's file has the management API and the metrics listen.

use toml::Value;

use super::rabbitmq_conf::{Line, Place, Refusal};
use super::rabbitmq_tls::Door;
use super::rabbitmq_values::{address, addresses, boolean};

/// An address, put together from two lines.
#[derive(Default)]
struct Address {
    place: Place,
    ip: Option<String>,
    port: Option<String>,
}

/// The listeners of one door. As in RabbitMQ the plain one is there unless only the other is spoken of.
#[derive(Default)]
struct Listeners {
    plain: Option<Address>,
    tls: Option<Address>,
    /// The old form: one listener, with TLS or without.
    old: Option<Address>,
    old_is_tls: bool,
}

/// The listeners of both doors.
#[derive(Default)]
pub(super) struct HttpListeners {
    management: Listeners,
    metrics: Listeners,
}

/// Our keys for a door and the ports it has in RabbitMQ.
struct Names {
    plain: (&'static str, u16),
    tls: (&'static str, u16),
}

const MANAGEMENT: Names = Names {
    plain: ("management_listen", 15672),
    tls: ("management_tls_listen", 15671),
};
const METRICS: Names = Names {
    plain: ("metrics_listen", 15692),
    tls: ("metrics_tls_listen", 15691),
};

impl HttpListeners {
    /// Takes the port or the address of a listener.
    pub fn take(&mut self, door: Door, kind: &str, part: &str, line: &Line) {
        let listeners = self.of(door);
        let address = match kind {
            "tcp" => &mut listeners.plain,
            "ssl" => &mut listeners.tls,
            _ => &mut listeners.old,
        };
        let address = address.get_or_insert_default();
        address.place = line.place;
        match part {
            "ip" => address.ip = Some(line.value.clone()),
            _ => address.port = Some(line.value.clone()),
        }
    }

    /// Whether the listener of the old form speaks TLS.
    pub fn take_old_tls(&mut self, line: &Line) -> Result<(), Refusal> {
        self.management.old_is_tls = boolean(&line.value)?;
        self.management.old.get_or_insert_default().place = line.place;
        Ok(())
    }

    /// An option of TLS is a reason to listen with it.
    pub fn mention_tls(&mut self, door: Door, line: &Line) {
        self.of(door).tls.get_or_insert_default().place = line.place;
    }

    /// The doors that listen with TLS.
    pub fn with_tls(&self) -> Vec<Door> {
        let doors = [(Door::Management, &self.management), (Door::Metrics, &self.metrics)];
        let doors = doors
            .into_iter()
            .filter(|(_, listeners)| listeners.tls.is_some() || listeners.old_is_tls);
        doors.map(|(door, _)| door).collect()
    }

    pub fn finish(self, set: &mut Vec<(&'static str, Place, Value)>) {
        for (listeners, names) in [(self.management, MANAGEMENT), (self.metrics, METRICS)] {
            let Listeners {
                mut plain,
                mut tls,
                old,
                old_is_tls,
            } = listeners;
            if let Some(old) = old {
                let place = if old_is_tls { &mut tls } else { &mut plain };
                place.get_or_insert(old);
            }
            // Who speaks of TLS alone does not want the other.
            if let (None, Some(Address { place, .. })) = (&plain, &tls) {
                set.push((names.plain.0, *place, Value::Array(Vec::new())));
            }
            for (address, (key, port)) in [(plain, names.plain), (tls, names.tls)] {
                if let Some(address) = address {
                    set.push((key, address.place, address.listen(port)));
                }
            }
        }
    }

    fn of(&mut self, door: Door) -> &mut Listeners {
        match door {
            Door::Metrics => &mut self.metrics,
            _ => &mut self.management,
        }
    }
}

impl Address {
    fn listen(self, usual_port: u16) -> Value {
        let port = self.port.unwrap_or_else(|| usual_port.to_string());
        let list = match self.ip {
            Some(ip) => vec![address(&ip, &port)],
            None => addresses(&port),
        };
        Value::Array(list.into_iter().map(Value::String).collect())
    }
}
