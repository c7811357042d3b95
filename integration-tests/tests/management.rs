//! The management API of the real binary, beside AMQP clients: what they do shows there, and the other way round.

use std::net::SocketAddr;
use std::time::Instant;

use lapin::BasicProperties;
use lapin::options::*;
use lapin::types::FieldTable;
use leveret_integration_tests::client::*;
use leveret_integration_tests::scrape::ask;
use leveret_integration_tests::{Broker, wait};
use serde_json::{Value, json};

/// `guest:guest`.
const GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";

/// A request of guest that must succeed.
#[track_caller]
fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> Value {
    let (head, body) = ask(address, method, path, GUEST, body);
    assert!(head.starts_with("HTTP/1.1 20"), "{method} {path}: {head}\n{body}");
    serde_json::from_str(&body).unwrap_or_default()
}

fn get(address: SocketAddr, path: &str) -> Value {
    call(address, "GET", path, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_do_shows_with_counts_and_rates() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (_connection, channel) = open(broker.amqp()).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    channel.queue("busy", QueueDeclareOptions::default()).await;
    let consume = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let consumer = channel
        .basic_consume("busy".into(), "eater".into(), consume, FieldTable::default())
        .await;
    let _consumer = consumer.unwrap();
    // The rate is seen while it goes on.
    let rate = wait::until_async("a rate shows", || async {
        for _ in 0..20 {
            channel.publish("", "busy", b"x").await;
        }
        let queue = get(api, "/api/queues/%2F/busy");
        let stats = queue.get("message_stats")?;
        let rates = [&stats["publish_details"]["rate"], &stats["deliver_get_details"]["rate"]];
        rates
            .into_iter()
            .all(|rate| rate.as_f64() > Some(0.0))
            .then_some(queue.clone())
    });
    let queue = rate.await;
    assert_eq!(
        queue["message_stats"]["publish"],
        queue["message_stats"]["deliver_no_ack"]
    );
    assert_eq!(queue["consumer_details"][0]["consumer_tag"], "eater");
    let overview = get(api, "/api/overview");
    assert_eq!(overview["object_totals"]["connections"], 1, "{overview}");
    assert_eq!(overview["object_totals"]["consumers"], 1, "{overview}");
    assert!(overview["message_stats"]["publish"].as_u64() >= queue["message_stats"]["publish"].as_u64());
    let channels = get(api, "/api/channels");
    assert_eq!(
        (&channels[0]["number"], &channels[0]["consumer_count"]),
        (&json!(1), &json!(1)),
        "{channels}"
    );
    assert_eq!(
        get(api, "/api/consumers?columns=queue.name"),
        json!([{"queue": {"name": "busy"}}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closed_over_http_hears_why() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (_connection, channel) = open(broker.amqp()).await;
    let listed = get(api, "/api/connections");
    let name = listed[0]["name"].as_str().unwrap();
    let path = format!("/api/connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
    assert_eq!(get(api, &path)["user"], "guest");
    let (head, _) = ask(api, "DELETE", &path, &format!("{GUEST}X-Reason: night shift\r\n"), "");
    assert!(head.starts_with("HTTP/1.1 204"), "{head}");
    let error = wait::until_async("the channel is closed", || async {
        channel
            .queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default())
            .await
            .err()
    });
    let text = error.await.to_string();
    let closed = text.contains("CONNECTION_FORCED - night shift") || text.contains("invalid");
    assert!(closed, "{text}");
    wait::until("the connection is gone", || {
        (get(api, "/api/connections") == json!([])).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_published_over_http_is_as_durable_as_a_confirmed_one() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    call(api, "PUT", "/api/queues/%2F/kept", r#"{"durable":true}"#);
    let publish = r#"{"properties":{"delivery_mode":2,"headers":{"n":1}},"routing_key":"kept","payload":"here"}"#;
    assert_eq!(
        call(api, "POST", "/api/exchanges/%2F/amq.default/publish", publish),
        json!({"routed": true})
    );
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    let got = channel
        .basic_get("kept".into(), BasicGetOptions::default())
        .await
        .unwrap()
        .expect("a message");
    assert_eq!(got.delivery.data, b"here");
    let headers = got.delivery.properties.headers().clone().unwrap();
    assert_eq!(headers.inner().len(), 1);
    // And what a client publishes is got over HTTP, as soon as it is confirmed.
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let properties = BasicProperties::default().with_message_id("7".into());
    let published = channel.basic_publish(
        "".into(),
        "kept".into(),
        BasicPublishOptions::default(),
        b"\xff",
        properties,
    );
    published.await.unwrap().await.unwrap();
    let take = r#"{"count":2,"ackmode":"ack_requeue_false","encoding":"auto"}"#;
    let messages = call(broker.management(), "POST", "/api/queues/%2F/kept/get", take);
    let expected = json!([{
        "payload_bytes": 1, "redelivered": false, "exchange": "", "routing_key": "kept", "message_count": 0,
        "properties": {"message_id": "7"}, "payload": "/w==", "payload_encoding": "base64"
    }]);
    assert_eq!(messages, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exclusive_queue_is_shown_and_left_to_its_connection() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (_connection, channel) = open(broker.amqp()).await;
    let name = channel.own_queue().await;
    let path = format!("/api/queues/%2F/{name}");
    let queue = get(api, &path);
    assert_eq!(
        (&queue["exclusive"], &queue["owner_pid_details"]["peer_host"]),
        (&json!(true), &json!("127.0.0.1"))
    );
    let take = r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#;
    for (method, path, body) in [("DELETE", path.clone(), ""), ("POST", format!("{path}/get"), take)] {
        let (head, body) = ask(api, method, &path, GUEST, body);
        assert!(head.starts_with("HTTP/1.1 400"), "{head}");
        assert!(
            body.contains("cannot obtain exclusive access to locked queue"),
            "{body}"
        );
    }
}

/// Ten thousand queues; the time is printed, and held against a bound that only a wrong algorithm misses.
#[test]
fn a_list_of_ten_thousand_queues_does_not_take_seconds() {
    const QUEUES: usize = 10_000;
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let queues: Vec<_> = (0..QUEUES)
        .map(|n| json!({"name": format!("q{n:05}"), "vhost": "/", "durable": false}))
        .collect();
    call(
        api,
        "POST",
        "/api/definitions",
        &json!({ "queues": queues }).to_string(),
    );
    for query in [
        "",
        "?page=1",
        "?page=50&sort=messages&sort_reverse=true",
        "?columns=name,messages",
        "?page=1&name=9$&use_regex=true",
    ] {
        let began = Instant::now();
        let listed = get(api, &format!("/api/queues{query}"));
        println!("/api/queues{query}: {:?}, parsed by the test too", began.elapsed());
        let count = listed["total_count"]
            .as_u64()
            .unwrap_or_else(|| listed.as_array().unwrap().len() as u64);
        assert_eq!(count, QUEUES as u64, "{query}");
        assert!(began.elapsed().as_secs() < 20, "{query}");
    }
}

#[test]
fn a_list_is_asked_for_by_page_name_order_and_columns() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    for name in ["a1", "b1", "b2", "b3", "c1"] {
        call(api, "PUT", &format!("/api/queues/%2F/{name}"), "{}");
    }
    let page = get(
        api,
        "/api/queues?page=1&page_size=2&name=%5Eb&use_regex=true&sort=name&sort_reverse=true&columns=name",
    );
    assert_eq!(page["items"], json!([{"name": "b3"}, {"name": "b2"}]));
    assert_eq!(
        (&page["filtered_count"], &page["total_count"], &page["page_count"]),
        (&json!(3), &json!(5), &json!(2))
    );
}

/// Who draws a graph asks again and again, and gets a sample for each step since it asked first.
#[test]
fn a_queue_that_is_looked_at_has_a_past() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    call(api, "PUT", "/api/queues/%2F/drawn", "{}");
    let publish = json!({"routing_key": "drawn", "payload": "x", "payload_encoding": "string", "properties": {}});
    call(
        api,
        "POST",
        "/api/exchanges/%2F/amq.default/publish",
        &publish.to_string(),
    );
    let path = "/api/queues/%2F/drawn?lengths_age=60&lengths_incr=5";
    let details = wait::until("samples of two steps", || {
        let queue = get(api, path);
        let samples = queue["messages_details"]["samples"].as_array()?;
        (samples.len() >= 2).then(|| queue["messages_details"].clone())
    });
    assert_eq!(details["samples"][0]["sample"], 1, "{details}");
    assert!(details["avg"].as_f64() > Some(0.0), "{details}");
}

#[test]
fn a_browser_gets_its_pages_without_a_login_and_nothing_else() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let api = broker.management();
    let (head, body) = ask(api, "GET", "/", "", "");
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/html"), "{head}");
    assert!(body.contains("<title>Leveret</title>"), "{body}");
    let (head, script) = ask(api, "GET", "/api.js", "", "");
    assert!(head.contains("text/javascript") && script.contains("fetch("), "{head}");
    let (head, _) = ask(api, "GET", "/api/whoami", "", "");
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
}
