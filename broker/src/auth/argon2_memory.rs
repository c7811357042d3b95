//! The memory of one check of a password: from the system, and back to it at once.
//!
//! Each check takes more than the rest of an idle broker. An allocator keeps such a block for later, for each thread that ever
//! had one, and gives it back only when it happens to be asked for something else.

#![expect(unsafe_code, reason = "the system's pages are pointers")]

use std::ptr::{self, NonNull};

use argon2::Block;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Zeroed blocks.
pub struct CheckMemory {
    start: NonNull<Block>,
    blocks: usize,
}

impl CheckMemory {
    /// Takes so many blocks; nothing when the system does not have them.
    pub fn new(blocks: usize) -> Option<CheckMemory> {
        let bytes = blocks.checked_mul(size_of::<Block>()).filter(|bytes| *bytes > 0)?;
        // SAFETY: without an address to place it at, a new mapping touches nothing that is there.
        let pages = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        };
        let start = NonNull::new(pages.ok()?.cast())?;
        Some(CheckMemory { start, blocks })
    }
}

impl AsMut<[Block]> for CheckMemory {
    fn as_mut(&mut self) -> &mut [Block] {
        // SAFETY: the pages are ours alone until they are dropped, aligned for any type, and zeroed, which a block may be.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.blocks) }
    }
}

impl Drop for CheckMemory {
    fn drop(&mut self) {
        // SAFETY: nothing borrows the pages any more, and this is how they were mapped.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.blocks * size_of::<Block>()) };
        debug_assert!(unmapped.is_ok());
    }
}
