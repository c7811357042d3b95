//! The families that `/metrics/detailed` is asked for, by RabbitMQ's names.

use crate::vhost::Vhost;

/// Figures that are asked for together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    ConnectionChurn,
    NodeCoarse,
    Node,
    AuthAttempts,
    QueueCoarse,
    QueueConsumerCount,
    Queue,
    QueueDelivery,
    /// What RabbitMQ has no family for.
    QueueFate,
    Channel,
    ChannelExchange,
    ChannelQueue,
    ChannelQueueExchange,
    Connection,
    ConnectionCoarse,
    Exchange,
    QueueExchange,
    VhostStatus,
    ExchangeBindings,
    ExchangeNames,
}

/// Every family by its name in the query.
pub const FAMILIES: [(&str, Family); 20] = [
    ("connection_churn_metrics", Family::ConnectionChurn),
    ("node_coarse_metrics", Family::NodeCoarse),
    ("node_metrics", Family::Node),
    ("auth_attempt_metrics", Family::AuthAttempts),
    ("queue_coarse_metrics", Family::QueueCoarse),
    ("queue_consumer_count", Family::QueueConsumerCount),
    ("queue_metrics", Family::Queue),
    ("queue_delivery_metrics", Family::QueueDelivery),
    ("leveret_queue_metrics", Family::QueueFate),
    ("channel_metrics", Family::Channel),
    ("channel_exchange_metrics", Family::ChannelExchange),
    ("channel_queue_metrics", Family::ChannelQueue),
    ("channel_queue_exchange_metrics", Family::ChannelQueueExchange),
    ("connection_metrics", Family::Connection),
    ("connection_coarse_metrics", Family::ConnectionCoarse),
    ("exchange_metrics", Family::Exchange),
    ("queue_exchange_metrics", Family::QueueExchange),
    ("vhost_status", Family::VhostStatus),
    ("exchange_bindings", Family::ExchangeBindings),
    ("exchange_names", Family::ExchangeNames),
];

/// Those of `/metrics/per-object`: of the whole broker it has everything that `/metrics` has.
const PER_OBJECT: [Family; 12] = [
    Family::QueueCoarse,
    Family::Queue,
    Family::QueueDelivery,
    Family::QueueFate,
    Family::Channel,
    Family::ChannelExchange,
    Family::ChannelQueue,
    Family::ChannelQueueExchange,
    Family::Connection,
    Family::ConnectionCoarse,
    Family::Exchange,
    Family::QueueExchange,
];

impl Family {
    /// What of `/metrics` belongs to the family; nothing if it tells of objects.
    pub fn of_broker(self) -> &'static [&'static str] {
        match self {
            Family::ConnectionChurn => &[
                "connections_opened_total",
                "connections_closed_total",
                "channels_opened_total",
                "channels_closed_total",
                "queues_declared_total",
                "queues_created_total",
                "queues_deleted_total",
            ],
            Family::NodeCoarse => &[
                "process_open_fds",
                "process_open_tcp_sockets",
                "process_resident_memory_bytes",
                "disk_space_available_bytes",
            ],
            Family::Node => &[
                "process_max_fds",
                "process_max_tcp_sockets",
                "resident_memory_limit_bytes",
                "disk_space_available_limit_bytes",
                "erlang_uptime_seconds",
            ],
            Family::AuthAttempts => &[
                "auth_attempts_total",
                "auth_attempts_succeeded_total",
                "auth_attempts_failed_total",
            ],
            _ => &[],
        }
    }
}

/// What a scrape asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    families: Vec<Family>,
    /// The virtual hosts whose queues and exchanges are told; all of them without.
    vhosts: Option<Vec<String>>,
}

impl Selection {
    /// Everything that there is of each object.
    pub fn per_object() -> Selection {
        Selection {
            families: PER_OBJECT.to_vec(),
            vhosts: None,
        }
    }

    /// From a query with any number of `family` and `vhost`. Families that are not known are left out, as in RabbitMQ.
    pub fn of_query(query: &[(String, String)]) -> Selection {
        let values = |key: &'static str| {
            query
                .iter()
                .filter(move |(name, _)| name == key)
                .map(|(_, value)| value)
        };
        let mut selection = Selection::default();
        for wanted in values("family") {
            let known = FAMILIES.iter().find(|(name, _)| name == wanted);
            if let Some((_, family)) = known.filter(|(_, family)| !selection.has(*family)) {
                selection.families.push(*family);
            }
        }
        // The figure of the one is among those of the other.
        if selection.has(Family::Queue) {
            selection
                .families
                .retain(|family| *family != Family::QueueConsumerCount);
        }
        let vhosts: Vec<String> = values("vhost").cloned().collect();
        selection.vhosts = (!vhosts.is_empty()).then_some(vhosts);
        selection
    }

    /// The families, each once.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// Is the family asked for?
    pub fn has(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// Is the virtual host asked for?
    pub fn takes(&self, vhost: &Vhost) -> bool {
        let vhosts = self.vhosts.as_ref();
        vhosts.is_none_or(|wanted| wanted.iter().any(|name| **name == *vhost.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(query: &[(&str, &str)]) -> Selection {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Selection::of_query(&query.iter().map(owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_query_names_families_each_of_which_counts_once() {
        let asked = [
            ("family", "queue_coarse_metrics"),
            ("family", "vhost_status"),
            ("family", "queue_coarse_metrics"),
            ("other", "queue_metrics"),
        ];
        let selection = selection(&asked);
        assert_eq!(selection.families(), [Family::QueueCoarse, Family::VhostStatus]);
        assert_eq!(selection.vhosts, None);
    }

    #[test]
    fn families_that_are_not_known_are_left_out() {
        let selection = selection(&[("family", "ra_metrics"), ("family", "")]);
        assert_eq!(selection, Selection::default());
    }

    #[test]
    fn the_count_of_consumers_is_told_once() {
        let both = [("family", "queue_consumer_count"), ("family", "queue_metrics")];
        assert_eq!(selection(&both).families(), [Family::Queue]);
        assert_eq!(selection(&both[..1]).families(), [Family::QueueConsumerCount]);
    }

    #[test]
    fn every_family_has_a_name_of_its_own() {
        for (at, (name, family)) in FAMILIES.iter().enumerate() {
            let others = &FAMILIES[at + 1..];
            assert!(
                others.iter().all(|other| other.0 != *name && other.1 != *family),
                "{name}"
            );
        }
    }
}
