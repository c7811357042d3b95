//! The catalogue (ERRORS.md in this package), section 9. Test names begin with the row.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::raw::{BasicProperties, RawClient, confirm, make, queue, tx};

#[test]
fn row_143_commit_or_rollback_without_select() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let text = "PRECONDITION_FAILED - channel is not transactional";
    client.send(1, tx::Commit {});
    client.expect_channel_close(1, 406, (90, 20), text);
    client.send(1, tx::Rollback {});
    client.expect_channel_close(1, 406, (90, 30), text);
}

#[test]
fn row_144_transactions_on_a_confirming_channel() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let _ok = client.call(1, confirm::Select { nowait: false });
    client.send(1, tx::Select {});
    client.expect_channel_close(
        1,
        406,
        (90, 10),
        "PRECONDITION_FAILED - cannot switch from confirm to tx mode",
    );
}

#[test]
fn row_145_confirms_on_a_transactional_channel() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let _ok = client.call(1, tx::Select {});
    client.send(1, confirm::Select { nowait: false });
    client.expect_channel_close(
        1,
        406,
        (85, 10),
        "PRECONDITION_FAILED - cannot switch from tx to confirm mode",
    );
}

/// RabbitMQ closes the connection with 504 if it is still busy with the commit. Here the method waits its turn.
#[test]
fn row_147_methods_sent_while_a_commit_is_under_way() {
    let broker = TestBroker::get();
    let name = broker.unique("committed");
    let mut client = RawClient::with_channel(broker.amqp());
    let declare = queue::Declare {
        durable: true,
        exclusive: false,
        ..make::queue_declare(&name)
    };
    let _ok = client.call(1, declare);
    let _ok = client.call(1, tx::Select {});
    let persistent = BasicProperties::default().with_delivery_mode(2);
    for round in 1..=20 {
        // Nothing waits for the answer to the commit, which takes as long as the disk does.
        client.publish(1, make::basic_publish("", &name), persistent.clone(), b"first");
        client.send(1, tx::Commit {});
        client.publish(1, make::basic_publish("", &name), persistent.clone(), b"second");
        client.send(1, make::queue_declare_passive(&name));
        client.send(1, tx::Commit {});
        let _first: tx::CommitOk = client.expect(1);
        let between: queue::DeclareOk = client.expect(1);
        let _second: tx::CommitOk = client.expect(1);
        assert_eq!(between.message_count, 2 * round - 1, "the second is not committed yet");
    }
    assert_eq!(client.call(1, make::queue_delete(&name)).message_count, 40);
}

#[test]
fn row_148_a_tag_settled_twice_inside_a_transaction() {
    let broker = TestBroker::get();
    let mut client = RawClient::with_channel(broker.amqp());
    let queue = client.call(1, make::queue_declare("")).queue;
    client.publish_to(1, "", queue.as_str(), b"message");
    let _ok = client.call(1, tx::Select {});
    let _ok = client.call(1, make::basic_consume(queue.as_str()));
    client.expect_content(1);
    client.send(1, make::basic_ack(1));
    client.send(1, make::basic_ack(1));
    client.expect_channel_close(1, 406, (60, 80), "PRECONDITION_FAILED - unknown delivery tag 1");
}
