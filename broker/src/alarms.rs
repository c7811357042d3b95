//! Memory and disk alarms: while one is on, connections that publish are not read.
//!
//! The alarm goes off only when there is clearly room again (see [`Level::next`]), so that it does not flutter.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::broker::Broker;
use crate::config::{DiskFreeLimit, MemoryWatermark};

/// How often memory and disk are looked at.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// An alarm goes off when usage is this many percent better than where it went on.
const HYSTERESIS_PERCENT: u64 = 5;
/// Free disk space that is asked for at least, unless configured.
const DISK_FREE_MIN_BYTES: u64 = 1 << 30;
/// The share of the disk that is asked for, if that is more.
const DISK_FREE_PERCENT: u64 = 5;

/// Which alarms are on, and the limits in force.
#[derive(Default)]
pub struct Alarms {
    memory: AtomicBool,
    disk: AtomicBool,
    /// Memory above which the alarm goes on, in bytes.
    pub memory_limit_bytes: AtomicU64,
    /// Free disk space below which the alarm goes on, in bytes.
    pub disk_free_limit_bytes: AtomicU64,
    /// Free disk space when last looked at, in bytes.
    pub disk_free_bytes: AtomicU64,
}

impl Alarms {
    /// Why publishers are blocked, in RabbitMQ's words; none when they are not.
    pub fn reason(&self) -> Option<String> {
        let memory = self.memory.load(Ordering::Acquire).then_some("low on memory");
        let disk = self.disk.load(Ordering::Acquire).then_some("low on disk");
        let reasons: Vec<&str> = memory.into_iter().chain(disk).collect();
        (!reasons.is_empty()).then(|| reasons.join(" & "))
    }

    /// Is the memory alarm on?
    pub fn is_memory_on(&self) -> bool {
        self.memory.load(Ordering::Acquire)
    }

    /// Is the disk alarm on?
    pub fn is_disk_on(&self) -> bool {
        self.disk.load(Ordering::Acquire)
    }

    /// Sets both alarms; true when one changed.
    pub fn set(&self, memory: bool, disk: bool) -> bool {
        let memory_before = self.memory.swap(memory, Ordering::AcqRel);
        let disk_before = self.disk.swap(disk, Ordering::AcqRel);
        memory_before != memory || disk_before != disk
    }
}

/// A quantity that must not rise above its limit.
#[derive(Clone, Copy)]
struct Level {
    used: u64,
    limit: u64,
}

impl Level {
    /// Is the alarm on after this look, given whether it was before?
    fn next(self, was_on: bool) -> bool {
        if was_on {
            self.used > self.limit / 100 * (100 - HYSTERESIS_PERCENT)
        } else {
            self.used > self.limit
        }
    }
}

/// The same for a quantity that must not fall below its limit.
fn falls_short(free: u64, limit: u64, was_on: bool) -> bool {
    if was_on {
        free < limit + limit / 100 * HYSTERESIS_PERCENT
    } else {
        free < limit
    }
}

/// Looks at memory and disk for as long as the broker runs.
pub async fn watch(broker: Arc<Broker>) {
    let alarms = &broker.alarms;
    let mut memory_limit = 0;
    let mut ticks = tokio::time::interval(CHECK_INTERVAL);
    loop {
        ticks.tick().await;
        let wanted = memory_limit_bytes(&broker.live().memory_high_watermark);
        if wanted != memory_limit {
            memory_limit = wanted;
            alarms.memory_limit_bytes.store(memory_limit, Ordering::Relaxed);
            tracing::info!(
                memory_limit_bytes = memory_limit,
                "publishers are blocked above this memory"
            );
        }
        let used = crate::metrics::process::resident_memory_bytes();
        let memory = Level {
            used,
            limit: memory_limit,
        }
        .next(alarms.memory.load(Ordering::Acquire));
        let disk = check_disk(&broker);
        if alarms.set(memory, disk) {
            match alarms.reason() {
                Some(reason) => tracing::warn!("alarm on, publishers are blocked: {reason}"),
                None => tracing::info!("alarm off, publishers go on"),
            }
            broker.announce_alarm();
        }
    }
}

fn check_disk(broker: &Broker) -> bool {
    let alarms = &broker.alarms;
    // A store that waits for room is proof enough, whatever the numbers say.
    let stalled = broker.store.trouble().is_some() && broker.store.failed().is_none();
    let Some((free, total)) = disk_space(&broker.config.data_dir) else {
        return stalled;
    };
    let limit = match broker.live().disk_free_limit {
        DiskFreeLimit::Bytes(bytes) => bytes,
        DiskFreeLimit::Auto => DISK_FREE_MIN_BYTES.max(total / 100 * DISK_FREE_PERCENT),
    };
    alarms.disk_free_bytes.store(free, Ordering::Relaxed);
    alarms.disk_free_limit_bytes.store(limit, Ordering::Relaxed);
    stalled || falls_short(free, limit, alarms.disk.load(Ordering::Acquire))
}

/// Free and total bytes of the file system that holds `path`.
fn disk_space(path: &Path) -> Option<(u64, u64)> {
    let status = rustix::fs::statvfs(path).ok()?;
    Some((status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize))
}

fn memory_limit_bytes(watermark: &MemoryWatermark) -> u64 {
    match watermark {
        MemoryWatermark::Bytes(bytes) => *bytes,
        MemoryWatermark::Fraction(fraction) => (available_memory_bytes() as f64 * fraction) as u64,
    }
}

/// What this process may use: the machine's memory, or less if a control group (version 2 or 1) says so.
pub fn available_memory_bytes() -> u64 {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    memory_limit_files(&groups)
        .into_iter()
        .filter_map(limit)
        .chain(machine_memory_bytes())
        .min()
        .unwrap_or(u64::MAX)
}

/// The files that may say how much memory a process may use that is in these control groups (lines of `/proc/self/cgroup`): those of
/// its own group, which a service has, and of all around it, up to the root, which is a container's own.
fn memory_limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines().chain(["0::/", "0:memory:/"]) {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|controller| controller == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        for around in Path::new(group).ancestors() {
            let inside = around.strip_prefix("/").unwrap_or(around);
            files.push(Path::new(root).join(inside).join(file));
        }
    }
    files
}

fn machine_memory_bytes() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_alarm_goes_off_only_clearly_below_its_limit() {
        let level = |used| Level { used, limit: 1000 };
        assert!(!level(1000).next(false));
        assert!(level(1001).next(false));
        assert!(level(960).next(true));
        assert!(!level(950).next(true));
    }

    #[test]
    fn the_disk_alarm_goes_off_only_clearly_above_its_limit() {
        assert!(!falls_short(1000, 1000, false));
        assert!(falls_short(999, 1000, false));
        assert!(falls_short(1049, 1000, true));
        assert!(!falls_short(1050, 1000, true));
    }

    #[test]
    fn a_limit_of_a_service_is_found_as_well_as_one_of_a_container() {
        let files = |groups| {
            let files: Vec<String> = memory_limit_files(groups)
                .iter()
                .map(|path| path.display().to_string())
                .collect();
            files
        };
        let (second, first) = (
            "/sys/fs/cgroup/memory.max",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        );
        assert_eq!(files(""), [second, first]);
        let service = files("0::/system.slice/leveret.service\n");
        assert_eq!(
            service[..2],
            [
                "/sys/fs/cgroup/system.slice/leveret.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max"
            ]
        );
        let older = files("5:cpu,cpuacct:/x\n4:memory:/docker/abc\nnonsense\n");
        assert_eq!(older[0], "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes");
        assert!(older.iter().all(|path| !path.contains("/x/")));
    }

    #[test]
    fn the_reason_names_both_alarms() {
        let alarms = Alarms::default();
        assert_eq!(alarms.reason(), None);
        assert!(alarms.set(true, true));
        assert_eq!(alarms.reason().as_deref(), Some("low on memory & low on disk"));
        assert!(!alarms.set(true, true));
        assert!(alarms.set(false, true));
        assert_eq!(alarms.reason().as_deref(), Some("low on disk"));
    }
}
