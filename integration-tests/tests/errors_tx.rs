//! The catalogue (ERRORS.md in this package), section 9. Test names begin with the row.

use leveret_integration_tests::TestBroker;
use leveret_integration_tests::raw::{RawClient, confirm, make, tx};

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
