//! A look at a store that nobody has open: whether everything in it reads back and fits together. And its repair, which copies
//! what does into a new database and leaves the old one beside it.

mod around;
mod survey;

use std::fs;
use std::path::{Path, PathBuf};

use crate::directory::{self, DirectoryLock};
use crate::error::StorageError;
use crate::ids::QueueId;
use crate::records::SettingRecord;
use crate::rocks::Rocks;
use survey::Survey;

/// What a look at a store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Definitions that read back.
    pub definitions: u64,
    /// Queues with anything stored.
    pub queues: u64,
    /// Chunks that read back and may have living messages.
    pub chunks: u64,
    /// Living messages that read back.
    pub messages: u64,
    /// Entries of [logs that are no queues](NamedLog), such as keys of duplicates.
    pub entries: u64,
    /// Their bytes, without shared bodies.
    pub message_bytes: u64,
    /// Bodies that several of them have in common.
    pub bodies: u64,
    /// Bodies that no message refers to any more: a crash may leave them, and the next start drops them.
    pub orphans: u64,
    /// What is damaged, missing or contradictory, a line each, with what is lost by it.
    pub problems: Vec<String>,
    /// After a repair: where the database is kept as it was.
    pub kept_as: Option<PathBuf>,
}

/// A log that a setting names. The store keeps it as it keeps a queue, and only the writer of the setting knows what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedLog {
    /// Under which number the store has it.
    pub queue: QueueId,
    /// What it has are messages that wait; otherwise entries of another kind.
    pub has_messages: bool,
}

/// Tells which log a setting names, if it does.
pub type LogOfSetting<'a> = &'a dyn Fn(&SettingRecord) -> Option<NamedLog>;

/// Reads everything in the store of a data directory and compares it with itself: checksums, counts, order. Changes nothing.
/// Errors: there is no store, it is in use, or a newer version wrote it.
pub fn check(directory: &Path, log_of: LogOfSetting<'_>) -> Result<CheckReport, StorageError> {
    let database = directory::inspect(directory)?;
    let _lock = DirectoryLock::take(directory, &database)?;
    match Rocks::open_read_only(&database) {
        Ok(engine) => Ok(Survey::of(&engine, log_of)?.report),
        Err(error) => Ok(CheckReport {
            problems: vec![format!("the database does not open: {error}")],
            ..CheckReport::default()
        }),
    }
}

/// Does what [`check`] does; if there are problems, makes a database of all that is readable and puts it in the place of the
/// old one, which is kept beside it.
pub fn repair(directory: &Path, log_of: LogOfSetting<'_>) -> Result<CheckReport, StorageError> {
    let database = directory::inspect(directory)?;
    let _lock = DirectoryLock::take(directory, &database)?;
    let salvage = directory.join(SALVAGE);
    let mut not_opened = None;
    let engine = match Rocks::open_read_only(&database) {
        Ok(engine) => engine,
        Err(error) => {
            not_opened = Some(format!(
                "the database did not open and was put together anew, perhaps without the newest messages: {error}"
            ));
            remove(directory, &salvage)?;
            directory::copy_files(&database, &salvage)
                .map_err(|source| StorageError::not_writable(directory, source))?;
            Rocks::salvage(&salvage)?
        }
    };
    let mut survey = Survey::of(&engine, log_of)?;
    survey.report.problems.splice(0..0, not_opened);
    if !survey.report.problems.is_empty() {
        let mended = directory.join(MENDED);
        remove(directory, &mended)?;
        survey.copy(&engine, &Rocks::open(&mended)?)?;
        drop(engine);
        let kept = (1..)
            .map(|number| directory.join(format!("{DAMAGED}{number}")))
            .find(|path| !path.exists())
            .unwrap_or_default();
        let not_writable = |source| StorageError::not_writable(directory, source);
        fs::rename(&database, &kept).map_err(not_writable)?;
        fs::rename(&mended, &database).map_err(not_writable)?;
        directory::sync(directory).map_err(not_writable)?;
        survey.report.kept_as = Some(kept);
    }
    remove(directory, &salvage)?;
    Ok(survey.report)
}

fn remove(directory: &Path, path: &Path) -> Result<(), StorageError> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(|source| StorageError::not_writable(directory, source))?;
    }
    Ok(())
}

const SALVAGE: &str = "db.salvage";
const MENDED: &str = "db.mended";
const DAMAGED: &str = "db.damaged.";
