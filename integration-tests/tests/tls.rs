//! TLS as clients, operators and strangers meet it. Certificates are made with openssl while the tests run.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Output};

use leveret_integration_tests::broker::{binary, remove_settings, serve_command};
use leveret_integration_tests::certificates::Certificates;
use leveret_integration_tests::raw::{Login, LongString, RawClient, connection, make, open_virtual_host};
use leveret_integration_tests::scrape::{Metrics, ask};
use leveret_integration_tests::tunnel::{ClientTls, Tunnel, certificate_in};
use leveret_integration_tests::{Broker, wait};
use serde_json::Value;

/// `guest:guest`.
const GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

/// A broker that listens for TLS everywhere, with a certificate for localhost.
fn tls_broker(more: &[(&str, &str)]) -> Option<(Broker, Certificates)> {
    let certificates = Certificates::new()?;
    certificates.issue("server", "/CN=server", "DNS:localhost,IP:127.0.0.1");
    let files = [
        certificates.text("server.pem"),
        certificates.text("server.key"),
        certificates.text("ca.pem"),
    ];
    let mut settings = vec![
        ("TLS_LISTEN", "127.0.0.1:0"),
        ("MANAGEMENT_TLS_LISTEN", "127.0.0.1:0"),
        ("METRICS_TLS_LISTEN", "127.0.0.1:0"),
        ("TLS_CERTIFICATE", &files[0]),
        ("TLS_KEY", &files[1]),
        ("TLS_CLIENT_CA", &files[2]),
    ];
    settings.extend(more);
    let broker = Broker::start_configured(&settings)?;
    Some((broker, certificates))
}

/// A client that trusts the authority and shows the certificate of this name, if any.
fn client(certificates: &Certificates, shown: Option<&str>) -> ClientTls {
    let shown = shown.map(|name| {
        (
            certificates.path(&format!("{name}.pem")),
            certificates.path(&format!("{name}.key")),
        )
    });
    ClientTls {
        authority: certificates.path("ca.pem"),
        server_name: "localhost".to_owned(),
        certificate: shown,
    }
}

fn tunnel(broker: &Broker, protocol: &str, tls: ClientTls) -> Tunnel {
    Tunnel::to(broker.listener(protocol), tls)
}

/// Offered mechanisms, and the client after its start-ok by one of them.
fn start_with(address: SocketAddr, mechanism: &str) -> (RawClient, String) {
    let (mut client, start) = RawClient::started(address);
    client.send(
        0,
        connection::StartOk {
            client_properties: Login::default()
                .with_capability("authentication_failure_close")
                .client_properties,
            mechanism: mechanism.into(),
            response: LongString::default(),
            locale: "en_US".into(),
        },
    );
    (client, start.mechanisms.to_string())
}

/// Goes on from an accepted login to an open connection.
fn open_after_login(client: &mut RawClient) {
    let tune: connection::Tune = client.expect(0);
    client.send_tune_ok(&Login::default(), &tune);
    let _: connection::OpenOk = client.call(0, open_virtual_host("/"));
}

#[test]
fn bodies_of_all_sizes_go_over_tls_unharmed_and_in_order() {
    let Some((broker, certificates)) = tls_broker(&[]) else {
        return;
    };
    let tunnel = tunnel(&broker, "amqp_tls", client(&certificates, None));
    let mut client = RawClient::with_channel(tunnel.address);
    client.call(1, make::queue_declare("over-tls"));
    // Sizes around those of a record of TLS, of its buffer and of a read.
    let sizes = [0, 1, 4000, 16_383, 16_384, 16_385, 65_536, 262_145, 5 << 20];
    let body = |size: usize| -> Vec<u8> { (0..size).map(|at| (at % 251) as u8).collect() };
    for size in sizes {
        client.publish_to(1, "", "over-tls", &body(size));
    }
    for number in 0..2000 {
        client.publish_to(1, "", "over-tls", format!("small {number}").as_bytes());
    }
    client.call(1, make::basic_consume("over-tls"));
    for size in sizes {
        assert_eq!(client.expect_content(1).body, body(size), "{size} bytes");
    }
    for number in 0..2000 {
        assert_eq!(client.expect_content(1).body, format!("small {number}").as_bytes());
    }
    client.close();
}

#[test]
fn management_and_metrics_are_served_over_tls_and_show_who_is_encrypted() {
    let Some((broker, certificates)) = tls_broker(&[]) else {
        return;
    };
    let amqp = tunnel(&broker, "amqp_tls", client(&certificates, None));
    let management = tunnel(&broker, "management_tls", client(&certificates, None));
    let metrics = tunnel(&broker, "metrics_tls", client(&certificates, None));
    let plain = RawClient::connect(broker.amqp());
    let encrypted = RawClient::connect(amqp.address);
    assert!(Metrics::fetch(metrics.address).has("rabbitmq_connections"));
    let fetch = |path: &str| -> Value {
        let (head, body) = ask(management.address, "GET", path, GUEST, "");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        serde_json::from_str(&body).unwrap()
    };
    let connections = fetch("/api/connections");
    let mut shown: Vec<_> = connections
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["ssl"].as_bool().unwrap(), row["ssl_protocol"].as_str()))
        .collect();
    shown.sort_unstable();
    assert_eq!(shown, [(false, None), (true, Some("tlsv1.3"))]);
    let listeners = fetch("/api/overview")["listeners"].clone();
    for protocol in ["amqp/ssl", "https", "https/prometheus"] {
        let found = listeners
            .as_array()
            .unwrap()
            .iter()
            .any(|row| row["protocol"] == protocol);
        assert!(found, "{protocol}: {listeners}");
    }
    let check = |within: &str| {
        let path = format!("/api/health/checks/certificate-expiration/{within}");
        ask(management.address, "GET", &path, GUEST, "").0
    };
    assert!(check("1/weeks").starts_with("HTTP/1.1 200"));
    assert!(check("2/weeks").starts_with("HTTP/1.1 503"));
    assert!(check("2/moons").starts_with("HTTP/1.1 400"));
    plain.close();
    encrypted.close();
}

#[test]
fn external_takes_the_user_from_the_clients_certificate() {
    let Some((broker, certificates)) = tls_broker(&[("TLS_VERIFY", "optional"), ("TLS_LOGIN_FROM", "common_name")])
    else {
        return;
    };
    certificates.issue("app", "/O=shop/CN=app", "DNS:app.example.com");
    certificates.issue("nobody", "/CN=nobody", "DNS:nobody.example.com");
    broker.ctl().run(&["add_user", "app", "never asked for"]);
    broker.ctl().run(&["set_permissions", "app", ".*", ".*", ".*"]);

    let with_certificate = tunnel(&broker, "amqp_tls", client(&certificates, Some("app")));
    let (mut client_of_app, offered) = start_with(with_certificate.address, "EXTERNAL");
    assert_eq!(offered, "PLAIN AMQPLAIN EXTERNAL");
    open_after_login(&mut client_of_app);
    let (_, body) = ask(broker.management(), "GET", "/api/connections", GUEST, "");
    let rows: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(rows[0]["user"], "app");
    assert_eq!(rows[0]["peer_cert_subject"], "CN=app,O=shop");
    assert_eq!(rows[0]["peer_cert_issuer"], "CN=Authority ca");
    client_of_app.close();

    // A name that is proven, and no user.
    let stranger = tunnel(&broker, "amqp_tls", client(&certificates, Some("nobody")));
    let (mut refused, _) = start_with(stranger.address, "EXTERNAL");
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. For details see the broker logfile.";
    refused.expect_connection_close(403, (0, 0), text);

    // Without a certificate it is not offered, and asking for it all the same is no use. Passwords go on.
    for address in [
        tunnel(&broker, "amqp_tls", client(&certificates, None)).address,
        broker.amqp(),
    ] {
        let (mut refused, offered) = start_with(address, "EXTERNAL");
        assert_eq!(offered, "PLAIN AMQPLAIN");
        refused.expect_end_of_stream();
        RawClient::connect(address).close();
    }
    broker.wait_for_log("invalid authentication mechanism 'EXTERNAL': the client has shown no certificate");
}

#[test]
fn every_part_of_a_certificate_that_can_be_a_name_is_one_when_it_is_chosen() {
    let names = "DNS:app.example.com,email:app@example.com,URI:spiffe://example.com/app";
    for (part, user) in [
        ("distinguished_name", "CN=app,O=shop"),
        ("san_dns", "app.example.com"),
        ("san_email", "app@example.com"),
        ("san_uri", "spiffe://example.com/app"),
    ] {
        let Some((broker, certificates)) = tls_broker(&[("TLS_VERIFY", "required"), ("TLS_LOGIN_FROM", part)]) else {
            return;
        };
        certificates.issue("app", "/O=shop/CN=app", names);
        broker.ctl().run(&["add_user", user, "x"]);
        broker.ctl().run(&["set_permissions", user, ".*", ".*", ".*"]);
        let tunnel = tunnel(&broker, "amqp_tls", client(&certificates, Some("app")));
        let (mut client, _) = start_with(tunnel.address, "EXTERNAL");
        open_after_login(&mut client);
        client.close();
    }
}

#[test]
fn whoever_must_show_a_certificate_comes_in_with_a_good_one_only() {
    let required = [("TLS_VERIFY", "required"), ("HTTP_TLS_VERIFY", "required")];
    let Some((broker, certificates)) = tls_broker(&required) else {
        return;
    };
    certificates.authority("other");
    certificates.issue("good", "/CN=guest", "DNS:good.example.com");
    certificates.issue_by("other", "foreign", "/CN=guest", "DNS:foreign.example.com");
    for protocol in ["amqp_tls", "management_tls", "metrics_tls"] {
        for bad in [None, Some("foreign")] {
            let tunnel = tunnel(&broker, protocol, client(&certificates, bad));
            let mut refused = TcpStream::connect(tunnel.address).unwrap();
            let _ = refused.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
            let mut answer = Vec::new();
            let _ = refused.read_to_end(&mut answer);
            assert_eq!(answer, b"", "{protocol} {bad:?}");
            wait::until("the handshake fails", || tunnel.last_error());
        }
    }
    let amqp = tunnel(&broker, "amqp_tls", client(&certificates, Some("good")));
    RawClient::connect(amqp.address).close();
    let metrics = tunnel(&broker, "metrics_tls", client(&certificates, Some("good")));
    assert!(Metrics::fetch(metrics.address).has("rabbitmq_connections"));
}

/// Whether a client with this certificate, or without one, is let in.
fn is_let_in(broker: &Broker, certificates: &Certificates, shown: Option<&str>) -> bool {
    let tunnel = tunnel(broker, "metrics_tls", client(certificates, shown));
    let mut client = TcpStream::connect(tunnel.address).unwrap();
    let _ = client.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    answer.starts_with(b"HTTP/1.1 200")
}

#[test]
fn a_client_whose_certificate_is_revoked_is_refused_from_the_next_list_on() {
    let Some(certificates) = Certificates::new() else {
        return;
    };
    certificates.issue("server", "/CN=server", "DNS:localhost");
    for name in ["lost", "kept", "late"] {
        certificates.issue(name, &format!("/CN={name}"), "DNS:client.example.com");
    }
    certificates.revoke(&["lost"], None);
    let settings = [
        ("TLS_LISTEN", "127.0.0.1:0"),
        ("METRICS_TLS_LISTEN", "127.0.0.1:0"),
        ("TLS_CERTIFICATE", &certificates.text("server.pem")),
        ("TLS_KEY", &certificates.text("server.key")),
        ("TLS_CLIENT_CA", &certificates.text("ca.pem")),
        ("TLS_CRL_FILES", &certificates.text("crl.pem")),
        ("TLS_VERIFY", "required"),
        ("HTTP_TLS_VERIFY", "required"),
    ];
    let Some(broker) = Broker::start_configured(&settings) else {
        return;
    };
    assert!(!is_let_in(&broker, &certificates, Some("lost")));
    broker.wait_for_log("TLS handshake failed: invalid peer certificate: Revoked");
    assert!(is_let_in(&broker, &certificates, Some("kept")));
    let amqp = tunnel(&broker, "amqp_tls", client(&certificates, Some("late")));
    let mut connected = RawClient::with_channel(amqp.address);

    // Found by itself, and who is connected stays.
    certificates.revoke(&["late"], None);
    wait::until("the new list counts", || {
        (!is_let_in(&broker, &certificates, Some("late"))).then_some(())
    });
    assert!(is_let_in(&broker, &certificates, Some("kept")));
    connected.call(1, make::queue_declare("still-connected"));

    // Something else in its place changes nothing.
    let list = std::fs::read(certificates.path("crl.pem")).unwrap();
    std::fs::write(certificates.path("crl.pem"), "nothing of use").unwrap();
    broker.hang_up();
    broker.wait_for_log("no revocation list in it");
    assert!(!is_let_in(&broker, &certificates, Some("lost")));
    assert!(is_let_in(&broker, &certificates, Some("kept")));

    // One that is too old to be believed.
    certificates.revoke(&[], Some(2020));
    broker.wait_for_log("the revocation list of CN=Authority ca has expired");
    assert!(!is_let_in(&broker, &certificates, Some("kept")));
    std::fs::write(certificates.path("crl.pem"), list).unwrap();
    wait::until("the list that is good still", || {
        is_let_in(&broker, &certificates, Some("kept")).then_some(())
    });
}

#[test]
fn a_list_may_be_binary_and_an_authority_without_one_is_complained_of() {
    let Some(certificates) = Certificates::new() else {
        return;
    };
    certificates.issue("server", "/CN=server", "DNS:localhost");
    certificates.issue("kept", "/CN=kept", "DNS:client.example.com");
    certificates.authority("other");
    certificates.issue_by("other", "foreign", "/CN=foreign", "DNS:client.example.com");
    certificates.revoke(&[], None);
    certificates.openssl(&["crl", "-in", "crl.pem", "-outform", "DER", "-out", "crl.der"]);
    let both = ["ca.pem", "other.pem"].map(|file| std::fs::read_to_string(certificates.path(file)).unwrap());
    std::fs::write(certificates.path("both.pem"), both.concat()).unwrap();
    let settings = [
        ("METRICS_TLS_LISTEN", "127.0.0.1:0"),
        ("TLS_CERTIFICATE", &certificates.text("server.pem")),
        ("TLS_KEY", &certificates.text("server.key")),
        ("TLS_CLIENT_CA", &certificates.text("both.pem")),
        ("TLS_CRL_FILES", &certificates.text("crl.der")),
        ("HTTP_TLS_VERIFY", "optional"),
    ];
    let Some(broker) = Broker::start_configured(&settings) else {
        return;
    };
    broker.wait_for_log("there is no revocation list of CN=Authority other");
    assert!(is_let_in(&broker, &certificates, Some("kept")));
    assert!(is_let_in(&broker, &certificates, None));
    assert!(!is_let_in(&broker, &certificates, Some("foreign")));
    broker.wait_for_log("UnknownRevocationStatus");
}

#[test]
fn a_renewed_certificate_is_served_and_nobody_is_disconnected() {
    let Some((broker, certificates)) = tls_broker(&[]) else {
        return;
    };
    let tunnel = tunnel(&broker, "amqp_tls", client(&certificates, None));
    let mut old = RawClient::with_channel(tunnel.address);
    let first = tunnel.last_certificate();
    assert_eq!(first, certificate_in(&certificates.path("server.pem")));

    // Found by itself.
    certificates.issue("server", "/CN=renewed", "DNS:localhost");
    let served = || {
        RawClient::connect(tunnel.address).close();
        tunnel.last_certificate()
    };
    let renewed = certificate_in(&certificates.path("server.pem"));
    wait::until("the renewed certificate is served", || {
        (served() == renewed).then_some(())
    });

    // A bad one changes nothing and is complained of.
    std::fs::write(certificates.path("server.key"), "nothing of use").unwrap();
    broker.hang_up();
    broker.wait_for_log("TLS certificates stay as they were");
    broker.wait_for_log("no private key in it");
    assert_eq!(served(), renewed);

    // Read again when told to.
    certificates.issue("server", "/CN=third", "DNS:localhost");
    broker.hang_up();
    let third = certificate_in(&certificates.path("server.pem"));
    wait::until("the third certificate is served", || (served() == third).then_some(()));
    old.call(1, make::queue_declare("still-connected"));
    old.close();
}

#[test]
fn the_certificate_follows_the_name_that_the_client_asks_for() {
    let Some(certificates) = Certificates::new() else {
        return;
    };
    certificates.issue("server", "/CN=server", "DNS:localhost");
    certificates.issue("shop", "/CN=shop", "DNS:shop.example.com");
    certificates.issue("wild", "/CN=wild", "DNS:*.example.org");
    let host = |names: &str, name: &str| {
        let (certificate, key) = (
            certificates.text(&format!("{name}.pem")),
            certificates.text(&format!("{name}.key")),
        );
        format!("[[tls_hosts]]\nnames = ['{names}']\ncertificate = '{certificate}'\nkey = '{key}'\n")
    };
    let (certificate, key) = (certificates.text("server.pem"), certificates.text("server.key"));
    let file = format!("tls_listen = ['127.0.0.1:0']\ntls_certificate = '{certificate}'\ntls_key = '{key}'\n")
        + &host("Shop.example.com", "shop")
        + &host("*.example.org", "wild");
    std::fs::write(certificates.path("leveret.toml"), file).unwrap();
    let Some(broker) = Broker::start_configured(&[("CONFIG", &certificates.text("leveret.toml"))]) else {
        return;
    };
    for (asked, served) in [
        ("localhost", "server"),
        ("shop.example.com", "shop"),
        ("any.example.org", "wild"),
    ] {
        let tls = ClientTls {
            server_name: asked.to_owned(),
            ..client(&certificates, None)
        };
        let tunnel = tunnel(&broker, "amqp_tls", tls);
        RawClient::connect(tunnel.address).close();
        let expected = certificate_in(&certificates.path(&format!("{served}.pem")));
        assert_eq!(tunnel.last_certificate(), expected, "{asked}");
    }
}

#[test]
fn who_speaks_something_else_on_the_port_is_told_or_dropped_and_the_log_says_why() {
    let Some((broker, _certificates)) = tls_broker(&[("HANDSHAKE_TIMEOUT", "300ms")]) else {
        return;
    };
    let said = |address: SocketAddr, bytes: &[u8]| {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(wait::DEADLINE)).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let (amqps, https) = (broker.listener("amqp_tls"), broker.listener("management_tls"));
    assert_eq!(said(amqps, b"AMQP\x00\x00\x09\x01"), "");
    broker.wait_for_log("the client speaks AMQP without TLS");
    let answer = said(https, b"GET /api/overview HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.ends_with("write https:// here"),
        "{answer}"
    );
    assert_eq!(said(amqps, b"\x00\x01\x02"), "");
    broker.wait_for_log("what the client sends is not TLS");
    // A handshake that begins and does not go on.
    assert_eq!(said(amqps, b"\x16\x03\x01\x02"), "");
    broker.wait_for_log("the client had not come in within 300ms");
    // One that is broken, and a client that says nothing at all.
    said(amqps, &[b"\x16\x03\x01\x00\x05".as_slice(), &[9; 64]].concat());
    broker.wait_for_log("TLS handshake failed");
    assert_eq!(said(amqps, b""), "");
    // TLS where none is spoken.
    let hello = [b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03".as_slice(), &[7; 193]].concat();
    assert_eq!(said(broker.amqp(), &hello), "AMQP\0\0\u{9}\u{1}");
    RawClient::connect(broker.amqp()).close();
}

#[test]
fn files_that_cannot_be_used_end_the_start_with_one_line_that_names_them() {
    let Some(certificates) = Certificates::new() else {
        return;
    };
    certificates.issue("server", "/CN=server", "DNS:localhost");
    certificates.issue("stranger", "/CN=stranger", "DNS:localhost");
    certificates.openssl(&[
        "pkey",
        "-in",
        "server.key",
        "-aes256",
        "-passout",
        "pass:x",
        "-out",
        "locked.key",
    ]);
    std::fs::write(certificates.path("empty"), "").unwrap();
    let whole = std::fs::read_to_string(certificates.path("server.pem")).unwrap();
    std::fs::write(certificates.path("short"), &whole[..whole.len() / 2]).unwrap();
    let said = |certificate: &str, key: &str, authority: &str| -> String {
        let folder = tempfile::tempdir().unwrap();
        let mut command = serve_command(folder.path(), "127.0.0.1:0");
        command
            .env("LEVERET_TLS_LISTEN", "127.0.0.1:0")
            .env("LEVERET_TLS_VERIFY", "optional")
            .env("LEVERET_TLS_CERTIFICATE", certificates.path(certificate))
            .env("LEVERET_TLS_KEY", certificates.path(key))
            .env("LEVERET_TLS_CLIENT_CA", certificates.path(authority));
        let Output { status, stderr, .. } = command.output().unwrap();
        assert_eq!(status.code(), Some(1));
        let text = String::from_utf8(stderr).unwrap();
        let line = text.lines().last().unwrap().to_owned();
        assert!(line.starts_with("leveret: cannot serve TLS: "), "{line}");
        line.replace(&certificates.text(""), "")
    };
    for (certificate, key, authority, expected) in [
        ("absent", "server.key", "ca.pem", "cannot read absent: No such file"),
        ("empty", "server.key", "ca.pem", "empty: no certificate in it"),
        ("short", "server.key", "ca.pem", "short: cut short"),
        ("server.key", "server.key", "ca.pem", "server.key: no certificate in it"),
        ("server.pem", "server.pem", "ca.pem", "server.pem: no private key in it"),
        (
            "server.pem",
            "locked.key",
            "ca.pem",
            "locked.key: the private key is encrypted",
        ),
        (
            "server.pem",
            "stranger.key",
            "ca.pem",
            "the private key in stranger.key does not belong to the certificate in server.pem",
        ),
        ("server.pem", "server.key", "empty", "empty: no certificate in it"),
    ] {
        let line = said(certificate, key, authority);
        assert!(line.contains(expected), "{line}");
    }
}

#[test]
fn a_configuration_is_checked_with_its_revocation_lists() {
    let Some(certificates) = Certificates::new() else {
        return;
    };
    certificates.issue("server", "/CN=server", "DNS:localhost");
    certificates.revoke(&[], None);
    std::fs::write(certificates.path("garbage"), b"\x30\x03\x02\x01\x07").unwrap();
    let whole = std::fs::read_to_string(certificates.path("crl.pem")).unwrap();
    std::fs::write(certificates.path("short"), &whole[..whole.len() / 2]).unwrap();
    let said = |list: &str, authority: &str| -> String {
        let mut command = Command::new(binary());
        remove_settings(&mut command);
        command
            .args(["config", "check"])
            .env("LEVERET_TLS_VERIFY", "optional")
            .env("LEVERET_TLS_CERTIFICATE", certificates.path("server.pem"))
            .env("LEVERET_TLS_KEY", certificates.path("server.key"))
            .env("LEVERET_TLS_CRL_FILES", certificates.path(list));
        if !authority.is_empty() {
            command.env("LEVERET_TLS_CLIENT_CA", certificates.path(authority));
        } else {
            command.env("LEVERET_TLS_VERIFY", "none");
        }
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = match status.code() {
            Some(0) => stdout,
            Some(2) => stderr,
            other => panic!("{other:?}"),
        };
        String::from_utf8(text).unwrap().replace(&certificates.text(""), "")
    };
    assert!(!said("crl.pem", "ca.pem").contains("revocation"));
    for (list, authority, expected) in [
        ("absent", "ca.pem", "cannot serve TLS: cannot read absent: No such file"),
        ("ca.pem", "ca.pem", "cannot serve TLS: ca.pem: no revocation list in it"),
        ("garbage", "ca.pem", "cannot serve TLS: garbage: not a revocation list"),
        ("short", "ca.pem", "cannot serve TLS: short: cut short"),
        (
            "crl.pem",
            "",
            "'tls_client_ca': tls_crl_files are those of its authorities",
        ),
    ] {
        let text = said(list, authority);
        assert!(text.starts_with("leveret: ") && text.contains(expected), "{text}");
    }
    certificates.revoke(&[], Some(2020));
    let text = said("crl.pem", "ca.pem");
    let warning = "# warning: crl.pem: the revocation list of CN=Authority ca has expired";
    assert!(text.starts_with(warning), "{text}");
}

#[test]
fn a_client_that_says_goodbye_in_the_middle_leaves_nothing_behind() {
    let Some((broker, certificates)) = tls_broker(&[]) else {
        return;
    };
    let tunnel = tunnel(&broker, "amqp_tls", client(&certificates, None));
    let client = RawClient::with_channel(tunnel.address);
    drop(client);
    wait::until("the connection is gone", || {
        let (_, body) = ask(broker.management(), "GET", "/api/connections", GUEST, "");
        (body == "[]").then_some(())
    });
    // Nobody reads, and the broker stops all the same.
    let _silent = RawClient::with_channel(tunnel.address);
    let mut broker = broker;
    broker.stop();
}
