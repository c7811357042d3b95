//! What a broker costs: CPU time and memory of a process and all its descendants, from /proc.

use std::fs;
use std::io;
use std::time::Duration;

use super::error::PerfError;

/// Resources of a process tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time since the processes began, those that have ended included.
    pub cpu: Duration,
    /// Resident memory in octets. Pages that processes share count in each.
    pub resident_bytes: u64,
    /// The most that was resident, in octets, since the processes began or [`forget_peak`].
    pub peak_bytes: u64,
}

/// Usage of a process and its descendants at this moment.
pub fn usage(root: u32) -> Result<Usage, PerfError> {
    let stats = all_stats().map_err(PerfError::io("read /proc"))?;
    if !stats.iter().any(|stat| stat.pid == root) {
        return Err(PerfError::Usage(format!("there is no process {root}")));
    }
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    let mut sum = Usage::default();
    let mut ticks = 0;
    for stat in tree(root, &stats) {
        ticks += stat.cpu_ticks;
        let (resident, peak) = memory(stat.pid);
        sum.resident_bytes += resident;
        sum.peak_bytes += peak;
    }
    sum.cpu = Duration::from_micros(ticks * 1_000_000 / ticks_per_second);
    Ok(sum)
}

/// Lets the peak of memory begin anew at what is resident now, as far as the system permits it.
pub fn forget_peak(root: u32) {
    for stat in tree(root, &all_stats().unwrap_or_default()) {
        // 5 resets the high-water mark (proc(5)). Another user's process may not be asked; then the peak is that of its life.
        drop(fs::write(format!("/proc/{}/clear_refs", stat.pid), "5"));
    }
}

/// CPU time of this very process.
pub fn own_cpu() -> Duration {
    let own = fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|line| parse_stat(&line));
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_micros(own.map_or(0, |stat| stat.cpu_ticks) * 1_000_000 / ticks_per_second)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    /// User and system time, that of ended children included.
    cpu_ticks: u64,
}

fn all_stats() -> io::Result<Vec<Stat>> {
    let processes = fs::read_dir("/proc")?.filter_map(Result::ok);
    let stats = processes.filter(|entry| {
        entry
            .file_name()
            .to_string_lossy()
            .bytes()
            .all(|octet| octet.is_ascii_digit())
    });
    Ok(stats
        .filter_map(|entry| parse_stat(&fs::read_to_string(entry.path().join("stat")).ok()?))
        .collect())
}

/// A line of /proc/PID/stat. The name of the program stands in parentheses and may hold anything.
fn parse_stat(line: &str) -> Option<Stat> {
    let (pid, rest) = line.split_once(' ')?;
    let (_, rest) = rest.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: fields.get(1)?.parse().ok()?,
        cpu_ticks: number(11)? + number(12)? + number(13)? + number(14)?,
    })
}

/// The process and its descendants.
fn tree(root: u32, stats: &[Stat]) -> Vec<Stat> {
    let mut found: Vec<Stat> = stats.iter().copied().filter(|stat| stat.pid == root).collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|stat| stat.pid) {
        found.extend(stats.iter().filter(|stat| stat.parent == parent && stat.pid != parent));
        next += 1;
    }
    found
}

/// Resident memory of one process now and at its highest, in octets.
fn memory(pid: u32) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim_start_matches(':').trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib * 1024)
    };
    (field("VmRSS").unwrap_or(0), field("VmHWM").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_program_may_hold_parentheses_and_spaces() {
        let line = "42 (a) R (b c) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                pid: 42,
                parent: 7,
                cpu_ticks: 127
            })
        );
        assert_eq!(parse_stat("42 (cut"), None);
    }

    #[test]
    fn a_tree_has_all_descendants_and_nobody_else() {
        let stat = |pid, parent| Stat {
            pid,
            parent,
            cpu_ticks: 0,
        };
        let stats = [stat(1, 0), stat(5, 3), stat(2, 1), stat(3, 2), stat(4, 1), stat(0, 0)];
        let pids: Vec<u32> = tree(2, &stats).iter().map(|stat| stat.pid).collect();
        assert_eq!(pids, [2, 3, 5]);
        assert!(tree(9, &stats).is_empty());
    }

    #[test]
    fn this_process_has_used_memory() {
        let usage = usage(std::process::id()).unwrap();
        assert!(
            usage.resident_bytes > 0 && usage.peak_bytes >= usage.resident_bytes / 2,
            "{usage:?}"
        );
        assert!(super::usage(u32::MAX).is_err());
    }
}
