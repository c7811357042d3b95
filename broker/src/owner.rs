//! Whose a data directory is. Files that root leaves in somebody else's keep that one's broker from starting.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use leveret_storage::DATABASE_FOLDER;
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

/// A user and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: u32,
    /// The group.
    pub group: u32,
}

/// Whoever this data directory belongs to, if this is root and it is somebody else's.
pub fn somebody_else(directory: &Path) -> Option<Owner> {
    if !geteuid().is_root() {
        return None;
    }
    // A mount point may be root's when what is in it is not.
    let found = [directory.to_owned(), directory.join(DATABASE_FOLDER)]
        .into_iter()
        // What is wrong with a directory is told when it is opened.
        .filter_map(|path| std::fs::metadata(path).ok());
    let owners = found.map(|found| Owner {
        user: found.uid(),
        group: found.gid(),
    });
    owners.into_iter().find(|owner| !Uid::from_raw(owner.user).is_root())
}

/// Root looks at a store as the user that owns it: files that root made there would keep the broker from opening it, and root
/// should follow no link that somebody else may have put there. For this thread and those that it starts. What is wrong if that
/// user cannot get there is told.
pub fn become_owner(directory: &Path) -> Result<(), String> {
    let Some(owner) = somebody_else(directory) else {
        return Ok(());
    };
    let become_it = || -> io::Result<()> {
        set_thread_groups(&[])?;
        set_thread_gid(Gid::from_raw(owner.group))?;
        Ok(set_thread_uid(Uid::from_raw(owner.user))?)
    };
    let user = owner.user;
    become_it().map_err(|error| format!("this cannot be done as user {user}, its owner: {error}"))?;
    match std::fs::metadata(directory.join(DATABASE_FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(format!(
            "user {user}, its owner, may not look there: {error}; move it to where that user may, or give it to root (chown -R)"
        )),
        // What else is wrong is told when it is opened.
        _ => Ok(()),
    }
}
