//! Virtual hosts, users and permissions, changed with `leveret ctl` while clients are connected.

use lapin::options::*;
use leveret_integration_tests::client::*;
use leveret_integration_tests::ctl::Ctl;
use leveret_integration_tests::raw::{Login, RawClient, channel, make, open_virtual_host};
use leveret_integration_tests::{Broker, TestBroker, wait};
use std::net::{IpAddr, UdpSocket};

/// A user and a virtual host of a test, both deleted when it ends.
struct Tenant {
    user: String,
    virtual_host: String,
    ctl: Ctl,
}

impl Tenant {
    /// A user with all permissions in a virtual host of its own. None when the broker cannot be controlled.
    fn new(broker: &TestBroker) -> Option<Self> {
        let tenant = Self {
            user: broker.unique("user"),
            virtual_host: broker.unique("vhost"),
            ctl: broker.ctl()?,
        };
        tenant.ctl.run(&["add_vhost", &tenant.virtual_host]);
        tenant.ctl.run(&["add_user", &tenant.user, "secret"]);
        tenant.set_permissions(".*", ".*", ".*");
        Some(tenant)
    }

    fn set_permissions(&self, configure: &str, write: &str, read: &str) {
        self.ctl.run(&[
            "set_permissions",
            "-p",
            &self.virtual_host,
            &self.user,
            configure,
            write,
            read,
        ]);
    }

    fn login(&self, password: &str) -> Login {
        Login::of(&self.user, password, &self.virtual_host)
    }

    fn client(&self, broker: &TestBroker) -> RawClient {
        let mut client = RawClient::connect_as(broker.amqp(), &self.login("secret"));
        client.open_channel(1);
        client
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let (users, virtual_hosts) = (self.ctl.run(&["list_users"]), self.ctl.run(&["list_vhosts"]));
            if users.contains(&self.user) {
                self.ctl.run(&["delete_user", &self.user]);
            }
            if virtual_hosts.contains(&self.virtual_host) {
                self.ctl.run(&["delete_vhost", &self.virtual_host]);
            }
        }
    }
}

#[tokio::test]
async fn virtual_hosts_do_not_see_each_other() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    let queue = broker.unique("same name");
    channel.queue(&queue, QueueDeclareOptions::exclusive()).await;
    channel.publish_confirmed("", &queue, b"in /").await;

    let connection = try_connect(broker.amqp(), &tenant.user, "secret", &tenant.virtual_host)
        .await
        .unwrap();
    let other = connection.create_channel().await.unwrap();
    other.queue(&queue, QueueDeclareOptions::exclusive()).await;
    other.publish_confirmed("", &queue, b"in the other").await;
    other
        .publish_confirmed("amq.direct", "nobody", b"there are predeclared exchanges here too")
        .await;
    assert_eq!(channel.drain(&queue).await, ["in /"]);
    assert_eq!(other.drain(&queue).await, ["in the other"]);
}

#[test]
fn row_025_deleting_a_user_or_virtual_host_closes_its_connections() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    let mut by_user = tenant.client(&broker);
    tenant.ctl.run(&["delete_user", &tenant.user]);
    let text = format!("CONNECTION_FORCED - user '{}' is deleted", tenant.user);
    by_user.expect_connection_close(320, (0, 0), text);

    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    let mut in_vhost = tenant.client(&broker);
    tenant.ctl.run(&["delete_vhost", &tenant.virtual_host]);
    let text = format!("CONNECTION_FORCED - vhost '{}' is deleted", tenant.virtual_host);
    in_vhost.expect_connection_close(320, (0, 0), text);
    let mut client = RawClient::tuned(broker.amqp(), &tenant.login("secret"));
    client.send(0, open_virtual_host(&tenant.virtual_host));
    let text = format!("NOT_ALLOWED - vhost {} not found", tenant.virtual_host);
    client.expect_connection_close(530, (10, 40), text);
}

#[test]
fn row_022_an_operator_closes_a_connection_with_a_reason() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else { return };
    for column in ["name", "pid"] {
        let mut client = tenant.client(&broker);
        let connections = tenant
            .ctl
            .run(&["-n", "rabbit@here", "list_connections", column, "user"]);
        let line = connections
            .lines()
            .find(|line| line.ends_with(&tenant.user))
            .expect("a line for the connection");
        let name = line.strip_suffix(&tenant.user).unwrap().trim();
        tenant.ctl.run(&["close_connection", name, "for a reason"]);
        client.expect_connection_close(320, (0, 0), "CONNECTION_FORCED - for a reason");
    }
}

#[test]
fn deleting_a_virtual_host_deletes_all_that_is_in_it() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    let mut client = tenant.client(&broker);
    let declare = leveret_integration_tests::raw::queue::Declare {
        durable: true,
        exclusive: false,
        ..make::queue_declare("kept")
    };
    let _ok = client.call(1, declare);
    client.publish_to(1, "", "kept", b"a message");
    let _ok = client.call(1, make::queue_declare_passive("kept"));
    tenant.ctl.run(&["delete_vhost", &tenant.virtual_host]);
    tenant.ctl.run(&["add_vhost", &tenant.virtual_host]);
    tenant.set_permissions(".*", ".*", ".*");
    let mut client = tenant.client(&broker);
    client.send(1, make::queue_declare_passive("kept"));
    let text = format!("NOT_FOUND - no queue 'kept' in vhost '{}'", tenant.virtual_host);
    client.expect_channel_close(1, 404, (50, 10), text);
}

#[test]
fn permissions_take_effect_on_open_connections_at_once() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    let mut client = tenant.client(&broker);
    let _ok = client.call(1, make::queue_declare("a"));
    tenant.set_permissions("^b", ".*", ".*");
    client.send(1, make::queue_declare("a"));
    let text = format!(
        "ACCESS_REFUSED - configure access to queue 'a' in vhost '{}' refused for user '{}'",
        tenant.virtual_host, tenant.user
    );
    client.expect_channel_close(1, 403, (50, 10), text);
    let _ok = client.call(1, make::queue_declare("b"));
    tenant.set_permissions("^a", ".*", ".*");
    let _ok = client.call(1, make::queue_declare("a"));
}

#[test]
fn permissions_are_searched_for_in_the_name_and_empty_ones_match_nothing() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    tenant.set_permissions("middle", "", "");
    let mut client = tenant.client(&broker);
    let _ok = client.call(1, make::queue_declare("in the middle of it"));
    client.send(1, make::basic_get("in the middle of it"));
    let text = format!(
        "ACCESS_REFUSED - read access to queue 'in the middle of it' in vhost '{}' refused for user '{}'",
        tenant.virtual_host, tenant.user
    );
    client.expect_channel_close(1, 403, (60, 70), text);
}

#[test]
fn a_changed_password_counts_from_the_next_login_on() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    let mut connected = tenant.client(&broker);
    tenant.ctl.run(&["change_password", &tenant.user, "new secret"]);
    let _ok = connected.call(1, make::queue_declare(""));

    let old = tenant.login("secret").with_capability("authentication_failure_close");
    let (mut client, _start) = RawClient::started(broker.amqp());
    client.send_start_ok(&old);
    let refused: leveret_integration_tests::raw::connection::Close = client.expect(0);
    assert_eq!(refused.reply_code, 403);
    RawClient::connect_as(broker.amqp(), &tenant.login("new secret")).close();
}

#[test]
fn without_permissions_a_user_cannot_open_the_virtual_host() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    tenant
        .ctl
        .run(&["clear_permissions", "-p", &tenant.virtual_host, &tenant.user]);
    let mut client = RawClient::tuned(broker.amqp(), &tenant.login("secret"));
    client.send(0, open_virtual_host(&tenant.virtual_host));
    let text = format!(
        "NOT_ALLOWED - access to vhost '{}' refused for user '{}'",
        tenant.virtual_host, tenant.user
    );
    client.expect_connection_close(530, (10, 40), text);
}

#[test]
fn listings_name_what_there_is() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    tenant.set_permissions("^c", "^w", "^r");
    assert!(tenant.ctl.run(&["list_users"]).contains(&tenant.user));
    assert!(tenant.ctl.run(&["list_vhosts"]).contains(&tenant.virtual_host));
    let permissions = tenant.ctl.run(&["list_permissions", "-p", &tenant.virtual_host]);
    let line = permissions
        .lines()
        .find(|line| line.contains(&tenant.user))
        .expect("a line for the user");
    assert_eq!(line.split_whitespace().skip(1).collect::<Vec<_>>(), ["^c", "^w", "^r"]);
}

#[test]
fn commands_that_cannot_be_done_say_so_and_fail() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    let missing = broker.unique("missing");
    let commands: [&[&str]; 7] = [
        &["add_user", &tenant.user, "again"],
        &["delete_user", &missing],
        &["change_password", &missing, "secret"],
        &["delete_vhost", &missing],
        &["set_permissions", "-p", &missing, &tenant.user, ".*", ".*", ".*"],
        &[
            "set_permissions",
            "-p",
            &tenant.virtual_host,
            &missing,
            ".*",
            ".*",
            ".*",
        ],
        &[
            "set_permissions",
            "-p",
            &tenant.virtual_host,
            &tenant.user,
            "(",
            ".*",
            ".*",
        ],
    ];
    for command in commands {
        let said = tenant.ctl.refuse(command);
        assert!(!said.trim().is_empty(), "{command:?} failed without a word");
    }
    tenant.ctl.refuse(&["no_such_command"]);
}

#[tokio::test]
async fn a_user_without_permission_sees_its_consumers_and_publishes_refused() {
    let broker = TestBroker::get();
    let Some(tenant) = Tenant::new(&broker) else {
        return;
    };
    let connection = try_connect(broker.amqp(), &tenant.user, "secret", &tenant.virtual_host)
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = channel.own_queue().await;
    tenant.set_permissions(".*", "^$", "^$");
    let (options, arguments) = (BasicConsumeOptions::default(), Default::default());
    let refused = channel
        .basic_consume(queue.as_str().into(), "".into(), options, arguments)
        .await;
    assert_eq!(refusal(&refused.unwrap_err()).0, 403);
}

/// An address of this machine that is not the loopback's, if it has one. No packet is sent to find out.
fn outside_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback())
}

#[test]
fn guest_may_connect_from_the_loopback_interface_only() {
    let Some(address) = outside_address() else {
        eprintln!("left out: this machine has no address but the loopback's");
        return;
    };
    if Broker::start_unless_external().is_none() {
        return;
    }
    let broker = Broker::start_on(&format!("{address}:0"));
    let login = Login::default().with_capability("authentication_failure_close");
    let (mut client, _start) = RawClient::started(broker.amqp());
    client.send_start_ok(&login);
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                For details see the broker logfile.";
    client.expect_connection_close(403, (0, 0), text);

    let ctl = broker.ctl();
    ctl.run(&["add_user", "visitor", "secret"]);
    ctl.run(&["set_permissions", "-p", "/", "visitor", ".*", ".*", ".*"]);
    RawClient::connect_as(broker.amqp(), &Login::of("visitor", "secret", "/")).close();
}

#[test]
fn users_and_permissions_survive_a_kill() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let ctl = broker.ctl();
    ctl.run(&["add_vhost", "production"]);
    ctl.run(&["add_user", "worker", "secret"]);
    ctl.run(&["set_permissions", "-p", "production", "worker", "^w", ".*", ".*"]);
    ctl.run(&["add_user", "leaver", "secret"]);
    ctl.run(&["delete_user", "leaver"]);
    broker.kill();
    broker.start_again();

    let mut client = RawClient::connect_as(broker.amqp(), &Login::of("worker", "secret", "production"));
    client.open_channel(1);
    let _ok = client.call(1, make::queue_declare("work"));
    client.send(1, make::queue_declare("other"));
    let close: channel::Close = client.expect(1);
    assert_eq!(close.reply_code, 403);
    let users = broker.ctl().run(&["list_users"]);
    assert!(users.contains("worker") && !users.contains("leaver"), "{users}");
    wait::until("guest is still there", || users.contains("guest").then_some(()));
}

#[tokio::test]
async fn an_impersonator_names_another_user_and_others_only_themselves() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let ctl = broker.ctl();
    for user in ["alice", "bridge"] {
        ctl.run(&["add_user", user, "secret"]);
        ctl.run(&["set_permissions", user, ".*", ".*", ".*"]);
    }
    ctl.run(&["set_user_tags", "alice", "administrator"]);
    ctl.run(&["set_user_tags", "bridge", "impersonator"]);
    let publish = async |user: &str, named: &str| {
        let connection = try_connect(broker.amqp(), user, "secret", "/").await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let queue = channel.own_queue().await;
        let properties = lapin::BasicProperties::default().with_user_id(named.into());
        let options = BasicPublishOptions::default();
        let publish = channel.basic_publish("".into(), queue.as_str().into(), options, b"m", properties);
        publish.await.unwrap().await.map_err(|error| refusal(&error))?;
        let got = channel.get(&queue).await.expect("a message");
        Ok(got.delivery.properties.user_id().as_ref().expect("user_id").to_string())
    };
    assert_eq!(publish("bridge", "alice").await, Ok("alice".to_owned()));
    assert_eq!(publish("bridge", "nobody at all").await, Ok("nobody at all".to_owned()));
    assert_eq!(publish("alice", "alice").await, Ok("alice".to_owned()));
    let text = "PRECONDITION_FAILED - user_id property set to 'bridge' but authenticated user was 'alice'";
    assert_eq!(publish("alice", "bridge").await, Err((406, text.to_owned())));
}

#[test]
fn a_protected_virtual_host_outlives_a_mistake_and_a_restart() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let ctl = broker.ctl();
    ctl.run(&["add_vhost", "shop"]);
    ctl.run(&["enable_vhost_deletion_protection", "shop"]);
    broker.stop();
    broker.start_again();
    let ctl = broker.ctl();
    let listed = ctl.run(&["list_vhosts", "name", "protected_from_deletion"]);
    assert!(listed.contains("shop\ttrue"), "{listed}");
    let refused = ctl.refuse(&["delete_vhost", "shop"]);
    assert!(refused.contains("protected from deletion"), "{refused}");
    ctl.run(&["disable_vhost_deletion_protection", "shop"]);
    ctl.run(&["delete_vhost", "shop"]);
}
