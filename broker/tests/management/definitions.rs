//! Export and import, with a file that a RabbitMQ wrote.

use std::time::Instant;

use serde_json::{Value, json};

use super::api::Api;

/// Exported by RabbitMQ 3.10: users, two virtual hosts, exchanges, queues, bindings and a policy.
const RABBITMQ: &str = include_str!("definitions-rabbitmq.json");

/// A list of the document, in an order that does not depend on who wrote it.
fn sorted(document: &Value, list: &str) -> Vec<String> {
    let mut lines: Vec<String> = document[list]
        .as_array()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    lines.sort();
    lines
}

/// Without the description and tags that RabbitMQ leaves out when they are empty, and Leveret does not.
fn names(document: &Value, list: &str) -> Vec<String> {
    let mut names: Vec<_> = document[list]
        .as_array()
        .unwrap()
        .iter()
        .map(|object| object["name"].to_string())
        .collect();
    names.sort();
    names
}

#[test]
fn what_rabbitmq_exported_is_imported_and_exported_equal() {
    let api = Api::start();
    api.expect(204, "POST", "/api/definitions", RABBITMQ);
    let (theirs, ours): (Value, Value) = (serde_json::from_str(RABBITMQ).unwrap(), api.get("/api/definitions"));
    for list in ["users", "permissions", "queues", "exchanges", "bindings", "policies"] {
        assert_eq!(sorted(&ours, list), sorted(&theirs, list), "{list}");
    }
    assert_eq!(names(&ours, "vhosts"), names(&theirs, "vhosts"));
    // The password of the file, which has only its hash.
    assert_eq!(api.ask_as(Some("mgr:p"), "GET", "/api/whoami", "").status, 200);
}

#[test]
fn a_second_import_changes_nothing() {
    let api = Api::start();
    let dry_run =
        |body: &str| api.expect(200, "POST", "/api/definitions?dry_run=true", body).json()["differences"].clone();
    let first = dry_run(RABBITMQ);
    assert!(
        first.as_array().unwrap().iter().any(|line| *line == "+ vhost 'bulk'"),
        "{first}"
    );
    assert_eq!(
        api.get("/api/vhosts").as_array().unwrap().len(),
        1,
        "a dry run changes nothing"
    );
    api.expect(204, "POST", "/api/definitions", RABBITMQ);
    assert_eq!(dry_run(RABBITMQ), json!([]));
    let own = api.get("/api/definitions").to_string();
    assert_eq!(dry_run(&own), json!([]));
    api.expect(204, "POST", "/api/definitions", &own);
    assert_eq!(api.get("/api/definitions").to_string(), own);
}

#[test]
fn what_differs_is_changed_where_that_costs_no_messages() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/queues/%2F/q", r#"{"durable":true}"#);
    api.expect(201, "PUT", "/api/exchanges/%2F/x", r#"{"durable":true}"#);
    api.expect(201, "PUT", "/api/users/u", r#"{"password":"p","tags":""}"#);
    api.expect(
        201,
        "PUT",
        "/api/permissions/%2F/u",
        r#"{"configure":"","write":"","read":""}"#,
    );
    let file = json!({
        "vhosts": [{"name": "/", "description": "d"}],
        "users": [{"name": "u", "password": "p", "tags": "monitoring"}],
        "permissions": [{"user": "u", "vhost": "/", "configure": ".*", "write": "", "read": ""}],
        "topic_permissions": [{"user": "u", "vhost": "/", "exchange": "x", "write": "^w", "read": "^r"}],
        "queues": [{"name": "q", "vhost": "/", "durable": false, "auto_delete": false, "arguments": {}}],
        "exchanges": [{"name": "x", "vhost": "/", "type": "topic", "durable": true}],
        "bindings": [{"source": "x", "vhost": "/", "destination": "q", "destination_type": "queue", "routing_key": "k"}],
    });
    let differences = api
        .expect(200, "POST", "/api/definitions?dry_run=true", &file.to_string())
        .json();
    let expected = json!({"differences": [
        "~ vhost '/'",
        "~ user 'u'",
        "~ permissions of user 'u' in vhost '/'",
        "+ topic permissions of user 'u' for exchange 'x' in vhost '/'",
        "= exchange 'x' in vhost '/' differs and stays as it is",
        "= queue 'q' in vhost '/' differs and stays as it is",
        "+ binding of queue 'q' to exchange 'x' under 'k' in vhost '/'",
    ]});
    assert_eq!(differences, expected);
    api.expect(204, "POST", "/api/definitions", &file.to_string());
    assert_eq!(api.get("/api/queues/%2F/q")["durable"], true);
    assert_eq!(api.get("/api/users/u")["tags"], json!(["monitoring"]));
    assert_eq!(
        api.get("/api/definitions")["topic_permissions"],
        file["topic_permissions"]
    );
    assert_eq!(api.ask_as(Some("u:p"), "GET", "/api/whoami", "").status, 200);
}

#[test]
fn a_file_with_a_mistake_changes_nothing() {
    let api = Api::start();
    for (file, reason) in [
        ("{", "not a definitions file"),
        (r#"{"queues":5}"#, "not a definitions file"),
        (r#"{"queues":[{"name":"q"}]}"#, "queue 'q': it names no virtual host"),
        (
            r#"{"queues":[{"name":"q","vhost":"none"}]}"#,
            "queue 'q': virtual host 'none' does not exist",
        ),
        (
            r#"{"queues":[{"name":"a","vhost":"/"},{"name":"b","vhost":"/","arguments":{"x-max-length":-1}}]}"#,
            "x-max-length",
        ),
        (
            r#"{"exchanges":[{"name":"x","vhost":"/","type":"zz"}]}"#,
            "unknown exchange type 'zz'",
        ),
        (
            r#"{"users":[{"name":"u","password_hash":"zz"}]}"#,
            "user 'u': the password hash is not of the form",
        ),
        (r#"{"permissions":[{"user":"none","vhost":"/"}]}"#, "does not exist"),
        (
            r#"{"bindings":[{"source":"x","vhost":"/","destination":"q","destination_type":"queue"}]}"#,
            "one of its ends",
        ),
    ] {
        let answer = api.expect(400, "POST", "/api/definitions", file);
        assert!(
            answer.json()["reason"].as_str().unwrap().contains(reason),
            "{reason}: {answer:?}"
        );
    }
    assert_eq!(api.get("/api/queues"), json!([]));
}

#[test]
fn one_virtual_host_is_copied_into_another() {
    let api = Api::start();
    api.expect(204, "POST", "/api/definitions", RABBITMQ);
    api.expect(201, "PUT", "/api/vhosts/copy", "");
    let exported = api.get("/api/definitions/bulk").to_string();
    assert!(!exported.contains("bulk") && !exported.contains("guest"), "{exported}");
    api.expect(204, "POST", "/api/definitions/copy", &exported);
    assert_eq!(api.get("/api/definitions/copy").to_string(), exported);
}

/// As large as a busy installation's: it must not take minutes, as it does where every object is its own transaction.
#[test]
fn thousands_of_objects_are_imported_at_once() {
    let api = Api::start();
    let objects = |count: usize, make: &dyn Fn(usize) -> Value| (0..count).map(make).collect::<Vec<_>>();
    let file = json!({
        "queues": objects(1500, &|n| json!({"name": format!("q{n}"), "vhost": "/", "durable": true, "arguments": {"x-message-ttl": n}})),
        "exchanges": objects(500, &|n| json!({"name": format!("x{n}"), "vhost": "/", "type": "topic", "durable": true})),
        "bindings": objects(3000, &|n| json!({
            "source": format!("x{}", n % 500), "vhost": "/", "destination": format!("q{}", n % 1500),
            "destination_type": "queue", "routing_key": format!("k.{n}")
        })),
    });
    let began = Instant::now();
    api.expect(204, "POST", "/api/definitions", &file.to_string());
    println!("imported 5000 objects in {:?}", began.elapsed());
    let exported = api.get("/api/definitions");
    assert_eq!(exported["bindings"].as_array().unwrap().len(), 3000);
    assert_eq!(exported["queues"].as_array().unwrap().len(), 1500);
}

#[test]
fn policies_and_limits_go_with_the_rest() {
    let api = Api::start();
    let policy = |name: &str, definition: Value| json!({"vhost": "/", "name": name, "pattern": "^q", "apply-to": "queues", "definition": definition, "priority": 1});
    let parameter = |component: &str, name: &str, value: Value| json!({"vhost": "/", "component": component, "name": name, "value": value});
    let operator = json!({"pattern": "^q", "apply-to": "queues", "definition": {"expires": 9000}, "priority": 2});
    let file = json!({
        "users": [{"name": "u", "password_hash": "", "tags": "", "limits": {"max-channels": 3}}],
        "policies": [policy("p", json!({"max-length": 5})), policy("mirrored", json!({"ha-nothing": "all"}))],
        "parameters": [
            parameter("operator_policy", "o", operator),
            parameter("vhost-limits", "limits", json!({"max-queues": 10})),
            parameter("shovel", "s", json!({})),
        ],
        "queues": [{"name": "q", "vhost": "/", "durable": true}],
    });
    api.expect(204, "POST", "/api/definitions", &file.to_string());
    let queue = api.get("/api/queues/%2F/q");
    assert_eq!(
        (&queue["policy"], &queue["operator_policy"]),
        (&json!("p"), &json!("o"))
    );
    assert_eq!(
        queue["effective_policy_definition"],
        json!({"max-length": 5, "expires": 9000})
    );
    assert_eq!(
        api.get("/api/vhost-limits"),
        json!([{"vhost": "/", "value": {"max-queues": 10}}])
    );
    assert_eq!(
        api.get("/api/user-limits"),
        json!([{"user": "u", "value": {"max-channels": 3}}])
    );
    let left = api
        .expect(200, "POST", "/api/definitions?dry_run=true", &file.to_string())
        .json();
    let left = left["differences"].as_array().unwrap();
    assert!(
        left.iter().all(|line| line.as_str().unwrap().starts_with('!')) && left.len() == 2,
        "{left:?}"
    );
    let own = api.get("/api/definitions").to_string();
    let same = api.expect(200, "POST", "/api/definitions?dry_run=true", &own).json();
    assert_eq!(same["differences"], json!([]));
}
