//! SIGHUP: what changes at once, what waits, and what a mistake does.

use leveret_integration_tests::raw::{Login, RawClient, connection, make};
use leveret_integration_tests::scrape::ask;
use leveret_integration_tests::{Broker, wait};

/// What the broker offers a new client.
fn offered(broker: &Broker) -> connection::Tune {
    let (mut client, _) = RawClient::started(broker.amqp());
    client.send_start_ok(&Login::default());
    client.expect(0)
}

#[test]
fn a_configuration_is_read_again_at_sighup_and_mistakes_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leveret.toml");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write("heartbeat = '40s'\nmax_message_size = 1000");
    let Some(mut broker) = Broker::start_configured(&[("CONFIG", path.to_str().unwrap())]) else {
        return;
    };
    assert_eq!(offered(&broker).heartbeat, 40);
    let mut old = RawClient::with_channel(broker.amqp());

    write(
        "heartbeat = '20s'\nmax_message_size = 10\nfsync = 'never'\nloopback_users = []\nlog_level = 'info,leveret::net=debug'",
    );
    broker.hang_up();
    broker.wait_for_log("log_level, heartbeat, max_message_size, loopback_users");
    broker.wait_for_log("\"keys\":\"fsync\"");
    assert_eq!(offered(&broker).heartbeat, 20);
    // Who is connected goes on as it began; who comes now finds the new limit.
    old.call(1, make::queue_declare("kept"));
    old.publish_to(1, "", "kept", &[0; 500]);
    old.call(1, make::queue_declare_passive("kept"));
    let mut new = RawClient::with_channel(broker.amqp());
    new.publish_to(1, "", "kept", &[0; 500]);
    let text = "PRECONDITION_FAILED - message size 500 is larger than configured max size 10";
    new.expect_channel_close(1, 406, (60, 40), text);

    write("heartbeat = 'often'");
    broker.hang_up();
    broker.wait_for_log("the configuration stays as it was");
    assert_eq!(offered(&broker).heartbeat, 20);
    write("heartbeat = '20s'\nmax_message_size = 10\nloopback_users = []\nlog_level = 'info,leveret::net=debug'");
    broker.hang_up();
    broker.wait_for_log("nothing has changed in the configuration");
    broker.stop();
}

#[test]
fn from_a_sighup_on_the_metrics_ask_for_a_login_or_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leveret.toml");
    let write = |access: &str| std::fs::write(&path, format!("metrics_access = '{access}'")).unwrap();
    write("open");
    let Some(mut broker) = Broker::start_configured(&[("CONFIG", path.to_str().unwrap())]) else {
        return;
    };
    let status = |broker: &Broker, login: &str| {
        let (head, _) = ask(broker.metrics(), "GET", "/metrics", login, "");
        head.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    const GUEST: &str = "Authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n";
    assert_eq!(
        (status(&broker, ""), status(&broker, GUEST)),
        ("200".into(), "200".into())
    );

    write("monitoring");
    broker.hang_up();
    broker.wait_for_log("\"keys\":\"metrics_access\"");
    assert_eq!(
        (status(&broker, ""), status(&broker, GUEST)),
        ("401".into(), "200".into())
    );
    let (head, _) = ask(broker.metrics(), "GET", "/health", "", "");
    assert!(head.starts_with("HTTP/1.1 200"), "probes have no login: {head}");

    write("for everybody");
    broker.hang_up();
    broker.wait_for_log("the configuration stays as it was");
    assert_eq!(status(&broker, ""), "401", "a mistake opens nothing");

    write("open");
    broker.hang_up();
    wait::until("nobody has to log in", || (status(&broker, "") == "200").then_some(()));
    broker.stop();
}
