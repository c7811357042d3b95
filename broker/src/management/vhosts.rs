//! Virtual hosts.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Map;

use super::listing::{self, Row};
use super::overview::this_node;
use super::reply::{ApiError, Outcome, Reply};
use super::request::{Fields, Request};
use super::views::{DepthView, MessageStats, OctetSums, VhostMetadata, VhostView};
use crate::metrics::{Depth, Disk, Flow, Octets};
use crate::vhost::redeclare::RedeclareRule;
use crate::vhost::{About, Vhost};

/// The type of queues where nothing else is said.
const QUEUE_TYPE: &str = "classic";

impl Row for VhostView {
    fn name(&self) -> &str {
        &self.name
    }
}

/// What is in the queues of a virtual host and what happened there, with rates.
#[derive(Default)]
pub struct VhostSums {
    pub queues: u64,
    pub consumers: u64,
    pub flow: Flow<u64>,
    pub flow_rates: Flow<f64>,
    pub disk: Disk<u64>,
    pub disk_rates: Disk<f64>,
    pub depth: Depth<u64>,
    pub depth_rates: Depth<f64>,
}

impl VhostSums {
    /// Adds up the queues of a virtual host.
    pub fn add(&mut self, request: &Request, vhost: &Vhost) {
        for queue in vhost.queues() {
            let (counts, totals) = queue.counts_and_totals();
            let rates = request.rates.queue(queue.id.0);
            self.queues += 1;
            self.consumers += counts.consumers as u64;
            self.flow = self.flow.plus(Flow::of_queue(&totals));
            self.flow_rates = self.flow_rates.plus(rates.flow);
            self.disk = self.disk.plus(Disk::of_queue(&totals));
            self.disk_rates = self.disk_rates.plus(rates.disk);
            self.depth = self.depth.plus(Depth::of_queue(&counts));
            self.depth_rates = self.depth_rates.plus(rates.depth);
        }
    }
}

/// What passed through the sockets of each virtual host's connections, and how fast.
type OctetsByVhost = HashMap<Arc<str>, (Octets<u64>, Octets<f64>)>;

fn octets(request: &Request) -> OctetsByVhost {
    match request.without_figures() {
        true => HashMap::new(),
        false => request.broker.octets_by_vhost(),
    }
}

fn view(request: &Request, vhost: &Vhost, octets: &OctetsByVhost) -> VhostView {
    let sums = (!request.without_figures()).then(|| {
        let mut sums = VhostSums::default();
        sums.add(request, vhost);
        sums
    });
    let About {
        description,
        tags,
        default_queue_type,
        redeclare_rule: _,
        protected_from_deletion,
    } = vhost.about();
    let default_queue_type = default_queue_type.unwrap_or_else(|| QUEUE_TYPE.to_owned());
    let node = request.broker.node_name.clone();
    VhostView {
        name: vhost.name.to_string(),
        description: description.clone(),
        tags: tags.clone(),
        default_queue_type: default_queue_type.clone(),
        redeclare_rule: vhost.redeclare_rule().name(),
        protected_from_deletion,
        metadata: VhostMetadata {
            description,
            tags,
            default_queue_type,
            redeclare_rule: vhost.redeclare_rule().name(),
            protected_from_deletion,
        },
        tracing: vhost.is_traced(),
        cluster_state: Map::from_iter([(node, "running".into())]),
        octets: octets
            .get(&vhost.name)
            .map(|(count, rate)| OctetSums::new(*count, *rate)),
        depth: sums.as_ref().map(|sums| DepthView::new(&sums.depth, &sums.depth_rates)),
        message_stats: sums.as_ref().and_then(|sums| {
            MessageStats::if_any(&sums.flow, &sums.flow_rates)?
                .with_disk(&sums.disk, &sums.disk_rates)
                .into()
        }),
    }
}

/// `GET /api/vhosts`: those that the caller may see.
pub fn list(request: &Request) -> Outcome {
    let vhosts = request.seen_vhosts()?;
    let octets = octets(request);
    let rows = vhosts.iter().map(|vhost| view(request, vhost, &octets));
    listing::list(request, rows.collect())
}

/// `GET /api/vhosts/{vhost}`.
pub fn get(request: &Request) -> Outcome {
    listing::object(request, &view(request, &*request.vhost()?, &octets(request)))
}

/// `PUT /api/vhosts/{name}`: makes one, or changes what people say about it. A new one may be used by who made it.
pub fn put(request: &Request) -> Outcome {
    let (name, fields) = (request.part("vhost"), request.fields()?);
    let broker = &request.broker;
    let (description, tags) = (fields.text("description")?, fields.texts("tags")?);
    let (queue_type, rule) = (queue_type(&fields)?, redeclare_rule(&fields)?);
    let protected = fields.flag_if_any("protected_from_deletion")?;
    let tracing = fields.flag_if_any("tracing")?;
    let is_said = [
        description.is_some(),
        tags.is_some(),
        queue_type.is_some(),
        rule.is_some(),
        protected.is_some(),
    ];
    let say = |about: &mut About| {
        about.protected_from_deletion = protected.unwrap_or(about.protected_from_deletion);
        about.redeclare_rule = rule.unwrap_or(about.redeclare_rule);
        if let Some(description) = description {
            about.description = description.to_owned();
        }
        if let Some(tags) = tags {
            about.tags = tags;
        }
        if queue_type.is_some() {
            about.default_queue_type = queue_type;
        }
    };
    if broker.vhost(name).is_some() {
        if is_said.contains(&true) {
            request.wait(Some(broker.describe_vhost(name, say)?))?;
        }
        set_tracing(request, tracing);
        return Ok(Reply::done());
    }
    let mut about = About::default();
    say(&mut about);
    let ticket = broker.add_vhost_with(name, about)?;
    request.wait(Some(ticket))?;
    set_tracing(request, tracing);
    let caller = request.caller()?;
    // What the bearer of a token may do, its token says.
    if caller.who.token.is_none() {
        let mut edit = broker.users.edit();
        edit.set_permissions(&caller.user.name, name, ".*", ".*", ".*")?;
        request.commit_users(edit)?;
    }
    Ok(Reply::created())
}

/// Begins or ends tracing, if the body says so.
fn set_tracing(request: &Request, tracing: Option<bool>) {
    let broker = &request.broker;
    if let (Some(vhost), Some(on)) = (broker.vhost(request.part("vhost")), tracing)
        && vhost.is_traced() != on
    {
        vhost.set_tracing(on, &broker.node_name);
    }
}

/// The usual type of queues, if the body names one.
fn queue_type(fields: &Fields) -> Result<Option<String>, ApiError> {
    let named = fields.text("default_queue_type")?;
    match named.filter(|name| !["", "undefined"].contains(name)) {
        None => Ok(None),
        Some(name @ (QUEUE_TYPE | "quorum")) => Ok(Some(name.to_owned())),
        Some(other) => Err(ApiError::BadRequest(format!(
            "unsupported default queue type '{other}'"
        ))),
    }
}

/// What becomes of declarations that differ, if the body says it: a rule, or the configured one.
fn redeclare_rule(fields: &Fields) -> Result<Option<Option<RedeclareRule>>, ApiError> {
    match fields.text("redeclare_rule")? {
        None => Ok(None),
        Some("" | "default") => Ok(Some(None)),
        Some(name) => match RedeclareRule::parse(name) {
            Some(rule) => Ok(Some(Some(rule))),
            None => Err(ApiError::BadRequest(format!("unknown redeclare rule '{name}'"))),
        },
    }
}

/// `POST /api/vhosts/{name}/start/{node}`: it runs wherever the node runs.
pub fn start(request: &Request) -> Outcome {
    request.vhost()?;
    this_node(request)?;
    Ok(Reply::done())
}

/// `DELETE /api/vhosts/{name}`: with everything in it.
pub fn delete(request: &Request) -> Outcome {
    let name = request.part("vhost");
    if request.broker.vhost(name).is_none() {
        return Err(ApiError::NotFound);
    }
    let ticket = request.broker.delete_vhost(name)?;
    request.wait(Some(ticket))?;
    Ok(Reply::done())
}

/// `POST /api/vhosts/{name}/deletion/protection`: it is not deleted until this is taken back.
pub fn protect(request: &Request) -> Outcome {
    set_protection(request, true)
}

/// `DELETE /api/vhosts/{name}/deletion/protection`.
pub fn unprotect(request: &Request) -> Outcome {
    set_protection(request, false)
}

fn set_protection(request: &Request, protected: bool) -> Outcome {
    let name = request.part("vhost");
    let edit = |about: &mut About| about.protected_from_deletion = protected;
    let ticket = request.broker.describe_vhost(name, edit)?;
    request.wait(Some(ticket))?;
    Ok(Reply::done())
}
