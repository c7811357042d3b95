//! Alarms of memory and disk: where publishers are blocked, and how much better it must be until they are not.

use crate::upkeep::SmallDisk;
use leveret_integration_tests::raw::{Login, RawClient, connection, make};
use leveret_integration_tests::scrape::Metrics;
use leveret_integration_tests::{Broker, shared, wait};
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};

const MIB: u64 = 1 << 20;
const DISK_FREE_LIMIT: &str = "128MiB";

/// How what there is stands to its limit.
#[derive(Clone, Copy)]
enum Level {
    /// Beyond it.
    Beyond,
    /// On the right side, but by less than it takes to end an alarm.
    Near,
    Far,
    /// Before anything happened.
    First,
}

fn gauge(broker: &Broker, name: &str) -> u64 {
    Metrics::fetch(broker.metrics()).value_or_zero(name) as u64
}

/// Waits until a gauge has a value, and returns it.
fn until_gauge(broker: &Broker, name: &str, is_there: impl Fn(u64) -> bool) -> u64 {
    wait::until(name, || Some(gauge(broker, name)).filter(|value| is_there(*value)))
}

/// Crosses a limit and comes back. `go` returns when the broker has seen the level, and done what follows from it.
fn cross_and_come_back(broker: &Broker, alarm: &str, reason: &str, mut go: impl FnMut(Level)) {
    let received = |messages| {
        let name = "rabbitmq_global_messages_received_total";
        until_gauge(broker, name, |received| received == messages);
    };
    let login = Login::default().with_capability("connection.blocked");
    let mut publisher = RawClient::connect_as(broker.amqp(), &login);
    publisher.open_channel(1);
    let _ok = publisher.call(1, make::queue_declare("work"));

    go(Level::First);
    assert_eq!(gauge(broker, alarm), 0, "the limit is not reached yet");
    publisher.publish_to(1, "", "work", b"taken");
    received(1);

    go(Level::Beyond);
    let blocked: connection::Blocked = publisher.expect(0);
    assert_eq!(blocked.reason.as_str(), reason);
    publisher.publish_to(1, "", "work", b"taken later");

    go(Level::Near);
    assert_eq!(gauge(broker, alarm), 1, "a little better is not enough");
    received(1);

    go(Level::Far);
    let _unblocked: connection::Unblocked = publisher.expect(0);
    assert_eq!(gauge(broker, alarm), 0);
    received(2);
}

/// The limit moves, because memory cannot be told to.
#[test]
fn the_memory_alarm_blocks_publishers_until_memory_is_clearly_below_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("leveret.toml");
    let write = |bytes: u64| fs::write(&file, format!("memory_high_watermark = {bytes}")).unwrap();
    write(1 << 40);
    let Some(broker) = Broker::start_configured(&[("CONFIG", file.to_str().unwrap())]) else {
        return;
    };
    let status = format!("/proc/{}/status", broker.process_id());
    let resident_bytes = || -> u64 {
        let status = fs::read_to_string(&status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap() * 1024
    };
    let (alarm, reason) = ("rabbitmq_alarms_memory_used_watermark", "low on memory");
    cross_and_come_back(&broker, alarm, reason, |level| {
        let percent = match level {
            Level::Beyond => 80,
            Level::Near => 102,
            // A broker that has just begun still grows.
            Level::Far | Level::First => 130,
        };
        let limit = resident_bytes() * percent / 100;
        // A limit is told before what follows from it. When the next is told, the look at this one is over.
        for limit in [limit, limit + 1] {
            write(limit);
            broker.hang_up();
            until_gauge(&broker, "rabbitmq_resident_memory_limit_bytes", |told| told == limit);
        }
    });
}

#[test]
fn the_disk_alarm_blocks_publishers_until_there_is_clearly_more_room_than_the_limit() {
    if shared::external().is_some() {
        return;
    }
    let Some(disk) = SmallDisk::mount() else { return };
    let settings = [("DISK_FREE_LIMIT", DISK_FREE_LIMIT)];
    let broker = Broker::start_in_with(&disk.path().join("data"), &settings);
    let free = "rabbitmq_disk_space_available_bytes";
    let all = until_gauge(&broker, free, |free| free > 0);
    let mut ballast = File::create(disk.ballast()).unwrap();
    let mut taken = 0;
    let (alarm, reason) = ("rabbitmq_alarms_free_disk_space_watermark", "low on disk");
    cross_and_come_back(&broker, alarm, reason, |level| {
        let left = match level {
            Level::Beyond => 100 * MIB,
            Level::Near | Level::First => 131 * MIB,
            Level::Far => 170 * MIB,
        };
        // What is free is told before what follows from it. When the next is told, the look at this one is over.
        for left in [left, left + MIB] {
            let wanted = all - left;
            if wanted > taken {
                ballast.write_all(&vec![0; (wanted - taken) as usize]).unwrap();
            } else {
                ballast.set_len(wanted).unwrap();
                ballast.seek(SeekFrom::End(0)).unwrap();
            }
            taken = wanted;
            until_gauge(&broker, free, |told| told.abs_diff(left) < MIB / 2);
        }
    });
}
