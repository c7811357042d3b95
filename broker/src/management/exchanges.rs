//! Exchanges: lists, one exchange, declare, delete.

use std::sync::Arc;

use leveret_routing::ExchangeOptions;

use super::channels::publishes_to;
use super::listing::{self, Row};
use super::past::{Ranges, WithPast};
use super::reply::{ApiError, Outcome, Reply};
use super::request::Request;
use super::views::{ExchangeStats, ExchangeView, ObjectName, OutgoingView, PublishCount};
use crate::json::table_json;
use crate::metrics::past;
use crate::metrics::routed::routed;
use crate::vhost::Vhost;
use crate::vhost::exchanges::ExchangeDeclaration;

impl Row for ExchangeView {
    fn name(&self) -> &str {
        &self.name
    }
}

fn view(request: &Request, vhost: &Vhost, name: String, options: &ExchangeOptions) -> ExchangeView {
    let traffic = (!request.without_figures())
        .then(|| vhost.find_traffic(&name))
        .flatten();
    let applied = vhost.policies_of_exchange(&name);
    let delays = options.delays || applied.of_exchange().delays;
    ExchangeView {
        message_stats: traffic.map(|traffic| ExchangeStats::new(&traffic.counts(), &traffic.rates())),
        incoming: None,
        outgoing: None,
        policy: applied.policy.map(|policy| policy.spec.name.clone()),
        messages_delayed: delays.then(|| vhost.delayed_count(&name)),
        name,
        vhost: vhost.name.to_string(),
        kind: options.kind.as_str(),
        durable: options.durable,
        auto_delete: options.auto_delete,
        internal: options.internal,
        arguments: table_json(&options.arguments),
    }
}

/// `GET /api/exchanges` and `/api/exchanges/{vhost}`.
pub fn list(request: &Request) -> Outcome {
    let mut rows = Vec::new();
    for vhost in request.seen_vhosts()? {
        let exchanges = vhost.exchanges().into_iter();
        rows.extend(exchanges.map(|(name, options)| view(request, &vhost, name, &options)));
    }
    listing::list(request, rows)
}

/// `GET /api/exchanges/{vhost}/{name}`.
pub fn get(request: &Request) -> Outcome {
    let (vhost, name) = (request.vhost()?, request.exchange("name"));
    let options = vhost.find_exchange(name).ok_or(ApiError::NotFound)?;
    let mut view = view(request, &vhost, name.to_owned(), &options);
    if !request.without_figures() {
        let traffic = vhost.find_traffic(name);
        let incoming = traffic.map(|traffic| publishes_to(&request.broker, &traffic));
        view.incoming = Some(incoming.unwrap_or_default());
        let mut outgoing = routed(&request.broker, std::slice::from_ref(&vhost));
        outgoing.retain(|routed| *routed.exchange.name == *name);
        let outgoing = outgoing.iter().map(|routed| OutgoingView {
            queue: ObjectName {
                name: routed.queue.name.to_string(),
                vhost: routed.queue.vhost.to_string(),
            },
            stats: PublishCount { publish: routed.count },
        });
        view.outgoing = Some(outgoing.collect());
    }
    let Some(ranges) = Ranges::of(request)? else {
        return listing::object(request, &view);
    };
    let (key, exchange) = (format!("exchange {:?} {name:?}", vhost.name), name.to_owned());
    let vhost = Arc::downgrade(&vhost);
    let look = move || {
        let traffic = vhost.upgrade()?.find_traffic(&exchange);
        Some(traffic.map(|traffic| traffic.counts()).unwrap_or_default())
    };
    listing::object(
        request,
        &WithPast::of(request, &view, &ranges, key, &past::EXCHANGE, look),
    )
}

/// `PUT /api/exchanges/{vhost}/{name}`: exchange.declare.
pub fn put(request: &Request) -> Outcome {
    let (vhost, fields) = (request.vhost()?, request.fields()?);
    let name = request.exchange("name");
    let declaration = ExchangeDeclaration {
        name,
        kind: fields.text("type")?.unwrap_or("direct"),
        passive: false,
        durable: fields.flag("durable", false)?,
        auto_delete: fields.flag("auto_delete", false)?,
        internal: fields.flag("internal", false)?,
        arguments: fields.table("arguments")?,
    };
    let is_new = vhost.find_exchange(name).is_none();
    let durable = vhost.declare_exchange(&request.actor(&vhost)?, declaration)?;
    request.wait(durable)?;
    Ok(Reply::put(is_new))
}

/// `DELETE /api/exchanges/{vhost}/{name}`: exchange.delete, with `if-unused`.
pub fn delete(request: &Request) -> Outcome {
    let (vhost, name) = (request.vhost()?, request.exchange("name"));
    vhost.find_exchange(name).ok_or(ApiError::NotFound)?;
    let durable = vhost.delete_exchange(&request.actor(&vhost)?, name, request.query_flag("if-unused"))?;
    request.wait(durable)?;
    Ok(Reply::done())
}
