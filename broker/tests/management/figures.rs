//! Lists without figures, as tools with many queues ask for them.

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
