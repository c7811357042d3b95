//! Virtual hosts.

use serde_json::Map;

use super::listing::{self, Row};
use super::reply::{ApiError, Outcome, Reply};
use super::request::Request;
use super::views::{DepthView, MessageStats, VhostMetadata, VhostView};
use crate::metrics::rates::{Depth, Flow};
use crate::vhost::{About, Vhost};

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
            self.depth = self.depth.plus(Depth::of_queue(&counts));
            self.depth_rates = self.depth_rates.plus(rates.depth);
        }
    }
}

fn view(request: &Request, vhost: &Vhost) -> VhostView {
    let mut sums = VhostSums::default();
    sums.add(request, vhost);
    let About { description, tags } = vhost.about();
    let node = request.broker.node_name.clone();
    VhostView {
        name: vhost.name.to_string(),
        description: description.clone(),
        tags: tags.clone(),
        default_queue_type: "classic",
        metadata: VhostMetadata { description, tags },
        tracing: false,
        cluster_state: Map::from_iter([(node, "running".into())]),
        depth: DepthView::new(&sums.depth, &sums.depth_rates),
        message_stats: MessageStats::if_any(&sums.flow, &sums.flow_rates),
    }
}

/// `GET /api/vhosts`: those that the caller may see.
pub fn list(request: &Request) -> Outcome {
    let vhosts = request.seen_vhosts()?;
    listing::list(request, vhosts.iter().map(|vhost| view(request, vhost)).collect())
}

/// `GET /api/vhosts/{vhost}`.
pub fn get(request: &Request) -> Outcome {
    listing::object(request, &view(request, &*request.vhost()?))
}

/// `PUT /api/vhosts/{name}`: makes one, or changes what people say about it. A new one may be used by who made it.
pub fn put(request: &Request) -> Outcome {
    let (name, fields) = (request.part("vhost"), request.fields()?);
    let broker = &request.broker;
    let (description, tags) = (fields.text("description")?, fields.texts("tags")?);
    if let Some(vhost) = broker.vhost(name) {
        if description.is_some() || tags.is_some() {
            let mut about = vhost.about();
            about.description = description.map_or(about.description, str::to_owned);
            about.tags = tags.unwrap_or(about.tags);
            let ticket = broker.describe_vhost(name, about)?;
            request.wait(Some(ticket))?;
        }
        return Ok(Reply::done());
    }
    let about = About {
        description: description.unwrap_or_default().to_owned(),
        tags: tags.unwrap_or_default(),
    };
    let ticket = broker.add_vhost_with(name, about)?;
    request.wait(Some(ticket))?;
    let mut edit = broker.users.edit();
    edit.set_permissions(&request.caller()?.user.name, name, ".*", ".*", ".*")?;
    request.commit_users(edit)?;
    Ok(Reply::created())
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
