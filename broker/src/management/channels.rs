//! Channels: lists, one channel, and what channels got from a queue or published to an exchange.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::connections::{self, connection_details, find, seen};
use super::consumers;
use super::listing::{self, Row};
use super::past::{Ranges, WithPast};
use super::reply::{ApiError, Outcome};
use super::request::Request;
use super::views::{
    ChannelDeliveriesView, ChannelDetails, ChannelPublishes, ChannelView, ExchangePublishesView, MessageStats,
    ObjectName, QueueDeliveriesView,
};
use crate::broker::{Broker, ConnectionInfo};
use crate::metrics::{Publishes, past};
use crate::vhost::QueueHandle;
use crate::vhost::traffic::ExchangeTraffic;

impl Row for ChannelView {
    fn name(&self) -> &str {
        &self.name
    }
}

/// `GET /api/channels` and `/api/vhosts/{vhost}/channels`.
pub fn list(request: &Request) -> Outcome {
    let connections = seen(request)?;
    let rows = connections.iter().flat_map(|info| of_connection(&request.broker, info));
    listing::list(request, rows.collect())
}

/// `GET /api/connections/{name}/channels`.
pub fn list_of_connection(request: &Request) -> Outcome {
    let info = find(request)?;
    listing::list(request, of_connection(&request.broker, &info))
}

/// `GET /api/channels/{name}`.
pub fn get(request: &Request) -> Outcome {
    let broker = &request.broker;
    let name = request.part("name");
    let info = connections::find_where(request, |info| {
        name.strip_prefix(&*info.name)
            .is_some_and(|rest| rest.starts_with(" ("))
    })?;
    let mut channels = of_connection(broker, &info).into_iter();
    let mut channel = channels
        .find(|channel| channel.name == name)
        .ok_or(ApiError::NotFound)?;
    let consumed = info.outbox.lock().consumed_by(channel.number);
    let mut consumers = consumers::of_queues(broker, &consumed);
    consumers.retain(|consumer| consumer.channel_details.name == name);
    channel.consumer_details = Some(consumers);
    let (published, got) = {
        let outbox = info.outbox.lock();
        (outbox.published_by(channel.number), outbox.got_by(channel.number))
    };
    channel.publishes = Some(publishes(&channel.vhost, &published));
    let deliveries = got.into_iter().map(|(queue, flow)| ChannelDeliveriesView {
        queue: ObjectName {
            name: queue.name.to_string(),
            vhost: queue.vhost.to_string(),
        },
        stats: flow.into(),
    });
    channel.deliveries = Some(deliveries.collect());
    let Some(ranges) = Ranges::of(request)? else {
        return listing::object(request, &channel);
    };
    let (number, key) = (channel.number, format!("channel {} {}", info.id.0, channel.number));
    let info = Arc::downgrade(&info);
    let look = move || info.upgrade()?.outbox.lock().flow_of(number);
    listing::object(
        request,
        &WithPast::of(request, &channel, &ranges, key, &past::CHANNEL, look),
    )
}

/// The channels of one connection. What only one channel by itself tells is left out of lists.
fn of_connection(broker: &Broker, info: &ConnectionInfo) -> Vec<ChannelView> {
    let identity = info.identity();
    let summaries = info.outbox.lock().channel_summaries();
    let views = summaries.into_iter().map(|channel| ChannelView {
        name: info.channel_name(channel.number),
        number: channel.number,
        node: broker.node_name.clone(),
        user: identity.user.to_string(),
        user_who_performed_action: identity.user.to_string(),
        vhost: identity.vhost.to_string(),
        state: "running",
        connection_details: connection_details(info),
        consumer_count: channel.consumers,
        messages_unacknowledged: channel.unacked,
        global_prefetch_count: channel.prefetch_global,
        prefetch_count: channel.shown.prefetch_count,
        transactional: channel.shown.uncommitted.is_some(),
        confirm: channel.shown.unconfirmed.is_some(),
        messages_uncommitted: channel.shown.uncommitted(|waiting| &waiting.publishes),
        acks_uncommitted: channel.shown.uncommitted(|waiting| &waiting.settlements),
        messages_unconfirmed: channel
            .shown
            .unconfirmed
            .map_or(0, |count| count.load(Ordering::Relaxed)),
        message_stats: MessageStats::if_any(&channel.flow, &channel.rates),
        publishes: None,
        deliveries: None,
        consumer_details: None,
    });
    views.collect()
}

/// A channel in what belongs to it.
pub fn details(node: &str, info: &ConnectionInfo, number: u16) -> ChannelDetails {
    ChannelDetails {
        name: info.channel_name(number),
        number,
        user: info.user().to_string(),
        connection_name: info.name.clone(),
        peer_host: info.peer.ip().to_string(),
        peer_port: info.peer.port(),
        node: node.to_owned(),
    }
}

/// What each channel got from this queue.
pub fn deliveries_of(broker: &Broker, queue: &QueueHandle) -> Vec<QueueDeliveriesView> {
    let of_connection = |info: Arc<ConnectionInfo>| {
        if info.vhost() != queue.vhost {
            return Vec::new();
        }
        let got = info.outbox.lock().channels_with(|channel| channel.of_queue(queue));
        let views = got.into_iter().map(|(number, flow)| QueueDeliveriesView {
            channel_details: details(&broker.node_name, &info, number),
            stats: flow.into(),
        });
        views.collect::<Vec<_>>()
    };
    let connections = broker.connections().into_iter();
    connections.flat_map(of_connection).collect()
}

/// What each channel published to this exchange.
pub fn publishes_to(broker: &Broker, exchange: &Arc<ExchangeTraffic>) -> Vec<ExchangePublishesView> {
    let of_connection = |info: Arc<ConnectionInfo>| {
        let published = info
            .outbox
            .lock()
            .channels_with(|channel| channel.to_exchange(exchange));
        let views = published.into_iter().map(|(number, published)| ExchangePublishesView {
            channel_details: details(&broker.node_name, &info, number),
            stats: published.into(),
        });
        views.collect::<Vec<_>>()
    };
    let publishers = broker.connections_where(ConnectionInfo::publishes);
    publishers.into_iter().flat_map(of_connection).collect()
}

fn publishes(vhost: &str, publishes: &[(Arc<ExchangeTraffic>, Publishes<u64>)]) -> Vec<ChannelPublishes> {
    let views = publishes.iter().map(|(exchange, published)| ChannelPublishes {
        exchange: ObjectName {
            name: exchange.name.to_string(),
            vhost: vhost.to_owned(),
        },
        stats: (*published).into(),
    });
    views.collect()
}
