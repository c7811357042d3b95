//! The document of the API against the table of resources, and against what a running broker answers.

use std::collections::BTreeSet;

use leveret::management::{ROUTES, Rights};
use serde_json::{Value, json};

use super::api::Api;

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(|(method, operation)| (path.clone(), method.to_uppercase(), operation.clone()))
    });
    operations.collect()
}

#[test]
fn every_resource_is_in_the_document_and_no_other() {
    let document = Api::start().get("/api/openapi.json");
    let told: BTreeSet<(String, String)> = operations(&document)
        .into_iter()
        .map(|(path, method, _)| (path, method))
        .collect();
    let served: BTreeSet<(String, String)> = ROUTES
        .iter()
        .map(|route| (route.path.to_owned(), route.verb.as_str().to_owned()))
        .collect();
    assert_eq!(told, served);
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let route = ROUTES
            .iter()
            .find(|route| route.path == path && route.verb.as_str() == method)
            .unwrap();
        let parts: Vec<&str> = path
            .split('{')
            .skip(1)
            .filter_map(|part| part.split('}').next())
            .collect();
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path");
        let told: Vec<&str> = in_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        assert_eq!(told, parts, "{method} {path}");
        let tag = match route.rights {
            Rights::Nobody => Value::Null,
            rights => json!(format!("{rights:?}").to_lowercase()),
        };
        assert_eq!(operation["x-tag"], tag, "{method} {path}");
        assert!(names.insert(operation["operationId"].to_string()), "{method} {path}");
    }
}

/// What of the schemas is used: type, required, properties, items, oneOf and references.
fn matches(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        return matches(document, schema, value);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let tried: Vec<_> = choices.iter().map(|choice| matches(document, choice, value)).collect();
        let fits = tried.iter().filter(|result| result.is_ok()).count();
        return if fits == 1 { Ok(()) } else { Err(format!("{tried:?}")) };
    }
    let has_type = match schema["type"].as_str() {
        None => true,
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some(other) => panic!("unknown type {other}"),
    };
    if !has_type {
        return Err(format!("{value} is no {}", schema["type"]));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        value
            .get(name.as_str().unwrap())
            .ok_or_else(|| format!("{name} is missing in {value}"))?;
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            matches(document, schema, value).map_err(|reason| format!("{name}: {reason}"))?;
        }
    }
    if let (Some(values), items) = (value.as_array(), &schema["items"])
        && !items.is_null()
    {
        values.iter().try_for_each(|value| matches(document, items, value))?;
    }
    Ok(())
}

/// A broker with one of everything that can be had without AMQP.
fn furnished() -> Api {
    let api = Api::start();
    for (path, body) in [
        ("queues/%2F/target", "{}"),
        ("exchanges/%2F/target", "{}"),
        (
            "policies/%2F/target",
            r#"{"pattern":"^t","definition":{"max-length":9}}"#,
        ),
        (
            "operator-policies/%2F/target",
            r#"{"pattern":"^t","definition":{"max-length":9}}"#,
        ),
        ("global-parameters/target", r#"{"value":1}"#),
        ("users/target", r#"{"password":"p","tags":"management"}"#),
        ("permissions/%2F/target", r#"{"configure":"","write":"","read":""}"#),
        (
            "topic-permissions/%2F/target",
            r#"{"exchange":"amq.topic","write":"","read":""}"#,
        ),
    ] {
        api.expect(201, "PUT", &format!("/api/{path}"), body);
    }
    api.expect(204, "PUT", "/api/vhost-limits/%2F/max-queues", r#"{"value":9}"#);
    api.expect(204, "PUT", "/api/user-limits/target/max-channels", r#"{"value":9}"#);
    api.expect(201, "POST", "/api/bindings/%2F/e/target/q/target", "{}");
    api
}

#[test]
fn a_running_broker_answers_as_the_document_says() {
    let api = furnished();
    let document = api.get("/api/openapi.json");
    let node = api.get("/api/overview")["node"].as_str().unwrap().to_owned();
    for (path, method, operation) in operations(&document) {
        if method != "GET" {
            continue;
        }
        let asked = path
            .replace("{vhost}", "%2F")
            .replace("{node}", &node)
            .replace("{kind}", "q")
            .replace("{key}", "~")
            .replace("{component}", "operator_policy")
            .replace("{port}", "1")
            .replace("{within}", "1")
            .replace("{unit}", "days")
            .replace("{protocol}", "amqp");
        let asked = asked.split('{').map(|part| {
            part.split_once('}')
                .map_or(part.to_owned(), |(_, rest)| format!("target{rest}"))
        });
        let asked: String = asked.collect();
        for query in ["", "?page=1"] {
            let answer = api.ask("GET", &format!("{asked}{query}"), "");
            let told = &operation["responses"][answer.status.to_string()];
            if answer.status == 404 {
                // Nobody is connected over AMQP.
                assert!(
                    path.contains("/connections/") || path.contains("/channels/"),
                    "{path}: {answer:?}"
                );
                continue;
            }
            assert!(!told.is_null(), "{path}: {answer:?}");
            let schema = &told["content"]["application/json"]["schema"];
            matches(&document, schema, &answer.json()).unwrap_or_else(|reason| panic!("{path}{query}: {reason}"));
        }
    }
}
