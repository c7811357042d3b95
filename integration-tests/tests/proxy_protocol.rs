//! Clients behind a load balancer: who they are is what the balancer says, if it is trusted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use leveret_integration_tests::certificates::Certificates;
use leveret_integration_tests::raw::{Login, PROTOCOL_HEADER, RawClient, connection, open_virtual_host};
use leveret_integration_tests::scrape::ask;
use leveret_integration_tests::{Broker, wait};

const TRUSTING: [(&str, &str); 2] = [("PROXY_PROTOCOL_FROM", "127.0.0.0/8"), ("LOOPBACK_USERS", "")];

/// A client whose balancer says this first.
fn behind(address: SocketAddr, header: &[u8]) -> RawClient {
    let mut client = RawClient::socket(address);
    client.send_bytes(header);
    client.send_bytes(&PROTOCOL_HEADER);
    let _: connection::Start = client.expect(0);
    client
}

fn log_in(client: &mut RawClient) {
    let login = Login::default();
    client.send_start_ok(&login);
    let tune: connection::Tune = client.expect(0);
    client.send_tune_ok(&login, &tune);
    let _: connection::OpenOk = client.call(0, open_virtual_host("/"));
}

#[test]
fn a_connection_is_named_after_the_client_that_its_proxy_names() {
    let Some(broker) = Broker::start_configured(&TRUSTING) else {
        return;
    };
    let version_2 = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(),
        &[198, 51, 100, 9, 10, 0, 0, 1, 0x10, 0x01, 0x16, 0x28],
    ]
    .concat();
    let health_check = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, name) in [
        (
            b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 5672\r\n".as_slice(),
            "203.0.113.7:56324 -> 10.0.0.1:5672",
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 56324 5672\r\n",
            "[2001:db8::7]:56324 -> [2001:db8::1]:5672",
        ),
        (&version_2, "198.51.100.9:4097 -> 10.0.0.1:5672"),
        (health_check, "127.0.0.1:"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1:"),
        // Who speaks for itself is who it is.
        (b"", "127.0.0.1:"),
    ] {
        let mut client = behind(broker.amqp(), header);
        log_in(&mut client);
        let listed = broker.ctl().run(&["list_connections", "name"]);
        assert!(listed.contains(name), "{name}: {listed}");
        client.close();
        wait::until("the connection is gone", || {
            (!broker.ctl().run(&["list_connections", "name"]).contains(" -> ")).then_some(())
        });
    }
}

#[test]
fn guest_is_no_user_of_this_machine_when_its_proxy_says_so() {
    let Some(broker) = Broker::start_configured(&[("PROXY_PROTOCOL_FROM", "127.0.0.1")]) else {
        return;
    };
    let mut far = behind(broker.amqp(), b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 5672\r\n");
    far.send_start_ok(&Login::default().with_capability("authentication_failure_close"));
    let text =
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
    far.expect_connection_close(403, (0, 0), text);
    broker.wait_for_log("user 'guest' can only connect via localhost");
    let mut near = behind(broker.amqp(), b"PROXY TCP4 127.0.0.9 10.0.0.1 56324 5672\r\n");
    log_in(&mut near);
    near.close();
    // The same over HTTP.
    let mut socket = TcpStream::connect(broker.management()).unwrap();
    let request =
        "GET /api/whoami HTTP/1.1\r\nhost: x\r\nconnection: close\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n";
    let header = "PROXY TCP4 203.0.113.7 10.0.0.1 56324 5672\r\n";
    socket.write_all(format!("{header}{request}").as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let (head, _) = ask(
        broker.management(),
        "GET",
        "/api/whoami",
        "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n",
        "",
    );
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[test]
fn headers_of_strangers_and_malformed_ones_are_refused() {
    let said = |broker: &Broker, bytes: &[u8]| {
        let mut socket = TcpStream::connect(broker.amqp()).unwrap();
        socket.set_read_timeout(Some(wait::DEADLINE)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        answer
    };
    let header = b"PROXY TCP4 127.0.0.1 10.0.0.1 56324 5672\r\nAMQP\x00\x00\x09\x01";
    let Some(untrusting) = Broker::start_configured(&[("PROXY_PROTOCOL_FROM", "192.0.2.0/24")]) else {
        return;
    };
    assert_eq!(said(&untrusting, header), PROTOCOL_HEADER);
    untrusting.wait_for_log("in none of the networks of proxy_protocol_from");

    let patience = [TRUSTING[0], TRUSTING[1], ("HANDSHAKE_TIMEOUT", "300ms")];
    let Some(broker) = Broker::start_configured(&patience) else {
        return;
    };
    for malformed in [
        b"PROXY TCP4 127.0.0.1\r\n".as_slice(),
        &[b"PROXY TCP4 ".as_slice(), &[b'9'; 200]].concat(),
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04abcd",
    ] {
        assert_eq!(said(&broker, malformed), b"", "{malformed:?}");
    }
    broker.wait_for_log("PROXY protocol header refused: expected PROXY TCP4");
    // One that begins and does not go on.
    assert_eq!(said(&broker, b"PRO"), b"");
    broker.wait_for_log("the client had not come in within 300ms");
}

#[test]
fn the_header_comes_before_tls() {
    let Some(certificates) = Certificates::new() else {
        return;
    };
    certificates.issue("server", "/CN=server", "DNS:localhost");
    let (certificate, key) = (certificates.text("server.pem"), certificates.text("server.key"));
    let settings = [
        TRUSTING[0],
        ("TLS_LISTEN", "127.0.0.1:0"),
        ("TLS_CERTIFICATE", &certificate),
        ("TLS_KEY", &key),
    ];
    let Some(broker) = Broker::start_configured(&settings) else {
        return;
    };
    let mut socket = TcpStream::connect(broker.listener("amqp_tls")).unwrap();
    socket
        .write_all(b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 5671\r\n")
        .unwrap();
    // A broken ClientHello, to which TLS answers with an alert: so it was TLS that read it.
    socket.write_all(b"\x16\x03\x01\0\x05\x01\0\0\x01\x09").unwrap();
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
}
