//! What RabbitMQ answers to requests that are wrong, or about something that is not there, as found out from a running one.

use serde_json::json;

use super::api::Api;

#[test]
fn what_a_virtual_host_that_is_not_there_holds_is_not_found() {
    let api = Api::start();
    for noun in ["connections", "channels", "permissions", "topic-permissions"] {
        api.expect(404, "GET", &format!("/api/vhosts/none/{noun}"), "");
        assert!(api.get(&format!("/api/vhosts/%2F/{noun}")).is_array(), "{noun}");
    }
}

#[test]
fn only_this_node_is_there() {
    let api = Api::start();
    let node = api.get("/api/overview")["node"].as_str().unwrap().to_owned();
    for (status, node) in [(404, "none"), (200, &*node)] {
        api.expect(status, "GET", &format!("/api/auth/attempts/{node}"), "");
        api.expect(status, "GET", &format!("/api/auth/attempts/{node}/source"), "");
        api.expect(status, "GET", &format!("/api/healthchecks/node/{node}"), "");
    }
    for (status, node) in [(404, "none"), (204, &*node)] {
        api.expect(status, "DELETE", &format!("/api/auth/attempts/{node}/source"), "");
        api.expect(status, "DELETE", &format!("/api/reset/{node}"), "");
    }
    assert_eq!(api.get("/api/healthchecks/node"), json!({"status": "ok"}));
}

#[test]
fn a_user_has_one_password() {
    let api = Api::start();
    let both = r#"{"password":"x","password_hash":"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR","tags":""}"#;
    let refused = api.expect(400, "PUT", "/api/users/u", both).json();
    assert_eq!(refused["reason"], "both_password_and_password_hash_are_provided");
    api.expect(404, "GET", "/api/users/u", "");
    api.expect(404, "GET", "/api/user-limits/u", "");
}

#[test]
fn users_are_deleted_by_a_list_and_nothing_else() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/users/u", r#"{"password":"x","tags":""}"#);
    for body in ["", "{}", r#"{"users":"u"}"#, r#"{"users":[1]}"#, r#"{"users":null}"#] {
        api.expect(400, "POST", "/api/users/bulk-delete", body);
    }
    api.get("/api/users/u");
}

#[test]
fn definitions_are_an_object() {
    let api = Api::start();
    for body in ["[]", "[[]]", "null", "5", "x"] {
        api.expect(400, "POST", "/api/definitions", body);
        api.expect(400, "POST", "/api/definitions/%2F", body);
    }
    api.expect(204, "POST", "/api/definitions", "{}");
}

#[test]
fn a_space_in_a_routing_key_is_a_plus_in_the_key_of_its_binding() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/queues/%2F/q", "");
    let between = "/api/bindings/%2F/e/amq.direct/q/q";
    for (routing_key, key) in [("a b", "a+b"), ("a+b", "a%2Bb")] {
        let bound = api.expect(201, "POST", between, &json!({ "routing_key": routing_key }).to_string());
        let in_path = key.replace('%', "%25").replace('+', "%2B");
        assert!(bound.head.contains(&format!("location: q/{in_path}\r\n")), "{bound:?}");
        let found = api.get(&format!("{between}/{in_path}"));
        assert_eq!(
            (&found["routing_key"], &found["properties_key"]),
            (&json!(routing_key), &json!(key))
        );
    }
    // As tools have it that quote a space as %20, once or twice.
    for path in ["a%20b", "a%2520b"] {
        assert_eq!(api.get(&format!("{between}/{path}"))["routing_key"], "a b", "{path}");
    }
    api.expect(204, "DELETE", &format!("{between}/a%2Bb"), "");
    assert_eq!(
        api.get(&format!("{between}?columns=routing_key")),
        json!([{"routing_key": "a+b"}])
    );
}

#[test]
fn no_port_is_too_large_to_be_asked_for() {
    let api = Api::start();
    let missing = api
        .expect(503, "GET", "/api/health/checks/port-listener/99999", "")
        .json();
    assert_eq!(
        (&missing["status"], &missing["missing"]),
        (&json!("failed"), &json!(99999))
    );
}

#[test]
fn pages_that_cannot_be_are_called_what_tools_know() {
    let api = Api::start();
    for query in ["page=0", "page=-1", "page=1&page_size=0", "page=1&page_size=501"] {
        let refused = api.expect(400, "GET", &format!("/api/queues?{query}"), "").json();
        assert_eq!(refused["error"], "invalid_pagination_parameters", "{query}");
    }
    let refused = api.expect(400, "GET", "/api/queues?page=x", "").json();
    assert_eq!(refused["error"], "bad_request");
}

#[test]
fn a_feature_flag_that_is_not_there_cannot_be_enabled() {
    let api = Api::start();
    let refused = api
        .expect(400, "PUT", "/api/feature-flags/khepri_db/enable", "{}")
        .json();
    assert_eq!(refused, json!({"error": "bad_request", "reason": "unsupported"}));
}

#[test]
fn the_memory_is_told_in_parts_of_a_hundred_too_and_tables_of_erlang_are_none() {
    let api = Api::start();
    let node = api.get("/api/overview")["node"].as_str().unwrap().to_owned();
    let absolute = api.get(&format!("/api/nodes/{node}/memory"));
    let relative = api.get(&format!("/api/nodes/{node}/memory/relative"));
    assert_eq!(absolute["memory"]["total"]["rss"], absolute["memory"]["other_system"]);
    assert_eq!(relative["memory"]["total"], 100);
    assert_eq!(relative["memory"]["other_system"], 100);
    assert_eq!(relative["memory"]["queue_procs"], 0);
    for path in ["", "/relative", "/management", "/management/relative"] {
        let tables = api.get(&format!("/api/nodes/{node}/memory/ets{path}"));
        assert_eq!(tables, json!({"ets_tables_memory": "no_tables"}), "{path}");
        api.expect(404, "GET", &format!("/api/nodes/none/memory/ets{path}"), "");
    }
    api.expect(404, "GET", "/api/nodes/none/memory/relative", "");
}

#[test]
fn a_hash_of_a_password_can_stand_for_it() {
    let api = Api::start();
    let hash = api.get("/api/auth/hash_password/s%2Fcret")["ok"]
        .as_str()
        .unwrap()
        .to_owned();
    let user = json!({"password_hash": hash, "tags": "management"}).to_string();
    api.expect(201, "PUT", "/api/users/u", &user);
    assert_eq!(
        api.ask_as(Some("u:s/cret"), "GET", "/api/whoami", "").json()["name"],
        "u"
    );
}

#[test]
fn mirrors_are_as_good_as_up_to_date_and_other_actions_are_unknown() {
    let api = Api::start();
    let path = "/api/queues/%2F/q/actions";
    api.expect(404, "POST", path, r#"{"action":"sync"}"#);
    api.expect(201, "PUT", "/api/queues/%2F/q", "");
    for action in ["sync", "cancel_sync"] {
        api.expect(204, "POST", path, &json!({ "action": action }).to_string());
    }
    for body in [r#"{"action":"fly"}"#, "{}", "[]", ""] {
        api.expect(400, "POST", path, body);
    }
}

#[test]
fn definitions_have_an_old_name_too() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/queues/%2F/q", r#"{"durable":true}"#);
    let exported = api.get("/api/all-configuration");
    assert_eq!(exported, api.get("/api/definitions"));
    api.expect(204, "DELETE", "/api/queues/%2F/q", "");
    api.expect(204, "POST", "/api/all-configuration", &exported.to_string());
    api.get("/api/queues/%2F/q");
}

#[test]
fn a_node_that_is_alone_is_critical_to_nobody() {
    let api = Api::start();
    for check in ["node-is-quorum-critical", "node-is-mirror-sync-critical"] {
        let expected = json!({"status": "ok", "reason": "single node cluster"});
        assert_eq!(api.get(&format!("/api/health/checks/{check}")), expected);
    }
}
