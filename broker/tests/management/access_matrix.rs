//! Every resource, under every method, asked for by every kind of user in every kind of virtual host, who shows a password or an
//! access token.
//!
//! What matters most is checked without looking at the table of resources: who may not see a virtual host never reads a
//! byte of what is in it, and who is no administrator changes nothing there.

use leveret::auth::throttle::WAITING_MAX;
use leveret::management::{ROUTES, Rights, Route, Verb, VhostRule};
use serde_json::Value;

use super::api::{Api, basic};
use super::tokens::{self, Forged};

/// Stands in everything that is in the virtual host `closed`, and in no request.
const SECRET: &str = "topsecret";

/// A user, whether it may use management at all, and what its tag gives it.
struct Kind {
    name: &'static str,
    tags: &'static str,
}

const KINDS: [Kind; 6] = [
    Kind {
        name: "untagged",
        tags: "",
    },
    Kind {
        name: "impersonator",
        tags: "impersonator",
    },
    Kind {
        name: "manager",
        tags: "management",
    },
    Kind {
        name: "policymaker",
        tags: "policymaker",
    },
    Kind {
        name: "monitor",
        tags: "monitoring",
    },
    Kind {
        name: "admin",
        tags: "administrator",
    },
];

impl Kind {
    fn may_manage(&self) -> bool {
        !["", "impersonator"].contains(&self.tags)
    }

    fn sees_all(&self) -> bool {
        ["monitoring", "administrator"].contains(&self.tags)
    }

    fn has(&self, rights: Rights) -> bool {
        match rights {
            Rights::Nobody => true,
            Rights::Management => self.may_manage(),
            Rights::Policymaker => ["policymaker", "administrator"].contains(&self.tags),
            Rights::Monitoring => self.sees_all(),
            Rights::Administrator => self.tags == "administrator",
        }
    }

    /// All ways in which somebody of this kind may log in.
    fn logins(&self) -> [String; 3] {
        let token = tokens::token(&self.scopes(), tokens::now() + 600);
        let with_password = basic(&format!("{}:secretless", self.name));
        [with_password, format!("Bearer {token}"), basic(&format!("x:{token}"))]
    }

    /// The scopes that allow what the users of [`furnished`] are permitted.
    fn scopes(&self) -> String {
        let tag = format!("rabbitmq.tag:{}", self.tags);
        ["configure", "write", "read"]
            .iter()
            .fold(tag, |scopes, verb| format!("{scopes} rabbitmq.{verb}:open/*"))
    }
}

/// `open` may be used by everybody, `closed` by guest only; both hold the same names. Tokens are taken.
fn furnished() -> Api {
    let api = tokens::api();
    for vhost in ["open", "closed"] {
        let secret = if vhost == "closed" { SECRET } else { "plain" };
        api.expect(
            201,
            "PUT",
            &format!("/api/vhosts/{vhost}"),
            &format!(r#"{{"description":"{secret}"}}"#),
        );
        let declared = format!(r#"{{"durable":true,"arguments":{{"x-{secret}":"{secret}"}}}}"#);
        for queue in ["target", &format!("{secret}-queue")] {
            api.expect(201, "PUT", &format!("/api/queues/{vhost}/{queue}"), &declared);
        }
        for exchange in ["target", &format!("{secret}-exchange")] {
            api.expect(201, "PUT", &format!("/api/exchanges/{vhost}/{exchange}"), &declared);
        }
        let policy = format!(r#"{{"pattern":"^{secret}$","definition":{{"max-length":1000}},"apply-to":"queues"}}"#);
        api.expect(201, "PUT", &format!("/api/policies/{vhost}/target"), &policy);
        api.expect(201, "PUT", &format!("/api/operator-policies/{vhost}/target"), &policy);
        let bound = format!(r#"{{"routing_key":"{secret}"}}"#);
        api.expect(201, "POST", &format!("/api/bindings/{vhost}/e/target/q/target"), &bound);
        let published = format!(r#"{{"routing_key":"target","payload":"{secret}"}}"#);
        api.expect(
            200,
            "POST",
            &format!("/api/exchanges/{vhost}/amq.default/publish"),
            &published,
        );
    }
    let restricted = format!(r#"{{"exchange":"target","write":"{SECRET}","read":""}}"#);
    api.expect(201, "PUT", "/api/topic-permissions/closed/guest", &restricted);
    for Kind { name, tags } in KINDS {
        let user = format!(r#"{{"password":"secretless","tags":"{tags}"}}"#);
        api.expect(201, "PUT", &format!("/api/users/{name}"), &user);
        let everything = r#"{"configure":".*","write":".*","read":".*"}"#;
        api.expect(201, "PUT", &format!("/api/permissions/open/{name}"), everything);
    }
    api
}

/// The path with its variable parts filled in.
fn path(route: &Route, vhost: &str) -> String {
    [
        ("{vhost}", vhost),
        ("{name}", "target"),
        ("{source}", "target"),
        ("{kind}", "q"),
        ("{destination}", "target"),
        ("{key}", SECRET_KEY),
        ("{user}", "nobody"),
        ("{node}", "rabbit@elsewhere"),
        ("{port}", "1"),
        ("{protocol}", "amqp"),
        ("{within}", "1"),
        ("{unit}", "days"),
        ("{component}", "operator_policy"),
        ("{exchange}", "target"),
        ("{pattern}", ".*"),
    ]
    .into_iter()
    .fold(route.path.to_owned(), |path, (part, value)| path.replace(part, value))
}

/// Some key of a binding.
const SECRET_KEY: &str = "~";

/// A body that means something to the resource.
fn body(route: &Route) -> &'static str {
    match (route.verb, route.path) {
        (Verb::Post, path) if path.ends_with("/get") => r#"{"count":5,"ackmode":"ack_requeue_true","encoding":"auto"}"#,
        (Verb::Post, path) if path.ends_with("/publish") => r#"{"routing_key":"target","payload":"x"}"#,
        (Verb::Put, "/api/users/{user}") => r#"{"password":"p","tags":"administrator"}"#,
        (Verb::Put, "/api/permissions/{vhost}/{user}") => r#"{"configure":".*","write":".*","read":".*"}"#,
        (Verb::Put, path) if path.contains("policies") => r#"{"pattern":"","definition":{"max-length":1}}"#,
        (Verb::Put, path) if path.contains("limits") => r#"{"value":1}"#,
        (Verb::Put, path) if path.contains("parameters") => r#"{"value":{"pattern":"","definition":{"max-length":1}}}"#,
        (Verb::Put, "/api/cluster-name") => r#"{"name":"taken"}"#,
        (Verb::Put, path) if path.contains("topic") => r#"{"exchange":"target","write":"","read":""}"#,
        (Verb::Post, "/api/users/bulk-delete") => r#"{"users":["admin"]}"#,
        _ => "{}",
    }
}

/// Everything that guest can see of the virtual host `closed` and of users, to find out whether something changed.
fn state(api: &Api) -> Vec<Value> {
    let paths = [
        "queues/closed",
        "exchanges/closed",
        "bindings/closed",
        "permissions",
        "topic-permissions",
        "parameters",
        "global-parameters",
        "cluster-name",
        "users",
        "vhosts/closed",
        "policies/closed",
        "operator-policies/closed",
        "vhost-limits",
    ];
    let columns = "columns=name,messages,arguments,description,routing_key,source,destination,user,vhost,tags,configure,pattern,definition,value";
    paths
        .iter()
        .map(|path| api.get(&format!("/api/{path}?{columns}")))
        .collect()
}

#[test]
fn nobody_gets_or_changes_what_is_not_for_them() {
    let api = furnished();
    let before = state(&api);
    // What administrators may do with `closed` they may do.
    for kind in KINDS.iter().filter(|kind| kind.tags != "administrator") {
        for (route, login) in ROUTES
            .iter()
            .flat_map(|route| kind.logins().map(|login| (route, login)))
        {
            let path = path(route, "closed");
            let answer = api.ask_with(Some(&login), route.verb.as_str(), &path, body(route));
            let asked = format!("{} {path} as {}, {login}: {answer:?}", route.verb.as_str(), kind.name);
            assert!(answer.status < 500 || answer.status == 503, "{asked}");
            if !kind.sees_all() {
                assert!(!answer.body.contains(SECRET), "leaked: {asked}");
            }
            let names_closed = route.path.contains("{vhost}");
            if route.rights == Rights::Nobody {
                assert!(answer.status == 200, "{asked}");
            } else if !kind.has(route.rights) || (names_closed && !kind.sees_all()) {
                assert_eq!(answer.status, 401, "{asked}");
                assert!(answer.body.contains("not_authorised"), "{asked}");
            }
            if route.verb != Verb::Get && names_closed {
                assert_eq!(answer.status, 401, "changed without permissions: {asked}");
            }
        }
    }
    assert_eq!(state(&api), before, "somebody changed something");
}

#[test]
fn a_tag_without_permissions_in_a_virtual_host_lets_nobody_act_in_it() {
    let api = furnished();
    let before = state(&api);
    let [.., admin] = &KINDS;
    for route in ROUTES.iter().filter(|route| route.vhost == VhostRule::Used) {
        let path = path(route, "closed");
        for login in admin.logins() {
            let answer = api.ask_with(Some(&login), route.verb.as_str(), &path, body(route));
            assert_eq!(answer.status, 401, "{} {path}: {answer:?}", route.verb.as_str());
            assert!(
                answer.body.contains("User not authorised to access virtual host"),
                "{answer:?}"
            );
        }
    }
    assert_eq!(state(&api), before);
}

#[test]
fn without_a_login_only_probes_are_answered() {
    let api = furnished();
    for route in ROUTES {
        let path = path(route, "open");
        let answer = api.ask_as(None, route.verb.as_str(), &path, body(route));
        if route.rights == Rights::Nobody {
            assert_eq!(answer.status, 200, "{path}");
            continue;
        }
        assert_eq!(answer.status, 401, "{} {path}: {answer:?}", route.verb.as_str());
        assert!(
            answer.head.to_ascii_lowercase().contains("www-authenticate: basic"),
            "{answer:?}"
        );
        assert!(answer.body.contains("not_authorized"), "{answer:?}");
    }
}

/// With every right that there is, if only it were true.
#[test]
fn a_token_that_is_not_good_opens_nothing() {
    let api = furnished();
    let before = state(&api);
    let [.., admin] = &KINDS;
    let scopes = format!(
        "{} rabbitmq.configure:*/* rabbitmq.write:*/* rabbitmq.read:*/*",
        admin.scopes()
    );
    // A source with so many refused logins is refused at once, and who is right is let in nevertheless.
    for _ in 0..WAITING_MAX {
        api.broker.throttle.lock().begin_wait(api.address.ip());
    }
    let good = format!("Bearer {}", tokens::token(&scopes, tokens::now() + 600));
    assert_eq!(api.ask_with(Some(&good), "GET", "/api/users", "").status, 200);
    for Forged { what, token } in tokens::forged(&scopes) {
        for login in [format!("Bearer {token}"), basic(&format!("guest:{token}"))] {
            for route in ROUTES.iter().filter(|route| route.rights != Rights::Nobody) {
                let path = path(route, "closed");
                let answer = api.ask_with(Some(&login), route.verb.as_str(), &path, body(route));
                let asked = format!("{} {path}, {what}: {answer:?}", route.verb.as_str());
                assert_eq!(answer.status, 401, "{asked}");
                assert!(answer.body.contains("not_authorized"), "{asked}");
            }
        }
    }
    assert_eq!(state(&api), before, "somebody changed something");
}

#[test]
fn a_user_does_in_an_open_virtual_host_what_its_permissions_allow_and_no_more() {
    let api = furnished();
    api.expect(
        201,
        "PUT",
        "/api/users/limited",
        r#"{"password":"p","tags":"management"}"#,
    );
    let own = r#"{"configure":"^own","write":"^own","read":"^own"}"#;
    api.expect(201, "PUT", "/api/permissions/open/limited", own);
    let scopes =
        "rabbitmq.tag:management rabbitmq.configure:open/own* rabbitmq.write:open/own* rabbitmq.read:open/own*";
    let token = tokens::token(scopes, tokens::now() + 600);
    for (name, login) in [("limited", basic("limited:p")), ("robot", format!("Bearer {token}"))] {
        does_only_what_is_permitted(&api, name, &login);
    }
}

/// `name`, who may do everything with what begins with `own`, and nothing else.
fn does_only_what_is_permitted(api: &Api, name: &str, login: &str) {
    let ask = |method: &str, path: &str, body: &str| api.ask_with(Some(login), method, path, body);
    assert_eq!(ask("PUT", "/api/queues/open/own-queue", "{}").status, 201);
    assert_eq!(ask("PUT", "/api/exchanges/open/own-exchange", "{}").status, 201);
    assert_eq!(
        ask("POST", "/api/bindings/open/e/own-exchange/q/own-queue", "{}").status,
        201
    );
    let take = r#"{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}"#;
    let publish = r#"{"routing_key":"target","payload":"x"}"#;
    for (method, path, body) in [
        ("PUT", "/api/queues/open/other", "{}"),
        ("PUT", "/api/exchanges/open/other", "{}"),
        ("DELETE", "/api/queues/open/target", ""),
        ("DELETE", "/api/queues/open/target/contents", ""),
        ("DELETE", "/api/exchanges/open/target", ""),
        ("POST", "/api/queues/open/target/get", take),
        ("POST", "/api/exchanges/open/amq.default/publish", publish),
        ("POST", "/api/exchanges/open/target/publish", publish),
        ("POST", "/api/bindings/open/e/target/q/own-queue", "{}"),
        ("POST", "/api/bindings/open/e/own-exchange/q/target", "{}"),
        ("POST", "/api/bindings/open/e/own-exchange/e/target", "{}"),
        ("DELETE", "/api/bindings/open/e/target/q/target/plain", ""),
    ] {
        let answer = ask(method, path, body);
        assert_eq!(answer.status, 401, "{method} {path}: {answer:?}");
        assert!(
            answer.json()["reason"]
                .as_str()
                .unwrap()
                .contains(&format!("refused for user '{name}'")),
            "{answer:?}"
        );
    }
    assert_eq!(api.get("/api/queues/open/target")["messages"], 1);
    assert_eq!(ask("DELETE", "/api/queues/open/own-queue", "").status, 204);
    assert_eq!(ask("DELETE", "/api/exchanges/open/own-exchange", "").status, 204);
}

#[test]
fn a_name_that_is_spelled_otherwise_opens_no_door() {
    let api = furnished();
    for path in [
        "/api/queues/closed/target",
        "/api/queues/%63losed/target",
        "/api/queues/open/..%2Fclosed%2Ftarget",
        "/api/queues/open/../closed/target",
        "/api/queues/./closed/target",
        "/api//queues/closed/target",
        "/api/queues/closed%00/target",
        "/api/queues/closed/target?vhost=open",
        "/API/queues/closed/target",
    ] {
        for login in KINDS
            .iter()
            .filter(|kind| kind.tags == "management")
            .flat_map(Kind::logins)
        {
            let answer = api.ask_with(Some(&login), "GET", path, "");
            assert!([400, 401, 404].contains(&answer.status), "{path}: {answer:?}");
            assert!(!answer.body.contains(SECRET), "{path}: {answer:?}");
        }
    }
}

/// Methods that a resource does not list are no way around its rules.
#[test]
fn no_other_method_opens_a_door() {
    const METHODS: [&str; 9] = [
        "GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND",
    ];
    let api = furnished();
    let before = state(&api);
    let manager = basic("manager:secretless");
    let mut paths: Vec<&str> = ROUTES.iter().map(|route| route.path).collect();
    paths.sort_unstable();
    paths.dedup();
    for path_of_route in paths {
        let of_path = || ROUTES.iter().filter(|route| route.path == path_of_route);
        for method in METHODS {
            let listed = of_path().find(|route| route.verb.as_str() == method);
            let route = listed.or(of_path().next()).unwrap();
            let path = path(route, "closed");
            let is_probe = route.rights == Rights::Nobody;
            let is_served = listed.is_some() || (method == "HEAD" && of_path().any(|route| route.verb == Verb::Get));
            for login in [None, Some(manager.as_str())] {
                let answer = api.ask_with(login, method, &path, body(route));
                let asked = format!("{method} {path} with {login:?}: {answer:?}");
                assert!(!answer.body.contains(SECRET), "leaked: {asked}");
                match (is_served, login) {
                    (false, _) => assert_eq!(answer.status, 405, "{asked}"),
                    (true, None) if is_probe => assert_eq!(answer.status, 200, "{asked}"),
                    (true, None) => assert_eq!(answer.status, 401, "{asked}"),
                    (true, Some(_)) => {}
                }
            }
        }
    }
    assert_eq!(state(&api), before, "somebody changed something");
}
