//! Heartbeats, with an interval of one second so that nobody waits long.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::raw::{AMQPFrame, HEARTBEAT, Login, RawClient, connection, make};
use std::time::{Duration, Instant};

/// Opens a connection with channel 1 on which both sides send heartbeats every so many seconds.
fn connect(broker: &TestBroker, heartbeat: u16) -> RawClient {
    let login = Login {
        tune_ok: Some(connection::TuneOk {
            channel_max: 10,
            frame_max: 131_072,
            heartbeat,
        }),
        ..Login::default()
    };
    let mut client = RawClient::connect_as(broker.amqp(), &login);
    client.open_channel(1);
    client
}

#[test]
fn the_broker_sends_heartbeats_while_it_has_nothing_to_say() {
    let broker = TestBroker::get();
    let mut client = connect(&broker, 1);
    let started = Instant::now();
    for _ in 0..3 {
        assert_eq!(client.next_frame(), Some(AMQPFrame::Heartbeat));
        client.send_frame(HEARTBEAT, 0, &[]);
    }
    let waited = started.elapsed();
    assert!(waited < Duration::from_secs(20), "three heartbeats took {waited:?}");
}

#[test]
fn row_021_a_client_that_falls_silent_is_dropped_without_a_word() {
    let broker = TestBroker::get();
    let mut client = connect(&broker, 1);
    let started = Instant::now();
    // Fails on any frame but heartbeats.
    client.expect_end_of_stream();
    let waited = started.elapsed();
    assert!(
        waited >= Duration::from_millis(1500),
        "dropped after {waited:?}, before two intervals had passed"
    );
    assert!(waited <= Duration::from_secs(20), "dropped only after {waited:?}");
}

#[test]
fn any_traffic_keeps_a_connection_alive() {
    let broker = TestBroker::get();
    let mut client = connect(&broker, 1);
    let queue = client.call(1, make::queue_declare("")).queue;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        // The broker's heartbeats set the pace; a method is as good as a heartbeat.
        assert_eq!(client.next_frame(), Some(AMQPFrame::Heartbeat));
        let purge = leveret_integration_tests::raw::queue::Purge {
            queue: queue.clone(),
            nowait: true,
        };
        client.send(1, purge);
    }
    client.close();
}

#[test]
fn without_heartbeats_a_silent_connection_stays() {
    let broker = TestBroker::get();
    let mut silent = connect(&broker, 0);
    // While another connection is dropped for its silence, twice, this one is left alone.
    for _ in 0..2 {
        connect(&broker, 1).expect_end_of_stream();
    }
    let _ok = silent.call(1, make::queue_declare(""));
    silent.close();
}
