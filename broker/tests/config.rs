//! The configuration from the outside: which source wins, what is refused and how, and that the example file and
//! the documentation tell the truth.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail them")]

use std::path::PathBuf;
use std::time::Duration;

use leveret::config::{
    Config, DiskFreeLimit, Flag, FsyncPolicy, ListenAddress, Loaded, LogFormat, MemoryWatermark, SeedPassword, Sources,
    key_names,
};

const EXAMPLE: &str = include_str!("../../leveret.example.toml");
const DOCUMENTATION: &str = include_str!("../../docs/configuration.md");

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&'static str, &[&str])]) -> Result<Loaded, String> {
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let flags = flags
        .iter()
        .map(|(key, values)| Flag {
            key,
            values: values.iter().map(ToString::to_string).collect(),
        })
        .collect();
    Sources {
        files: vec![(PathBuf::from("leveret.toml"), file.to_owned())],
        environment,
        flags,
    }
    .into_config()
    .map_err(|error| error.to_string())
}

fn config_of(file: &str) -> Config {
    load(file, &[], &[]).unwrap().config
}

fn refusal(file: &str) -> String {
    load(file, &[], &[]).unwrap_err()
}

fn addresses(list: &[&str]) -> Vec<ListenAddress> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

/// The example with the `#` taken away from every line that is a setting.
fn example_with_everything_set() -> String {
    let setting = |line: &str| {
        let rest = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['));
        rest.unwrap_or(line).to_owned()
    };
    EXAMPLE.lines().map(setting).collect::<Vec<_>>().join("\n")
}

#[test]
fn nothing_set_is_the_default() {
    let loaded = load("", &[], &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.warnings.is_empty());
}

#[test]
fn the_example_file_as_it_comes_is_the_default() {
    assert_eq!(config_of(EXAMPLE), Config::default());
}

#[test]
fn the_example_file_has_every_key_and_its_default() {
    let everything = example_with_everything_set();
    let table: toml::Table = everything.parse().unwrap();
    let in_file: Vec<&str> = table.keys().map(String::as_str).collect();
    let mut known: Vec<&str> = key_names().collect();
    known.sort_unstable();
    assert_eq!(in_file, known);

    let config = config_of(&everything);
    assert_eq!(config.users.len(), 1);
    assert_eq!(config.seed_vhost_names(), ["/", "shop"]);
    assert_eq!(
        Config {
            users: Vec::new(),
            vhosts: Vec::new(),
            tls_hosts: Vec::new(),
            ..config
        },
        Config::default()
    );
}

#[test]
fn the_documentation_names_every_key_once() {
    for key in key_names() {
        let row = format!("| `{key}` |");
        assert_eq!(DOCUMENTATION.matches(&row).count(), 1, "{row}");
    }
}

#[test]
fn flags_win_over_the_environment_and_the_environment_over_the_file() {
    let file = "data_dir = '/file'\nproduct = 'file'\nlog_level = 'warn'\nheartbeat = 10";
    let environment = [("LEVERET_DATA_DIR", "/environment"), ("LEVERET_PRODUCT", "environment")];
    let flags: [(&str, &[&str]); 1] = [("data_dir", &["/flag"])];
    let config = load(file, &environment, &flags).unwrap().config;
    assert_eq!(config.data_dir, PathBuf::from("/flag"));
    assert_eq!(config.product, "environment");
    assert_eq!(config.log_level, "warn");
    assert_eq!(config.heartbeat, 10);
    assert_eq!(config.channel_max, 2047);
}

#[test]
fn lists_are_replaced_as_a_whole() {
    let file = "amqp_listen = ['127.0.0.1:1', '127.0.0.1:2']\nloopback_users = ['guest', 'root']";
    let from_file = config_of(file);
    assert_eq!(from_file.amqp_listen, addresses(&["127.0.0.1:1", "127.0.0.1:2"]));

    let environment = [
        ("LEVERET_AMQP_LISTEN", "127.0.0.1:3, [::1]:4"),
        ("LEVERET_LOOPBACK_USERS", ""),
    ];
    let from_environment = load(file, &environment, &[]).unwrap().config;
    assert_eq!(from_environment.amqp_listen, addresses(&["127.0.0.1:3", "[::1]:4"]));
    assert!(from_environment.loopback_users.is_empty());

    let flags: [(&str, &[&str]); 1] = [("amqp_listen", &["localhost:5", "127.0.0.1:6"])];
    let from_flags = load(file, &environment, &flags).unwrap().config;
    assert_eq!(from_flags.amqp_listen, addresses(&["localhost:5", "127.0.0.1:6"]));
}

#[test]
fn variables_of_rabbitmqs_images_count_less_than_our_own() {
    let aliases = [
        ("RABBITMQ_DEFAULT_USER", "bunny"),
        ("RABBITMQ_DEFAULT_PASS", "carrot"),
        ("RABBITMQ_DEFAULT_VHOST", "field"),
    ];
    let config = load("default_user = 'file'", &aliases, &[]).unwrap().config;
    assert_eq!(
        (config.default_user.as_str(), config.default_vhost.as_str()),
        ("bunny", "field")
    );
    assert_eq!(config.default_pass.expose(), b"carrot");

    let both = [("LEVERET_DEFAULT_USER", "hare"), ("RABBITMQ_DEFAULT_USER", "bunny")];
    assert_eq!(load("", &both, &[]).unwrap().config.default_user, "hare");
}

#[test]
fn the_cluster_name_follows_the_node_name_unless_it_is_set() {
    let config = config_of("node_name = 'rabbit@one'");
    assert_eq!(
        (config.node_name.as_str(), config.cluster_name.as_str()),
        ("rabbit@one", "rabbit@one")
    );
    let config = config_of("node_name = 'rabbit@one'\ncluster_name = 'shop'");
    assert_eq!(config.cluster_name, "shop");
}

#[test]
fn values_are_read_from_toml_and_from_text_alike() {
    let file = r#"
        log_format = "json"
        frame_max = 8192
        channel_max = "100"
        heartbeat = "30s"
        handshake_timeout = 5
        max_message_size = "16MiB"
        connection_max = 500
        fsync = "interval"
        fsync_interval = "1s"
        memory_high_watermark = "2GiB"
        disk_free_limit = 1000
        shutdown_deadline = "1m"
        worker_threads = 3
        metrics_listen = []
        management_listen = []
        load_definitions = "broker.json"
    "#;
    let from_file = config_of(file);
    let environment = [
        ("LEVERET_LOG_FORMAT", "json"),
        ("LEVERET_FRAME_MAX", "8192"),
        ("LEVERET_CHANNEL_MAX", "100"),
        ("LEVERET_HEARTBEAT", "30"),
        ("LEVERET_HANDSHAKE_TIMEOUT", "5s"),
        ("LEVERET_MAX_MESSAGE_SIZE", "16777216"),
        ("LEVERET_CONNECTION_MAX", "500"),
        ("LEVERET_FSYNC", "interval"),
        ("LEVERET_FSYNC_INTERVAL", "1000ms"),
        ("LEVERET_MEMORY_HIGH_WATERMARK", "2147483648"),
        ("LEVERET_DISK_FREE_LIMIT", "1kB"),
        ("LEVERET_SHUTDOWN_DEADLINE", "60"),
        ("LEVERET_WORKER_THREADS", "3"),
        ("LEVERET_METRICS_LISTEN", ""),
        ("LEVERET_MANAGEMENT_LISTEN", ""),
        ("LEVERET_LOAD_DEFINITIONS", "broker.json"),
    ];
    assert_eq!(load("", &environment, &[]).unwrap().config, from_file);
    let expected = Config {
        log_format: LogFormat::Json,
        frame_max: 8192,
        channel_max: 100,
        heartbeat: 30,
        handshake_timeout: Duration::from_secs(5),
        max_message_size: 16 << 20,
        connection_max: Some(500),
        fsync: FsyncPolicy::Interval,
        fsync_interval: Duration::from_secs(1),
        memory_high_watermark: MemoryWatermark::Bytes(2 << 30),
        disk_free_limit: DiskFreeLimit::Bytes(1000),
        shutdown_deadline: Duration::from_secs(60),
        worker_threads: 3,
        metrics_listen: Vec::new(),
        management_listen: Vec::new(),
        load_definitions: Some("broker.json".into()),
        ..Config::default()
    };
    assert_eq!(from_file, expected);
}

#[test]
fn unknown_keys_are_refused_with_line_and_nearest_key() {
    let cases = [
        (
            "amqp_lisen = []",
            "leveret.toml line 1: unknown key 'amqp_lisen'; did you mean 'amqp_listen'?",
        ),
        (
            "\n# x\nheartbeet = 60",
            "leveret.toml line 3: unknown key 'heartbeet'; did you mean 'heartbeat'?",
        ),
        (
            "[user]\nname = 'x'",
            "leveret.toml line 1: unknown key 'user'; did you mean 'users'?",
        ),
        (
            "data-dir = '.'",
            "leveret.toml line 1: unknown key 'data-dir'; did you mean 'data_dir'?",
        ),
        (
            "[[users]]\nname = 'x'\npasword = 'y'",
            "leveret.toml line 1: bad value for 'users': unknown key 'pasword' in users; did you mean 'password'?",
        ),
        (
            "[[users]]\nname = 'x'\npassword = 'y'\npermissions = [{ hosts = '/' }]",
            "leveret.toml line 1: bad value for 'users': user 'x': 'permissions': unknown key 'hosts' in permissions; \
             did you mean 'vhost'?",
        ),
    ];
    for (file, expected) in cases {
        assert_eq!(refusal(file), expected);
    }
}

#[test]
fn bad_addresses_are_refused_in_one_line() {
    const HOW: &str = "write HOST:PORT, such as 127.0.0.1:5672, [::1]:5672 or localhost:5672";
    let cases = [
        ("localhost", "the port is missing"),
        ("5672", "the port is missing"),
        ("127.0.0.1:", "the port is not a number from 0 to 65535"),
        ("127.0.0.1:65536", "the port is not a number from 0 to 65535"),
        ("127.0.0.1:amqp", "the port is not a number from 0 to 65535"),
        (":5672", "the host is neither a name nor an address"),
        ("::1:5672", "an IPv6 address needs brackets"),
        ("[::1:5672", "the host is neither a name nor an address"),
        ("[127.0.0.1]:5672", "what stands in brackets is no IPv6 address"),
        ("127.0.0.300:5672", "the host is neither a name nor an address"),
        ("amqp://localhost:5672", "the host is neither a name nor an address"),
        ("my host:5672", "the host is neither a name nor an address"),
    ];
    for (address, reason) in cases {
        let flags: [(&str, &[&str]); 1] = [("amqp_listen", &[address])];
        let expected = format!("--amqp-listen: bad value for 'amqp_listen': bad address '{address}': {reason}; {HOW}");
        assert_eq!(load("", &[], &flags).unwrap_err(), expected);
    }
    let refused = load("", &[("LEVERET_METRICS_LISTEN", "x")], &[]).unwrap_err();
    assert!(
        refused.starts_with("environment variable LEVERET_METRICS_LISTEN: bad value"),
        "{refused}"
    );
    assert_eq!(
        refusal("amqp_listen = []"),
        "'amqp_listen': at least one HOST:PORT is needed, here or in tls_listen"
    );
}

#[test]
fn good_addresses_are_read_and_shown_as_written() {
    for address in [
        "127.0.0.1:5672",
        "[::1]:5672",
        "[::]:0",
        "localhost:5672",
        "a-1.example.org:1",
    ] {
        assert_eq!(addresses(&[address])[0].to_string(), address);
    }
    let local = addresses(&["[::1]:7"])[0].resolve().unwrap();
    assert_eq!(local, ["[::1]:7".parse().unwrap()]);
    let wildcards: Vec<_> = ListenAddress::all_interfaces(9)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(wildcards, ["0.0.0.0:9", "[::]:9"]);
}

#[test]
fn bad_values_say_what_was_expected() {
    let cases = [
        ("data_dir = 5", "expected text in quotes, found 5"),
        ("data_dir = ''", "it must not be empty"),
        (
            "log_format = 'xml'",
            "expected one of \"text\", \"json\", found \"xml\"",
        ),
        (
            "log_level = 'loud'",
            "expected one of error, warn, info, debug, trace, off or directives such as info,leveret::net=debug, \
             found \"loud\"",
        ),
        ("frame_max = 4095", "4095 is not between 4096 and 16777216"),
        ("frame_max = 'big'", "expected a whole number, found \"big\""),
        ("channel_max = 0", "0 is not between 1 and 65535"),
        ("channel_max = 70000", "70000 is not between 1 and 65535"),
        ("heartbeat = '500ms'", "it must be whole seconds"),
        (
            "heartbeat = -1",
            "expected a time such as \"200ms\", \"30s\" or \"5m\", found -1",
        ),
        ("heartbeat = '1d'", "86400s is not between 0ns and 65535s"),
        (
            "handshake_timeout = '10 parsecs'",
            "expected a time such as \"200ms\", \"30s\" or \"5m\", found \"10 parsecs\"",
        ),
        ("handshake_timeout = 0", "0ns is not between 1ms and 3600s"),
        (
            "max_message_size = '1GiB'",
            "1073741824 bytes is not between 1 and 536870912 bytes",
        ),
        (
            "max_message_size = '1 elephant'",
            "expected a size such as 4096, \"64KiB\" or \"128MiB\", found \"1 elephant\"",
        ),
        ("connection_max = 0", "0 is not between 1 and 4294967295"),
        (
            "fsync = true",
            "expected one of \"always\", \"interval\", \"never\", found a TOML boolean",
        ),
        ("memory_high_watermark = 1.5", "1.5 is not a fraction from 0.0 to 1.0"),
        (
            "memory_high_watermark = 'much'",
            "expected a fraction such as 0.6 or a size such as \"2GiB\", found \"much\"",
        ),
        ("worker_threads = 0", "0 is not between 1 and 1024"),
        ("default_pass = ''", "it must not be empty"),
        ("loopback_users = 1", "expected a list of texts, found 1"),
        ("loopback_users = [1]", "expected text in quotes, found 1"),
        (
            "users = 'app'",
            "expected a list of tables, as [[users]] in the file, found \"app\"",
        ),
        (
            "vhosts = ['shop']",
            "expected a list of tables, as [[vhosts]] in the file, found a TOML array",
        ),
    ];
    for (file, reason) in cases {
        let key = file.split(' ').next().unwrap();
        assert_eq!(
            refusal(file),
            format!("leveret.toml line 1: bad value for '{key}': {reason}")
        );
    }
}

#[test]
fn broken_toml_is_refused_in_one_line_with_its_place() {
    for (file, line) in [
        ("heartbeat = ", 1),
        ("heartbeat = 60\nproduct = 'x", 2),
        ("heartbeat = 1\nheartbeat = 2", 2),
    ] {
        let refused = refusal(file);
        assert!(refused.starts_with(&format!("leveret.toml line {line}: ")), "{refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
    }
}

#[test]
fn seeds_are_read() {
    let file = r#"
        [[vhosts]]
        name = "shop"
        [[users]]
        name = "app"
        password = "secret"
        permissions = [{ vhost = "shop", write = "^orders$" }, { vhost = "logs", configure = "", read = "" }]
        [[users]]
        name = "imported"
        password_hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
        hashing_algorithm = "rabbit_password_hashing_sha256"
        tags = ["administrator"]
    "#;
    let config = config_of(file);
    assert_eq!(config.seed_vhost_names(), ["/", "shop", "logs"]);
    let [app, imported] = config.users.as_slice() else {
        panic!("{:?}", config.users)
    };
    assert!(matches!(&app.password, SeedPassword::Plain(secret) if secret.expose() == b"secret"));
    let patterns: Vec<_> = app
        .permissions
        .iter()
        .map(|grant| [&grant.configure, &grant.write, &grant.read])
        .collect();
    assert_eq!(patterns, [[".*", "^orders$", ".*"], ["", ".*", ""]]);
    assert!(matches!(&imported.password, SeedPassword::Hashed(hashed) if hashed.verify(b"test12")));
    assert_eq!(imported.tags, ["administrator"]);
    assert!(imported.permissions.is_empty());
}

#[test]
fn bad_seeds_are_refused() {
    let user = |rest: &str| format!("[[users]]\nname = 'app'\n{rest}");
    let at = |reason: &str| format!("leveret.toml line 1: bad value for 'users': {reason}");
    let no_password = "user 'app': either 'password' or 'password_hash' is needed";
    let cases = [
        (user(""), at(no_password)),
        (user("password = 'x'\npassword_hash = ''"), at(no_password)),
        (
            user("password = ''"),
            at("user 'app': 'password': it must not be empty"),
        ),
        (
            user("password_hash = 5"),
            at("user 'app': 'password_hash': expected text in quotes, found 5"),
        ),
        (
            user("password_hash = 'xyz'"),
            at("user 'app': the password hash is not of the form of rabbit_password_hashing_sha256"),
        ),
        (
            user("password = 'x'\npermissions = [{ read = '(' }]"),
            at("user 'app': 'permissions': bad regular expression '(': unclosed group"),
        ),
        ("[[users]]\npassword = 'x'".to_owned(), at("'name' is missing")),
        (
            user("password = 'x'\n[[users]]\nname = 'app'\npassword = 'y'"),
            "'users': user 'app' is listed twice".to_owned(),
        ),
    ];
    for (file, expected) in cases {
        assert_eq!(refusal(&file), expected, "{file}");
    }
}

#[test]
fn variables_that_are_no_keys_are_warned_of_but_do_not_stop_the_broker() {
    let environment = [
        ("LEVERET_AMQP_LISEN", "127.0.0.1:1"),
        ("LEVERET_CONFIG", "leveret.toml"),
        ("LEVERET_PORT", "tcp://10.0.0.1:5672"),
        ("LEVERET_PORT_5672_TCP_ADDR", "10.0.0.1"),
        ("LEVERET_SERVICE_HOST", "10.0.0.1"),
        ("LEVERET_SERVICE_PORT_AMQP", "5672"),
        ("PATH", "/bin"),
    ];
    let loaded = load("", &environment, &[]).unwrap();
    assert_eq!(loaded.config, Config::default());
    let expected = "environment variable LEVERET_AMQP_LISEN is not a key and has no effect; \
                    did you mean LEVERET_AMQP_LISTEN?";
    assert_eq!(loaded.warnings, [expected]);
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Some(PathBuf::from("/nowhere/leveret.toml")), Vec::new())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/nowhere/leveret.toml: No such file or directory"),
        "{error}"
    );
    assert!(
        error.ends_with("; check the path given by --config or LEVERET_CONFIG"),
        "{error}"
    );
}

#[test]
fn debug_output_hides_passwords() {
    let config = config_of("default_pass = 'hush'\n[[users]]\nname = 'a'\npassword = 'hush'");
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn the_ctl_socket_lies_in_the_data_directory_unless_it_is_set() {
    assert_eq!(
        config_of("data_dir = '/x'").ctl_socket_path(),
        PathBuf::from("/x/ctl.sock")
    );
    assert_eq!(
        config_of("ctl_socket = '/run/l.sock'").ctl_socket_path(),
        PathBuf::from("/run/l.sock")
    );
}
