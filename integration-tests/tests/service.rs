//! In and out of service: drained and taken back, and what systemd hears and hands over.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use leveret_integration_tests::broker::serve_command;
use leveret_integration_tests::raw::{RawClient, make};
use leveret_integration_tests::scrape::get;
use leveret_integration_tests::{Broker, wait};

/// Killed when the test is over, however it ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn status(address: SocketAddr, path: &str) -> String {
    let (head, body) = get(address, path);
    let code = head.split(' ').nth(1).unwrap_or_default();
    format!("{code} {}", body.trim())
}

#[test]
fn row_024_a_drained_broker_serves_no_clients_until_it_is_taken_back() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let mut client = RawClient::with_channel(broker.amqp());
    client.call(1, make::queue_declare("mine"));
    let mut half_way = RawClient::tuned(broker.amqp(), &Default::default());
    assert_eq!(status(broker.metrics(), "/health/ready"), "200 ok");
    assert!(status(broker.management(), "/health/ready").starts_with("200"));

    broker.ctl().run(&["drain"]);
    let text = "CONNECTION_FORCED - Node was put into maintenance mode";
    client.expect_connection_close(320, (0, 0), text);
    // Who has opened nothing yet hears nothing.
    half_way.expect_end_of_stream();
    let mut refused = TcpStream::connect(broker.amqp()).unwrap();
    refused.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    assert_eq!(refused.read(&mut [0; 8]).unwrap_or_default(), 0);
    assert_eq!(status(broker.metrics(), "/health/ready"), "503 the broker is drained");
    assert_eq!(status(broker.metrics(), "/health/live"), "200 ok");
    let ready = status(broker.management(), "/health/ready");
    assert!(ready.starts_with("503") && ready.contains("drained"), "{ready}");
    assert!(status(broker.management(), "/health/live").starts_with("200"));

    broker.ctl().run(&["undrain"]);
    assert_eq!(status(broker.metrics(), "/health/ready"), "200 ok");
    RawClient::connect(broker.amqp()).close();
}

#[test]
fn systemd_hears_when_the_broker_is_ready_alive_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(wait::DEADLINE)).unwrap();
    let mut command = serve_command(&folder.path().join("data"), "127.0.0.1:0");
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let mut process = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let heard = || {
        let mut bytes = [0; 200];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert!(heard().starts_with("READY=1"));
    for _ in 0..3 {
        assert_eq!(heard(), "WATCHDOG=1");
    }
    let id = process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    wait::until("the broker says that it stops", || {
        heard().starts_with("STOPPING=1").then_some(())
    });
    assert!(process.0.wait().unwrap().success());
}

#[test]
fn a_socket_of_systemd_is_served_instead_of_the_configured_addresses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let serve = serve_command(folder.path(), "127.0.0.1:1");
    // The process must be the one that LISTEN_PID names, and its first socket number 3.
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=amqp; exec \"$@\" 3<&0 </dev/null";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "sh"])
        .arg(serve.get_program())
        .args(serve.get_args())
        .stdin(OwnedFd::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    leveret_integration_tests::broker::remove_settings(&mut command);
    // A client may come before the broker does.
    let early = RawClient::socket(address);
    let _process = Process(command.spawn().unwrap());
    RawClient::connect(address).close();
    drop(early);
}
