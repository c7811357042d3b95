//! Policies and limits, set with `leveret ctl` while clients are connected.

use lapin::options::*;
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};
use leveret_integration_tests::client::*;
use leveret_integration_tests::ctl::Ctl;
use leveret_integration_tests::raw::{Login, RawClient, channel, make, open_virtual_host};
use leveret_integration_tests::{Broker, wait};

/// The policy, the operator policy and the effective definition of a queue, as `list_queues` prints them.
fn listed(ctl: &Ctl, queue: &str) -> Vec<String> {
    let columns = [
        "list_queues",
        "name",
        "policy",
        "operator_policy",
        "effective_policy_definition",
    ];
    let printed = ctl.run(&columns);
    let line = printed.lines().find(|line| line.starts_with(&format!("{queue}\t")));
    let line = line.unwrap_or_else(|| panic!("{queue} is not in {printed}"));
    line.split('\t').skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn an_alternate_exchange_by_policy_takes_effect_at_once_and_survives_a_kill() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let durable_exchange = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let returned = async |broker: &Broker| {
        let (_connection, channel) = open(broker.amqp()).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let publish = channel.basic_publish("orders".into(), "k".into(), options, b"x", BasicProperties::default());
        let confirmation = publish.await.unwrap().await.unwrap();
        confirmation.take_message().is_some()
    };
    {
        let (_connection, channel) = open(broker.amqp()).await;
        for (name, kind) in [("orders", ExchangeKind::Direct), ("lost", ExchangeKind::Fanout)] {
            let declare = channel.exchange_declare(name.into(), kind, durable_exchange, FieldTable::default());
            declare.await.unwrap();
        }
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        channel.queue("found", durable).await;
        channel.bind("found", "lost", "").await;
    }
    assert!(returned(&broker).await);
    let definition = r#"{"alternate-exchange": "lost"}"#;
    broker
        .ctl()
        .run(&["set_policy", "--apply-to", "exchanges", "ae", "^orders$", definition]);
    assert!(!returned(&broker).await);
    broker.kill();
    broker.start_again();
    assert!(!returned(&broker).await);
    broker.ctl().run(&["clear_policy", "ae"]);
    assert!(returned(&broker).await);
}

#[test]
fn policies_are_listed_with_what_they_come_to() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let ctl = broker.ctl();
    let mut client = RawClient::with_channel(broker.amqp());
    let _ok = client.call(1, make::queue_declare("orders"));
    let long = r#"{"message-ttl": 5000, "max-length": 10}"#;
    ctl.run(&[
        "set_policy",
        "-p",
        "/",
        "ttl",
        "^ord",
        long,
        "--priority",
        "3",
        "--apply-to",
        "queues",
    ]);
    ctl.run(&["set_operator_policy", "bound", "", r#"{"message-ttl": 1000}"#]);
    assert_eq!(
        listed(&ctl, "orders"),
        ["ttl", "bound", r#"{"max-length":10,"message-ttl":1000}"#]
    );
    let policies = ctl.run(&["list_policies"]);
    assert!(
        policies.contains("/\tttl\t^ord\tqueues\t{\"max-length\":10,\"message-ttl\":5000}\t3"),
        "{policies}"
    );
    assert!(ctl.run(&["list_operator_policies"]).contains("bound"));
    for (command, reason) in [
        (["set_policy", "bad", "(", long], "bad regular expression '('"),
        (["set_policy", "bad", "", "[]"], "the definition is not a JSON object"),
        (
            ["set_policy", "bad", "", r#"{"message-ttl": -1}"#],
            "-1 is not a valid value of 'message-ttl'",
        ),
        (
            ["set_operator_policy", "bad", "", r#"{"alternate-exchange": "x"}"#],
            "not a recognised operator policy",
        ),
    ] {
        let said = ctl.refuse(&command);
        assert!(said.contains(reason), "{command:?}: {said}");
    }
    assert!(
        ctl.refuse(&["clear_policy", "bad"])
            .contains("no policy 'bad' in vhost '/'")
    );

    broker.kill();
    broker.start_again();
    let ctl = broker.ctl();
    let mut client = RawClient::with_channel(broker.amqp());
    let _ok = client.call(1, make::queue_declare("orders"));
    assert_eq!(listed(&ctl, "orders")[..2], ["ttl", "bound"]);
    ctl.run(&["clear_operator_policy", "bound"]);
    ctl.run(&["clear_policy", "ttl"]);
    assert_eq!(listed(&ctl, "orders"), ["", "", "[]"]);
}

/// A client that is refused at connection.open with this text.
fn refused(broker: &Broker, login: &Login, text: &str) {
    let mut client = RawClient::tuned(broker.amqp(), login);
    client.send(0, open_virtual_host("/"));
    client.expect_connection_close(530, (10, 40), format!("NOT_ALLOWED - {text}"));
}

#[test]
fn rows_015_and_016_and_045_limits_of_virtual_hosts_and_users() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let ctl = broker.ctl();
    ctl.run(&["add_user", "alice", "secret"]);
    ctl.run(&["set_permissions", "alice", ".*", ".*", ".*"]);
    let alice = Login::of("alice", "secret", "/");

    ctl.run(&[
        "set_user_limits",
        "alice",
        r#"{"max-connections": 1, "max-channels": 2}"#,
    ]);
    assert!(
        ctl.run(&["list_user_limits"])
            .contains(r#"{"max-channels":2,"max-connections":1}"#)
    );
    let mut first = RawClient::connect_as(broker.amqp(), &alice);
    let text = "connection refused for user 'alice': user connection limit (1) is reached";
    refused(&broker, &alice, text);
    first.open_channel(1);
    first.open_channel(2);
    first.send(3, channel::Open {});
    let text =
        "NOT_ALLOWED - number of channels opened for user 'alice' has reached the maximum allowed user limit of 2";
    first.expect_connection_close(530, (0, 0), text);

    ctl.run(&["clear_user_limits", "alice", "all"]);
    wait::until("the connection is gone", || {
        (!ctl.run(&["list_connections", "user"]).contains("alice")).then_some(())
    });
    ctl.run(&["set_vhost_limits", r#"{"max-connections": 1}"#]);
    assert!(ctl.run(&["list_vhost_limits"]).contains(r#"{"max-connections":1}"#));
    let _only = RawClient::connect(broker.amqp());
    let text = "access to vhost '/' refused for user 'alice': connection limit (1) is reached";
    refused(&broker, &alice, text);
    ctl.run(&["clear_vhost_limits"]);
    RawClient::connect_as(broker.amqp(), &alice).close();
    assert!(
        ctl.refuse(&["set_user_limits", "nobody", "{}"])
            .contains("user 'nobody' does not exist")
    );
    assert!(
        ctl.refuse(&["set_vhost_limits", r#"{"max-users": 1}"#])
            .contains("unknown limit 'max-users'")
    );
}

#[test]
fn row_096_more_queues_than_the_virtual_host_may_have() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    broker.ctl().run(&["set_vhost_limits", r#"{"max-queues": 1}"#]);
    let mut client = RawClient::with_channel(broker.amqp());
    let _ok = client.call(1, make::queue_declare("one"));
    client.send(1, make::queue_declare("two"));
    let text = "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost '/' (1) is reached";
    client.expect_channel_close(1, 406, (50, 10), text);
    let _ok = client.call(1, make::queue_declare("one"));
}

/// What counts of a limit is the smallest of argument, policy and operator policy; each of them may come and go.
#[tokio::test]
async fn the_smallest_limit_counts_whoever_gave_it() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let ctl = broker.ctl();
    let (_connection, channel) = open(broker.amqp()).await;
    let limited = arguments([
        ("x-max-length", lapin::types::AMQPValue::LongInt(6)),
        ("x-overflow", text("drop-head")),
    ]);
    let declare = channel.queue_declare("bounded".into(), QueueDeclareOptions::default(), limited);
    declare.await.unwrap();
    let fill = async || {
        for number in 0..8 {
            channel
                .publish_confirmed("", "bounded", number.to_string().as_bytes())
                .await;
        }
        channel.counts("bounded").await.0
    };
    assert_eq!(fill().await, 6);
    ctl.run(&[
        "set_policy",
        "wide",
        "^bounded$",
        r#"{"max-length": 7, "overflow": "reject-publish"}"#,
    ]);
    assert_eq!(
        fill().await,
        6,
        "neither a larger limit nor another overflow counts beside an argument"
    );
    ctl.run(&["set_operator_policy", "tight", "^b", r#"{"max-length": 4}"#]);
    assert_eq!(channel.counts("bounded").await.0, 4, "at once");
    ctl.run(&["set_policy", "wide", "^bounded$", r#"{"max-length": 2}"#]);
    assert_eq!(channel.counts("bounded").await.0, 2);
    ctl.run(&["clear_policy", "wide"]);
    assert_eq!(fill().await, 4);
    ctl.run(&[
        "set_operator_policy",
        "tight",
        "^b",
        r#"{"max-length": 100, "max-length-bytes": 3}"#,
    ]);
    assert_eq!(fill().await, 3);
    ctl.run(&["clear_operator_policy", "tight"]);
    assert_eq!(fill().await, 6);
}
