//! The pages that Prometheus reads, made of the counters, the gauges and the figures of objects.

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Registry, TextEncoder};

use super::families::Selection;
use super::text::{Text, TooLong};
use super::{objects, snapshot};
use crate::broker::Broker;

/// The prefix of RabbitMQ's names.
const PREFIX: &str = "rabbitmq_";
/// The prefix of its names on `/metrics/detailed`, so that nothing is counted twice by who scrapes both.
const DETAILED_PREFIX: &str = "rabbitmq_detailed_";
/// What every page has.
const INFORMATION: [&str; 2] = ["rabbitmq_identity_info", "rabbitmq_build_info"];

/// A page.
#[derive(Clone, Debug)]
pub enum Page {
    /// `/metrics`: sums over the whole broker.
    Aggregated,
    /// `/metrics/per-object`: the same, and of each object instead of their sum what there is.
    PerObject,
    /// `/metrics/detailed`: what is asked for.
    Detailed(Selection),
    /// `/metrics/memory-breakdown`.
    MemoryBreakdown,
}

impl Page {
    /// Its name in `rabbitmq_identity_info`.
    fn name(&self) -> &'static str {
        match self {
            Page::Aggregated => "aggregated",
            Page::PerObject => "per-object",
            Page::Detailed(_) => "detailed",
            Page::MemoryBreakdown => "memory-breakdown",
        }
    }
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// A figure cannot be written.
    #[error(transparent)]
    Prometheus(#[from] prometheus::Error),
    /// There are too many of them.
    #[error("{0}")]
    TooLong(TooLong),
}

/// A page of this moment.
pub fn render(broker: &Broker, counters: &Registry, page: &Page) -> Result<String, ScrapeError> {
    if matches!(page, Page::MemoryBreakdown) {
        return encode(snapshot::memory_breakdown(broker, page.name())?);
    }
    let mut families = counters.gather();
    families.extend(snapshot::gather(broker, page.name())?);
    let mut objects = Text::default();
    match page {
        Page::PerObject => {
            objects::write(broker, &Selection::per_object(), PREFIX, &mut objects);
            families.retain(|family| !objects.has(family.name()));
        }
        Page::Detailed(selection) => {
            objects::write(broker, selection, DETAILED_PREFIX, &mut objects);
            families = families
                .into_iter()
                .filter_map(|family| detailed(selection, family))
                .collect();
        }
        Page::Aggregated | Page::MemoryBreakdown => {}
    }
    objects.behind(&encode(families)?).map_err(ScrapeError::TooLong)
}

/// A figure of the whole broker as `/metrics/detailed` has it, if it is asked for.
fn detailed(selection: &Selection, mut family: MetricFamily) -> Option<MetricFamily> {
    if INFORMATION.contains(&family.name()) {
        return Some(family);
    }
    let name = family.name().strip_prefix(PREFIX)?;
    let mut wanted = selection.families().iter().flat_map(|family| family.of_broker());
    if !wanted.any(|wanted| *wanted == name) {
        return None;
    }
    let renamed = format!("{DETAILED_PREFIX}{name}");
    family.set_name(renamed);
    Some(family)
}

fn encode(mut families: Vec<MetricFamily>) -> Result<String, ScrapeError> {
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    let text = String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))?;
    Ok(as_dashboards_expect(&text))
}

/// Bounds of the message size histogram as the encoder prints them, and as RabbitMQ's dashboards look for them.
const BOUND_SPELLINGS: [(&str, &str); 8] = [
    ("100", "100.0"),
    ("1000", "1000.0"),
    ("10000", "10000.0"),
    ("100000", "100000.0"),
    ("1000000", "1e+06"),
    ("10000000", "1e+07"),
    ("50000000", "5e+07"),
    ("100000000", "1e+08"),
];

fn as_dashboards_expect(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len() + 64);
    for line in text.lines() {
        let spelling = line.starts_with("rabbitmq_message_size_bytes_bucket").then(|| {
            BOUND_SPELLINGS
                .iter()
                .find(|(printed, _)| line.contains(&format!("le=\"{printed}\"")))
        });
        match spelling.flatten() {
            Some((printed, expected)) => {
                spelled.push_str(&line.replace(&format!("le=\"{printed}\""), &format!("le=\"{expected}\"")));
            }
            None => spelled.push_str(line),
        }
        spelled.push('\n');
    }
    spelled
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use amq_protocol::types::FieldTable;
    use leveret_storage::{Store, StoreOptions};

    use super::super::families::FAMILIES;
    use super::*;
    use crate::config::Config;
    use crate::protocol::message::Message;
    use crate::vhost::Actor;
    use crate::vhost::effects::Scratch;
    use crate::vhost::exchanges::ExchangeDeclaration;
    use crate::vhost::queues::QueueDeclaration;

    /// A broker with queue `first` in `/` and queue `second` in `other`.
    fn broker() -> (Arc<Broker>, Registry) {
        let counters = Registry::new();
        let store = Store::in_memory(StoreOptions::default());
        let broker = crate::startup::start(Config::default(), store, &counters).unwrap();
        broker.add_vhost("other").unwrap();
        declare(&broker, "/", "first");
        declare(&broker, "other", "second");
        (broker, counters)
    }

    fn declare(broker: &Broker, vhost: &str, name: &str) {
        let declaration = QueueDeclaration {
            name,
            server_named: false,
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::default(),
        };
        let vhost = broker.vhost(vhost).unwrap();
        vhost.declare_queue(&Actor::operator(), declaration).unwrap();
    }

    fn page(page: &Page) -> String {
        let (broker, counters) = broker();
        render(&broker, &counters, page).unwrap()
    }

    fn detailed_page(query: &[(&str, &str)]) -> String {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let query: Vec<_> = query.iter().map(owned).collect();
        page(&Page::Detailed(Selection::of_query(&query)))
    }

    /// The lines with samples, but for those that every page has.
    fn samples(text: &str) -> Vec<&str> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter(|line| !INFORMATION.iter().any(|name| line.starts_with(name)))
            .collect()
    }

    #[test]
    fn without_a_family_a_detailed_page_tells_who_answers_and_nothing_else() {
        let text = detailed_page(&[]);
        assert!(text.contains("rabbitmq_endpoint=\"detailed\""), "{text}");
        assert!(text.contains("rabbitmq_build_info{"), "{text}");
        assert!(samples(&text).is_empty(), "{text}");
        assert!(samples(&detailed_page(&[("family", "ra_metrics")])).is_empty());
    }

    #[test]
    fn a_family_of_queues_has_a_line_for_each_queue_and_its_type() {
        let text = detailed_page(&[("family", "queue_coarse_metrics")]);
        let expected = [
            "rabbitmq_detailed_queue_messages_ready{vhost=\"/\",queue=\"first\"} 0",
            "rabbitmq_detailed_queue_messages_ready{vhost=\"other\",queue=\"second\"} 0",
            "rabbitmq_detailed_queue_messages_unacked{vhost=\"/\",queue=\"first\"} 0",
            "rabbitmq_detailed_queue_messages_unacked{vhost=\"other\",queue=\"second\"} 0",
            "rabbitmq_detailed_queue_messages{vhost=\"/\",queue=\"first\"} 0",
            "rabbitmq_detailed_queue_messages{vhost=\"other\",queue=\"second\"} 0",
            "rabbitmq_detailed_queue_info{vhost=\"/\",queue=\"first\",queue_type=\"rabbit_classic_queue\",membership=\"leader\"} 1",
            "rabbitmq_detailed_queue_info{vhost=\"other\",queue=\"second\",queue_type=\"rabbit_classic_queue\",membership=\"leader\"} 1",
        ];
        assert_eq!(samples(&text), expected);
    }

    #[test]
    fn virtual_hosts_that_are_not_asked_for_are_left_out() {
        let query = [
            ("family", "queue_consumer_count"),
            ("family", "vhost_status"),
            ("vhost", "other"),
        ];
        let text = detailed_page(&query);
        assert!(
            text.contains("rabbitmq_detailed_queue_consumers{vhost=\"other\",queue=\"second\"} 0"),
            "{text}"
        );
        assert!(
            text.contains("rabbitmq_cluster_vhost_status{vhost=\"other\"} 1"),
            "{text}"
        );
        assert!(!text.contains("first") && !text.contains("vhost=\"/\""), "{text}");
        let nobody = [("family", "queue_coarse_metrics"), ("vhost", "nobody")];
        assert!(samples(&detailed_page(&nobody)).is_empty());
    }

    #[test]
    fn figures_of_the_whole_broker_are_in_the_families_that_have_them() {
        let text = detailed_page(&[("family", "connection_churn_metrics"), ("family", "node_metrics")]);
        assert!(text.contains("\nrabbitmq_detailed_queues_created_total 2\n"), "{text}");
        assert!(text.contains("\nrabbitmq_detailed_erlang_uptime_seconds "), "{text}");
        assert_eq!(samples(&text).len(), 7 + 5, "{text}");
    }

    #[test]
    fn exchanges_are_listed_with_their_bindings_but_for_internal_ones_and_the_default_one() {
        let (broker, counters) = broker();
        let vhost = broker.vhost("/").unwrap();
        for (name, internal) in [("news", false), ("hidden", true)] {
            let declaration = ExchangeDeclaration {
                name,
                kind: "topic",
                passive: false,
                durable: false,
                auto_delete: false,
                internal,
                arguments: FieldTable::default(),
            };
            vhost.declare_exchange(&Actor::operator(), declaration).unwrap();
        }
        for key in ["a", "b"] {
            let bound = vhost.bind_queue(&Actor::operator(), "first", "news", key, &FieldTable::default());
            bound.unwrap();
        }
        let query = ["exchange_bindings", "exchange_names"].map(|name| ("family".to_owned(), name.to_owned()));
        let selection = Selection::of_query(&query);
        let text = render(&broker, &counters, &Page::Detailed(selection)).unwrap();
        let labels = "{vhost=\"/\",exchange=\"news\",type=\"topic\"}";
        assert!(
            text.contains(&format!("rabbitmq_cluster_exchange_bindings{labels} 2\n")),
            "{text}"
        );
        assert!(
            text.contains(&format!("rabbitmq_cluster_exchange_name{labels} 1\n")),
            "{text}"
        );
        assert!(!text.contains("hidden") && !text.contains("exchange=\"\""), "{text}");
        let other = "{vhost=\"other\",exchange=\"amq.direct\",type=\"direct\"}";
        assert!(
            text.contains(&format!("rabbitmq_cluster_exchange_bindings{other} 0\n")),
            "{text}"
        );
    }

    #[test]
    fn per_object_has_what_the_sums_have_and_queues_in_the_place_of_their_sum() {
        let (broker, counters) = broker();
        let names = |text: &str| -> BTreeSet<String> {
            let heads = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
            let names: Vec<String> = heads
                .filter_map(|head| Some(head.split_once(' ')?.0.to_owned()))
                .collect();
            let set: BTreeSet<String> = names.iter().cloned().collect();
            assert_eq!(names.len(), set.len(), "a name stands for one family: {text}");
            set
        };
        let sums = render(&broker, &counters, &Page::Aggregated).unwrap();
        let objects = render(&broker, &counters, &Page::PerObject).unwrap();
        let missing: Vec<_> = names(&sums).difference(&names(&objects)).cloned().collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(sums.contains("\nrabbitmq_queue_messages_ready 0\n"), "{sums}");
        assert!(!objects.contains("\nrabbitmq_queue_messages_ready 0\n"), "{objects}");
        for sample in [
            "rabbitmq_queue_messages_ready{vhost=\"/\",queue=\"first\"} 0\n",
            "rabbitmq_queue_messages_delivered_ack_total{vhost=\"other\",queue=\"second\"} 0\n",
            "leveret_queue_messages_published_total{vhost=\"/\",queue=\"first\"} 0\n",
            "\nrabbitmq_queues 2\n",
            "rabbitmq_endpoint=\"per-object\"",
        ] {
            assert!(objects.contains(sample), "{sample} in {objects}");
        }
    }

    #[test]
    fn what_outlives_a_restart_what_was_written_and_the_age_of_the_head_are_told() {
        let (broker, counters) = broker();
        let queue = broker.vhost("/").unwrap().find_queue("first").unwrap();
        // Delivery mode 2 and a timestamp; nothing.
        let properties: [&[u8]; 2] = [&[0b0001_0000, 0b0100_0000, 2, 0, 0, 0, 0, 0, 0, 0, 77], &[0, 0]];
        for properties in properties {
            let header = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5], properties].concat();
            let message = Message::new(b"\0\x05first", &header, b"hello");
            queue.publish(&mut vec![message], &mut Scratch::default());
        }
        let sums = render(&broker, &counters, &Page::Aggregated).unwrap();
        for sample in [
            "rabbitmq_queue_messages_ram 2\n",
            "rabbitmq_queue_messages_ram_bytes 10\n",
            "rabbitmq_queue_messages_persistent 1\n",
            "rabbitmq_queue_messages_persistent_bytes 5\n",
            "rabbitmq_queue_messages_paged_out 0\n",
            "rabbitmq_queue_disk_writes_total 1\n",
            "rabbitmq_queue_disk_reads_total 0\n",
        ] {
            assert!(sums.contains(&format!("\n{sample}")), "{sample} in {sums}");
        }
        assert!(
            !sums.contains("head_message_timestamp"),
            "a sum of times is no time: {sums}"
        );
        let objects = render(&broker, &counters, &Page::PerObject).unwrap();
        let labels = "{vhost=\"/\",queue=\"first\"}";
        for (name, value) in [
            ("head_message_timestamp", 77),
            ("messages_ready_ram", 2),
            ("messages_unacked_ram", 0),
            ("messages_persistent", 1),
            ("disk_writes_total", 1),
        ] {
            let sample = format!("\nrabbitmq_queue_{name}{labels} {value}\n");
            assert!(objects.contains(&sample), "{sample} in {objects}");
        }
        assert!(!objects.contains("head_message_timestamp{vhost=\"other\""), "{objects}");
        assert!(!objects.contains("\nrabbitmq_queue_disk_writes_total 1\n"), "{objects}");
    }

    #[test]
    fn logins_are_told_by_protocol() {
        let (broker, counters) = broker();
        broker.counters.http_logins.count(true);
        broker.counters.http_logins.count(false);
        for (page, prefix) in [
            (Page::Aggregated, PREFIX),
            (
                Page::Detailed(Selection::of_query(&[("family".into(), "auth_attempt_metrics".into())])),
                DETAILED_PREFIX,
            ),
        ] {
            let text = render(&broker, &counters, &page).unwrap();
            for sample in [
                "auth_attempts_total{protocol=\"http\"} 2",
                "auth_attempts_succeeded_total{protocol=\"http\"} 1",
                "auth_attempts_failed_total{protocol=\"http\"} 1",
                "auth_attempts_total{protocol=\"amqp091\"} 0",
            ] {
                assert!(text.contains(&format!("\n{prefix}{sample}\n")), "{sample} in {text}");
            }
        }
    }

    #[test]
    fn the_memory_is_what_queues_hold_and_all_else() {
        let text = page(&Page::MemoryBreakdown);
        assert!(
            text.contains("\nrabbitmq_memory_classic_queue_erlang_process_bytes 0\n"),
            "{text}"
        );
        assert!(text.contains("\nrabbitmq_memory_other_system_bytes "), "{text}");
        assert_eq!(samples(&text).len(), 2, "{text}");
    }

    #[test]
    fn the_page_of_metrics_names_every_family_and_figure_of_objects() {
        let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let manual = std::fs::read_to_string(manual).unwrap();
        for (name, _) in FAMILIES {
            assert!(manual.contains(&format!("`{name}`")), "{name}");
        }
        let all: Vec<_> = FAMILIES.iter().map(|(name, _)| ("family", *name)).collect();
        for line in detailed_page(&all).lines() {
            let Some(name) = line.strip_prefix("# TYPE ").and_then(|head| head.split(' ').next()) else {
                continue;
            };
            let short = name.strip_prefix(DETAILED_PREFIX).unwrap_or(name);
            let known = [short.to_owned(), format!("{PREFIX}{short}")];
            assert!(known.iter().any(|name| manual.contains(&format!("`{name}`"))), "{name}");
        }
    }

    #[test]
    fn histogram_bounds_are_spelled_as_dashboards_query_them() {
        let text = "rabbitmq_message_size_bytes_bucket{le=\"1000000\"} 3\nrabbitmq_queues{le=\"100\"} 1\n";
        let expected = "rabbitmq_message_size_bytes_bucket{le=\"1e+06\"} 3\nrabbitmq_queues{le=\"100\"} 1\n";
        assert_eq!(as_dashboards_expect(text), expected);
    }
}
