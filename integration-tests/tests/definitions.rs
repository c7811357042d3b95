//! Definitions taken from one broker to another, by command line and at the first start.

use leveret_integration_tests::Broker;
use serde_json::{Value, json};

fn exported(broker: &Broker) -> Value {
    let printed = broker.ctl().run(&["export_definitions"]);
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn what_one_broker_exports_another_imports_and_keeps() {
    let (Some(first), Some(mut second)) = (Broker::start_unless_external(), Broker::start_unless_external()) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.json");
    let file = file.to_str().unwrap();
    first.ctl().run(&["add_vhost", "shop"]);
    first.ctl().run(&["add_user", "alice", "secret"]);
    first
        .ctl()
        .run(&["set_permissions", "-p", "shop", "alice", "^a", ".*", ".*"]);
    first.ctl().run(&["export_definitions", file]);
    let dry = second.ctl().run(&["import_definitions", "--dry-run", file]);
    assert!(
        dry.contains("+ vhost 'shop'\n") && dry.contains("+ user 'alice'\n"),
        "{dry}"
    );
    assert!(
        !second.ctl().run(&["list_vhosts"]).contains("shop"),
        "a dry run changed something"
    );
    second.ctl().run(&["import_definitions", file]);
    assert_eq!(second.ctl().run(&["import_definitions", file]), "nothing differs\n");
    second.kill();
    second.start_again();
    assert_eq!(exported(&second), exported(&first));
}

#[test]
fn a_first_start_loads_definitions_and_later_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.json");
    let definitions = json!({
        "users": [{"name": "owner", "password": "p", "tags": "administrator"}],
        "vhosts": [{"name": "shop", "description": "Orders"}],
        "permissions": [{"user": "owner", "vhost": "shop", "configure": ".*", "write": ".*", "read": ".*"}],
        "queues": [{"name": "orders", "vhost": "shop", "durable": true}],
        "exchanges": [{"name": "sales", "vhost": "shop", "type": "topic", "durable": true}],
        "bindings": [{"source": "sales", "vhost": "shop", "destination": "orders", "destination_type": "queue", "routing_key": "#"}],
    });
    std::fs::write(&file, definitions.to_string()).unwrap();
    let Some(mut broker) = Broker::start_configured(&[("LOAD_DEFINITIONS", file.to_str().unwrap())]) else {
        return;
    };
    let users = broker.ctl().run(&["-s", "list_users"]);
    assert_eq!(users, "owner\t[administrator]\n", "the file's users replace guest");
    assert!(broker.ctl().run(&["list_bindings", "-p", "shop"]).contains("sales"));
    broker.ctl().run(&["delete_queue", "-p", "shop", "orders"]);
    broker.stop();
    broker.start_again();
    assert!(
        !broker.ctl().run(&["list_queues", "-p", "shop"]).contains("orders"),
        "it was loaded again"
    );
    let exported = exported(&broker);
    assert_eq!(exported["vhosts"][1]["description"], "Orders");
}
