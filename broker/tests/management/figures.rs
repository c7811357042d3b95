//! Lists without figures, as tools with many queues ask for them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use leveret::metrics::past::Whole;
use serde_json::{Value, json};

use super::api::Api;

/// A broker with a queue of two messages, of which a policy limits the number.
fn with_a_queue() -> Api {
    let api = Api::start();
    let policy = r#"{"pattern":"^q$","definition":{"max-length":9}}"#;
    api.expect(201, "PUT", "/api/policies/%2F/short", policy);
    api.expect(201, "PUT", "/api/queues/%2F/q", r#"{"durable":true}"#);
    for _ in 0..2 {
        let publish = r#"{"routing_key":"q","payload":"x"}"#;
        api.expect(200, "POST", "/api/exchanges/%2F/amq.default/publish", publish);
    }
    api
}

fn has(object: &Value, names: &[&str]) -> Vec<bool> {
    names.iter().map(|name| object.get(name).is_some()).collect()
}

#[test]
fn a_queue_without_figures_is_how_it_was_declared() {
    let api = with_a_queue();
    let declared = json!({
        "name": "q", "vhost": "/", "type": "classic", "state": "running", "node": api.get("/api/overview")["node"],
        "durable": true, "auto_delete": false, "exclusive": false, "arguments": {}, "policy": "short",
        "operator_policy": null, "effective_policy_definition": {"max-length": 9},
    });
    for path in ["/api/queues", "/api/queues/detailed", "/api/queues/%2F"] {
        assert_eq!(
            api.get(&format!("{path}?disable_stats=true")),
            json!([declared]),
            "{path}"
        );
    }
    assert_eq!(api.get("/api/queues/%2F/q?disable_stats=true"), declared);
}

#[test]
fn a_queue_tells_where_its_messages_are_and_which_outlive_a_restart() {
    let api = with_a_queue();
    let persistent = r#"{"routing_key":"q","payload":"abc","properties":{"delivery_mode":2,"timestamp":1700000000}}"#;
    api.expect(200, "POST", "/api/exchanges/%2F/amq.default/publish", persistent);
    let queue = api.get("/api/queues/%2F/q");
    for (field, value) in [
        ("messages_ram", json!(3)),
        ("messages_ready_ram", json!(3)),
        ("messages_unacknowledged_ram", json!(0)),
        ("messages_persistent", json!(1)),
        ("messages_paged_out", json!(0)),
        ("message_bytes_ram", json!(5)),
        ("message_bytes_persistent", json!(3)),
        ("message_bytes_paged_out", json!(0)),
        ("head_message_timestamp", json!(null)),
    ] {
        assert_eq!(queue[field], value, "{field}");
    }
    for stats in [&queue, &api.get("/api/overview"), &api.get("/api/vhosts/%2F")] {
        assert_eq!(stats["message_stats"]["disk_writes"], 1, "{stats}");
        assert_eq!(stats["message_stats"]["disk_reads"], 0, "{stats}");
    }
    let get = r#"{"count":2,"ackmode":"ack_requeue_false","encoding":"auto"}"#;
    api.expect(200, "POST", "/api/queues/%2F/q/get", get);
    let columns = api.get("/api/queues?columns=head_message_timestamp,messages_persistent&sort=messages_persistent");
    assert_eq!(
        columns,
        json!([{"head_message_timestamp": 1_700_000_000, "messages_persistent": 1}])
    );
}

#[test]
fn totals_of_queues_are_there_if_asked_for() {
    let api = with_a_queue();
    let query = "disable_stats=true&enable_queue_totals=true";
    let counts = ["messages", "messages_ready", "messages_unacknowledged"];
    let figures = [
        "messages_details",
        "message_stats",
        "consumers",
        "memory",
        "consumer_details",
    ];
    let list = api.get(&format!("/api/queues/%2F?{query}"));
    for queue in [&list[0], &api.get(&format!("/api/queues/%2F/q?{query}"))] {
        assert_eq!(counts.map(|name| queue[name].clone()), [json!(2), json!(2), json!(0)]);
        assert_eq!(has(queue, &figures), [false; 5]);
    }
    let alone = api.get("/api/queues/%2F/q?enable_queue_totals=true");
    assert_eq!(has(&alone, &figures), [true; 5], "figures are left out on demand only");
}

#[test]
fn columns_and_order_have_nothing_to_do_with_what_is_left_out() {
    let api = with_a_queue();
    api.expect(201, "PUT", "/api/queues/%2F/a", "");
    let names = |query: &str| {
        let list = api.get(&format!(
            "/api/queues?columns=name,messages,memory&disable_stats=true&{query}"
        ));
        list.as_array().unwrap().clone()
    };
    assert_eq!(names("sort=messages"), [json!({"name": "a"}), json!({"name": "q"})]);
    assert_eq!(
        names("sort=messages&sort_reverse=true&enable_queue_totals=true"),
        [json!({"name": "q", "messages": 2}), json!({"name": "a", "messages": 0})]
    );
}

#[test]
fn the_overview_and_virtual_hosts_leave_their_figures_out_too() {
    let api = with_a_queue();
    let figures = ["message_stats", "queue_totals", "churn_rates"];
    let overview = api.get("/api/overview?disable_stats=true");
    assert_eq!(has(&overview, &figures), [false; 3]);
    assert_eq!(overview["disable_stats"], true);
    assert_eq!(overview["object_totals"]["queues"], 1);
    assert_eq!(has(&api.get("/api/overview"), &figures), [true; 3]);
    let figures = ["message_stats", "messages", "messages_ready_details"];
    for (query, shown) in [("?disable_stats=true", [false; 3]), ("", [true; 3])] {
        assert_eq!(has(&api.get(&format!("/api/vhosts{query}"))[0], &figures), shown);
        assert_eq!(has(&api.get(&format!("/api/vhosts/%2F{query}")), &figures), shown);
    }
}

/// Takes samples as if so many seconds had passed, one after the other, and some that are still to come, for a test may be slow.
fn pass(api: &Api, seconds: u64) {
    let (now, unix) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    for second in 0..=seconds + 30 {
        let mut whole = Whole::default();
        whole.depth.ready = second;
        whole.flow.publish = 2 * second;
        api.broker.past.note(&whole, (now, unix.as_secs() - seconds + second));
    }
}

#[test]
fn who_draws_graphs_gets_samples_of_the_past() {
    let api = with_a_queue();
    pass(&api, 120);
    let ranges = "lengths_age=60&lengths_incr=10&msg_rates_age=60&msg_rates_incr=10";
    let overview = api.get(&format!("/api/overview?{ranges}"));
    let lengths = &overview["queue_totals"]["messages_ready_details"];
    let samples = lengths["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 7, "{lengths}");
    let (newest, oldest) = (&samples[0], &samples[6]);
    let number = |value: &Value| value.as_f64().unwrap();
    assert_eq!(number(&newest["timestamp"]) - number(&oldest["timestamp"]), 60_000.0);
    let rate = (number(&newest["sample"]) - number(&oldest["sample"])) / 60.0;
    assert!((number(&lengths["avg_rate"]) - rate).abs() < 1e-9, "{lengths}");
    let sum: f64 = samples.iter().map(|sample| number(&sample["sample"])).sum();
    assert!((number(&lengths["avg"]) - sum / 7.0).abs() < 1e-9, "{lengths}");
    assert_eq!(number(&lengths["rate"]), 0.0, "the rate is that of now");
    let published = &overview["message_stats"]["publish_details"];
    assert_eq!(published["avg_rate"], 2.0, "{published}");
    assert_eq!(overview["sample_retention_policies"]["basic"], json!([600, 3600]));
    assert!(overview["churn_rates"]["queue_created_details"]["samples"].is_array());
    let plain = api.get("/api/overview");
    assert_eq!(plain["queue_totals"]["messages_ready_details"], json!({"rate": 0.0}));
}

#[test]
fn an_object_has_a_past_from_when_somebody_asks_for_it() {
    let api = with_a_queue();
    let ranges =
        "lengths_age=10&lengths_incr=5&msg_rates_age=3600&msg_rates_incr=60&data_rates_age=60&data_rates_incr=5";
    for (path, figure) in [
        ("/api/queues/%2F/q", "/messages_details"),
        ("/api/queues/%2F/q", "/message_stats/publish_details"),
        ("/api/exchanges/%2F/amq.default", "/message_stats/publish_in_details"),
    ] {
        let object = api.get(&format!("{path}?{ranges}"));
        let details = object.pointer(figure).unwrap();
        assert!(details["samples"].is_array(), "{path} {object}");
    }
    let queue = api.get(&format!("/api/queues/%2F/q?{ranges}&columns=name,messages_details"));
    assert_eq!(
        queue["messages_details"]["samples"][0]["sample"], 2,
        "that of this moment: {queue}"
    );
    assert!(queue.get("message_stats").is_none());
    let without = api.get(&format!("/api/queues/%2F/q?{ranges}&disable_stats=true"));
    assert!(without.get("messages_details").is_none(), "{without}");
}

#[test]
fn ranges_that_make_no_sense_are_refused() {
    let api = with_a_queue();
    for (age, step) in [(60, 0), (0, 5), (-5, 5), (60, -1), (2505, 5), (i64::MAX, 1)] {
        for path in ["/api/overview", "/api/queues/%2F/q", "/api/exchanges/%2F/amq.direct"] {
            let path = format!("{path}?lengths_age={age}&lengths_incr={step}");
            let refused = api.expect(400, "GET", &path, "").json();
            let reason = format!("Invalid range parameters: age {age}, incr {step}");
            assert_eq!(refused, json!({"error": "bad_request", "reason": reason}));
        }
    }
    for query in ["lengths_age=60", "lengths_age=x&lengths_incr=1", "lengths_incr=5"] {
        let queue = api.get(&format!("/api/queues/%2F/q?{query}"));
        assert_eq!(queue["messages_details"], json!({"rate": 0.0}), "{query}");
    }
}

#[test]
fn dead_letters_that_a_queue_took_are_counted() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/queues/%2F/letters", "");
    for (queue, key) in [("q", "letters"), ("lost", "nobody")] {
        let arguments =
            json!({"x-max-length": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": key}).to_string();
        let declared = format!(r#"{{"durable":true,"arguments":{arguments}}}"#);
        api.expect(201, "PUT", &format!("/api/queues/%2F/{queue}"), &declared);
        for _ in 0..3 {
            let publish = json!({"routing_key": queue, "payload": "x"}).to_string();
            api.expect(200, "POST", "/api/exchanges/%2F/amq.default/publish", &publish);
        }
    }
    assert_eq!(api.get("/api/queues/%2F/letters")["messages"], 2);
    assert_eq!(
        api.broker.counters.dead_letters.confirmed.get(),
        2,
        "not those to nobody"
    );
}
