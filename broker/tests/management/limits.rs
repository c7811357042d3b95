//! What a client can send at most, and what it hears when it sends nonsense.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::api::Api;

#[test]
fn bodies_that_make_no_sense_are_refused_with_a_reason() {
    let api = Api::start();
    let deep = format!("{}1{}", r#"{"arguments":{"a":"#.repeat(200), "}}".repeat(200));
    let deep_table = format!(r#"{{"arguments":{}1{}}}"#, r#"{"a":"#.repeat(110), "}".repeat(110));
    for (body, reason) in [
        ("{", "not_json"),
        ("[]", "the body must be a JSON object"),
        ("\u{0}", "not_json"),
        (r#"{"durable":"maybe"}"#, "'durable' must be true or false"),
        (r#"{"arguments":[1]}"#, "'arguments' must be an object"),
        (r#"{"arguments":{"x-max-length":1e400}}"#, "not_json"),
        (
            r#"{"arguments":{"x-max-length":18446744073709551615}}"#,
            "more than 64 bits",
        ),
        (&deep, "recursion limit"),
        (&deep_table, "nested deeper"),
    ] {
        let answer = api.expect(400, "PUT", "/api/queues/%2F/q", body);
        let json = answer.json();
        assert_eq!(json["error"], "bad_request", "{answer:?}");
        assert!(
            json["reason"].as_str().unwrap().contains(reason),
            "{reason}: {answer:?}"
        );
    }
    assert_eq!(api.get("/api/queues"), serde_json::json!([]));
}

#[test]
fn large_bodies_are_refused_before_they_are_read() {
    let api = Api::start();
    let body = "x".repeat((256 << 10) + 1);
    let answer = api.expect(413, "PUT", "/api/queues/%2F/q", &body);
    assert!(answer.body.contains("payload_too_large"), "{answer:?}");
    let payload = format!(r#"{{"routing_key":"q","payload":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(api.get("/api/overview")["message_stats"]["publish"], 0);
    api.expect(200, "POST", "/api/exchanges/%2F/amq.default/publish", &payload);
}

#[test]
fn large_heads_are_refused() {
    let api = Api::start();
    let many = (0..100).map(|number| format!("X-{number}: 1\r\n")).collect::<String>();
    let long = format!("X-Long: {}\r\n", "x".repeat(64 << 10));
    for headers in [many, long] {
        let answer = api.send(format!("GET /health/live HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes());
        assert_eq!(answer.status, 431, "{answer:?}");
    }
    api.expect(200, "GET", "/health/live", "");
}

#[test]
fn what_is_no_http_is_not_answered_with_more_than_an_error() {
    let api = Api::start();
    let answer = api.send(b"AMQP\0\0\x09\x01 nonsense\r\n\r\n");
    assert_eq!(answer.status, 400);
    let mut silent = TcpStream::connect(api.address).unwrap();
    silent.write_all(b"GET /health/live HTT").unwrap();
    // Others are served while somebody writes slowly.
    api.expect(200, "GET", "/health/live", "");
    silent
        .write_all(b"P/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn a_wrong_password_is_answered_late_and_counted() {
    let api = Api::start();
    let began = Instant::now();
    let answer = api.ask_as(Some("guest:wrong"), "GET", "/api/overview", "");
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.json()["reason"], "Login failed");
    assert!(
        began.elapsed() >= leveret::auth::throttle::BASE_DELAY,
        "answered at once"
    );
    assert_eq!(api.broker.counters.http_logins.failed(), 1);
    let by_protocol = api.get(&format!(
        "/api/auth/attempts/{}?columns=protocol,auth_attempts_failed",
        api.broker.node_name
    ));
    assert_eq!(by_protocol[0]["protocol"], "amqp091");
    assert_eq!(by_protocol[0]["auth_attempts"], 0);
    assert_eq!(by_protocol[1]["protocol"], "http");
    assert_eq!(by_protocol[1]["auth_attempts_failed"], 1);
    assert_eq!(api.broker.throttle.lock().sources(), 1);
    let path = format!("/api/auth/attempts/{}", api.broker.node_name);
    api.expect(204, "DELETE", &path, "");
    assert_eq!(api.get(&path)[1]["auth_attempts_failed"], 0);
}

/// While some wait, a thousand others are not looked at, and who knows the password gets in.
#[test]
fn many_failed_logins_are_refused_unheard_and_keep_nobody_out() {
    let api = Api::start();
    api.expect(200, "GET", "/api/whoami", "");
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = TcpStream::connect(api.address).unwrap();
            let request = "GET /api/whoami HTTP/1.1\r\nHost: h\r\nAuthorization: Basic Z3Vlc3Q6d3Jvbmc=\r\n\r\n";
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !api.broker.throttle.lock().is_flooded(api.address.ip()) {
        assert!(Instant::now() < deadline, "the address is not flooded");
        std::thread::yield_now();
    }
    for number in 0..1000 {
        let answer = api.ask_as(Some(&format!("guest{number}:wrong")), "GET", "/api/whoami", "");
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    api.expect(200, "GET", "/api/whoami", "");
    assert_eq!(api.broker.throttle.lock().sources(), 1);
    let path = format!("/api/auth/attempts/{}/source", api.broker.node_name);
    let by_source = api.get(&path);
    assert!(
        by_source[0]["auth_attempts_failed"].as_u64() >= Some(1000),
        "{by_source}"
    );
    api.expect(204, "DELETE", &path, "");
    assert_eq!(api.get(&path), serde_json::json!([]));
    drop(waiting);
}

#[test]
fn unknown_paths_and_methods_are_told_apart() {
    let api = Api::start();
    assert_eq!(
        api.expect(404, "GET", "/api/nothing", "").json()["error"],
        "Object Not Found"
    );
    assert_eq!(
        api.expect(405, "PATCH", "/api/queues", "").json()["error"],
        "method_not_allowed"
    );
    let head = api.expect(200, "HEAD", "/api/queues", "");
    assert_eq!(head.body, "");
}
