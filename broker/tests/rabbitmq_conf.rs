//! RabbitMQ's own configuration file, what `leveret config check` says, and what a configuration that is read again changes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail them")]

use std::path::PathBuf;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use leveret::config::{
    Config, DiskFreeLimit, ListenAddress, Loaded, LogFormat, LoginFrom, MemoryWatermark, MetricsAccess, Sources,
    TlsVerify, TlsVersion, key_names,
};

fn read(name: &str, text: &str) -> Result<Loaded, Vec<String>> {
    let sources = Sources {
        files: vec![(PathBuf::from(name), text.to_owned())],
        ..Sources::default()
    };
    sources
        .check()
        .map_err(|mistakes| mistakes.iter().map(ToString::to_string).collect())
}

fn conf(text: &str) -> Config {
    read("rabbitmq.conf", text).unwrap().config
}

fn addresses(list: &[&str]) -> Vec<ListenAddress> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_file_as_operators_have_it_is_read() {
    let config = conf(
        "## Networking
listeners.tcp.default = 5673
listeners.ssl.1 = 10.0.0.1:5671
listeners.ssl.2 = ::1:5671
ssl_options.cacertfile = /etc/ca.pem
ssl_options.certfile   = /etc/server.pem
ssl_options.keyfile    = '/etc/server # 1.key'
ssl_options.verify     = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.versions.1 = tlsv1.3
ssl_cert_login_from = subject_alternative_name
ssl_cert_login_san_type = email
management.tcp.port = 15673
management.tcp.ip   = 127.0.0.1
management.ssl.port = 15671
prometheus.tcp.port = 15693

default_user = bunny   # and its password
default_pass = carrot
default_vhost = burrow
loopback_users.guest = false
heartbeat = 30
frame_max = 262144
channel_max = 100
connection_max = infinity
handshake_timeout = 5000
max_message_size = 1048576
disk_free_limit.absolute = 2GB
vm_memory_high_watermark.absolute = 1536MiB
log.console = true
log.console.level = warning
log.console.formatter = json
cluster_name = warren
anonymous_login_user = sensor
anonymous_login_pass = sensor
prometheus.authentication.enabled = true
auth_backends.1 = internal
load_definitions = /etc/definitions.json
",
    );
    assert_eq!(config.amqp_listen, addresses(&["0.0.0.0:5673", "[::]:5673"]));
    assert_eq!(config.tls_listen, addresses(&["10.0.0.1:5671", "[::1]:5671"]));
    assert_eq!(config.tls_files().unwrap().key, PathBuf::from("/etc/server # 1.key"));
    assert_eq!(
        (config.tls_verify, config.tls_min_version),
        (TlsVerify::Required, TlsVersion::Tls13)
    );
    assert_eq!(config.tls_login_from, LoginFrom::SanEmail);
    assert_eq!(config.management_listen, addresses(&["127.0.0.1:15673"]));
    assert_eq!(
        config.management_tls_listen,
        addresses(&["0.0.0.0:15671", "[::]:15671"])
    );
    assert_eq!(config.metrics_listen, addresses(&["0.0.0.0:15693", "[::]:15693"]));
    assert_eq!(
        (config.default_user.as_str(), config.default_vhost.as_str()),
        ("bunny", "burrow")
    );
    assert_eq!(config.default_pass.expose(), b"carrot");
    assert!(config.loopback_users.is_empty());
    assert_eq!(
        (config.heartbeat, config.frame_max, config.channel_max),
        (30, 262_144, 100)
    );
    assert_eq!((config.connection_max, config.max_message_size), (None, 1 << 20));
    assert_eq!(config.handshake_timeout, Duration::from_secs(5));
    assert_eq!(config.disk_free_limit, DiskFreeLimit::Bytes(2_000_000_000));
    assert_eq!(config.memory_high_watermark, MemoryWatermark::Bytes(1536 << 20));
    assert_eq!(
        (config.log_level.as_str(), config.log_format),
        ("warn", LogFormat::Json)
    );
    assert_eq!(config.cluster_name, "warren");
    assert_eq!(config.anonymous_login_user, "sensor");
    assert_eq!(config.metrics_access, MetricsAccess::Monitoring);
    assert_eq!(config.load_definitions, Some(PathBuf::from("/etc/definitions.json")));
}

#[test]
fn words_that_mean_something_special_are_understood() {
    let config = conf("loopback_users = none\nvm_memory_high_watermark.relative = 0.4\nlog.console.level = none");
    assert!(config.loopback_users.is_empty());
    assert_eq!(config.memory_high_watermark, MemoryWatermark::Fraction(0.4));
    assert_eq!(config.log_level, "off");
    assert_eq!(conf("loopback_users.bunny = true").loopback_users, ["guest", "bunny"]);
    let tls =
        "ssl_options.certfile = c\nssl_options.keyfile = k\nssl_options.cacertfile = a\nlisteners.ssl.default = 5671\n";
    let encrypted_only = conf(&format!("listeners.tcp = none\n{tls}ssl_options.verify = verify_peer"));
    assert!(encrypted_only.amqp_listen.is_empty());
    assert_eq!(encrypted_only.tls_verify, TlsVerify::Optional);
    assert!(matches!(
        conf("disk_free_limit.relative = 1.5").disk_free_limit,
        DiskFreeLimit::Bytes(1..)
    ));
}

#[test]
fn what_tokens_must_be_like_is_read() {
    let text = "auth_backends.1 = rabbit_auth_backend_oauth2
auth_backends.2 = internal
auth_oauth2.resource_server_id = broker
auth_oauth2.issuer = https://id.example.com
auth_oauth2.scope_prefix = api.
auth_oauth2.preferred_username_claims.1 = email
auth_oauth2.preferred_username_claims.2 = sub
auth_oauth2.verify_aud = true
auth_oauth2.jwks_uri = https://id.example.com/keys";
    let loaded = read("rabbitmq.conf", text).unwrap();
    let config = loaded.config;
    assert_eq!(config.oauth_resource_server_id, "broker");
    assert_eq!(config.oauth_issuer, "https://id.example.com");
    assert_eq!(config.oauth_scope_prefix, "api.");
    assert_eq!(config.oauth_username_claims, ["email", "sub"]);
    let told = "rabbitmq.conf line 9: 'auth_oauth2.jwks_uri' has no effect here: keys come from a file, named in LEVERET_OAUTH_JWKS_FILE";
    assert_eq!(loaded.warnings, [told]);
    // Who wanted no passwords must not get them.
    for (text, reason) in [
        ("auth_backends.1 = oauth2", "name the backend internal beside oauth2"),
        ("auth_oauth2.verify_aud = false", "tokens for others are never accepted"),
    ] {
        let mistakes = read("rabbitmq.conf", text).unwrap_err();
        assert!(mistakes.len() == 1 && mistakes[0].contains(reason), "{mistakes:?}");
    }
}

#[test]
fn keys_without_meaning_here_are_named_with_their_lines_and_do_no_harm() {
    let loaded = read(
        "rabbitmq.conf",
        "heartbeat = 7\n\ncluster_formation.peer_discovery_backend = dns\nheartbeats = 9",
    )
    .unwrap();
    assert_eq!(loaded.config.heartbeat, 7);
    assert_eq!(
        loaded.warnings[1],
        "rabbitmq.conf line 4: 'heartbeats' has no effect here; the nearest key that has one is 'heartbeat'"
    );
    assert!(
        loaded.warnings[0]
            .starts_with("rabbitmq.conf line 3: 'cluster_formation.peer_discovery_backend' has no effect")
    );
    assert_eq!(loaded.warnings.len(), 2);
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_line() {
    let text = "nonsense
listeners.tcp.default = x
heartbeat = often
ssl_options.verify = maybe
auth_backends.1 = ldap
proxy_protocol = true
default_pass = encrypted:abc
vm_memory_high_watermark.absolute = 2 wagons
default_user = 'bunny";
    let mistakes = read("/etc/rabbitmq.conf", text).unwrap_err();
    let lines = [
        (1, "expected KEY = VALUE"),
        (
            4,
            "bad value for 'ssl_options.verify': expected verify_peer or verify_none, found 'maybe'",
        ),
        (
            5,
            "bad value for 'auth_backends.1': there is no backend 'ldap' here, only internal and oauth2",
        ),
        (6, "bad value for 'proxy_protocol': whom to believe has to be said"),
        (7, "bad value for 'default_pass': encrypted values cannot be read"),
        (8, "bad value for 'vm_memory_high_watermark.absolute': expected a size"),
        (9, "the closing quote is missing"),
        (3, "bad value for 'heartbeat': expected a time"),
        (2, "bad value for 'amqp_listen': bad address '0.0.0.0:x'"),
    ];
    assert_eq!(mistakes.len(), lines.len(), "{mistakes:#?}");
    for ((line, reason), mistake) in lines.into_iter().zip(mistakes) {
        let expected = format!("/etc/rabbitmq.conf line {line}: {reason}");
        assert!(mistake.starts_with(&expected), "{mistake}");
    }
    let mistakes = read("leveret.toml", "heartbeat = 'often'\nframe_max = 1\nfarme_max = 2").unwrap_err();
    assert_eq!(mistakes.len(), 3, "{mistakes:#?}");
}

#[test]
fn what_is_in_force_is_told_key_by_key_with_its_origin_and_without_passwords() {
    let loaded = read("leveret.toml", "heartbeat = '30s'\n\ndefault_pass = 'carrot'").unwrap();
    let told = loaded.settings.describe();
    assert!(told.contains("heartbeat = \"30s\"  # leveret.toml line 1\n"), "{told}");
    assert!(told.contains("frame_max = 131072  # default\n"), "{told}");
    assert!(
        told.contains("default_pass = (not shown)  # leveret.toml line 3\n"),
        "{told}"
    );
    assert!(!told.contains("carrot"));
    let keys: Vec<&str> = told.lines().filter_map(|line| line.split(" = ").next()).collect();
    assert_eq!(keys, key_names().collect::<Vec<_>>());
}

#[test]
fn what_is_read_again_is_taken_or_waits_for_a_restart() {
    let before = Config::default();
    let later = conf("heartbeat = 7\nlog.console.level = debug\nlisteners.tcp.default = 1234\ndefault_user = other");
    let changes = before.changes_to(&later);
    assert_eq!(changes.taken, ["log_level", "heartbeat"]);
    assert_eq!(changes.at_restart, ["amqp_listen"]);
    assert_eq!(
        (changes.config.heartbeat, &changes.config.log_level),
        (7, &later.log_level)
    );
    assert_eq!(changes.config.amqp_listen, before.amqp_listen);
    let unchanged = before.changes_to(&Config::default());
    assert_eq!((unchanged.taken.len(), unchanged.at_restart.len()), (0, 0));
}

#[test]
fn the_documentation_says_of_every_key_whether_it_is_reloaded() {
    let page = include_str!("../../docs/configuration.md");
    let (_, list) = page.split_once("## Changing it while the broker runs").unwrap();
    for key in key_names() {
        let told = list.contains(&format!("`{key}`"));
        assert_eq!(told, leveret::config::is_reloaded(key), "{key}");
    }
}

/// Parts of files of both forms, whole and broken.
const PARTS: [&str; 34] = [
    "listeners.tcp.1",
    "listeners.ssl.default",
    "management.tcp.port",
    "management.tcp.ip",
    "ssl_options.versions.1",
    "disk_free_limit.absolute",
    "disk_free_limit.relative",
    "vm_memory_high_watermark.relative",
    "loopback_users.",
    "auth_oauth2.preferred_username_claims.1",
    "heartbeat",
    "amqp_listen",
    "[[users]]",
    "[[tls_hosts]]",
    "tags",
    " = ",
    "=",
    ".",
    "'",
    "\"",
    "#",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":::5672",
    "[::1]:",
    "18446744073709551616",
    "-1e999",
    "16EiB",
    "\u{e9}\u{1f980}",
    "\u{0}",
    "true",
];

proptest! {
    #[test]
    fn no_file_is_too_strange_for_an_answer(lines in vec(vec(0..PARTS.len(), 0..8), 0..12), garbage in "\\PC{0,40}") {
        let lines = lines.iter().map(|parts| parts.iter().map(|part| PARTS[*part]).collect::<String>());
        let text = lines.chain([garbage]).collect::<Vec<_>>().join("\n");
        for name in ["rabbitmq.conf", "leveret.toml"] {
            if let Err(mistakes) = read(name, &text) {
                // What several keys say together has no line, but a key.
                let is_placed = |mistake: &String| mistake.contains(name) || mistake.starts_with('\'');
                prop_assert!(!mistakes.is_empty() && mistakes.iter().all(is_placed), "{mistakes:?}");
            }
        }
    }
}

#[test]
fn the_files_of_conf_d_come_after_the_file_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    write(
        "rabbitmq.conf",
        "listeners.tcp.default = 5673\nheartbeat = 7\nmanagement.tcp.port = 15673\nchannel_max = 9",
    );
    write("conf.d/20-later.conf", "heartbeat = 9\nnonsense.key = 1");
    write(
        "conf.d/10-earlier.conf",
        "heartbeat = 8\nmanagement.tcp.ip = 127.0.0.1\nlisteners.tcp.default = 5674",
    );
    write("conf.d/99-other.conf.disabled", "heartbeat = 10");
    let sources = Sources::of_process(Some(folder.path().join("rabbitmq.conf")), Vec::new()).unwrap();
    let sources = Sources {
        environment: Vec::new(),
        ..sources
    };
    let loaded = sources.check().unwrap();
    let config = loaded.config;
    assert_eq!((config.heartbeat, config.channel_max), (9, 9));
    assert_eq!(config.amqp_listen, addresses(&["0.0.0.0:5674", "[::]:5674"]));
    assert_eq!(config.management_listen, addresses(&["127.0.0.1:15673"]));
    assert!(
        loaded.warnings.len() == 1 && loaded.warnings[0].contains("conf.d/20-later.conf line 2: 'nonsense.key'"),
        "{:?}",
        loaded.warnings
    );
    // One that cannot be read is no reason to start with half of what was meant.
    std::fs::write(folder.path().join("conf.d/30-broken.conf"), [0xff, 0xfe]).unwrap();
    let refused = Sources::of_process(Some(folder.path().join("rabbitmq.conf")), Vec::new()).unwrap_err();
    assert!(refused.to_string().contains("30-broken.conf"), "{refused}");
}
