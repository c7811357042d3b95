//! What can go wrong in the store, named by what the operator has to do about it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process has the data directory open.
    #[error("data directory {} is in use by another process", .directory.display())]
    InUse {
        /// The data directory.
        directory: PathBuf,
    },
    /// The path exists and is something else than a directory.
    #[error("{} is not a directory", .path.display())]
    NotADirectory {
        /// The path that was given as data directory.
        path: PathBuf,
    },
    /// A copy would go where something is.
    #[error("{} exists already; a copy goes into a new directory", .path.display())]
    Exists {
        /// The path that was given for the copy.
        path: PathBuf,
    },
    /// The data directory cannot be created or written to.
    #[error("data directory {} is not writable: {source}", .directory.display())]
    NotWritable {
        /// The data directory.
        directory: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A newer version of Leveret wrote this; nothing was touched.
    #[error(
        "{what} has format version {found}, this version of Leveret reads up to {supported}: use the newer version"
    )]
    NewerFormat {
        /// The data directory, or the stored thing that is newer.
        what: String,
        /// The version found.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// Something stored does not read back as it was written, or is missing.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// What is damaged, and where.
        what: String,
    },
    /// The storage engine or the operating system refused an operation.
    #[error("{operation} failed: {message}")]
    Engine {
        /// What was being done.
        operation: &'static str,
        /// What the engine said.
        message: String,
    },
    /// There is no room left. What was being written is not there; what was written before is.
    #[error("{operation} failed, the disk is full: {message}")]
    DiskFull {
        /// What was being done.
        operation: &'static str,
        /// What the engine said.
        message: String,
    },
    /// The data directory has become read-only, or its owner was changed, while the store was open. What was being written is not
    /// there; what was written before is.
    #[error("{operation} failed, the data directory is not writable any more: {message}")]
    ReadOnly {
        /// What was being done.
        operation: &'static str,
        /// What the engine said.
        message: String,
    },
    /// The caller broke a rule of the store; going on would risk a message.
    #[error("the store was misused: {rule}")]
    Misused {
        /// The rule that was broken.
        rule: String,
    },
    /// An earlier write failed, so the store refuses everything since.
    #[error("the store refuses writes since an earlier failure: {0}")]
    Failed(Arc<StorageError>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StorageError {
    /// Whether nothing was written, and the same may succeed later: the system refused to begin.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::ReadOnly { .. })
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    pub(crate) fn not_writable(directory: &Path, source: std::io::Error) -> Self {
        Self::NotWritable {
            directory: directory.to_owned(),
            source,
        }
    }
}
