//! Keys of RabbitMQ's file that mean nothing here, and what to do instead. Those that would have made a broker safer than this one
//! is without them are refused: nobody should find out later.

use super::rabbitmq_conf::{Line, Refusal};

/// What becomes of such a key.
enum Fate {
    /// Nothing: what it asks for is done, or it means something with another key only.
    Nothing,
    /// A line of the log says why.
    Warned(&'static str),
    /// The broker does not start.
    Refused(&'static str),
}

use Fate::{Nothing, Refused, Warned};

/// A key, or the first parts of keys; values that ask for nothing; what is said of the others. The first that fits counts.
type Elsewhere = (&'static str, &'static [&'static str], Fate);

const BASIC_AUTH: &str = "the management API takes passwords beside tokens";
const ONE_NODE: &str = "this broker is one node";
const NO_ERLANG: &str = "there is nothing to tune here";
const STANDARD_ERROR: &str =
    "the log goes to standard error, where systemd and containers keep it; see log_level and log_format";
const ONE_LEVEL: &str = "levels by category are directives such as LEVERET_LOG_LEVEL=info,leveret::net=debug";
const OTHER_PROTOCOLS: &str = "AMQP 0-9-1 is what is spoken here";
const NO_PLUGIN: &str = "there is no such plug-in here";
const SOCKETS: &str = "sockets and HTTP connections are set up and bounded by the broker, see docs/limits.md";

const ELSEWHERE: &[Elsewhere] = &[
    // Safety.
    ("management.disable_basic_auth", &["false"], Refused(BASIC_AUTH)),
    ("management.oauth_disable_basic_auth", &["false"], Refused(BASIC_AUTH)),
    (
        "management.restrictions.operator_policy_changes.disabled",
        &["false"],
        Refused("administrators may always change operator policies"),
    ),
    (
        "default_user_tags.administrator",
        &["true"],
        Refused(
            "default_user is an administrator: set default_user = in LEVERET_DEFAULT_USER to nothing and list users in load_definitions",
        ),
    ),
    (
        "default_user_tags",
        &["false"],
        Warned("default_user is an administrator and nothing else"),
    ),
    (
        "default_permissions",
        &[".*"],
        Refused(
            "default_user may do everything in default_vhost: list users with other permissions in load_definitions",
        ),
    ),
    (
        "credential_validator.validation_backend",
        &["rabbit_credential_validator_accept_everything"],
        Refused("any password that is not empty may be set here"),
    ),
    // They count only with a backend.
    ("credential_validator", &[], Nothing),
    (
        "ssl_cert_login_san_index",
        &["0"],
        Refused("the first name of the kind is the user's"),
    ),
    (
        "ssl_allow_poodle_attack",
        &["false"],
        Warned("versions of TLS before 1.2 are not spoken"),
    ),
    (
        "ssl_handshake_timeout",
        &[],
        Warned("handshake_timeout bounds the handshake of TLS, too"),
    ),
    (
        "definitions.import_backend",
        &["local_filesystem"],
        Refused("definitions come from a file: load_definitions"),
    ),
    (
        "definitions.https",
        &[],
        Refused("definitions come from a file: load_definitions"),
    ),
    (
        "definitions.tls",
        &[],
        Warned("definitions come from a file: load_definitions"),
    ),
    (
        "definitions",
        &[],
        Warned("definitions are imported at the first start only; later with leveret ctl import_definitions"),
    ),
    // Limits and defaults.
    (
        "consumer_timeout",
        &[],
        Warned(
            "a timeout is the policy key consumer-timeout or the argument x-consumer-timeout; there is none by default",
        ),
    ),
    (
        "default_limits",
        &[],
        Warned("limits of virtual hosts are set with leveret ctl set_vhost_limits, or come with load_definitions"),
    ),
    (
        "default_policies",
        &[],
        Warned("policies are set with leveret ctl set_policy and set_operator_policy, or come with load_definitions"),
    ),
    (
        "default_users",
        &[],
        Warned("users come with load_definitions, or as [[users]] of our own form of configuration"),
    ),
    (
        "default_queue_type",
        &["classic"],
        Warned("queues of all types are of one kind here"),
    ),
    (
        "default_consumer_prefetch",
        &[],
        Warned("consumers say their prefetch themselves with basic.qos"),
    ),
    (
        "channel_max_per_node",
        &["infinity"],
        Warned("there is no such limit; see channel_max and limits of users"),
    ),
    ("session_max_per_connection", &[], Warned(OTHER_PROTOCOLS)),
    ("link_max_per_session", &[], Warned(OTHER_PROTOCOLS)),
    (
        "cluster_queue_limit",
        &["infinity"],
        Warned("there is no such limit; see leveret ctl set_vhost_limits"),
    ),
    (
        "cluster_exchange_limit",
        &["infinity"],
        Warned("there is no such limit"),
    ),
    ("vhost_max", &["infinity"], Warned("there is no such limit")),
    (
        "total_memory_available_override_value",
        &[],
        Warned("say vm_memory_high_watermark.absolute"),
    ),
    (
        "initial_frame_max",
        &[],
        Warned("frames before connection.tune may have 8 KiB"),
    ),
    (
        "trace_vhosts",
        &[],
        Warned("leveret ctl trace_on turns tracing on while the broker runs"),
    ),
    // The log.
    ("log.console.use_colors", &["false"], Warned("lines have no colours")),
    (
        "log.console.formatter",
        &[],
        Warned("there is nothing to choose but log.console.formatter = json or plaintext"),
    ),
    ("log.console", &["true"], Warned(STANDARD_ERROR)),
    ("log.file", &["false"], Warned(STANDARD_ERROR)),
    ("log.exchange", &["false"], Warned(STANDARD_ERROR)),
    ("log.syslog", &["false"], Warned(STANDARD_ERROR)),
    ("log.journald", &["false"], Warned(STANDARD_ERROR)),
    ("log.dir", &[], Warned(STANDARD_ERROR)),
    ("log", &[], Warned(ONE_LEVEL)),
    // HTTP.
    (
        "management.path_prefix",
        &["/"],
        Warned("the API is at /api and the pages at /; have the proxy take the prefix away"),
    ),
    (
        "management.cors",
        &[],
        Warned("pages of other origins may not call the API; serve them behind the same proxy"),
    ),
    ("management.csp", &[], Warned("the pages have a policy of their own")),
    ("management.headers", &[], Warned("the pages have headers of their own")),
    ("management.hsts", &[], Warned("a proxy in front may add it")),
    (
        "management.oauth_enabled",
        &["false"],
        Warned("the pages ask for a name and a password; a token is a password"),
    ),
    (
        "management.rates_mode",
        &["basic"],
        Warned("rates are there for all queues, at no cost that can be seen"),
    ),
    ("management", &[], Warned("the management API has its own way")),
    (
        "management_agent",
        &[],
        Warned("statistics are counters that nobody collects"),
    ),
    (
        "prometheus.path",
        &["/metrics"],
        Warned("the metrics are at /metrics, /metrics/per-object and /metrics/detailed"),
    ),
    (
        "prometheus.return_per_object_metrics",
        &["false"],
        Warned("have Prometheus read /metrics/per-object"),
    ),
    ("prometheus", &[], Warned("the metrics have their own way")),
    ("tcp_listen_options", &[], Warned(SOCKETS)),
    ("num_acceptors", &[], Warned(SOCKETS)),
    (
        "reverse_dns_lookups",
        &["false"],
        Warned("connections are named by their addresses"),
    ),
    ("socket_writer", &[], Warned(SOCKETS)),
    // One node, and no Erlang.
    ("cluster_formation", &[], Warned(ONE_NODE)),
    ("cluster_partition_handling", &["ignore"], Warned(ONE_NODE)),
    ("cluster_keepalive_interval", &[], Warned(ONE_NODE)),
    ("cluster_tags", &[], Warned(ONE_NODE)),
    ("node_tags", &[], Warned(ONE_NODE)),
    ("delegate_count", &[], Warned(ONE_NODE)),
    ("distribution", &[], Warned(ONE_NODE)),
    ("net_ticktime", &[], Warned(ONE_NODE)),
    ("mirroring_sync_batch_size", &[], Warned(ONE_NODE)),
    ("mirroring_sync_max_throughput", &[], Warned(ONE_NODE)),
    ("mnesia_table_loading_retry_timeout", &[], Warned(ONE_NODE)),
    ("mnesia_table_loading_retry_limit", &[], Warned(ONE_NODE)),
    ("khepri_default_timeout", &[], Warned(ONE_NODE)),
    ("metadata_store", &[], Warned(ONE_NODE)),
    ("queue_leader_locator", &[], Warned(ONE_NODE)),
    ("queue_master_locator", &[], Warned(ONE_NODE)),
    ("quorum_cluster_size", &[], Warned(ONE_NODE)),
    ("quorum_membership_reconciliation", &[], Warned(ONE_NODE)),
    ("quorum_queue", &[], Warned("queues of all types are of one kind here")),
    (
        "quorum_commands_soft_limit",
        &[],
        Warned("queues of all types are of one kind here"),
    ),
    ("classic_queue", &[], Warned("queues of all types are of one kind here")),
    (
        "queue_index_embed_msgs_below",
        &[],
        Warned("queues of all types are of one kind here"),
    ),
    ("raft", &[], Warned("queues of all types are of one kind here")),
    ("stream", &[], Warned("there are no streams here")),
    ("erlang", &[], Warned(NO_ERLANG)),
    ("sysmon_handler", &[], Warned(NO_ERLANG)),
    ("hipe_compile", &["false"], Warned(NO_ERLANG)),
    ("background_gc_enabled", &["false"], Warned(NO_ERLANG)),
    ("background_gc_target_interval", &[], Warned(NO_ERLANG)),
    ("vm_memory_calculation_strategy", &[], Warned(NO_ERLANG)),
    (
        "vm_memory_high_watermark_paging_ratio",
        &[],
        Warned("queues are on disk beyond queue_memory_budget, see docs/paging.md"),
    ),
    ("memory_monitor_interval", &[], Warned(NO_ERLANG)),
    ("default_worker_pool_size", &[], Warned("see worker_threads")),
    ("collect_statistics", &[], Warned(NO_ERLANG)),
    ("collect_statistics_interval", &[], Warned(NO_ERLANG)),
    ("channel_operation_timeout", &[], Warned(NO_ERLANG)),
    ("channel_tick_interval", &[], Warned(NO_ERLANG)),
    ("message_store_shutdown_timeout", &[], Warned("see shutdown_deadline")),
    ("vhost_restart_strategy", &[], Warned(NO_ERLANG)),
    ("deprecated_features", &[], Warned("nothing that works is taken away")),
    ("motd_file", &[], Nothing),
    // Protocols and plug-ins.
    ("mqtt", &[], Warned(OTHER_PROTOCOLS)),
    ("stomp", &[], Warned(OTHER_PROTOCOLS)),
    ("web_mqtt", &[], Warned(OTHER_PROTOCOLS)),
    ("web_stomp", &[], Warned(OTHER_PROTOCOLS)),
    ("amqp1_0", &[], Warned(OTHER_PROTOCOLS)),
    ("shovel", &[], Warned(NO_PLUGIN)),
    ("federation", &[], Warned(NO_PLUGIN)),
    ("event_exchange", &[], Warned(NO_PLUGIN)),
    ("tracing", &[], Warned(NO_PLUGIN)),
    ("trust_store", &[], Warned("authorities are in ssl_options.cacertfile")),
    ("auth_cache", &[], Warned(NO_PLUGIN)),
    ("auth_http", &[], Warned(NO_PLUGIN)),
    ("auth_ldap", &[], Warned(NO_PLUGIN)),
    ("aws", &[], Warned(NO_PLUGIN)),
];

/// What to do about a key that is not taken.
pub(super) fn look_up(line: &Line) -> Result<(), Refusal> {
    let found = ELSEWHERE.iter().find(|(key, _, _)| is_of(&line.key, key));
    let Some((_, harmless, fate)) = found else {
        return Err(Refusal::Unknown);
    };
    match fate {
        _ if harmless.contains(&line.value.as_str()) => Ok(()),
        Nothing => Ok(()),
        Warned(reason) => Err(Refusal::Useless(reason)),
        Refused(reason) => Err(Refusal::Bad((*reason).to_owned())),
    }
}

/// Whether a key is this one or below it.
fn is_of(key: &str, above: &str) -> bool {
    key.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
