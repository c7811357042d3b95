//! Definitions, on both engines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use common::{Disk, append, patient, write};
use leveret_storage::{
    BindingRecord, Definition, DefinitionKey, ExchangeRecord, PermissionRecord, Position, QueueId, QueueRecord,
    SettingRecord, UserRecord, VhostRecord,
};

fn queue(id: u64, name: &str) -> Definition {
    Definition::Queue(QueueRecord {
        id: QueueId(id),
        vhost: "/".into(),
        name: name.into(),
        auto_delete: false,
        arguments: vec![0, 0, 0, 0],
    })
}

fn binding(routing_key: &str, arguments: &[u8]) -> Definition {
    Definition::Binding(BindingRecord {
        vhost: "/".into(),
        source: "logs".into(),
        destination: "orders".into(),
        destination_is_queue: true,
        routing_key: routing_key.into(),
        arguments: arguments.to_vec(),
    })
}

fn one_of_each() -> Vec<Definition> {
    vec![
        Definition::Vhost(VhostRecord {
            name: "/".into(),
            description: "the default".into(),
            tags: vec!["production".into()],
            default_queue_type: Some("quorum".into()),
            redeclare_rule: Some("adopt".into()),
            protected_from_deletion: true,
        }),
        Definition::User(UserRecord {
            name: "guest".into(),
            password_hash: "AAAA".into(),
            hashing_algorithm: "rabbit_password_hashing_sha256".into(),
            tags: vec!["administrator".into()],
        }),
        Definition::Permission(PermissionRecord {
            user: "guest".into(),
            vhost: "/".into(),
            configure: ".*".into(),
            write: "^a".into(),
            read: String::new(),
        }),
        Definition::Exchange(ExchangeRecord {
            vhost: "/".into(),
            name: "logs".into(),
            kind: "topic".into(),
            auto_delete: true,
            internal: false,
            arguments: vec![0xff, 0],
        }),
        queue(7, "orders"),
        binding("", &[]),
        binding("a.*", &[]),
        binding("a.*", &[1]),
        Definition::Setting(SettingRecord {
            key: "policy//ttl".into(),
            value: serde_json::json!({"pattern": ".*", "priority": 3}),
        }),
    ]
}

#[test]
fn definitions_come_back_in_the_order_a_start_needs_them() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        write(&store, |writer| {
            one_of_each().iter().rev().for_each(|definition| writer.put(definition));
        });
        let store = disk.reopen_killed(store, &patient());
        assert_eq!(store.definitions().unwrap(), one_of_each());
    }
}

#[test]
fn a_definition_is_replaced_by_the_next_of_its_key_and_gone_when_deleted() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        write(&store, |writer| {
            writer.put(&queue(1, "a"));
            writer.put(&queue(2, "b"));
            writer.put(&queue(3, "a"));
            writer.put(&binding("x", &[]));
        });
        write(&store, |writer| {
            writer.delete(&binding("x", &[]).key());
            writer.delete(&DefinitionKey::Queue {
                vhost: "/".into(),
                name: "b".into(),
            });
            writer.delete(&DefinitionKey::User { name: "nobody".into() });
        });
        let store = disk.reopen_killed(store, &patient());
        assert_eq!(store.definitions().unwrap(), [queue(3, "a")]);
    }
}

#[test]
fn no_queue_id_is_given_out_twice_once_a_durable_queue_had_it() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        let id = store.allocate_queue_id();
        assert_ne!(store.allocate_queue_id(), id);
        write(&store, |writer| writer.put(&queue(id.0 + 10, "a")));
        append(&store, QueueId(id.0 + 10), 0..1);
        write(&store, |writer| {
            writer.delete(&queue(id.0 + 10, "a").key());
            writer.delete_queue(QueueId(id.0 + 10));
        });
        let store = disk.reopen_killed(store, &patient());
        assert!(store.allocate_queue_id() > QueueId(id.0 + 10));
        assert_eq!(store.next_position(QueueId(id.0 + 10)), Position(0));
    }
}

#[test]
fn a_queue_and_its_messages_are_declared_and_deleted_atomically() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        let hold = store.hold();
        let mut writer = store.writer();
        writer.put(&queue(5, "a"));
        writer.submit();
        let mut writer = store.writer();
        writer.append(QueueId(5), Position(0), &[b"first"]);
        let ticket = writer.submit();
        assert!(store.definitions().unwrap().is_empty());
        drop(hold);
        store.wait(ticket).unwrap();
        assert_eq!(store.definitions().unwrap(), [queue(5, "a")]);
        write(&store, |writer| {
            writer.delete_queue(QueueId(5));
            writer.delete(&queue(5, "a").key());
        });
        let store = disk.reopen_killed(store, &patient());
        assert!(store.definitions().unwrap().is_empty());
        assert!(store.queues().is_empty());
    }
}
