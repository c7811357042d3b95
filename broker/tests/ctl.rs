//! `leveret ctl` over a real socket: the program itself and raw bytes on one side, a handler that only answers and
//! remembers on the other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail them")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use leveret::auth::AuthError;
use leveret::auth::{HashedPassword, HashingAlgorithm};
use leveret::ctl::protocol::{MAX_REQUEST_BYTES, PolicyRequest};
use leveret::ctl::rows::{QueueRow, tabulate};
use leveret::ctl::{CtlError, CtlHandler, CtlServer, ErrorKind, Reply, Request, Response, Status};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const DEADLINE: Duration = Duration::from_secs(20);

/// Answers a few commands and remembers all.
#[derive(Default)]
struct FakeBroker {
    requests: Mutex<Vec<Request>>,
}

impl CtlHandler for FakeBroker {
    fn handle(&self, request: Request) -> Response {
        self.requests.lock().unwrap().push(request.clone());
        match request {
            Request::ListQueues { columns, .. } => {
                let queue = |name: &str, messages| QueueRow {
                    name: name.to_owned(),
                    messages,
                    ..QueueRow::default()
                };
                tabulate([queue("a", 1), queue("b", 2)], &columns).into()
            }
            Request::PurgeQueue { .. } => Response::Ok(Reply::Message("purged 3 messages".to_owned())),
            Request::Status {} => Response::Ok(Reply::Status(Box::new(Status {
                product: "Leveret".to_owned(),
                ..Status::default()
            }))),
            Request::DeleteVhost { name } => Response::Error(CtlError::new(
                ErrorKind::NotFound,
                format!("virtual host '{name}' does not exist"),
            )),
            Request::DeleteUser { name } | Request::ListUserPermissions { user: name } if name == "nobody" => {
                Response::Error(AuthError::NoSuchUser { name }.into())
            }
            Request::AddUser { name, .. } if name == "taken" => Response::Error(AuthError::UserExists { name }.into()),
            Request::AddUser { name, .. } if name == "blank" => Response::Error(AuthError::BlankPassword.into()),
            Request::CheckAlarms {} => Response::Error(CtlError::new(ErrorKind::Unhealthy, "low on disk")),
            Request::AddVhost { name, .. } if name == "crash" => panic!("as a bug would"),
            _ => Response::Ok(Reply::Done),
        }
    }
}

/// A served socket in a temporary data directory.
struct Served {
    data_dir: TempDir,
    broker: Arc<FakeBroker>,
    runtime: Option<Runtime>,
}

impl Served {
    fn start() -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let broker = Arc::new(FakeBroker::default());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = {
            let _inside = runtime.enter();
            CtlServer::bind(&data_dir.path().join("ctl.sock")).unwrap()
        };
        runtime.spawn(server.serve(Arc::clone(&broker)));
        Self {
            data_dir,
            broker,
            runtime: Some(runtime),
        }
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        ctl(self.data_dir.path(), arguments, "")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.data_dir.path().join("ctl.sock")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    fn last_request(&self) -> Request {
        self.broker.requests.lock().unwrap().last().cloned().unwrap()
    }
}

fn ctl(data_dir: &Path, arguments: &[&str], stdin: &str) -> Output {
    let mut process = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["ctl", "--data-dir"])
        .arg(data_dir)
        .args(arguments)
        .env_remove("LEVERET_CTL_SOCKET")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    process.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn failure(output: &Output) -> String {
    let code = output.status.code().unwrap();
    assert!((65..=70).contains(&code), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

#[test]
fn commands_reach_the_broker_as_they_were_typed() {
    let served = Served::start();
    let text = str::to_owned;
    let cases: [(&[&str], Request); 20] = [
        (
            &[
                "add_vhost",
                "shop",
                "--description",
                "a b",
                "--tags",
                "x,y",
                "--default-queue-type",
                "quorum",
            ],
            Request::AddVhost {
                name: text("shop"),
                description: text("a b"),
                tags: texts(&["x", "y"]),
                default_queue_type: Some(text("quorum")),
            },
        ),
        (
            &["enable_vhost_deletion_protection", "shop"],
            Request::ProtectVhost {
                name: text("shop"),
                protected: true,
            },
        ),
        (
            &["disable_vhost_deletion_protection", "shop"],
            Request::ProtectVhost {
                name: text("shop"),
                protected: false,
            },
        ),
        (
            &[
                "update_vhost_metadata",
                "shop",
                "--tags",
                "a,b",
                "--redeclare-rule",
                "adopt",
            ],
            Request::UpdateVhostMetadata {
                name: text("shop"),
                description: None,
                tags: Some(texts(&["a", "b"])),
                default_queue_type: None,
                redeclare_rule: Some(text("adopt")),
            },
        ),
        (&["list_vhosts"], Request::ListVhosts { columns: vec![] }),
        (&["delete_user", "app"], Request::DeleteUser { name: text("app") }),
        (
            &["set_user_tags", "app", "monitoring", "custom"],
            Request::SetUserTags {
                name: text("app"),
                tags: texts(&["monitoring", "custom"]),
            },
        ),
        (
            &["set_user_tags", "app"],
            Request::SetUserTags {
                name: text("app"),
                tags: vec![],
            },
        ),
        (&["list_users"], Request::ListUsers {}),
        (
            &["set_permissions", "-p", "shop", "app", "", "-w", ".*"],
            Request::SetPermissions {
                vhost: text("shop"),
                user: text("app"),
                configure: text(""),
                write: text("-w"),
                read: text(".*"),
            },
        ),
        (
            &["clear_permissions", "app"],
            Request::ClearPermissions {
                vhost: text("/"),
                user: text("app"),
            },
        ),
        (
            &["list_permissions", "-p", "shop"],
            Request::ListPermissions { vhost: text("shop") },
        ),
        (
            &["list_user_permissions", "app"],
            Request::ListUserPermissions { user: text("app") },
        ),
        (
            &["list_exchanges", "--vhost", "shop", "name", "type"],
            Request::ListExchanges {
                vhost: text("shop"),
                columns: texts(&["name", "type"]),
            },
        ),
        (
            &["list_bindings"],
            Request::ListBindings {
                vhost: text("/"),
                columns: vec![],
            },
        ),
        (
            &["list_connections", "name"],
            Request::ListConnections {
                columns: texts(&["name"]),
            },
        ),
        (&["list_channels"], Request::ListChannels { columns: vec![] }),
        (
            &["list_consumers"],
            Request::ListConsumers {
                vhost: text("/"),
                columns: vec![],
            },
        ),
        (
            &["delete_queue", "-p", "shop", "q", "--if-empty"],
            Request::DeleteQueue {
                vhost: text("shop"),
                name: text("q"),
                if_empty: true,
                if_unused: false,
            },
        ),
        (
            &["close_connection", "127.0.0.1:1 -> 127.0.0.1:2", "be gone"],
            Request::CloseConnection {
                name: text("127.0.0.1:1 -> 127.0.0.1:2"),
                reason: text("be gone"),
            },
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(stdout(&served.ctl(arguments)), "", "{arguments:?}");
        assert_eq!(served.last_request(), expected);
    }
}

#[test]
fn commands_about_policies_and_limits_have_rabbitmqctls_form() {
    let served = Served::start();
    let text = str::to_owned;
    let definition = r#"{"max-length": 5}"#;
    let policy = |operator, vhost, priority, apply_to| {
        Request::SetPolicy(Box::new(PolicyRequest {
            operator,
            vhost: text(vhost),
            name: text("name"),
            pattern: text("^-"),
            definition: text(definition),
            priority,
            apply_to: text(apply_to),
        }))
    };
    let cases: [(&[&str], Request); 9] = [
        (&["set_policy", "name", "^-", definition], policy(false, "/", 0, "all")),
        (
            &[
                "set_policy",
                "-p",
                "shop",
                "--priority",
                "-7",
                "--apply-to",
                "queues",
                "name",
                "^-",
                definition,
            ],
            policy(false, "shop", -7, "queues"),
        ),
        (
            &["set_operator_policy", "name", "^-", definition, "--priority", "1"],
            policy(true, "/", 1, "all"),
        ),
        (
            &["clear_policy", "-p", "shop", "name"],
            Request::ClearPolicy {
                operator: false,
                vhost: text("shop"),
                name: text("name"),
            },
        ),
        (
            &["list_operator_policies"],
            Request::ListPolicies {
                operator: true,
                vhost: text("/"),
            },
        ),
        (
            &["set_vhost_limits", "-p", "shop", definition],
            Request::SetVhostLimits {
                vhost: text("shop"),
                limits: text(definition),
            },
        ),
        (&["clear_vhost_limits"], Request::ClearVhostLimits { vhost: text("/") }),
        (
            &["clear_user_limits", "alice", "all"],
            Request::ClearUserLimits {
                user: text("alice"),
                limit: text("all"),
            },
        ),
        (&["list_user_limits"], Request::ListUserLimits { user: None }),
    ];
    for (arguments, expected) in cases {
        assert_eq!(stdout(&served.ctl(arguments)), "", "{arguments:?}");
        assert_eq!(served.last_request(), expected);
    }
}

#[test]
fn checks_and_the_closing_of_connections_have_rabbitmqctls_form() {
    let served = Served::start();
    let close_all = |vhost: Option<&str>, limit| Request::CloseAllConnections {
        vhost: vhost.map(str::to_owned),
        limit,
        reason: "be gone".to_owned(),
    };
    let connect_to = |address: Option<&str>| Request::CheckPortConnectivity {
        address: address.map(|address| address.parse().unwrap()),
    };
    let cases: [(&[&str], Request); 11] = [
        (&["ping"], Request::Ping {}),
        (
            &["check_protocol_listener", "amqp/ssl"],
            Request::CheckProtocolListener {
                protocol: "amqp/ssl".to_owned(),
            },
        ),
        (&["close_all_connections", "be gone"], close_all(Some("/"), None)),
        (
            &["close_all_connections", "--vhost", "shop", "--limit", "7", "be gone"],
            close_all(Some("shop"), Some(7)),
        ),
        (&["close_all_connections", "--global", "be gone"], close_all(None, None)),
        (
            &["close_all_user_connections", "app", "be gone"],
            Request::CloseAllUserConnections {
                user: "app".to_owned(),
                reason: "be gone".to_owned(),
            },
        ),
        (&["check_running"], Request::CheckRunning {}),
        (&["check_virtual_hosts"], Request::CheckVirtualHosts {}),
        (
            &["check_port_listener", "5672"],
            Request::CheckPortListener { port: 5672 },
        ),
        (&["check_port_connectivity"], connect_to(None)),
        (
            &["check_port_connectivity", "--address", "::1"],
            connect_to(Some("::1")),
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(stdout(&served.ctl(arguments)), "", "{arguments:?}");
        assert_eq!(served.last_request(), expected);
    }
    for name in ["check_alarms", "check_local_alarms"] {
        let failed = failure(&served.ctl(&[name]));
        assert_eq!(failed, "leveret: check_alarms failed: low on disk\n", "{name}");
    }
}

#[test]
fn a_password_is_hashed_without_a_broker() {
    let empty = tempfile::tempdir().unwrap();
    let hash = |arguments: &[&str], stdin| {
        let line = stdout(&ctl(empty.path(), &[&["hash_password"], arguments].concat(), stdin));
        line.strip_suffix('\n').unwrap().to_owned()
    };
    let cases = [
        (hash(&["-secret-"], ""), HashingAlgorithm::Argon2id),
        (hash(&[], "-secret-\n"), HashingAlgorithm::Argon2id),
        (
            hash(&["-secret-", "--hashing-algorithm", "SHA-256"], ""),
            HashingAlgorithm::Sha256,
        ),
        (
            hash(&["--hashing-algorithm", "sha512", "-secret-"], ""),
            HashingAlgorithm::Sha512,
        ),
    ];
    for (hash, algorithm) in cases {
        let hashed = HashedPassword::decode(algorithm, &hash).unwrap();
        assert!(hashed.verify(b"-secret-") && !hashed.verify(b"secret"), "{hash}");
    }
    assert_eq!(
        failure(&ctl(empty.path(), &["hash_password", ""], "")),
        "leveret: cannot hash_password: the password must not be blank\n"
    );
}

#[test]
fn lists_are_printed_with_tabs_or_as_json() {
    let served = Served::start();
    assert_eq!(stdout(&served.ctl(&["list_queues"])), "name\tmessages\na\t1\nb\t2\n");
    assert_eq!(
        stdout(&served.ctl(&["-q", "-s", "list_queues", "messages", "name"])),
        "1\ta\n2\tb\n"
    );
    assert_eq!(
        stdout(&served.ctl(&["list_queues", "--no-table-headers", "name"])),
        "a\nb\n"
    );
    let json = stdout(&served.ctl(&["list_queues", "name", "consumers", "--formatter", "json"]));
    assert_eq!(
        json,
        "[\n{\"name\":\"a\",\"consumers\":0},\n{\"name\":\"b\",\"consumers\":0}\n]\n"
    );
    assert_eq!(stdout(&served.ctl(&["purge_queue", "a"])), "purged 3 messages\n");
    assert!(stdout(&served.ctl(&["status"])).contains("product\tLeveret\n"));
}

#[test]
fn passwords_come_from_the_command_line_or_from_standard_input() {
    let served = Served::start();
    let password_of = |request| match request {
        Request::AddUser { password, .. } | Request::ChangePassword { password, .. } => password.0,
        other => panic!("{other:?}"),
    };
    stdout(&served.ctl(&["add_user", "app", "-secret-"]));
    assert_eq!(password_of(served.last_request()), "-secret-");
    for typed in [
        "from a pipe",
        "from a pipe\n",
        "from a pipe\r\n",
        "from a pipe\nnot this\n",
    ] {
        stdout(&ctl(served.data_dir.path(), &["change_password", "app"], typed));
        assert_eq!(password_of(served.last_request()), "from a pipe");
    }
}

#[test]
fn refusals_are_one_line_and_a_failure() {
    let served = Served::start();
    assert_eq!(
        failure(&served.ctl(&["delete_vhost", "nope"])),
        "leveret: cannot delete_vhost: virtual host 'nope' does not exist\n"
    );
    let unknown_column = failure(&served.ctl(&["list_queues", "nmae"]));
    assert!(unknown_column.starts_with("leveret: cannot list_queues: unknown column 'nmae'; known are name, "));
    assert_eq!(
        failure(&served.ctl(&["add_vhost", "crash"])),
        "leveret: cannot add_vhost: the command failed; see the broker's log\n"
    );
    assert_eq!(stdout(&served.ctl(&["list_users"])), "", "the broker goes on");
}

#[test]
fn exit_codes_are_those_of_rabbitmqctl() {
    let served = Served::start();
    let empty = tempfile::tempdir().unwrap();
    let code = |output: Output| output.status.code();
    for (code_of, arguments) in [
        (64, &["reboot"][..]),
        (64, &["add_user"]),
        (64, &["list_users", "--nonsense"]),
        (64, &["list_users", "--formatter", "erlang"]),
        (0, &["list_users", "--help"]),
        (0, &["-n", "rabbit@host", "--longnames", "-q", "-t", "5", "list_users"]),
        (0, &["--timeout", "infinity", "list_users", "--formatter", "csv"]),
        (0, &["list_users", "--formatter", "pretty_table"]),
        (64, &["-t", "soon", "list_users"]),
        (65, &["delete_vhost", "nope"]),
        (65, &["add_user", "blank", "p"]),
        (70, &["add_user", "taken", "p"]),
        (69, &["check_alarms"]),
        (65, &["import_definitions", "/nowhere.json"]),
        (67, &["delete_user", "nobody"]),
        (67, &["list_user_permissions", "nobody"]),
    ] {
        assert_eq!(code(served.ctl(arguments)), Some(code_of), "{arguments:?}");
    }
    assert_eq!(code(ctl(empty.path(), &["list_users"], "")), Some(69));
}

#[test]
fn without_a_broker_the_data_directory_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let hint = "start one with 'leveret serve', or name its --data-dir";
    let expected = format!(
        "leveret: cannot reach the broker: no broker is running with data directory {}; {hint}\n",
        empty.path().display()
    );
    assert_eq!(failure(&ctl(empty.path(), &["list_users"], "")), expected);

    // What a killed broker leaves behind.
    drop(std::os::unix::net::UnixListener::bind(empty.path().join("ctl.sock")).unwrap());
    assert_eq!(failure(&ctl(empty.path(), &["list_users"], "")), expected);

    let socket = failure(&ctl(empty.path(), &["--socket", "/nowhere.sock", "status"], ""));
    assert!(
        socket.contains("no broker is running with socket /nowhere.sock"),
        "{socket}"
    );
}

#[test]
fn await_startup_waits_for_the_broker_but_not_for_ever() {
    let empty = tempfile::tempdir().unwrap();
    let refused = failure(&ctl(empty.path(), &["await_startup", "--timeout", "0"], ""));
    assert!(refused.contains("no broker is running"), "{refused}");

    let mut waiting = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["ctl", "await_startup", "--timeout", "60", "--data-dir"])
        .arg(empty.path())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let runtime = Runtime::new().unwrap();
    let server = {
        let _inside = runtime.enter();
        CtlServer::bind(&empty.path().join("ctl.sock")).unwrap()
    };
    runtime.spawn(server.serve(Arc::new(FakeBroker::default())));
    assert!(waiting.wait().unwrap().success());
}

#[test]
fn one_connection_may_ask_many_times_and_survives_nonsense() {
    let served = Served::start();
    let mut stream = BufReader::new(served.connect());
    let mut ask = |line: &str| {
        stream.get_mut().write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_line(&mut answer).unwrap();
        answer
    };
    assert_eq!(
        ask("{\"command\":\"add_vhost\",\"name\":\"x\"}\n"),
        "{\"ok\":\"done\"}\n"
    );
    assert!(ask("nonsense\n").starts_with("{\"error\":{\"kind\":\"invalid\""));
    assert!(ask("\n").starts_with("{\"error\":{\"kind\":\"invalid\""));
    assert_eq!(ask("{\"command\":\"list_users\"}\n"), "{\"ok\":\"done\"}\n");
}

#[test]
fn a_request_that_never_ends_is_cut_off() {
    let served = Served::start();
    let mut stream = served.connect();
    // The broker may close before it has read everything.
    let _ = stream.write_all(&vec![b'x'; MAX_REQUEST_BYTES]);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("{\"error\":{\"kind\":\"invalid\",\"text\":\"a request must be one line of at most"));
    assert!(served.broker.requests.lock().unwrap().is_empty());
}

#[test]
fn idle_clients_do_not_keep_others_waiting_within_the_bound() {
    let served = Served::start();
    let _idle: Vec<_> = (0..20).map(|_| served.connect()).collect();
    assert_eq!(stdout(&served.ctl(&["list_users"])), "");
}

#[test]
fn the_socket_is_for_its_owner_only_and_goes_with_the_broker() {
    let mut served = Served::start();
    let path = served.data_dir.path().join("ctl.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(served.runtime.take());
    let deadline = Instant::now() + DEADLINE;
    while path.exists() {
        assert!(Instant::now() < deadline, "the socket is still there");
        std::thread::yield_now();
    }
}

#[test]
fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
    let served = Served::start();
    let path = served.data_dir.path().join("ctl.sock");
    let _inside = served.runtime.as_ref().unwrap().enter();
    let error = CtlServer::bind(&path).unwrap_err().to_string();
    assert!(error.contains("another broker answers there"), "{error}");
    assert_eq!(stdout(&served.ctl(&["list_users"])), "", "the first broker goes on");

    let stale = served.data_dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(CtlServer::bind(&stale).is_ok());

    let file = served.data_dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(CtlServer::bind(&file).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");

    let long = served.data_dir.path().join("x".repeat(120));
    let error = CtlServer::bind(&long).unwrap_err().to_string();
    assert!(error.contains("set ctl_socket to a path that is short"), "{error}");
}
