//! The table of resources.

use axum::Router;
use axum::extract::{RawPathParams, State};
use axum::routing::on;

use super::access::Rights::{Administrator, Management, Monitoring, Nobody, Policymaker};
use super::reply::ApiError;
use super::route::VhostRule::{Any, Ruled, Seen, Used};
use super::route::{Route, delete, get, large, post, put};
use super::server::Door;
use super::{
    bindings, channels, connections, consumers, definitions, exchanges, health, limits, logins, memory, messages,
    openapi, overview, parameters, policies, queues, topic_permissions, ui, users, vhosts,
};

const BINDINGS_BETWEEN: &str = "/api/bindings/{vhost}/e/{source}/{kind}/{destination}";
const BINDING: &str = "/api/bindings/{vhost}/e/{source}/{kind}/{destination}/{key}";

const ATTEMPTS: &str = "/api/auth/attempts/{node}";
const ATTEMPTS_BY_SOURCE: &str = "/api/auth/attempts/{node}/source";
const HASH_PASSWORD: &str = "/api/auth/hash_password/{password}";
const TABLES_RELATIVE: &str = "/api/nodes/{node}/memory/ets/{filter}/relative";
const SESSIONS: &str = "/api/connections/{name}/sessions";
const ENABLE_FLAG: &str = "/api/feature-flags/{name}/enable";
const TOPIC_PERMISSIONS: &str = "/api/topic-permissions/{vhost}/{user}";

const PROTECTION: &str = "/api/vhosts/{vhost}/deletion/protection";
const PARAMETER: &str = "/api/parameters/{component}/{vhost}/{name}";
const GLOBAL_PARAMETER: &str = "/api/global-parameters/{name}";

/// Every resource.
pub const ROUTES: &[Route] = &[
    get("/health/live", Nobody, Any, health::live),
    get("/health/ready", Nobody, Any, health::ready),
    get("/api/overview", Management, Any, overview::overview),
    get("/api/whoami", Management, Any, users::whoami),
    get("/api/cluster-name", Management, Any, overview::cluster_name),
    put("/api/cluster-name", Administrator, Any, parameters::put_cluster_name),
    get("/api/openapi.json", Management, Any, openapi::document),
    get("/api/version", Management, Any, overview::version),
    get("/api/extensions", Management, Any, overview::nothing),
    get("/api/feature-flags", Management, Any, overview::nothing),
    put(ENABLE_FLAG, Administrator, Any, overview::enable_feature_flag),
    get("/api/deprecated-features", Management, Any, overview::nothing),
    get("/api/deprecated-features/used", Management, Any, overview::nothing),
    get("/api/nodes", Monitoring, Any, overview::nodes),
    get("/api/nodes/{node}", Monitoring, Any, overview::one_node),
    get("/api/nodes/{node}/memory", Monitoring, Any, memory::absolute),
    get("/api/nodes/{node}/memory/relative", Monitoring, Any, memory::relative),
    get("/api/nodes/{node}/memory/ets", Monitoring, Any, memory::tables),
    get("/api/nodes/{node}/memory/ets/relative", Monitoring, Any, memory::tables),
    get("/api/nodes/{node}/memory/ets/{filter}", Monitoring, Any, memory::tables),
    get(TABLES_RELATIVE, Monitoring, Any, memory::tables),
    delete("/api/reset", Administrator, Any, overview::done),
    delete("/api/reset/{node}", Administrator, Any, overview::reset_node),
    post("/api/rebalance/queues", Administrator, Any, overview::done),
    get("/api/shovels", Monitoring, Any, overview::nothing),
    get("/api/shovels/{vhost}", Monitoring, Seen, overview::nothing),
    get("/api/federation-links", Monitoring, Any, overview::nothing),
    get("/api/federation-links/{vhost}", Monitoring, Seen, overview::nothing),
    get(ATTEMPTS_BY_SOURCE, Monitoring, Any, logins::by_source),
    delete(ATTEMPTS_BY_SOURCE, Administrator, Any, logins::forget_sources),
    get(ATTEMPTS, Monitoring, Any, logins::attempts),
    delete(ATTEMPTS, Administrator, Any, logins::forget),
    get(HASH_PASSWORD, Administrator, Any, logins::hash_password),
    get("/api/connections", Management, Any, connections::list),
    get("/api/connections/{name}", Management, Any, connections::get),
    delete("/api/connections/{name}", Management, Any, connections::delete),
    get(
        "/api/connections/{name}/channels",
        Management,
        Any,
        channels::list_of_connection,
    ),
    get(SESSIONS, Management, Any, connections::sessions),
    get(
        "/api/connections/username/{user}",
        Management,
        Any,
        connections::list_of_user,
    ),
    delete(
        "/api/connections/username/{user}",
        Management,
        Any,
        connections::delete_of_user,
    ),
    get("/api/channels", Management, Any, channels::list),
    get("/api/channels/{name}", Management, Any, channels::get),
    get("/api/consumers", Management, Any, consumers::list),
    get("/api/consumers/{vhost}", Management, Seen, consumers::list),
    get("/api/exchanges", Management, Any, exchanges::list),
    get("/api/exchanges/{vhost}", Management, Seen, exchanges::list),
    get("/api/exchanges/{vhost}/{name}", Management, Seen, exchanges::get),
    put("/api/exchanges/{vhost}/{name}", Management, Used, exchanges::put),
    delete("/api/exchanges/{vhost}/{name}", Management, Used, exchanges::delete),
    get(
        "/api/exchanges/{vhost}/{name}/bindings/source",
        Management,
        Seen,
        bindings::from_exchange,
    ),
    get(
        "/api/exchanges/{vhost}/{name}/bindings/destination",
        Management,
        Seen,
        bindings::to_exchange,
    ),
    large(post(
        "/api/exchanges/{vhost}/{name}/publish",
        Management,
        Used,
        messages::publish,
    )),
    get("/api/queues", Management, Any, queues::list),
    get("/api/queues/detailed", Management, Any, queues::list),
    get("/api/queues/{vhost}", Management, Seen, queues::list),
    get("/api/queues/{vhost}/{name}", Management, Seen, queues::get),
    put("/api/queues/{vhost}/{name}", Management, Used, queues::put),
    delete("/api/queues/{vhost}/{name}", Management, Used, queues::delete),
    get(
        "/api/queues/{vhost}/{name}/bindings",
        Management,
        Seen,
        bindings::of_queue,
    ),
    delete("/api/queues/{vhost}/{name}/contents", Management, Used, queues::purge),
    post("/api/queues/{vhost}/{name}/get", Management, Used, messages::get),
    post("/api/queues/{vhost}/{name}/actions", Administrator, Any, queues::act),
    get("/api/bindings", Management, Any, bindings::list),
    get("/api/bindings/{vhost}", Management, Seen, bindings::list),
    get(BINDINGS_BETWEEN, Management, Seen, bindings::between),
    post(BINDINGS_BETWEEN, Management, Used, bindings::post),
    get(BINDING, Management, Seen, bindings::get),
    delete(BINDING, Management, Used, bindings::delete),
    get("/api/vhosts", Management, Any, vhosts::list),
    get("/api/vhosts/{vhost}", Management, Seen, vhosts::get),
    put("/api/vhosts/{vhost}", Administrator, Any, vhosts::put),
    delete("/api/vhosts/{vhost}", Administrator, Any, vhosts::delete),
    get(
        "/api/vhosts/{vhost}/permissions",
        Administrator,
        Any,
        users::permissions_of_vhost,
    ),
    get("/api/vhosts/{vhost}/connections", Management, Seen, connections::list),
    get("/api/vhosts/{vhost}/channels", Management, Seen, channels::list),
    post("/api/vhosts/{vhost}/start/{node}", Administrator, Any, vhosts::start),
    post(PROTECTION, Administrator, Any, vhosts::protect),
    delete(PROTECTION, Administrator, Any, vhosts::unprotect),
    get("/api/users", Administrator, Any, users::list),
    get(
        "/api/users/without-permissions",
        Administrator,
        Any,
        users::without_permissions,
    ),
    post("/api/users/bulk-delete", Administrator, Any, users::bulk_delete),
    get("/api/users/{user}", Administrator, Any, users::get),
    put("/api/users/{user}", Administrator, Any, users::put),
    delete("/api/users/{user}", Administrator, Any, users::delete),
    get(
        "/api/users/{user}/permissions",
        Administrator,
        Any,
        users::permissions_of_user,
    ),
    get("/api/permissions", Administrator, Any, users::list_permissions),
    get(
        "/api/permissions/{vhost}/{user}",
        Administrator,
        Any,
        users::get_permissions,
    ),
    put(
        "/api/permissions/{vhost}/{user}",
        Administrator,
        Any,
        users::put_permissions,
    ),
    delete(
        "/api/permissions/{vhost}/{user}",
        Administrator,
        Any,
        users::delete_permissions,
    ),
    get(
        "/api/users/{user}/topic-permissions",
        Administrator,
        Any,
        topic_permissions::of_user,
    ),
    get(
        "/api/vhosts/{vhost}/topic-permissions",
        Administrator,
        Any,
        topic_permissions::of_vhost,
    ),
    get("/api/topic-permissions", Administrator, Any, topic_permissions::list),
    get(TOPIC_PERMISSIONS, Administrator, Any, topic_permissions::get),
    put(TOPIC_PERMISSIONS, Administrator, Any, topic_permissions::put),
    delete(TOPIC_PERMISSIONS, Administrator, Any, topic_permissions::delete),
    delete(
        "/api/topic-permissions/{vhost}/{user}/{exchange}",
        Administrator,
        Any,
        topic_permissions::delete,
    ),
    get("/api/policies", Policymaker, Any, policies::list),
    get("/api/policies/{vhost}", Policymaker, Ruled, policies::list),
    get("/api/policies/{vhost}/{name}", Policymaker, Ruled, policies::get),
    put("/api/policies/{vhost}/{name}", Policymaker, Ruled, policies::put),
    delete("/api/policies/{vhost}/{name}", Policymaker, Ruled, policies::delete),
    get("/api/operator-policies", Policymaker, Any, policies::list_operator),
    get(
        "/api/operator-policies/{vhost}",
        Policymaker,
        Ruled,
        policies::list_operator,
    ),
    get(
        "/api/operator-policies/{vhost}/{name}",
        Policymaker,
        Ruled,
        policies::get_operator,
    ),
    put(
        "/api/operator-policies/{vhost}/{name}",
        Administrator,
        Any,
        policies::put_operator,
    ),
    delete(
        "/api/operator-policies/{vhost}/{name}",
        Administrator,
        Any,
        policies::delete_operator,
    ),
    get("/api/parameters", Policymaker, Any, parameters::list),
    get("/api/parameters/{component}", Policymaker, Any, parameters::list),
    get(
        "/api/parameters/{component}/{vhost}",
        Policymaker,
        Ruled,
        parameters::list,
    ),
    get(PARAMETER, Policymaker, Ruled, parameters::get),
    put(PARAMETER, Administrator, Any, parameters::put),
    delete(PARAMETER, Administrator, Any, parameters::delete),
    get("/api/global-parameters", Policymaker, Any, parameters::list_global),
    get(GLOBAL_PARAMETER, Policymaker, Any, parameters::get_global),
    put(GLOBAL_PARAMETER, Administrator, Any, parameters::put_global),
    delete(GLOBAL_PARAMETER, Administrator, Any, parameters::delete_global),
    get("/api/vhost-limits", Management, Any, limits::list_of_vhosts),
    get("/api/vhost-limits/{vhost}", Management, Seen, limits::list_of_vhosts),
    put(
        "/api/vhost-limits/{vhost}/{name}",
        Administrator,
        Any,
        limits::put_of_vhost,
    ),
    delete(
        "/api/vhost-limits/{vhost}/{name}",
        Administrator,
        Any,
        limits::delete_of_vhost,
    ),
    get("/api/user-limits", Administrator, Any, limits::list_of_users),
    get("/api/user-limits/{user}", Administrator, Any, limits::list_of_user),
    put(
        "/api/user-limits/{user}/{name}",
        Administrator,
        Any,
        limits::put_of_user,
    ),
    delete(
        "/api/user-limits/{user}/{name}",
        Administrator,
        Any,
        limits::delete_of_user,
    ),
    get("/api/definitions", Administrator, Any, definitions::get),
    large(post("/api/definitions", Administrator, Any, definitions::post)),
    get("/api/all-configuration", Administrator, Any, definitions::get),
    large(post("/api/all-configuration", Administrator, Any, definitions::post)),
    get("/api/definitions/{vhost}", Administrator, Any, definitions::get_vhost),
    large(post(
        "/api/definitions/{vhost}",
        Administrator,
        Any,
        definitions::post_vhost,
    )),
    get("/api/aliveness-test/{vhost}", Management, Seen, health::aliveness),
    get("/api/healthchecks/node", Management, Any, health::node),
    get("/api/healthchecks/node/{node}", Management, Any, health::node),
    get("/api/health/checks/alarms", Management, Any, health::alarms),
    get("/api/health/checks/local-alarms", Management, Any, health::alarms),
    get("/api/health/checks/virtual-hosts", Management, Any, health::ready),
    get(
        "/api/health/checks/port-listener/{port}",
        Management,
        Any,
        health::port_listener,
    ),
    get(
        "/api/health/checks/protocol-listener/{protocol}",
        Management,
        Any,
        health::protocol_listener,
    ),
    get(
        "/api/health/checks/node-is-quorum-critical",
        Management,
        Any,
        health::never_critical,
    ),
    get(
        "/api/health/checks/node-is-mirror-sync-critical",
        Management,
        Any,
        health::never_critical,
    ),
    get(
        "/api/health/checks/certificate-expiration/{within}/{unit}",
        Management,
        Any,
        health::certificate_expiration,
    ),
    get(
        "/api/health/checks/reached-target-cluster-size",
        Management,
        Any,
        health::always,
    ),
    get(
        "/api/health/checks/quorum-queues-without-elected-leaders/all-vhosts/pattern/{pattern}",
        Management,
        Any,
        health::always,
    ),
    get(
        "/api/health/checks/quorum-queues-without-elected-leaders/vhost/{vhost}/pattern/{pattern}",
        Management,
        Seen,
        health::always,
    ),
    get(
        "/api/health/checks/metadata-store/initialized",
        Management,
        Any,
        health::ready,
    ),
    get(
        "/api/health/checks/metadata-store/initialized/with-data",
        Management,
        Any,
        health::ready,
    ),
    get("/api/health/checks/is-in-service", Management, Any, health::ready),
    get(
        "/api/health/checks/ready-to-serve-clients",
        Management,
        Any,
        health::ready,
    ),
    get(
        "/api/health/checks/below-node-connection-limit",
        Management,
        Any,
        health::below_connection_limit,
    ),
];

/// All of it as axum has it.
pub(super) fn router(door: Door) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let handler = move |State(door): State<Door>, parts: RawPathParams, request: axum::extract::Request| async move {
            let path = parts
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            door.answer(*route, path, request).await
        };
        // With a slash behind it, as some tools write it, a path means the same.
        for path in [route.path.to_owned(), format!("{}/", route.path)] {
            router = router.route(&path, on(route.verb.filter(), handler));
        }
    }
    ui::with_files(router)
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .with_state(door)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::management::route::Verb;

    #[test]
    fn a_path_with_a_virtual_host_is_for_administrators_or_asks_for_it() {
        for route in ROUTES {
            let names_vhost = route.path.contains("{vhost}");
            let guarded = route.vhost != Any || route.rights == Administrator;
            assert!(!names_vhost || guarded, "{} {}", route.verb.as_str(), route.path);
            assert!(
                names_vhost || route.vhost == Any,
                "{} {}",
                route.verb.as_str(),
                route.path
            );
        }
    }

    #[test]
    fn only_what_cannot_change_anything_is_for_those_who_only_see() {
        for route in ROUTES {
            let reads = route.verb == Verb::Get;
            assert!(reads || route.vhost != Seen, "{} {}", route.verb.as_str(), route.path);
            assert!(
                reads || route.rights != Nobody,
                "{} {}",
                route.verb.as_str(),
                route.path
            );
        }
    }

    #[test]
    fn each_resource_is_there_once_and_the_router_takes_them_all() {
        let mut seen: Vec<_> = ROUTES.iter().map(|route| (route.path, route.verb.as_str())).collect();
        seen.sort_unstable();
        let all = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), all);
        let _ = router(crate::management::testing::door());
    }
}
