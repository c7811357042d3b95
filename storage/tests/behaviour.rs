//! What a store does, on both engines.

mod common;

use common::{Disk, append, patient, positions, recover, write};
use leveret_storage::{Position, QueueId};

const QUEUE: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

#[test]
fn messages_come_back_in_order_after_a_close_and_after_a_kill() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        append(&store, QUEUE, 0..3);
        write(&store, |writer| {
            writer.append(OTHER, Position(7), &[b"he", b"", b"ad", b"body"])
        });
        append(&store, QUEUE, 3..6);
        store.close().unwrap();
        drop(store);
        let store = disk.open(&patient());
        append(&store, QUEUE, 10..12);
        let store = disk.reopen_killed(store, &patient());
        assert_eq!(positions(&store, QUEUE), [0, 1, 2, 3, 4, 5, 10, 11]);
        assert_eq!(
            recover(&store, OTHER),
            [(7, false, 0, b"headbody".to_vec())]
        );
        assert_eq!(store.next_position(QUEUE), Position(12));
        assert_eq!(store.message_count(QUEUE), 8);
    }
}
