//! Facts about this process, from the kernel.

use std::fs;

/// Memory that this process has resident, in bytes.
pub fn resident_memory_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok());
    pages.unwrap_or(0_u64) * rustix::param::page_size() as u64
}

/// Open file descriptors.
pub fn open_fds() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// Most file descriptors that this process may open.
pub fn max_fds() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile)
        .current
        .unwrap_or(u64::MAX)
}

/// Raises the limit of file descriptors to what the system allows; each connection takes one.
pub fn raise_fd_limit() {
    let resource = rustix::process::Resource::Nofile;
    let mut limit = rustix::process::getrlimit(resource);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = rustix::process::setrlimit(resource, limit) {
        tracing::debug!("cannot raise the limit of file descriptors: {error}");
    }
}
