//! Making, showing and deleting what a virtual host holds, as RabbitMQ's tools do it.

use serde_json::{Value, json};

use super::api::Api;

#[test]
fn a_queue_is_declared_shown_and_deleted() {
    let api = Api::start();
    let path = "/api/queues/%2F/orders";
    let declared = r#"{"durable":true,"arguments":{"x-max-length":100}}"#;
    api.expect(201, "PUT", path, declared);
    api.expect(204, "PUT", path, declared);
    let queue = api.get(path);
    for (field, value) in [
        ("name", json!("orders")),
        ("vhost", json!("/")),
        ("durable", json!(true)),
        ("type", json!("classic")),
        ("state", json!("running")),
        ("arguments", json!({"x-max-length": 100})),
        ("messages", json!(0)),
        ("consumers", json!(0)),
        ("consumer_details", json!([])),
    ] {
        assert_eq!(queue[field], value, "{field}");
    }
    assert!(queue.get("message_stats").is_none(), "nothing happened yet");
    let refused = api.expect(400, "PUT", path, r#"{"durable":false}"#).json();
    let reason = "inequivalent arg 'durable' for queue 'orders' in vhost '/': received 'false' but current is 'true'";
    assert_eq!(refused, json!({"error": "bad_request", "reason": reason}));
    api.expect(204, "DELETE", path, "");
    assert_eq!(api.expect(404, "DELETE", path, "").json()["reason"], "Not Found");
}

#[test]
fn names_with_slashes_and_other_letters_stay_whole() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/vhosts/a%2Fb%20%C3%A9", "");
    api.expect(201, "PUT", "/api/queues/a%2Fb%20%C3%A9/q%2F%3F%25", "");
    let listed = api.get("/api/queues?columns=name,vhost");
    assert_eq!(listed, json!([{"name": "q/?%", "vhost": "a/b é"}]));
    assert_eq!(api.expect(400, "PUT", "/api/queues/%2F/%FF", "").status, 400);
}

#[test]
fn conditions_of_a_delete_are_kept() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/queues/%2F/q", "");
    let publish = r#"{"routing_key":"q","payload":"x"}"#;
    assert_eq!(
        api.expect(200, "POST", "/api/exchanges/%2F/amq.default/publish", publish)
            .json(),
        json!({"routed": true})
    );
    let refused = api.expect(400, "DELETE", "/api/queues/%2F/q?if-empty=true", "").json();
    assert_eq!(refused["reason"], "queue 'q' in vhost '/' not empty");
    api.expect(204, "DELETE", "/api/queues/%2F/q/contents", "");
    api.expect(204, "DELETE", "/api/queues/%2F/q?if-empty=true&if-unused=true", "");
}

#[test]
fn an_exchange_that_delays_shows_how_many_messages_wait_in_it() {
    let api = Api::start();
    let declared = r#"{"type":"x-delayed-message","arguments":{"x-delayed-type":"fanout"}}"#;
    api.expect(201, "PUT", "/api/exchanges/%2F/later", declared);
    assert_eq!(api.get("/api/exchanges/%2F/later")["messages_delayed"], 0);
    let publish =
        r#"{"routing_key":"","payload":"x","payload_encoding":"string","properties":{"headers":{"x-delay":600000}}}"#;
    api.expect(200, "POST", "/api/exchanges/%2F/later/publish", publish);
    assert_eq!(api.get("/api/exchanges/%2F/later")["messages_delayed"], 1);
    let direct = api.get("/api/exchanges/%2F/amq.direct");
    assert!(direct.get("messages_delayed").is_none(), "{direct}");
}

#[test]
fn exchanges_are_declared_and_deleted_but_not_those_of_the_broker() {
    let api = Api::start();
    api.expect(
        201,
        "PUT",
        "/api/exchanges/%2F/x",
        r#"{"type":"topic","durable":"true"}"#,
    );
    let exchange = api.get("/api/exchanges/%2F/x");
    assert_eq!(
        (&exchange["type"], &exchange["durable"]),
        (&json!("topic"), &json!(true))
    );
    let unknown = api
        .expect(400, "PUT", "/api/exchanges/%2F/y", r#"{"type":"zz"}"#)
        .json();
    assert_eq!(unknown["reason"], "unknown exchange type 'zz'");
    for path in ["/api/exchanges/%2F/amq.direct", "/api/exchanges/%2F/amq.default"] {
        assert_eq!(api.expect(401, "DELETE", path, "").json()["error"], "not_authorised");
    }
    api.expect(401, "PUT", "/api/exchanges/%2F/amq.mine", "{}");
    assert_eq!(api.get("/api/exchanges/%2F/amq.default")["name"], "");
    api.expect(204, "DELETE", "/api/exchanges/%2F/x", "");
    api.expect(404, "GET", "/api/exchanges/%2F/x", "");
}

#[test]
fn bindings_are_told_apart_by_their_properties_key() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/queues/%2F/q", "");
    api.expect(201, "PUT", "/api/exchanges/%2F/x", r#"{"type":"headers"}"#);
    let between = "/api/bindings/%2F/e/x/q/q";
    let bound = api.expect(201, "POST", between, r#"{"routing_key":"a/b","arguments":{"n":1}}"#);
    let location = bound
        .head
        .lines()
        .find_map(|line| line.strip_prefix("location: q/"))
        .unwrap()
        .to_owned();
    assert!(location.starts_with("a%252Fb~"), "{location}");
    api.expect(201, "POST", between, r#"{"routing_key":"a/b","arguments":{"n":2}}"#);
    api.expect(201, "POST", between, r#"{"routing_key":"a/b"}"#);
    api.expect(201, "POST", between, "");
    let keys = |path: &str| -> Vec<Value> {
        let listed = api.get(path);
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|binding| binding["properties_key"].clone())
            .collect()
    };
    assert_eq!(keys(between).len(), 4);
    assert_eq!(api.get(&format!("{between}/{location}"))["arguments"], json!({"n": 1}));
    api.expect(204, "DELETE", &format!("{between}/{location}"), "");
    api.expect(404, "DELETE", &format!("{between}/{location}"), "");
    api.expect(204, "DELETE", &format!("{between}/~"), "");
    api.expect(204, "DELETE", &format!("{between}/a%252Fb"), "");
    assert_eq!(keys(between).len(), 1);
    // The binding that every queue has, and the one that is left.
    assert_eq!(keys("/api/queues/%2F/q/bindings").len(), 2);
    assert_eq!(keys("/api/exchanges/%2F/x/bindings/source").len(), 1);
    // A routing key that looks like another's quoted form is not taken for it.
    for key in ["a/b", "a%2Fb"] {
        api.expect(201, "POST", between, &json!({ "routing_key": key }).to_string());
    }
    api.expect(204, "DELETE", &format!("{between}/a%25252Fb"), "");
    let left = keys(between);
    assert!(
        left.contains(&json!("a%2Fb")) && !left.contains(&json!("a%252Fb")),
        "{left:?}"
    );
    assert_eq!(
        api.expect(404, "POST", "/api/bindings/%2F/e/x/q/none", "").json()["error"],
        "not_found"
    );
    api.expect(401, "POST", "/api/bindings/%2F/e/amq.default/q/q", "");
}

#[test]
fn a_message_goes_in_and_comes_out_with_its_properties() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/queues/%2F/q", r#"{"durable":true}"#);
    let properties = json!({
        "content_type": "text/plain", "headers": {"n": 1, "list": ["a"]}, "delivery_mode": 2, "priority": 3,
        "correlation_id": "c", "reply_to": "r", "expiration": "60000", "message_id": "m", "timestamp": 1_700_000_000,
        "type": "t", "user_id": "guest", "app_id": "a"
    });
    let published =
        json!({"properties": properties, "routing_key": "q", "payload": "héllo", "payload_encoding": "string"});
    api.expect(
        200,
        "POST",
        "/api/exchanges/%2F/amq.default/publish",
        &published.to_string(),
    );
    let get = |ackmode: &str, more: &str| {
        let body = format!(r#"{{"count":1,"ackmode":"{ackmode}","encoding":"auto"{more}}}"#);
        api.expect(200, "POST", "/api/queues/%2F/q/get", &body).json()
    };
    let first = get("ack_requeue_true", "");
    let expected = json!([{
        "payload_bytes": 6, "redelivered": false, "exchange": "", "routing_key": "q", "message_count": 0,
        "properties": properties, "payload": "héllo", "payload_encoding": "string"
    }]);
    assert_eq!(first, expected);
    // Cut within a letter, what is left is no text.
    let cut = get("reject_requeue_true", r#","truncate":2"#);
    assert_eq!(
        (&cut[0]["payload"], &cut[0]["payload_encoding"]),
        (&json!("aMM="), &json!("base64"))
    );
    assert_eq!(cut[0]["redelivered"], true);
    assert_eq!(get("ack_requeue_false", "").as_array().unwrap().len(), 1);
    assert_eq!(get("ack_requeue_false", ""), json!([]));
}

#[test]
fn the_four_ackmodes_leave_what_they_say() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/queues/%2F/q", "");
    for payload in ["1", "2", "3"] {
        let publish = format!(r#"{{"routing_key":"q","payload":"{payload}"}}"#);
        api.expect(200, "POST", "/api/exchanges/%2F/amq.default/publish", &publish);
    }
    for (ackmode, left) in [
        ("ack_requeue_true", 3),
        ("reject_requeue_true", 3),
        ("ack_requeue_false", 2),
        ("reject_requeue_false", 1),
    ] {
        let body = format!(r#"{{"count":1,"ackmode":"{ackmode}","encoding":"base64"}}"#);
        api.expect(200, "POST", "/api/queues/%2F/q/get", &body);
        let queue = api.get("/api/queues/%2F/q");
        assert_eq!(
            (&queue["messages"], &queue["messages_unacknowledged"]),
            (&json!(left), &json!(0)),
            "{ackmode}"
        );
    }
    for bad in [
        r#"{"count":1}"#,
        r#"{"count":1,"ackmode":"x","encoding":"auto"}"#,
        r#"{"count":"x"}"#,
    ] {
        api.expect(400, "POST", "/api/queues/%2F/q/get", bad);
    }
    assert_eq!(
        api.get("/api/queues/%2F/q")["messages"],
        1,
        "a request that is refused takes nothing"
    );
}

#[test]
fn what_a_get_rejects_goes_to_the_dead_letter_exchange() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/queues/%2F/dead", "");
    let arguments = r#"{"arguments":{"x-dead-letter-exchange":"","x-dead-letter-routing-key":"dead"}}"#;
    api.expect(201, "PUT", "/api/queues/%2F/q", arguments);
    let publish = r#"{"routing_key":"q","payload":"x"}"#;
    api.expect(200, "POST", "/api/exchanges/%2F/amq.default/publish", publish);
    let reject = r#"{"count":1,"ackmode":"reject_requeue_false","encoding":"auto"}"#;
    api.expect(200, "POST", "/api/queues/%2F/q/get", reject);
    let get = r#"{"count":1,"ackmode":"ack_requeue_true","encoding":"auto"}"#;
    let dead = api.expect(200, "POST", "/api/queues/%2F/dead/get", get).json();
    assert_eq!(
        dead[0]["properties"]["headers"]["x-first-death-reason"], "rejected",
        "{dead}"
    );
}

#[test]
fn publishes_obey_the_rules_of_amqp() {
    let api = Api::start();
    for (exchange, properties, status, reason) in [
        ("nowhere", json!({}), 404, "no exchange 'nowhere' in vhost '/'"),
        (
            "amq.default",
            json!({"expiration": "soon"}),
            400,
            "invalid expiration 'soon'",
        ),
        (
            "amq.default",
            json!({"user_id": "other"}),
            400,
            "user_id property set to 'other'",
        ),
        (
            "amq.default",
            json!({"headers": {"CC": 1}}),
            400,
            "unacceptable_type_in_header",
        ),
        ("amq.default", json!({"delivery_mode": "a"}), 400, "'delivery_mode'"),
        (
            "amq.default",
            json!({"reply_to": "amq.rabbitmq.reply-to"}),
            400,
            "fast reply consumer",
        ),
        (
            "amq.default",
            json!({"app_id": "x".repeat(256)}),
            400,
            "longer than 255 bytes",
        ),
    ] {
        let body = json!({"properties": properties, "routing_key": "q", "payload": ""}).to_string();
        let answer = api.expect(status, "POST", &format!("/api/exchanges/%2F/{exchange}/publish"), &body);
        assert!(
            answer.json()["reason"].as_str().unwrap().contains(reason),
            "{reason}: {answer:?}"
        );
    }
    for name in ["one", "two"] {
        api.expect(201, "PUT", &format!("/api/queues/%2F/{name}"), "");
    }
    let copied = json!({"properties": {"headers": {"BCC": ["two"]}}, "routing_key": "one", "payload": "eA==", "payload_encoding": "base64"});
    api.expect(
        200,
        "POST",
        "/api/exchanges/%2F/amq.default/publish",
        &copied.to_string(),
    );
    let get = r#"{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}"#;
    for name in ["one", "two"] {
        let got = api
            .expect(200, "POST", &format!("/api/queues/%2F/{name}/get"), get)
            .json();
        assert_eq!(
            (&got[0]["payload"], &got[0]["properties"]),
            (&json!("x"), &json!({"headers": {}})),
            "{name}"
        );
    }
}

#[test]
fn users_and_permissions_are_made_changed_and_deleted() {
    let api = Api::start();
    assert_eq!(
        api.expect(400, "PUT", "/api/users/u", "{}").json()["reason"],
        "tags_not_present"
    );
    api.expect(
        201,
        "PUT",
        "/api/users/u",
        r#"{"password":"p","tags":["monitoring","mine"]}"#,
    );
    assert_eq!(
        api.ask_as(Some("u:p"), "GET", "/api/whoami", "").json(),
        json!({"name": "u", "tags": ["monitoring", "mine"]})
    );
    let hash = api.get("/api/users/u")["password_hash"].clone();
    let imported = json!({"password_hash": hash, "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""});
    api.expect(201, "PUT", "/api/users/copy", &imported.to_string());
    assert_eq!(
        api.ask_as(Some("copy:p"), "GET", "/api/whoami", "").json()["reason"],
        "Not management user"
    );
    let grant = r#"{"configure":"","write":"^w","read":".*"}"#;
    api.expect(400, "PUT", "/api/permissions/%2F/none", grant);
    api.expect(400, "PUT", "/api/permissions/none/u", grant);
    api.expect(
        400,
        "PUT",
        "/api/permissions/%2F/u",
        r#"{"configure":"(","write":"","read":""}"#,
    );
    api.expect(201, "PUT", "/api/permissions/%2F/u", grant);
    api.expect(204, "PUT", "/api/permissions/%2F/u", grant);
    let expected = json!({"user": "u", "vhost": "/", "configure": "", "write": "^w", "read": ".*"});
    assert_eq!(api.get("/api/permissions/%2F/u"), expected);
    assert_eq!(api.get("/api/users/u/permissions"), json!([expected]));
    assert_eq!(
        api.get("/api/users/without-permissions?columns=name"),
        json!([{"name": "copy"}])
    );
    api.expect(204, "DELETE", "/api/permissions/%2F/u", "");
    api.expect(404, "DELETE", "/api/permissions/%2F/u", "");
    api.expect(
        204,
        "POST",
        "/api/users/bulk-delete",
        r#"{"users":["u","copy","none"]}"#,
    );
    api.expect(404, "GET", "/api/users/u", "");
}

#[test]
fn a_virtual_host_is_made_described_and_deleted_with_everything_in_it() {
    let api = Api::start();
    api.expect(
        201,
        "PUT",
        "/api/vhosts/shop",
        r#"{"description":"Orders","tags":"a,b"}"#,
    );
    api.expect(204, "PUT", "/api/vhosts/shop", r#"{"tags":["c"]}"#);
    let vhost = api.get("/api/vhosts/shop");
    assert_eq!(
        (&vhost["description"], &vhost["tags"]),
        (&json!("Orders"), &json!(["c"]))
    );
    assert_eq!(
        api.get("/api/vhosts/shop/permissions")[0]["user"],
        "guest",
        "who made it may use it"
    );
    api.expect(201, "PUT", "/api/queues/shop/q", "");
    api.expect(204, "DELETE", "/api/vhosts/shop", "");
    api.expect(404, "DELETE", "/api/vhosts/shop", "");
    api.expect(404, "GET", "/api/queues/shop", "");
    assert_eq!(api.get("/api/permissions").as_array().unwrap().len(), 1);
}

#[test]
fn checks_say_what_is_wrong() {
    let api = Api::start();
    for path in [
        "alarms",
        "local-alarms",
        "virtual-hosts",
        "is-in-service",
        "below-node-connection-limit",
    ] {
        assert_eq!(
            api.get(&format!("/api/health/checks/{path}")),
            json!({"status": "ok"}),
            "{path}"
        );
    }
    assert_eq!(api.get("/api/aliveness-test/%2F"), json!({"status": "ok"}));
    api.broker.alarms.set(true, false);
    let alarm = api.expect(503, "GET", "/api/health/checks/alarms", "").json();
    assert_eq!(alarm["alarms"][0]["resource"], "memory");
    let blocked = api
        .expect(
            503,
            "POST",
            "/api/exchanges/%2F/amq.default/publish",
            r#"{"payload":""}"#,
        )
        .json();
    assert_eq!(blocked["reason"], "publishers are blocked: low on memory");
    assert_eq!(
        api.expect(200, "GET", "/health/ready", "").json(),
        json!({"status": "ok"})
    );
    let missing = api.expect(503, "GET", "/api/health/checks/port-listener/1", "").json();
    assert_eq!((&missing["status"], &missing["missing"]), (&json!("failed"), &json!(1)));
    api.expect(400, "GET", "/api/health/checks/port-listener/amqp", "");
}

#[test]
fn the_overview_adds_up_what_the_caller_may_see() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/vhosts/other", "");
    for path in ["/api/queues/%2F/q", "/api/queues/other/q"] {
        api.expect(201, "PUT", path, "");
    }
    let publish = r#"{"routing_key":"q","payload":"x"}"#;
    api.expect(200, "POST", "/api/exchanges/other/amq.default/publish", publish);
    let overview = api.get("/api/overview");
    assert_eq!(
        (
            &overview["object_totals"]["queues"],
            &overview["queue_totals"]["messages"]
        ),
        (&json!(2), &json!(1))
    );
    assert_eq!(overview["message_stats"]["publish"], 1);
    api.expect(201, "PUT", "/api/users/u", r#"{"password":"p","tags":"management"}"#);
    api.expect(
        201,
        "PUT",
        "/api/permissions/%2F/u",
        r#"{"configure":"","write":"","read":""}"#,
    );
    let overview = api.ask_as(Some("u:p"), "GET", "/api/overview", "").json();
    assert_eq!(
        (
            &overview["object_totals"]["queues"],
            &overview["queue_totals"]["messages"]
        ),
        (&json!(1), &json!(0))
    );
    assert_eq!(overview["message_stats"]["publish"], 0);
    assert!(overview.get("listeners").is_none() && overview.get("churn_rates").is_none());
}

#[test]
fn policies_and_limits_are_set_shown_and_cleared() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/queues/%2F/q", "");
    let policy = r#"{"pattern":"^q","definition":{"max-length":5},"priority":"1","apply-to":"queues"}"#;
    api.expect(201, "PUT", "/api/policies/%2F/p", policy);
    api.expect(204, "PUT", "/api/policies/%2F/p", policy);
    let expected = json!({
        "vhost": "/", "name": "p", "pattern": "^q", "apply-to": "queues", "definition": {"max-length": 5}, "priority": 1
    });
    assert_eq!(api.get("/api/policies/%2F/p"), expected);
    assert_eq!(api.get("/api/policies"), json!([expected]));
    assert_eq!(api.get("/api/queues/%2F/q")["policy"], "p");
    for bad in [
        r#"{"pattern":"("}"#,
        r#"{"pattern":"","definition":{"max-length":"x"}}"#,
        r#"{"definition":{}}"#,
    ] {
        api.expect(400, "PUT", "/api/policies/%2F/bad", bad);
    }
    api.expect(204, "DELETE", "/api/policies/%2F/p", "");
    api.expect(404, "DELETE", "/api/policies/%2F/p", "");
    api.expect(204, "PUT", "/api/vhost-limits/%2F/max-queues", r#"{"value":1}"#);
    assert!(
        api.expect(400, "PUT", "/api/queues/%2F/second", "")
            .body
            .contains("limit")
    );
    api.expect(204, "DELETE", "/api/vhost-limits/%2F/max-queues", "");
    api.expect(201, "PUT", "/api/queues/%2F/second", "");
    api.expect(400, "PUT", "/api/vhost-limits/%2F/max-nothing", r#"{"value":1}"#);
    api.expect(204, "PUT", "/api/user-limits/guest/max-connections", r#"{"value":"7"}"#);
    assert_eq!(api.get("/api/users/guest")["limits"], json!({"max-connections": 7}));
    api.expect(204, "DELETE", "/api/user-limits/guest/max-connections", "");
    assert_eq!(api.get("/api/user-limits"), json!([]));
}

#[test]
fn topic_permissions_restrict_what_a_user_publishes_and_binds() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/users/u", r#"{"password":"p","tags":"management"}"#);
    let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
    api.expect(201, "PUT", "/api/permissions/%2F/u", everything);
    let path = "/api/topic-permissions/%2F/u";
    api.expect(404, "GET", path, "");
    let restricted = r#"{"exchange":"amq.topic","write":"^{username}\\.","read":"^r"}"#;
    api.expect(201, "PUT", path, restricted);
    api.expect(204, "PUT", path, restricted);
    let shown = json!([{"user": "u", "vhost": "/", "exchange": "amq.topic", "write": "^{username}\\.", "read": "^r"}]);
    for path in [
        path,
        "/api/topic-permissions",
        "/api/users/u/topic-permissions",
        "/api/vhosts/%2F/topic-permissions",
    ] {
        assert_eq!(api.get(path), shown, "{path}");
    }
    assert_eq!(api.get("/api/definitions")["topic_permissions"], shown);
    let as_user = |method: &str, path: &str, body: &str| api.ask_as(Some("u:p"), method, path, body);
    assert_eq!(as_user("PUT", "/api/queues/%2F/q", "{}").status, 201);
    for (key, headers, status) in [
        ("u.x", "{}", 200),
        ("v.x", "{}", 401),
        ("u.x", r#"{"CC":["v.x"]}"#, 401),
    ] {
        let body = format!(r#"{{"routing_key":"{key}","payload":"","properties":{{"headers":{headers}}}}}"#);
        let answer = as_user("POST", "/api/exchanges/%2F/amq.topic/publish", &body);
        assert_eq!(answer.status, status, "{key} {headers}: {answer:?}");
        if status == 401 {
            let reason = "write access to topic 'v.x' in exchange 'amq.topic' in vhost '/' refused for user 'u'";
            assert_eq!(answer.json()["reason"], reason);
        }
        let direct = as_user("POST", "/api/exchanges/%2F/amq.direct/publish", &body);
        assert_eq!(direct.status, 200, "{direct:?}");
    }
    let bind = "/api/bindings/%2F/e/amq.topic/q/q";
    assert_eq!(as_user("POST", bind, r#"{"routing_key":"x"}"#).status, 401);
    assert_eq!(as_user("POST", bind, r#"{"routing_key":"r.x"}"#).status, 201);
    for (body, reason) in [
        (
            r#"{"exchange":"x","write":"(","read":""}"#,
            "bad regular expression '(': unclosed group",
        ),
        (r#"{"write":"","read":""}"#, "'exchange' is missing"),
    ] {
        assert_eq!(api.expect(400, "PUT", path, body).json()["reason"], reason);
    }
    api.expect(400, "PUT", "/api/topic-permissions/%2F/nobody", restricted);
    api.expect(400, "PUT", "/api/topic-permissions/none/u", restricted);
    api.expect(404, "DELETE", &format!("{path}/amq.direct"), "");
    api.expect(204, "DELETE", &format!("{path}/amq.topic"), "");
    api.expect(404, "DELETE", path, "");
    assert_eq!(as_user("POST", bind, r#"{"routing_key":"x"}"#).status, 201);
}

#[test]
fn topic_permissions_end_with_their_user_or_virtual_host() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/vhosts/v", "");
    for user in ["a", "b"] {
        api.expect(
            201,
            "PUT",
            &format!("/api/users/{user}"),
            r#"{"password":"p","tags":""}"#,
        );
        let restricted = r#"{"exchange":"amq.topic","write":"","read":""}"#;
        api.expect(201, "PUT", &format!("/api/topic-permissions/v/{user}"), restricted);
    }
    api.expect(204, "DELETE", "/api/users/a", "");
    assert_eq!(api.get("/api/topic-permissions?columns=user"), json!([{"user": "b"}]));
    api.expect(204, "DELETE", "/api/vhosts/v", "");
    assert_eq!(api.get("/api/topic-permissions"), json!([]));
    let stored = api.broker.store.definitions().unwrap();
    assert!(!format!("{stored:?}").contains("topic_permission"));
}

#[test]
fn parameters_are_operator_policies_and_limits_under_another_name() {
    let api = Api::start();
    assert_eq!(api.get("/api/parameters"), json!([]));
    let policy = r#"{"value":{"pattern":"^q","definition":{"max-length":5},"priority":1,"apply-to":"queues"}}"#;
    api.expect(201, "PUT", "/api/parameters/operator_policy/%2F/p", policy);
    api.expect(204, "PUT", "/api/parameters/operator_policy/%2F/p", policy);
    assert_eq!(api.get("/api/operator-policies/%2F/p")["pattern"], "^q");
    let limits = r#"{"value":{"max-queues":7}}"#;
    api.expect(201, "PUT", "/api/parameters/vhost-limits/%2F/limits", limits);
    let names = api.get("/api/parameters?columns=component,name,value.max-queues");
    let expected = json!([
        {"component": "operator_policy", "name": "p"},
        {"component": "vhost-limits", "name": "limits", "value": {"max-queues": 7}},
    ]);
    assert_eq!(names, expected);
    assert_eq!(api.get("/api/parameters/operator_policy").as_array().unwrap().len(), 1);
    assert_eq!(api.get("/api/parameters/vhost-limits/%2F")[0]["vhost"], "/");
    assert_eq!(
        api.get("/api/parameters/operator_policy/%2F/p")["value"]["apply-to"],
        "queues"
    );
    let unknown = api.expect(400, "PUT", "/api/parameters/shovel/%2F/s", r#"{"value":{}}"#);
    assert_eq!(unknown.json()["reason"], "component shovel not found");
    api.expect(400, "PUT", "/api/parameters/operator_policy/%2F/x", r#"{"value":5}"#);
    api.expect(400, "PUT", "/api/parameters/vhost-limits/%2F/limits", "{}");
    api.expect(404, "GET", "/api/parameters/shovel/%2F/s", "");
    api.expect(404, "PUT", "/api/parameters/operator_policy/none/p", policy);
    for path in ["operator_policy/%2F/p", "vhost-limits/%2F/limits"] {
        api.expect(204, "DELETE", &format!("/api/parameters/{path}"), "");
        api.expect(404, "DELETE", &format!("/api/parameters/{path}"), "");
    }
    assert_eq!(api.get("/api/vhost-limits"), json!([]));
}

#[test]
fn global_parameters_are_any_json_and_one_names_the_cluster() {
    let api = Api::start();
    let path = "/api/global-parameters/mqtt_port_to_vhost_mapping";
    api.expect(201, "PUT", path, r#"{"name":"ignored","value":{"1883":"/"}}"#);
    api.expect(204, "PUT", path, r#"{"value":{"1884":"/"}}"#);
    let own = api.get("/api/cluster-name")["name"].clone();
    api.expect(204, "PUT", "/api/cluster-name", r#"{"name":"shop"}"#);
    assert_eq!(api.get("/api/cluster-name")["name"], "shop");
    assert_eq!(api.get("/api/overview")["cluster_name"], "shop");
    let all = json!([
        {"name": "cluster_name", "value": "shop"},
        {"name": "mqtt_port_to_vhost_mapping", "value": {"1884": "/"}},
    ]);
    assert_eq!(api.get("/api/global-parameters"), all);
    let exported = api.get("/api/definitions");
    assert_eq!(exported["global_parameters"], all);
    let other = Api::start();
    other.expect(204, "POST", "/api/definitions", &exported.to_string());
    assert_eq!(other.get("/api/global-parameters"), all);
    assert_eq!(api.get(path)["value"], json!({"1884": "/"}));
    api.expect(400, "PUT", "/api/global-parameters/cluster_name", r#"{"value":5}"#);
    api.expect(400, "PUT", path, "{}");
    api.expect(204, "DELETE", path, "");
    api.expect(404, "DELETE", path, "");
    api.expect(404, "GET", path, "");
    api.expect(204, "DELETE", "/api/global-parameters/cluster_name", "");
    assert_eq!(api.get("/api/cluster-name")["name"], own);
}

#[test]
fn tools_find_what_they_ask_for_before_anything_else() {
    let api = Api::start();
    let node = api.get("/api/overview")["node"].as_str().unwrap().to_owned();
    assert!(api.get("/api/version").as_str().unwrap().starts_with("4."));
    let memory = api.get(&format!("/api/nodes/{node}/memory"));
    assert!(memory["memory"]["total"]["rss"].as_u64().unwrap() > 0, "{memory}");
    assert_eq!(memory["memory"]["strategy"], "rss");
    api.expect(404, "GET", "/api/nodes/other/memory", "");
    for path in [
        "shovels",
        "federation-links",
        "feature-flags",
        "deprecated-features",
        "extensions",
    ] {
        assert_eq!(api.get(&format!("/api/{path}")), json!([]), "{path}");
    }
    api.expect(204, "DELETE", "/api/reset", "");
    api.expect(204, "POST", "/api/rebalance/queues", "");
    api.expect(204, "POST", &format!("/api/vhosts/%2F/start/{node}"), "");
    api.expect(404, "POST", "/api/vhosts/%2F/start/other", "");
    api.expect(201, "PUT", "/api/queues/%2F/q", "");
    assert_eq!(api.get("/api/queues/detailed")[0]["name"], "q");
    assert_eq!(api.get(&format!("/api/auth/attempts/{node}/source")), json!([]));
}

#[test]
fn a_virtual_host_keeps_the_usual_type_of_its_queues() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/vhosts/v", r#"{"default_queue_type":"quorum"}"#);
    assert_eq!(api.get("/api/vhosts/v")["default_queue_type"], "quorum");
    assert_eq!(api.get("/api/vhosts/v")["metadata"]["default_queue_type"], "quorum");
    api.expect(204, "PUT", "/api/vhosts/v", r#"{"description":"d","tracing":false}"#);
    let exported = api.get("/api/definitions");
    assert_eq!(exported["vhosts"][1]["default_queue_type"], "quorum");
    assert_eq!(exported["vhosts"][0].get("default_queue_type"), None);
    let other = Api::start();
    other.expect(204, "POST", "/api/definitions", &exported.to_string());
    assert_eq!(other.get("/api/definitions")["vhosts"], exported["vhosts"]);
    api.expect(204, "PUT", "/api/vhosts/v", r#"{"default_queue_type":"undefined"}"#);
    api.expect(400, "PUT", "/api/vhosts/v", r#"{"default_queue_type":"stream"}"#);
    api.expect(204, "PUT", "/api/vhosts/v", r#"{"tracing":true}"#);
    assert_eq!(api.get("/api/vhosts/v")["tracing"], true);
    api.expect(204, "PUT", "/api/vhosts/v", r#"{"description":"d"}"#);
    assert_eq!(api.get("/api/vhosts/v")["tracing"], true);
    api.expect(204, "PUT", "/api/vhosts/v", r#"{"tracing":false}"#);
    assert_eq!(api.get("/api/vhosts/v")["tracing"], false);
}

#[test]
fn a_virtual_host_keeps_its_rule_for_declarations_that_differ() {
    let api = Api::start();
    let rule = |rule: &str| format!(r#"{{"redeclare_rule":"{rule}"}}"#);
    api.expect(201, "PUT", "/api/vhosts/v", &rule("adopt"));
    api.expect(204, "PUT", "/api/vhosts/v", r#"{"description":"d"}"#);
    assert_eq!(api.get("/api/vhosts/v")["redeclare_rule"], "adopt");
    assert_eq!(api.get("/api/vhosts/%2F")["redeclare_rule"], "strict");
    let exported = api.get("/api/definitions");
    assert_eq!(exported["vhosts"][1]["redeclare_rule"], "adopt");
    assert_eq!(exported["vhosts"][0].get("redeclare_rule"), None);
    api.expect(400, "PUT", "/api/vhosts/v", &rule("lenient"));
    api.expect(204, "PUT", "/api/vhosts/v", &rule("default"));
    assert_eq!(api.get("/api/vhosts/v")["redeclare_rule"], "strict");
    api.expect(204, "POST", "/api/definitions", &exported.to_string());
    assert_eq!(api.get("/api/vhosts/v")["redeclare_rule"], "adopt");
    // A file of RabbitMQ's says nothing about it.
    api.expect(
        204,
        "POST",
        "/api/definitions",
        r#"{"vhosts":[{"name":"v","description":"e"}]}"#,
    );
    assert_eq!(api.get("/api/vhosts/v")["redeclare_rule"], "adopt");
    assert_eq!(api.get("/api/vhosts/v")["description"], "e");
    // With it, a queue takes over what is declared; without, the difference is told.
    api.expect(201, "PUT", "/api/queues/v/q", r#"{"arguments":{"x-max-length":5}}"#);
    api.expect(204, "PUT", "/api/queues/v/q", r#"{"arguments":{"x-max-length":6}}"#);
    assert_eq!(api.get("/api/queues/v/q")["arguments"]["x-max-length"], 6);
    api.expect(400, "PUT", "/api/queues/v/q", r#"{"arguments":{"x-max-priority":6}}"#);
}
