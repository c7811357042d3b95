//! Bindings: lists from either end, one binding, bind, unbind.
//!
//! A binding between two ends is told from others by its properties key: the routing key, quoted, and behind `~` a hash of
//! the arguments if it has any. The hash is ours; tools take it from one answer into the next request.

use std::collections::HashMap;

use amq_protocol::types::FieldTable;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use leveret_routing::{Binding, Destination};
use sha2::{Digest as _, Sha256};

use super::listing::{self, Row};
use super::reply::{ApiError, Outcome, Reply};
use super::request::{Request, exchange_name};
use super::views::BindingView;
use crate::json::table_json;
use crate::protocol::field_table::encode_table;
use crate::vhost::Vhost;

/// Stands for an empty routing key without arguments, and separates a routing key from the hash of the arguments.
const SEPARATOR: &str = "~";
/// Bytes of the digest of the arguments that tell bindings apart.
const HASH_BYTES: usize = 6;

impl Row for BindingView {
    fn name(&self) -> &str {
        &self.source
    }
}

/// The last part of a binding's path.
fn properties_key(routing_key: &str, arguments: &FieldTable) -> String {
    let quoted = quoted_key(routing_key);
    if !arguments.inner().is_empty() {
        let mut encoded = Vec::new();
        encode_table(arguments, &mut encoded);
        let digest = Sha256::digest(&encoded);
        let hash = BASE64.encode(digest.get(..HASH_BYTES).unwrap_or_default());
        return format!("{quoted}{SEPARATOR}{hash}");
    }
    if quoted.is_empty() {
        SEPARATOR.to_owned()
    } else {
        quoted
    }
}

/// A text as it stands in a path; `~` is quoted too, because it has a meaning here.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => quoted.push(char::from(byte)),
            _ => quoted.push_str(&format!("%{byte:02X}")),
        }
    }
    quoted
}

/// A routing key as it stands in a properties key: a space is a plus.
fn quoted_key(routing_key: &str) -> String {
    quoted(routing_key).replace("%20", "+")
}

/// The bindings of a virtual host, those of its queues to the default exchange among them.
struct Bindings {
    views: Vec<BindingView>,
}

impl Bindings {
    fn of(vhost: &Vhost) -> Bindings {
        let mut queues = vhost.queues();
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        let names: HashMap<u32, &str> = queues.iter().map(|queue| (queue.index, &*queue.name)).collect();
        let implicit = queues.iter().map(|queue| {
            let destination = (queue.name.to_string(), "queue");
            view(vhost, "", destination, &queue.name, &FieldTable::default())
        });
        let mut views: Vec<_> = implicit.collect();
        let bindings = vhost.bindings();
        views.extend(bindings.iter().filter_map(|binding| {
            let destination = destination(binding, &names)?;
            Some(view(
                vhost,
                &binding.source,
                destination,
                &binding.routing_key,
                &binding.arguments,
            ))
        }));
        Bindings { views }
    }

    fn between(mut self, source: &str, destination: &str, kind: &str) -> Vec<BindingView> {
        self.views.retain(|binding| {
            binding.source == source && binding.destination == destination && binding.destination_type == kind
        });
        self.views
    }
}

fn destination(binding: &Binding<u32>, names: &HashMap<u32, &str>) -> Option<(String, &'static str)> {
    match &binding.destination {
        Destination::Exchange(name) => Some((name.to_string(), "exchange")),
        // A queue that was deleted between two looks.
        Destination::Queue(index) => Some(((*names.get(index)?).to_owned(), "queue")),
    }
}

fn view(
    vhost: &Vhost,
    source: &str,
    (destination, destination_type): (String, &'static str),
    routing_key: &str,
    arguments: &FieldTable,
) -> BindingView {
    BindingView {
        source: source.to_owned(),
        vhost: vhost.name.to_string(),
        destination,
        destination_type,
        routing_key: routing_key.to_owned(),
        arguments: table_json(arguments),
        properties_key: properties_key(routing_key, arguments),
    }
}

/// `GET /api/bindings` and `/api/bindings/{vhost}`.
pub fn list(request: &Request) -> Outcome {
    let vhosts = request.seen_vhosts()?;
    let rows = vhosts.iter().flat_map(|vhost| Bindings::of(vhost).views);
    listing::list(request, rows.collect())
}

/// `GET /api/queues/{vhost}/{name}/bindings`.
pub fn of_queue(request: &Request) -> Outcome {
    let queue = super::queues::find(request)?;
    let mut rows = Bindings::of(&*request.vhost()?).views;
    rows.retain(|binding| binding.destination == *queue.name && binding.destination_type == "queue");
    listing::list(request, rows)
}

/// `GET /api/exchanges/{vhost}/{name}/bindings/source`: what leads away from it.
pub fn from_exchange(request: &Request) -> Outcome {
    let (vhost, name) = (request.vhost()?, request.exchange("name"));
    vhost.find_exchange(name).ok_or(ApiError::NotFound)?;
    let mut rows = Bindings::of(&vhost).views;
    rows.retain(|binding| binding.source == name);
    listing::list(request, rows)
}

/// `GET /api/exchanges/{vhost}/{name}/bindings/destination`: what leads to it.
pub fn to_exchange(request: &Request) -> Outcome {
    let (vhost, name) = (request.vhost()?, request.exchange("name"));
    vhost.find_exchange(name).ok_or(ApiError::NotFound)?;
    let mut rows = Bindings::of(&vhost).views;
    rows.retain(|binding| binding.destination == name && binding.destination_type == "exchange");
    listing::list(request, rows)
}

/// The two ends of a binding as the path names them.
struct Ends<'a> {
    source: &'a str,
    destination: &'a str,
    kind: &'static str,
}

fn ends(request: &Request) -> Result<Ends<'_>, ApiError> {
    let (source, destination) = (request.exchange("source"), request.part("destination"));
    match request.part("kind") {
        "q" => Ok(Ends {
            source,
            destination,
            kind: "queue",
        }),
        "e" => Ok(Ends {
            source,
            destination: exchange_name(destination),
            kind: "exchange",
        }),
        _ => Err(ApiError::NotFound),
    }
}

/// `GET /api/bindings/{vhost}/e/{source}/q|e/{destination}`.
pub fn between(request: &Request) -> Outcome {
    let (vhost, ends) = (request.vhost()?, ends(request)?);
    must_exist(&vhost, &ends)?;
    listing::list(
        request,
        Bindings::of(&vhost).between(ends.source, ends.destination, ends.kind),
    )
}

fn must_exist(vhost: &Vhost, ends: &Ends<'_>) -> Result<(), ApiError> {
    let there = vhost.find_exchange(ends.source).is_some()
        && match ends.kind {
            "queue" => vhost.find_queue(ends.destination).is_some(),
            _ => vhost.find_exchange(ends.destination).is_some(),
        };
    if there { Ok(()) } else { Err(ApiError::NotFound) }
}

/// `POST /api/bindings/{vhost}/e/{source}/q|e/{destination}`: queue.bind or exchange.bind.
pub fn post(request: &Request) -> Outcome {
    let (vhost, ends, fields) = (request.vhost()?, ends(request)?, request.fields()?);
    let (routing_key, arguments) = (
        fields.text("routing_key")?.unwrap_or_default(),
        fields.table("arguments")?,
    );
    let actor = request.actor(&vhost)?;
    let durable = match ends.kind {
        "queue" => vhost.bind_queue(&actor, ends.destination, ends.source, routing_key, &arguments),
        _ => vhost.bind_exchange(&actor, ends.destination, ends.source, routing_key, &arguments),
    };
    request.wait(durable?)?;
    let key = properties_key(routing_key, &arguments);
    Ok(Reply::created_at(format!(
        "{}/{}",
        quoted(request.part("destination")),
        quoted_once_more(&key)
    )))
}

/// In a location the key, which is quoted already, is a part of a path and so quoted again.
fn quoted_once_more(key: &str) -> String {
    key.replace('%', "%25").replace('+', "%2B")
}

/// `GET /api/bindings/{vhost}/e/{source}/q|e/{destination}/{key}`.
pub fn get(request: &Request) -> Outcome {
    let (_, view) = find(request)?;
    listing::object(request, &view)
}

fn find(request: &Request) -> Result<(FieldTable, BindingView), ApiError> {
    let (vhost, ends) = (request.vhost()?, ends(request)?);
    let key = request.part("key");
    let bindings = Bindings::of(&vhost).between(ends.source, ends.destination, ends.kind);
    // Clients quote the key once more for the path, or do not; another binding may have the quoted key for its own.
    let with_key = |wanted: &str| bindings.iter().find(|binding| binding.properties_key == wanted);
    let view = with_key(key)
        .or_else(|| with_key(&quoted_key(key)))
        .or_else(|| with_key(&key.replace("%20", "+")))
        .cloned();
    let view = view.ok_or(ApiError::NotFound)?;
    let found = vhost.bindings().into_iter().find(|binding| {
        *binding.source == *view.source
            && properties_key(&binding.routing_key, &binding.arguments) == view.properties_key
    });
    let arguments = found
        .map(|binding| FieldTable::clone(&binding.arguments))
        .unwrap_or_default();
    Ok((arguments, view))
}

/// `DELETE /api/bindings/{vhost}/e/{source}/q|e/{destination}/{key}`: queue.unbind or exchange.unbind.
pub fn delete(request: &Request) -> Outcome {
    let vhost = request.vhost()?;
    let (arguments, view) = find(request)?;
    let actor = request.actor(&vhost)?;
    let durable = match view.destination_type {
        "queue" => vhost.unbind_queue(&actor, &view.destination, &view.source, &view.routing_key, &arguments),
        _ => vhost.unbind_exchange(&actor, &view.destination, &view.source, &view.routing_key, &arguments),
    };
    request.wait(durable?)?;
    Ok(Reply::done())
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::types::AMQPValue;

    #[test]
    fn a_properties_key_is_the_quoted_routing_key_and_a_hash_of_the_arguments() {
        let none = FieldTable::default();
        assert_eq!(properties_key("a.#/b~", &none), "a.%23%2Fb%7E");
        assert_eq!(properties_key("", &none), "~");
        let with = |value: i32| {
            let mut table = FieldTable::default();
            table.insert("a".into(), AMQPValue::LongInt(value));
            table
        };
        let (one, two) = (properties_key("k", &with(1)), properties_key("k", &with(2)));
        assert!(
            one.starts_with("k~") && two.starts_with("k~") && one != two,
            "{one} {two}"
        );
        assert_eq!(one, properties_key("k", &with(1)));
    }
}
