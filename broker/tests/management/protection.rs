//! Virtual hosts that are protected from deletion.

use serde_json::json;

use super::api::Api;

const PROTECTION: &str = "/api/vhosts/shop/deletion/protection";

#[test]
fn a_protected_virtual_host_is_deleted_only_after_the_protection_is_taken_back() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/vhosts/shop", r#"{"description":"d"}"#);
    assert_eq!(api.get("/api/vhosts/shop")["protected_from_deletion"], false);
    api.expect(201, "PUT", "/api/queues/shop/kept", r#"{"durable":true}"#);
    // rabbitmqadmin sends no body.
    api.expect(204, "POST", PROTECTION, "");
    let shop = api.get("/api/vhosts/shop");
    assert_eq!(shop["protected_from_deletion"], true);
    assert_eq!(shop["metadata"]["protected_from_deletion"], true);
    let refused = api.expect(412, "DELETE", "/api/vhosts/shop", "").json();
    let reason = "refusing to delete virtual host 'shop' because it is protected from deletion";
    assert_eq!(refused, json!({ "error": "precondition_failed", "reason": reason }));
    assert_eq!(api.get("/api/queues/shop/kept")["name"], "kept");

    // Saying something else about it does not take the protection away.
    api.expect(204, "PUT", "/api/vhosts/shop", r#"{"description":"other","tags":"a"}"#);
    api.expect(412, "DELETE", "/api/vhosts/shop", "");
    api.expect(204, "DELETE", PROTECTION, "");
    assert_eq!(api.get("/api/vhosts/shop")["description"], "other");
    api.expect(204, "DELETE", "/api/vhosts/shop", "");
    api.expect(404, "POST", PROTECTION, "");
    api.expect(404, "DELETE", PROTECTION, "");
}

#[test]
fn a_put_says_whether_a_virtual_host_is_protected() {
    let api = Api::start();
    api.expect(201, "PUT", "/api/vhosts/shop", r#"{"protected_from_deletion":true}"#);
    api.expect(412, "DELETE", "/api/vhosts/shop", "");
    api.expect(
        400,
        "PUT",
        "/api/vhosts/shop",
        r#"{"protected_from_deletion":"perhaps"}"#,
    );
    api.expect(204, "PUT", "/api/vhosts/shop", r#"{"protected_from_deletion":false}"#);
    api.expect(204, "DELETE", "/api/vhosts/shop", "");
}

#[test]
fn definitions_carry_a_protection_and_take_none_away_by_silence() {
    let first = Api::start();
    first.expect(201, "PUT", "/api/vhosts/shop", r#"{"description":"d"}"#);
    first.expect(204, "POST", PROTECTION, "");
    let exported = first.get("/api/definitions").to_string();

    let second = Api::start();
    second.expect(204, "POST", "/api/definitions", &exported);
    assert_eq!(
        second.get("/api/definitions")["vhosts"],
        first.get("/api/definitions")["vhosts"]
    );
    second.expect(412, "DELETE", "/api/vhosts/shop", "");
    for silent in [
        json!({ "vhosts": [{ "name": "shop" }] }),
        json!({ "vhosts": [{ "name": "shop", "description": "e", "metadata": { "tags": ["t"] } }] }),
    ] {
        second.expect(204, "POST", "/api/definitions", &silent.to_string());
        assert_eq!(
            second.get("/api/vhosts/shop")["protected_from_deletion"],
            true,
            "{silent}"
        );
    }
    assert_eq!(second.get("/api/vhosts/shop")["description"], "e");
    let taken_back = json!({ "vhosts": [{ "name": "shop", "metadata": { "protected_from_deletion": false } }] });
    second.expect(204, "POST", "/api/definitions", &taken_back.to_string());
    second.expect(204, "DELETE", "/api/vhosts/shop", "");
}
