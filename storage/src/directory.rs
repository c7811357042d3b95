//! The data directory: who may open it, and which version wrote it.
//!
//! ```text
//! DIRECTORY/FORMAT    "leveret storage format 3": looked at before anything else is touched
//! DIRECTORY/db/       RocksDB's own
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::StorageError;

/// Makes the directory if it is not there, checks its format, and returns where the database is.
pub(crate) fn prepare(directory: &Path) -> Result<PathBuf, StorageError> {
    let not_writable = |source| StorageError::not_writable(directory, source);
    match fs::metadata(directory) {
        Ok(found) if !found.is_dir() => {
            return Err(StorageError::NotADirectory {
                path: directory.to_owned(),
            });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(directory).map_err(|error| create_error(directory, error))?;
            sync_parent(directory).map_err(not_writable)?;
        }
        Err(error) => return Err(create_error(directory, error)),
    }
    let database = directory.join(DATABASE_FOLDER);
    match fs::read_to_string(directory.join(FORMAT)) {
        Ok(format) => check_format(directory, &format)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if database.exists() {
                let what = format!("{} has a database, but no file {FORMAT}", directory.display());
                return Err(StorageError::corrupt(what));
            }
            write_format(directory).map_err(not_writable)?;
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(StorageError::corrupt(format!(
                "{FORMAT} in {} is not text",
                directory.display()
            )));
        }
        Err(error) => return Err(not_writable(error)),
    }
    Ok(database)
}

/// Says that the data is of this version's format from now on, whose database is open: an older version is to refuse it.
pub(crate) fn mark(directory: &Path) -> Result<(), StorageError> {
    let not_writable = |source| StorageError::not_writable(directory, source);
    let format = fs::read_to_string(directory.join(FORMAT)).map_err(not_writable)?;
    match format.trim_end().strip_prefix(FORMAT_PREFIX) == Some(&VERSION.to_string()) {
        true => Ok(()),
        false => write_format(directory).map_err(not_writable),
    }
}

/// Where the database of an existing data directory is. Changes nothing.
pub(crate) fn inspect(directory: &Path) -> Result<PathBuf, StorageError> {
    let database = directory.join(DATABASE_FOLDER);
    if !database.is_dir() {
        let what = format!("{} is not a data directory: it has no database", directory.display());
        return Err(StorageError::corrupt(what));
    }
    match fs::read_to_string(directory.join(FORMAT)) {
        Ok(format) => check_format(directory, &format).map(|()| database),
        Err(error) => Err(StorageError::corrupt(format!(
            "{FORMAT} in {} cannot be read: {error}; if it was lost, write \"{FORMAT_PREFIX}{VERSION}\" into it",
            directory.display()
        ))),
    }
}

/// Makes the directory of a copy, which must not be there, and returns where its database goes. [`finish_copy`] makes a data
/// directory of it.
pub(crate) fn begin_copy(directory: &Path) -> Result<PathBuf, StorageError> {
    match fs::create_dir(directory) {
        Ok(()) => Ok(directory.join(DATABASE_FOLDER)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(StorageError::Exists {
            path: directory.to_owned(),
        }),
        Err(error) => Err(StorageError::not_writable(directory, error)),
    }
}

/// Says that the database of a copy is whole.
pub(crate) fn finish_copy(directory: &Path) -> Result<(), StorageError> {
    let finished = write_format(directory).and_then(|()| sync_parent(directory));
    finished.map_err(|error| StorageError::not_writable(directory, error))
}

/// Copies the files of one folder into a new one.
pub(crate) fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Makes what was renamed in a directory durable.
pub(crate) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Keeps other processes from opening the database. Not for a process that has it open itself: the system would take its lock
/// away with this one.
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    pub(crate) fn take(directory: &Path, database: &Path) -> Result<Self, StorageError> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(database.join(DATABASE_LOCK))
            .map_err(|error| StorageError::not_writable(directory, error))?;
        // The kind of lock that RocksDB takes.
        match rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _file: file }),
            Err(_) => Err(StorageError::InUse {
                directory: directory.to_owned(),
            }),
        }
    }
}

/// Bytes that can still be written to the file system of a directory.
pub(crate) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let status = rustix::fs::statvfs(directory)?;
    Ok(status.f_bavail * status.f_frsize)
}

fn check_format(directory: &Path, format: &str) -> Result<(), StorageError> {
    let version = format
        .trim_end()
        .strip_prefix(FORMAT_PREFIX)
        .and_then(|version| version.parse::<u32>().ok());
    match version {
        Some(1..=VERSION) => Ok(()),
        Some(found) if found > VERSION => {
            let what = format!("data directory {}", directory.display());
            Err(StorageError::NewerFormat {
                what,
                found,
                supported: VERSION,
            })
        }
        _ => {
            let what = format!("{FORMAT} in {} does not name a format", directory.display());
            Err(StorageError::corrupt(what))
        }
    }
}

/// Writes the format file so that after a crash it is there as a whole or not at all.
fn write_format(directory: &Path) -> io::Result<()> {
    let temporary = directory.join(FORMAT_TEMPORARY);
    let mut file = File::create(&temporary)?;
    writeln!(file, "{FORMAT_PREFIX}{VERSION}")?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(FORMAT))?;
    File::open(directory)?.sync_all()
}

fn sync_parent(directory: &Path) -> io::Result<()> {
    match directory.canonicalize()?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn create_error(directory: &Path, error: io::Error) -> StorageError {
    // A file where a directory of the path should be.
    if error.kind() == io::ErrorKind::NotADirectory || error.kind() == io::ErrorKind::AlreadyExists {
        let path = directory
            .ancestors()
            .find(|path| path.is_file())
            .unwrap_or(directory)
            .to_owned();
        return StorageError::NotADirectory { path };
    }
    StorageError::not_writable(directory, error)
}

/// The version of the layout as a whole. Stored things have versions of their own, so this changes only when a version that
/// does not know the new layout could do harm. 2: messages may refer to bodies, which version 1 would not find. 3: an index
/// entry may be that of several chunks, of which version 2 would read the first.
const VERSION: u32 = 3;
const FORMAT: &str = "FORMAT";
const FORMAT_TEMPORARY: &str = "FORMAT.new";
const FORMAT_PREFIX: &str = "leveret storage format ";
/// The folder in it that is the database.
pub const DATABASE_FOLDER: &str = "db";
/// RocksDB's own lock file.
const DATABASE_LOCK: &str = "LOCK";
