//! `leveret perf sync`: what the disk alone takes for the least that a durable broker does before it confirms.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use serde::Serialize;

use super::args::SyncArgs;
use super::error::PerfError;
use super::print;
use super::report::Latency;
use super::worker::histogram;
use crate::clock;

/// Time from before the write of one block until fdatasync has returned.
#[derive(Debug, Serialize)]
struct Syncs {
    count: u32,
    size: u32,
    sync_latency: Option<Latency>,
}

impl fmt::Display for Syncs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "synced           {} x {} octets", self.count, self.size)?;
        if let Some(latency) = self.sync_latency {
            writeln!(f, "sync latency     {latency}")?;
        }
        Ok(())
    }
}

pub fn run(args: &SyncArgs) -> Result<(), PerfError> {
    let path = args.dir.join(format!("perf-{}-sync", std::process::id()));
    let measured = measure(args, &path);
    // A file that could not be created is no second failure.
    let removed = std::fs::remove_file(&path);
    let report = measured?;
    removed.map_err(PerfError::io(format!("remove {}", path.display())))?;
    print(&report, args.json)
}

/// Appends and syncs as a write-ahead log does: the file grows with every block.
fn measure(args: &SyncArgs, path: &Path) -> Result<Syncs, PerfError> {
    let opened = OpenOptions::new().append(true).create_new(true).open(path);
    let mut file = opened.map_err(PerfError::io(format!("create {}", path.display())))?;
    let block = vec![0x5A; args.size as usize];
    let mut latencies = histogram()?;
    for _ in 0..args.count {
        let start = clock::now();
        file.write_all(&block)
            .and_then(|()| file.sync_data())
            .map_err(PerfError::io(format!("write {}", path.display())))?;
        let nanos = clock::now().duration_since(start).as_nanos() as u64;
        latencies
            .record(nanos)
            .map_err(|error| PerfError::Usage(error.to_string()))?;
    }
    Ok(Syncs {
        count: args.count,
        size: args.size,
        sync_latency: Latency::of(&latencies),
    })
}
