//! The rows of the catalogue (ERRORS.md in this package) about permissions. Test names begin with the row.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::client::{arguments, text};
use leveret_integration_tests::ctl::Ctl;
use leveret_integration_tests::raw::{AMQPClass, BasicProperties, Login, Method, RawClient, exchange, make};

/// A user that is deleted when the test ends.
struct User {
    name: String,
    ctl: Ctl,
}

impl User {
    /// A user with these permissions in `/`, or none when the broker cannot be controlled.
    fn new(broker: &TestBroker, configure: &str, write: &str, read: &str) -> Option<Self> {
        let user = Self {
            name: broker.unique("user"),
            ctl: broker.ctl()?,
        };
        user.ctl.run(&["add_user", &user.name, "secret"]);
        user.set_permissions(configure, write, read);
        Some(user)
    }

    fn set_permissions(&self, configure: &str, write: &str, read: &str) {
        self.ctl
            .run(&["set_permissions", "-p", "/", &self.name, configure, write, read]);
    }

    fn client(&self, broker: &TestBroker) -> RawClient {
        let mut client = RawClient::connect_as(broker.amqp(), &Login::of(&self.name, "secret", "/"));
        client.open_channel(1);
        client
    }

    /// Sends `method` and expects it to be refused for want of `access` to `resource`.
    fn assert_refused(&self, client: &mut RawClient, method: AMQPClass, access: &str, resource: &str) {
        let ids = (method.get_amqp_class_id(), method.get_amqp_method_id());
        client.send(1, method);
        let user = &self.name;
        let text = format!("ACCESS_REFUSED - {access} access to {resource} in vhost '/' refused for user '{user}'");
        client.expect_channel_close(1, 403, ids, text);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.ctl.run(&["delete_user", &self.name]);
        }
    }
}

#[test]
fn row_060_and_row_097_without_configure_nothing_is_declared_or_deleted() {
    let broker = TestBroker::get();
    let Some(user) = User::new(&broker, "^mine", ".*", ".*") else {
        return;
    };
    let mut client = user.client(&broker);
    let x = "exchange 'theirs'";
    user.assert_refused(
        &mut client,
        make::exchange_declare("theirs", "direct").wrap(),
        "configure",
        x,
    );
    user.assert_refused(&mut client, make::exchange_delete("theirs").wrap(), "configure", x);
    let q = "queue 'theirs'";
    user.assert_refused(&mut client, make::queue_declare("theirs").wrap(), "configure", q);
    user.assert_refused(&mut client, make::queue_delete("theirs").wrap(), "configure", q);

    let mine = broker.unique("mine");
    let _ok = client.call(1, make::queue_declare(&mine));
    let _ok = client.call(1, make::exchange_declare(&mine, "direct"));
    let _ok = client.call(1, make::exchange_delete(&mine));
}

#[test]
fn row_061_an_alternate_exchange_needs_write_on_it_and_read_on_the_exchange() {
    let broker = TestBroker::get();
    let Some(user) = User::new(&broker, ".*", "^$", ".*") else {
        return;
    };
    let mut client = user.client(&broker);
    let declare = exchange::Declare {
        arguments: arguments([("alternate-exchange", text("ae"))]),
        ..make::exchange_declare("x", "direct")
    };
    user.assert_refused(&mut client, declare.clone().wrap(), "write", "exchange 'ae'");
    user.set_permissions(".*", ".*", "^$");
    let mut client = user.client(&broker);
    user.assert_refused(&mut client, declare.wrap(), "read", "exchange 'x'");
}

#[test]
fn row_098_a_dead_letter_exchange_needs_write_on_it_and_read_on_the_queue() {
    let broker = TestBroker::get();
    let Some(user) = User::new(&broker, ".*", "^$", ".*") else {
        return;
    };
    let mut client = user.client(&broker);
    let declare = make::queue_declare_with("q", arguments([("x-dead-letter-exchange", text("dlx"))]));
    user.assert_refused(&mut client, declare.clone().wrap(), "write", "exchange 'dlx'");
    user.set_permissions(".*", ".*", "^$");
    let mut client = user.client(&broker);
    user.assert_refused(&mut client, declare.wrap(), "read", "queue 'q'");
}

#[test]
fn row_105_binding_needs_write_on_the_destination_and_read_on_the_source() {
    let broker = TestBroker::get();
    let Some(user) = User::new(&broker, ".*", "^$", ".*") else {
        return;
    };
    let mut client = user.client(&broker);
    let queue = broker.unique("q");
    let _ok = client.call(1, make::queue_declare(&queue));
    let resource = format!("queue '{queue}'");
    user.assert_refused(
        &mut client,
        make::queue_bind(&queue, "amq.direct", "k").wrap(),
        "write",
        &resource,
    );
    user.assert_refused(
        &mut client,
        make::queue_unbind(&queue, "amq.direct", "k").wrap(),
        "write",
        &resource,
    );
    let bind = make::exchange_bind("amq.fanout", "amq.direct");
    user.assert_refused(&mut client, bind.clone().wrap(), "write", "exchange 'amq.fanout'");

    user.set_permissions(".*", ".*", "^$");
    let mut client = user.client(&broker);
    let queue = broker.unique("q");
    let _ok = client.call(1, make::queue_declare(&queue));
    let source = "exchange 'amq.direct'";
    user.assert_refused(
        &mut client,
        make::queue_bind(&queue, "amq.direct", "k").wrap(),
        "read",
        source,
    );
    user.assert_refused(&mut client, bind.wrap(), "read", source);
}

#[test]
fn row_119_consuming_getting_and_purging_need_read() {
    let broker = TestBroker::get();
    let Some(user) = User::new(&broker, ".*", ".*", "^$") else {
        return;
    };
    let mut client = user.client(&broker);
    let queue = broker.unique("q");
    let _ok = client.call(1, make::queue_declare(&queue));
    let resource = format!("queue '{queue}'");
    user.assert_refused(&mut client, make::basic_consume(&queue).wrap(), "read", &resource);
    user.assert_refused(&mut client, make::basic_get(&queue).wrap(), "read", &resource);
    user.assert_refused(&mut client, make::queue_purge(&queue).wrap(), "read", &resource);
}

#[test]
fn row_130_publishing_needs_write() {
    let broker = TestBroker::get();
    let Some(user) = User::new(&broker, ".*", "^allowed", ".*") else {
        return;
    };
    let mut client = user.client(&broker);
    for (exchange, printed) in [
        ("amq.direct", "amq.direct"),
        ("", "amq.default"),
        ("no such", "no such"),
    ] {
        let publish = make::basic_publish(exchange, "key");
        client.publish(1, publish, BasicProperties::default(), b"body");
        let name = &user.name;
        let text =
            format!("ACCESS_REFUSED - write access to exchange '{printed}' in vhost '/' refused for user '{name}'");
        client.expect_channel_close(1, 403, (60, 40), text);
    }
}

#[test]
fn asking_whether_something_exists_needs_any_one_permission() {
    let broker = TestBroker::get();
    for (configure, write, read) in [(".*", "^$", "^$"), ("^$", ".*", "^$"), ("^$", "^$", ".*")] {
        let Some(user) = User::new(&broker, configure, write, read) else {
            return;
        };
        let mut client = user.client(&broker);
        let passive = exchange::Declare {
            passive: true,
            ..make::exchange_declare("amq.direct", "direct")
        };
        let _ok = client.call(1, passive);
    }
}

/// They are checked at topic exchanges only, change at once, and leave permission on the exchange as it is.
#[test]
fn row_131_a_routing_key_without_topic_permission() {
    let broker = TestBroker::get();
    let Some(user) = User::new(&broker, ".*", ".*", ".*") else {
        return;
    };
    let name = user.name.as_str();
    let exchange = "amq.topic";
    let own = r"^{username}\.";
    user.ctl.run(&["set_topic_permissions", name, exchange, own, own]);
    let mut client = user.client(&broker);
    let queue = client.call(1, make::queue_declare("")).queue.to_string();
    let _ok = client.call(1, make::queue_bind(&queue, exchange, &format!("{name}.#")));
    client.publish_to(1, exchange, &format!("{name}.born"), b"mine");
    client.publish_to(1, "amq.direct", "bob.born", b"of no concern to topics");
    assert_eq!(client.call(1, make::queue_declare_passive(&queue)).message_count, 1);

    client.publish_to(1, exchange, "bob.born", b"not mine");
    let resource = |key: &str| format!("topic '{key}' in exchange 'amq.topic'");
    let refused = |access: &str, key: &str| {
        let resource = resource(key);
        format!("ACCESS_REFUSED - {access} access to {resource} in vhost '/' refused for user '{name}'")
    };
    client.expect_channel_close(1, 403, (60, 40), refused("write", "bob.born"));
    let bind = make::queue_bind(&queue, exchange, "bob.#");
    client.send(1, bind.clone());
    client.expect_channel_close(1, 403, (50, 20), refused("read", "bob.#"));
    user.ctl.run(&["clear_topic_permissions", name, exchange]);
    client.publish_to(1, exchange, "bob.born", b"mine too");
    let _ok = client.call(1, bind);
}
