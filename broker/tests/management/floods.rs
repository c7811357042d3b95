//! Clients that are slow, many, or send more than they look like.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::api::{Api, basic};

/// More than there are connections for.
const CONNECTIONS: usize = 300;

fn connected(api: &Api, sends: &str) -> TcpStream {
    let mut stream = TcpStream::connect(api.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    stream.write_all(sends.as_bytes()).unwrap();
    stream
}

/// The head of a request that makes a queue, whose body has two octets.
fn head_of_a_body(path: &str) -> String {
    let login = basic("guest:guest");
    format!(
        "PUT {path} HTTP/1.1\r\nHost: h\r\nAuthorization: {login}\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
    )
}

fn rest(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap_or_default();
    answer
}

#[test]
fn connections_that_ask_for_nothing_keep_nobody_out() {
    let api = Api::start();
    let busy = connected(&api, &head_of_a_body("/api/queues/%2F/kept"));
    let flood: Vec<_> = (0..CONNECTIONS)
        .map(|number| match number % 3 {
            0 => connected(&api, ""),
            1 => connected(&api, "GET /health/live HTTP/1.1\r\nX-Slow:"),
            _ => connected(&api, "GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n"),
        })
        .collect();
    let asked = Instant::now();
    api.expect(200, "GET", "/health/live", "");
    api.expect(200, "GET", "/api/overview", "");
    // Long before the time for a head is over.
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    // Who was in the middle of a request is not cut off.
    let mut busy = busy;
    busy.write_all(b"{}").unwrap();
    let answer = rest(busy);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    drop(flood);
}

#[test]
fn wrong_logins_from_many_addresses_keep_nobody_out() {
    let api = Api::start();
    // The password is known to be right from now on.
    api.expect(200, "GET", "/api/whoami", "");
    let login = basic("guest:wrong");
    let flood: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let source: SocketAddr = format!("127.0.2.{}:0", number % 60 + 1).parse().unwrap();
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&source.into()).unwrap();
            socket.connect(&api.address.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
            let request =
                format!("GET /api/whoami HTTP/1.1\r\nHost: h\r\nAuthorization: {login}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    let asked = Instant::now();
    api.expect(200, "GET", "/health/live", "");
    api.expect(200, "GET", "/api/whoami", "");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    // Those that found all places for checks taken were told so at once.
    let mut answers = flood.into_iter().rev().map(rest);
    assert!(answers.any(|answer| answer.starts_with("HTTP/1.1 503")));
}

/// It takes a minute, because that is how long a body may take.
#[test]
fn who_sends_a_head_or_a_body_too_slowly_is_given_up() {
    let api = Api::start();
    let half_a_body = format!("{}{{", head_of_a_body("/api/queues/%2F/q"));
    let (head, body) = (
        connected(&api, "GET /health/live HTTP/1.1\r\nX-Slow:"),
        connected(&api, &half_a_body),
    );
    let began = Instant::now();
    assert_eq!(rest(head), "");
    assert!(began.elapsed() >= Duration::from_secs(25), "{:?}", began.elapsed());
    let answer = rest(body);
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("the body did not arrive in time"), "{answer}");
}

#[test]
fn bodies_with_more_values_than_memory_is_meant_for_are_refused() {
    let api = Api::start();
    let many = |count: usize| "0,".repeat(count) + "0";
    let publish = format!(
        r#"{{"routing_key":"q","payload":"x","properties":{{"headers":{{"a":[{}]}}}}}}"#,
        many(100_000)
    );
    let refused = api.expect(413, "POST", "/api/exchanges/%2F/amq.default/publish", &publish);
    assert!(refused.body.contains("more than 100000 values"), "{refused:?}");
    let definitions = format!(r#"{{"queues":[{}{{}}]}}"#, "{},".repeat(1_000_000));
    let refused = api.expect(413, "POST", "/api/definitions", &definitions);
    assert!(refused.body.contains("more than 1000000 values"), "{refused:?}");
    // A long text is one value.
    let payload = format!(r#"{{"routing_key":"q","payload":"{}"}}"#, "[,{".repeat(1_000_000));
    api.expect(200, "POST", "/api/exchanges/%2F/amq.default/publish", &payload);
}

#[test]
fn slow_senders_of_large_bodies_keep_nobody_out_and_are_given_up() {
    const LARGE: usize = 10 << 20;
    let api = Api::start();
    let path = "/api/exchanges/%2F/amq.default/publish";
    let login = basic("guest:guest");
    let head = |length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nAuthorization: {login}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let mut stream = connected(&api, &head(LARGE));
            stream.write_all(&vec![b' '; 1 << 20]).unwrap();
            stream
        })
        .collect();
    let asked = Instant::now();
    let publish = |payload: &str| format!(r#"{{"routing_key":"q","payload":"{payload}"}}"#);
    api.expect(200, "POST", path, &publish("small"));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    // A large one waits until the slow ones are given up, long before the time for a body is over.
    api.expect(200, "POST", path, &publish(&"x".repeat(LARGE)));
    assert!(asked.elapsed() < Duration::from_secs(45), "{:?}", asked.elapsed());
    for stream in slow {
        let answer = rest(stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[test]
fn answers_that_nobody_reads_are_given_up_for_new_ones() {
    const LENGTH: usize = 10_000_000;
    let api = Api::start();
    for number in 0..100 {
        let queue = format!(r#"{{"arguments":{{"x-padding":"{}"}}}}"#, "x".repeat(LENGTH / 100));
        api.expect(201, "PUT", &format!("/api/queues/%2F/q{number}"), &queue);
    }
    let login = basic("guest:guest");
    let list = format!("GET /api/queues HTTP/1.1\r\nHost: h\r\nAuthorization: {login}\r\n\r\n");
    // More than may be held, and each more than the kernel takes of it.
    let mut deaf = connected(&api, &list);
    let _others: Vec<_> = (0..15).map(|_| connected(&api, &list)).collect();
    let answer = api.expect(200, "GET", "/api/queues", "");
    assert!(answer.body.len() > LENGTH, "{}", answer.body.len());
    // Closed is what refuses to be written to.
    let until = Instant::now() + Duration::from_secs(60);
    while deaf.write_all(b" ").is_ok() {
        assert!(Instant::now() < until, "an answer that nobody reads is still held");
        api.expect(200, "GET", "/api/whoami", "");
    }
}
