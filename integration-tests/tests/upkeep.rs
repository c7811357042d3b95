//! Full and read-only disks, backups, and `leveret check`: what an operator meets.

use lapin::options::*;
use lapin::{BasicProperties, Channel};
use leveret_integration_tests::broker::{binary, remove_settings, serve_command};
use leveret_integration_tests::client::*;
use leveret_integration_tests::{Broker, shared, wait};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn leveret(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    remove_settings(&mut command);
    command.args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// A small file system of our own. None without the right to mount one.
pub(crate) struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    pub(crate) fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=256m", "leveret-test"])
            .arg(folder.path());
        if mount.output().is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self { folder });
        }
        eprintln!("left out: no right to mount a file system");
        None
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes all room there is.
    fn fill(&self) {
        let _full = std::fs::write(self.ballast(), vec![0; 300 << 20]);
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn make_read_only(&self) {
        let remount = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(self.path())
            .status();
        assert!(remount.unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Status line and body of `GET /health`.
fn health(broker: &Broker) -> (String, String) {
    let mut stream = TcpStream::connect(broker.metrics()).unwrap();
    stream
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

async fn storage_trouble(broker: &Broker) {
    wait::until_async("trouble with the storage", || async {
        health(broker).1.contains("storage").then_some(())
    })
    .await;
}

async fn publish_large(channel: &Channel, number: u64) -> lapin::PublisherConfirm {
    let mut body = vec![7; 200_000];
    body[..8].copy_from_slice(&number.to_be_bytes());
    let persistent = BasicProperties::default().with_delivery_mode(2);
    channel
        .basic_publish(
            "".into(),
            "work".into(),
            BasicPublishOptions::default(),
            &body,
            persistent,
        )
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_blocks_publishers_until_there_is_room_and_loses_nothing() {
    if shared::external().is_some() {
        return;
    }
    let Some(disk) = SmallDisk::mount() else { return };
    let settings = [("DISK_FREE_LIMIT", "0")];
    let mut broker = Broker::start_in_with(&disk.path().join("data"), &settings);
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("work", QueueDeclareOptions::durable()).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut sent = 0;
    for _ in 0..5 {
        assert!(publish_large(&channel, sent).await.await.unwrap().is_ack());
        sent += 1;
    }
    assert!(health(&broker).0.contains("200"));

    disk.fill();
    let mut unconfirmed = Vec::new();
    // What little room is left takes some more. A client that is blocked meanwhile waits in the middle of a publish, which
    // the broker may have got or not.
    while !health(&broker).1.contains("storage") {
        assert!(sent < 1_000, "the broker does not notice: {:?}", health(&broker));
        tokio::select! {
            confirm = publish_large(&channel, sent) => unconfirmed.push(confirm),
            () = storage_trouble(&broker) => break,
        }
        sent += 1;
    }
    let (status, reasons) = health(&broker);
    assert!(
        status.contains("503") && reasons.contains("full"),
        "{status}: {reasons}"
    );
    assert!(broker.ctl().run(&["status"]).contains("full"));
    // What is there is delivered all the same.
    let (_other, consuming) = open(broker.amqp()).await;
    let held = consuming.get("work").await.expect("the first message");
    assert_eq!(&held.data[..8], &0u64.to_be_bytes());

    disk.make_room();
    for confirm in unconfirmed {
        assert!(wait::within("a confirm", confirm).await.unwrap().is_ack());
    }
    wait::until("all is well again", || health(&broker).0.contains("200").then_some(()));
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    for number in 0..sent {
        let got = channel.get("work").await.expect("a message");
        assert_eq!(&got.data[..8], &number.to_be_bytes());
    }
    if let Some(got) = channel.get("work").await {
        assert_eq!(&got.data[..8], &sent.to_be_bytes(), "the one that was cut short");
    }
    assert!(channel.get("work").await.is_none());
    broker.kill();
}

/// Files and folders that cannot be changed as long as this lives. None without the right to do that.
struct Frozen(PathBuf);

impl Frozen {
    fn freeze(path: &Path) -> Option<Self> {
        let frozen = Self(path.to_owned());
        if frozen.change("+i") {
            return Some(frozen);
        }
        eprintln!("left out: no right to make files immutable");
        None
    }

    fn change(&self, attribute: &str) -> bool {
        let mut chattr = Command::new("chattr");
        chattr.args(["-R", attribute]).arg(&self.0);
        chattr.output().is_ok_and(|changed| changed.status.success())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.change("-i");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_directory_that_becomes_read_only_blocks_publishers_until_it_is_writable_and_loses_nothing() {
    if shared::external().is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut broker = Broker::start_in_with(&data, &[("DISK_FREE_LIMIT", "0")]);
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("work", QueueDeclareOptions::durable()).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    for number in 0..5 {
        assert!(publish_large(&channel, number).await.await.unwrap().is_ack());
    }

    let Some(frozen) = Frozen::freeze(&data.join("db")) else {
        return;
    };
    let unconfirmed = publish_large(&channel, 5).await;
    storage_trouble(&broker).await;
    let (status, reasons) = health(&broker);
    assert!(
        status.contains("503") && reasons.contains("not writable"),
        "{status}: {reasons}"
    );
    broker.wait_for_log("nothing is confirmed until it can be written");
    // What is there is delivered all the same.
    let (other, consuming) = open(broker.amqp()).await;
    for number in 0..5u64 {
        let held = consuming.get("work").await.expect("a message");
        assert_eq!(&held.data[..8], &number.to_be_bytes());
    }
    other.close(200, "".into()).await.unwrap();

    drop(frozen);
    assert!(wait::within("a confirm", unconfirmed).await.unwrap().is_ack());
    wait::until("all is well again", || health(&broker).0.contains("200").then_some(()));
    assert!(publish_large(&channel, 6).await.await.unwrap().is_ack());
    broker.kill();
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    for number in 0..7u64 {
        let got = channel.get("work").await.expect("a message");
        assert_eq!(&got.data[..8], &number.to_be_bytes());
    }
    assert!(channel.get("work").await.is_none());
    broker.kill();
}

#[test]
fn a_read_only_data_directory_is_refused_in_one_line() {
    if shared::external().is_some() {
        return;
    }
    let Some(disk) = SmallDisk::mount() else { return };
    let data = disk.path().join("data");
    Broker::start_in(&data).stop();
    disk.make_read_only();
    let refused = serve_command(&data, "127.0.0.1:0").output().unwrap();
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("not writable") && said.contains("--data-dir"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_busy_broker_has_all_that_was_confirmed_before() {
    let Some(broker) = Broker::start_unless_external() else {
        return;
    };
    let (_connection, channel) = open(broker.amqp()).await;
    channel.queue("work", QueueDeclareOptions::durable()).await;
    let (stop, confirmed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publishing = tokio::spawn({
        let (stop, confirmed) = (stop.clone(), confirmed.clone());
        async move {
            let mut number: u64 = 0;
            while !stop.load(Ordering::Relaxed) {
                channel.publish_confirmed("", "work", &number.to_be_bytes()).await;
                number += 1;
                confirmed.store(number, Ordering::SeqCst);
            }
        }
    });
    wait::until_async("some messages", || async {
        (confirmed.load(Ordering::SeqCst) > 50).then_some(())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let owed = confirmed.load(Ordering::SeqCst);
    let data_dir = broker.data_dir().display().to_string();
    let arguments = ["backup", copy.to_str().unwrap(), "--data-dir", &data_dir];
    let made = tokio::task::block_in_place(|| leveret(&arguments));
    assert!(made.status.success(), "{}", printed(&made));
    let again = tokio::task::block_in_place(|| leveret(&arguments));
    assert!(!again.status.success(), "a copy replaces nothing");
    assert!(printed(&again).contains("exists already"), "{}", printed(&again));
    stop.store(true, Ordering::Relaxed);
    publishing.await.unwrap();

    assert!(leveret(&["check", copy.to_str().unwrap()]).status.success());
    let on_copy = Broker::start_in(&copy);
    let (_connection, channel) = open(on_copy.amqp()).await;
    let mut numbers = Vec::new();
    while let Some(got) = channel.get("work").await {
        numbers.push(u64::from_be_bytes(got.data[..8].try_into().unwrap()));
    }
    assert!(numbers.len() as u64 >= owed, "{} of {owed}", numbers.len());
    assert!(numbers.iter().copied().eq(0..numbers.len() as u64));
}

#[tokio::test]
async fn a_store_that_root_has_checked_still_belongs_to_its_owner() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    const SOMEBODY: u32 = 65_534;

    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    channel.queue("work", QueueDeclareOptions::durable()).await;
    connection.close(200, "Goodbye".into()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let data_dir = broker.data_dir().display().to_string();
    let made = leveret(&["backup", copy.to_str().unwrap(), "--data-dir", &data_dir]);
    assert!(made.status.success(), "{}", printed(&made));
    broker.kill();
    if folder.path().metadata().unwrap().uid() != 0 {
        eprintln!("left out: only root can give a file to somebody else");
        return;
    }
    let given = Command::new("chown").args(["-R", "65534:65534"]).arg(&copy).status();
    assert!(given.unwrap().success());
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let hidden = leveret(&["check", copy.to_str().unwrap()]);
    assert_eq!(hidden.status.code(), Some(1));
    let said = printed(&hidden);
    assert!(
        said.contains("user 65534, its owner, may not look there: Permission denied"),
        "{said}"
    );
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();

    let sound = leveret(&["check", copy.to_str().unwrap()]);
    assert_eq!(sound.status.code(), Some(0), "{}", printed(&sound));
    let file = copy.join("db").join("LOCK");
    assert_eq!(file.metadata().unwrap().uid(), SOMEBODY, "made by the check");
    std::fs::remove_file(copy.join("db").join("CURRENT")).unwrap();
    let mended = leveret(&["check", "--repair", copy.to_str().unwrap()]);
    assert_eq!(mended.status.code(), Some(0), "{}", printed(&mended));
    let listed = Command::new("find")
        .arg(&copy)
        .args(["-user", "root"])
        .output()
        .unwrap();
    assert_eq!(printed(&listed), "", "nothing there is root's");
}

#[test]
fn root_starts_no_broker_on_somebody_elses_data_and_leaves_nothing_there() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    const SOMEBODY: Option<u32> = Some(65_534);

    if shared::external().is_some() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    if folder.path().metadata().unwrap().uid() != 0 {
        eprintln!("left out: only root can give a file to somebody else");
        return;
    }
    let refuses = |data: &Path| {
        let before = std::fs::read_dir(data).unwrap().count();
        let refused = serve_command(data, "127.0.0.1:0").output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        let wanted = format!(
            "cannot open the data directory {} as root: it belongs to user 65534",
            data.display()
        );
        assert!(
            said.contains(&wanted) && said.contains("setpriv --reuid 65534 --regid 65534"),
            "{said}"
        );
        assert_eq!(std::fs::read_dir(data).unwrap().count(), before);
    };
    let new = folder.path().join("new");
    std::fs::create_dir(&new).unwrap();
    chown(&new, SOMEBODY, SOMEBODY).unwrap();
    refuses(&new);
    // A mount point that root made, with somebody's data on it.
    let mounted = folder.path().join("mounted");
    Broker::start_in(&mounted).stop();
    chown(mounted.join("db"), SOMEBODY, SOMEBODY).unwrap();
    refuses(&mounted);
    chown(mounted.join("db"), Some(0), Some(0)).unwrap();
    Broker::start_in(&mounted).stop();
}

#[tokio::test]
async fn check_tells_by_its_exit_code_whether_a_store_is_sound() {
    let Some(mut broker) = Broker::start_unless_external() else {
        return;
    };
    let (connection, channel) = open(broker.amqp()).await;
    channel.queue("work", QueueDeclareOptions::durable()).await;
    for _ in 0..20 {
        channel.publish_confirmed("", "work", &[b'x'; 500]).await;
    }
    connection.close(200, "Goodbye".into()).await.unwrap();
    let data_dir = broker.data_dir().display().to_string();
    let in_use = leveret(&["check", &data_dir]);
    assert_eq!(in_use.status.code(), Some(1));
    assert!(printed(&in_use).contains("in use"), "{}", printed(&in_use));

    broker.kill();
    let sound = leveret(&["check", &data_dir]);
    assert_eq!(sound.status.code(), Some(0), "{}", printed(&sound));
    assert!(printed(&sound).contains("20 messages"), "{}", printed(&sound));

    for file in std::fs::read_dir(broker.data_dir().join("db")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().is_some_and(|name| name == "CURRENT") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let damaged = leveret(&["check", &data_dir]);
    assert_eq!(damaged.status.code(), Some(1), "{}", printed(&damaged));
    let mended = leveret(&["check", "--repair", &data_dir]);
    assert_eq!(mended.status.code(), Some(0), "{}", printed(&mended));
    broker.start_again();
    let (_connection, channel) = open(broker.amqp()).await;
    assert_eq!(channel.counts("work").await.0, 20);
}
