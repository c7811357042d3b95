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
    assert_eq!(
        loaded.warnings[0],
        "rabbitmq.conf line 3: 'cluster_formation.peer_discovery_backend' has no effect here: this broker is one node"
    );
    assert_eq!(loaded.warnings.len(), 2);
}

/// What is said of one line: nothing, or a warning or a mistake without its place and key.
fn said_of(line: &str) -> String {
    let key = line.split(" = ").next().unwrap();
    match read("c.conf", line) {
        Ok(loaded) => match loaded.warnings.as_slice() {
            [] => String::new(),
            [warning] => warning
                .strip_prefix(&format!("c.conf line 1: '{key}' has no effect here"))
                .unwrap_or_else(|| panic!("{warning}"))
                .to_owned(),
            more => panic!("{more:?}"),
        },
        Err(mistakes) => {
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            let mistake = mistakes[0].strip_prefix(&format!("c.conf line 1: bad value for '{key}'"));
            format!("refused{}", mistake.unwrap_or_else(|| panic!("{mistakes:?}")))
        }
    }
}

#[test]
fn a_key_that_made_a_broker_safer_is_refused_unless_its_value_asks_for_nothing() {
    let lines = [
        (
            "ssl_options.crl_check = true",
            "which certificates are revoked has to be said: tls_crl_files",
        ),
        (
            "management.listener.ssl_opts.crl_check = best_effort",
            "which certificates are revoked has to be said: tls_crl_files",
        ),
        ("auth_backends.1.authn = ldap", "there is no backend 'ldap' here"),
        ("auth_backends.1.authz = http", "there is no backend 'http' here"),
        (
            "management.disable_basic_auth = true",
            "the management API takes passwords beside tokens",
        ),
        (
            "management.restrictions.operator_policy_changes.disabled = true",
            "administrators may always",
        ),
        (
            "default_user_tags.administrator = false",
            "default_user is an administrator",
        ),
        (
            "default_permissions.write = ^$",
            "default_user may do everything in default_vhost",
        ),
        (
            "credential_validator.validation_backend = rabbit_credential_validator_min_password_length",
            "any password that is not empty may be set here",
        ),
        (
            "password_hashing_module = rabbit_password_hashing_md5",
            "expected rabbit_password_hashing_sha256 or",
        ),
        (
            "ssl_cert_login_san_index = 1",
            "the first name of the kind is the user's",
        ),
        ("definitions.import_backend = https", "definitions come from a file"),
        ("ssl_options.cert = abc", "certificates and keys are read from files"),
        (
            "ssl_options.versions.1 = tlsv1.4",
            "expected tlsv1.3 or tlsv1.2, found 'tlsv1.4'",
        ),
    ];
    for (line, reason) in lines {
        let said = said_of(line);
        assert!(said.starts_with(&format!("refused: {reason}")), "{line}: {said}");
    }
    for line in [
        "ssl_options.crl_check = false",
        "auth_backends.1.authn = internal",
        "management.disable_basic_auth = false",
        "default_user_tags.administrator = true",
        "default_permissions.read = .*",
        "credential_validator.validation_backend = rabbit_credential_validator_accept_everything",
        "credential_validator.min_length = 30",
        "password_hashing_module = rabbit_password_hashing_sha512",
        "ssl_cert_login_san_index = 0",
        "definitions.import_backend = local_filesystem",
        "proxy_protocol = false",
        "log.file = false",
        "log.exchange = false",
        "motd_file = /etc/motd",
    ] {
        assert_eq!(said_of(line), "", "{line}");
    }
    // Passwords must not let anybody in where only certificates were to.
    let mistakes = read("c.conf", "auth_mechanisms.1 = EXTERNAL").unwrap_err();
    assert!(mistakes[0].contains("name PLAIN beside the others"), "{mistakes:?}");
    let both = "auth_mechanisms.1 = EXTERNAL\nauth_mechanisms.2 = PLAIN";
    assert_eq!(read("c.conf", both).unwrap().warnings, [""; 0]);
}

#[test]
fn a_line_may_need_what_another_source_says() {
    let with = |variable: &str, value: &str, text: &str| {
        Sources {
            files: vec![("c.conf".into(), text.to_owned())],
            environment: vec![(variable.to_owned(), value.to_owned())],
            ..Sources::default()
        }
        .check()
    };
    let config = with("LEVERET_PROXY_PROTOCOL_FROM", "10.0.0.0/8", "proxy_protocol = true")
        .unwrap()
        .config;
    assert!(config.proxy_protocol_from.contain("10.1.2.3".parse().unwrap()));
    let tls = "ssl_options.cacertfile = ca\nssl_options.crl_check = peer";
    assert_eq!(
        with("LEVERET_TLS_CRL_FILES", "crl.pem", tls)
            .unwrap()
            .config
            .tls_crl_files
            .len(),
        1
    );
}

#[test]
fn what_is_done_otherwise_here_is_said_in_one_line() {
    for (line, reason) in [
        ("ssl_options.depth = 2", "chains may have six certificates"),
        ("ssl_options.password = bunnies", "keys are read as they are"),
        (
            "ssl_options.honor_cipher_order = true",
            "all ciphers offered are modern ones",
        ),
        (
            "ssl_options.ciphers.1 = ECDHE-RSA-AES256-GCM-SHA384",
            "all ciphers offered are modern ones",
        ),
        (
            "ssl_options.versions.2 = tlsv1.1",
            "versions of TLS before 1.2 are not spoken",
        ),
        (
            "ssl_options.client_renegotiation = false",
            "connections are never renegotiated",
        ),
        (
            "consumer_timeout = 3600000",
            "a timeout is the policy key consumer-timeout",
        ),
        (
            "default_limits.vhosts.1.max_queues = 10",
            "limits of virtual hosts are set with leveret ctl",
        ),
        (
            "default_policies.operator.a.queue_pattern = .*",
            "policies are set with",
        ),
        ("default_users.a.password = b", "users come with load_definitions"),
        (
            "default_queue_type = quorum",
            "queues of all types are of one kind here",
        ),
        (
            "quorum_queue.property_equivalence.relaxed_checks_on_redeclaration = true",
            "queues of all types",
        ),
        ("quorum_commands_soft_limit = 32", "queues of all types"),
        (
            "definitions.skip_if_unchanged = true",
            "definitions are imported at the first start only",
        ),
        ("log.file = /var/log/rabbitmq.log", "the log goes to standard error"),
        ("log.file.level = info", "the log goes to standard error"),
        ("log.dir = /var/log", "the log goes to standard error"),
        ("log.connection.level = debug", "levels by category are directives"),
        ("log.exchange = true", "the log goes to standard error"),
        ("management.path_prefix = /rabbit", "the API is at /api"),
        (
            "management.cors.allow_origins.1 = *",
            "pages of other origins may not call the API",
        ),
        (
            "management.tcp.idle_timeout = 1000",
            "the management API has its own way",
        ),
        (
            "management.http_log_dir = /var/log",
            "the management API has its own way",
        ),
        (
            "management.load_definitions.x = 1",
            "the management API has its own way",
        ),
        (
            "management_agent.disable_metrics_collector = true",
            "statistics are counters",
        ),
        (
            "prometheus.return_per_object_metrics = true",
            "have Prometheus read /metrics/per-object",
        ),
        ("prometheus.path = /m", "the metrics are at /metrics"),
        ("tcp_listen_options.backlog = 128", "sockets and HTTP connections"),
        ("cluster_partition_handling = autoheal", "this broker is one node"),
        ("mqtt.listeners.tcp.default = 1883", "AMQP 0-9-1 is what is spoken"),
        ("auth_oauth2.signing_keys.a = b.pem", "keys come from a file"),
        ("auth_oauth2.additional_scopes_key = x", "see docs/oauth.md"),
        (
            "vm_memory_high_watermark_paging_ratio = 0.5",
            "queues are on disk beyond",
        ),
        ("collect_statistics_interval = 5000", "there is nothing to tune"),
    ] {
        let said = said_of(line);
        assert!(said.starts_with(&format!(": {reason}")), "{line}: {said}");
    }
}

#[test]
fn a_key_longer_than_any_is_cut_and_nothing_is_suggested_for_it() {
    let key = "heartbeat.".repeat(1 << 20);
    let warning = &read("c.conf", &format!("{key} = 1")).unwrap().warnings[0];
    assert!(
        warning.ends_with("…' has no effect here") && warning.chars().count() < 130,
        "{warning}"
    );
    let mistake = &read("leveret.toml", &format!("{} = 1", key.replace('.', "_"))).unwrap_err()[0];
    assert!(mistake.ends_with("…'") && mistake.chars().count() < 130, "{mistake}");
}

#[test]
fn a_door_of_which_only_tls_is_spoken_has_no_plain_listener() {
    let tls = "management.ssl.certfile = c\nmanagement.ssl.keyfile = k\n";
    let config = conf(tls);
    assert_eq!(
        config.management_tls_listen,
        addresses(&["0.0.0.0:15671", "[::]:15671"])
    );
    assert!(config.management_listen.is_empty(), "{:?}", config.management_listen);
    assert_eq!(config.tls_files().unwrap().certificate, PathBuf::from("c"));
    assert!(!config.metrics_listen.is_empty());
    let both = conf(&format!("{tls}management.tcp.ip = 127.0.0.1"));
    assert_eq!(
        both.management_listen,
        addresses(&["127.0.0.1:15672"]),
        "its port is the usual one"
    );
    let old = conf(
        "ssl_options.certfile = c\nssl_options.keyfile = k\nmanagement.listener.port = 1234\nmanagement.listener.ssl = true",
    );
    assert_eq!(old.management_tls_listen, addresses(&["0.0.0.0:1234", "[::]:1234"]));
    assert!(old.management_listen.is_empty());
    let metrics = conf(&format!("{tls}prometheus.ssl.port = 15695"));
    assert_eq!(metrics.metrics_tls_listen, addresses(&["0.0.0.0:15695", "[::]:15695"]));
    assert!(metrics.metrics_listen.is_empty());
}

#[test]
fn doors_that_differ_in_what_is_one_here_are_refused() {
    let certificate = "ssl_options.certfile = c\nssl_options.keyfile = k\nssl_options.cacertfile = ca\n";
    let mistakes = |text: &str| read("c.conf", &format!("{certificate}{text}")).unwrap_err();
    let differs = mistakes("management.ssl.certfile = other\nmanagement.ssl.keyfile = k");
    assert_eq!(
        differs,
        [
            "c.conf line 4: bad value for 'management.ssl.certfile': one rule holds for both here, and 'ssl_options.certfile' says 'c': \
          make them the same"
        ]
    );
    let differs =
        mistakes("management.ssl.verify = verify_peer\nmanagement.ssl.cacertfile = ca\nprometheus.ssl.port = 15691");
    assert_eq!(differs.len(), 1);
    assert!(
        differs[0].starts_with("c.conf line 4: bad value for 'management.ssl.verify'"),
        "{differs:?}"
    );
    assert!(
        differs[0].contains("the other HTTP listener, where it is not set says 'none'"),
        "{differs:?}"
    );
    let differs = mistakes(
        "ssl_options.verify = verify_peer\nmanagement.ssl.verify = verify_peer\nmanagement.ssl.cacertfile = other",
    );
    assert!(
        differs.len() == 1 && differs[0].contains("'ssl_options.cacertfile' says 'ca'"),
        "{differs:?}"
    );
    let differs = mistakes("ssl_options.versions.1 = tlsv1.3\nmanagement.ssl.versions.1 = tlsv1.2");
    assert!(
        differs.len() == 1 && differs[0].contains("'ssl_options.versions.1' says '1.3'"),
        "{differs:?}"
    );

    let config = conf(&format!(
        "{certificate}management.ssl.verify = verify_peer\nmanagement.ssl.fail_if_no_peer_cert = true\n\
         management.ssl.cacertfile = another\nmanagement.ssl.certfile = c"
    ));
    assert_eq!(
        (config.http_tls_verify, config.tls_verify),
        (TlsVerify::Required, TlsVerify::None)
    );
    assert_eq!(
        config.tls_client_ca,
        Some(PathBuf::from("another")),
        "the door that asks says whom it believes"
    );
}

#[test]
fn no_limit_is_as_much_as_there_can_be() {
    let config = conf("frame_max = 0\nchannel_max = 0\nmanagement.load_definitions = /etc/d.json");
    assert_eq!((config.frame_max, config.channel_max), (16 << 20, 65_535));
    assert_eq!(config.load_definitions, Some(PathBuf::from("/etc/d.json")));
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
        (7, "bad value for 'default_pass': encrypted values cannot be read"),
        (8, "bad value for 'vm_memory_high_watermark.absolute': expected a size"),
        (9, "the closing quote is missing"),
        (3, "bad value for 'heartbeat': expected a time"),
        (2, "bad value for 'amqp_listen': bad address '0.0.0.0:x'"),
        (6, "bad value for 'proxy_protocol': whom to believe has to be said"),
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
