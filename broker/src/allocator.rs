//! mimalloc as the program's allocator.
//!
//! Messages are allocated by one thread and freed by another, where mimalloc costs about half of what glibc's malloc does.
//! The crate `mimalloc` goes through `mi_malloc_aligned` whatever the alignment, which for all but the smallest sizes
//! allocates too much and aligns within it; plain `mi_malloc` is aligned well enough for nearly everything.
//!
//! RocksDB allocates from the C library. Either allocator keeps what is freed, and would keep about as much as a busy broker uses at
//! its peak: [`keep_less`] has both keep less.
//!
//! Its feature `no_thp` is on: mimalloc would ask for huge pages, of which an idle broker needs a part of each and pays for
//! all (5 MiB of 21), and which gave no throughput that could be measured.

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::{c_int, c_long};

use libmimalloc_sys::{
    mi_free, mi_malloc, mi_malloc_aligned, mi_realloc, mi_realloc_aligned, mi_zalloc, mi_zalloc_aligned,
};

/// Has both allocators give back soon what is freed. To be called before there are threads.
///
/// By itself the C library keeps what threads have freed in up to eight heaps for each core, and blocks of up to 32 MiB in them
/// once one of that size was freed. Of RocksDB that is its buffers, which are filled and given up all the time, and the batches that
/// go into them. mimalloc gives back what was not used again for a second, in which as much may come and go as messages do.
pub fn keep_less() {
    #[expect(unsafe_code, reason = "both allocators are C")]
    // SAFETY: any number may be set. What an environment variable says is left as it is.
    unsafe {
        mi_option_set_default(MI_OPTION_PURGE, FREED_KEPT_MILLIS);
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (parameter, value) in [
        (libc::M_ARENAS, HEAPS_MAX),
        (libc::M_MMAP, OWN_BLOCK_BYTES),
        (libc::M_TRIM, FREED_KEPT_BYTES),
    ] {
        #[expect(unsafe_code, reason = "both allocators are C")]
        // SAFETY: any number may be set, and what the library does not know it passes over.
        unsafe {
            libc::mallopt(parameter, value);
        }
    }
}

/// mimalloc gives back what was not used again for so long.
const FREED_KEPT_MILLIS: c_long = 100;
/// Of the C library. RocksDB's threads wait for the disk more than for each other.
const HEAPS_MAX: c_int = 2;
/// Blocks of the C library from this on are given back when they are freed. RocksDB fills its buffers in blocks of 1 MiB; what it reads
/// of tables is smaller, and to get that from the system each time would cost more than to read it.
const OWN_BLOCK_BYTES: c_int = 1 << 20;
/// What may be left free at the end of a heap.
const FREED_KEPT_BYTES: c_int = 4 << 20;

/// Its number in mimalloc.h.
const MI_OPTION_PURGE: c_int = 15;

#[expect(unsafe_code, reason = "the allocator is C")]
// SAFETY: this is its declaration.
unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
    #[cfg(test)]
    fn mi_option_get(option: c_int) -> c_long;
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod libc {
    use std::ffi::c_int;

    // The numbers in malloc.h of M_TRIM_THRESHOLD, M_MMAP_THRESHOLD and M_ARENA_MAX.
    pub(super) const M_TRIM: c_int = -1;
    pub(super) const M_MMAP: c_int = -3;
    pub(super) const M_ARENAS: c_int = -8;

    #[expect(unsafe_code, reason = "the allocator is C")]
    // SAFETY: this is its declaration.
    unsafe extern "C" {
        pub(super) fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
}

/// What `mi_malloc` aligns every block to that is at least as large.
const NATURAL_ALIGNMENT_BYTES: usize = 16;

/// The allocator; `main` makes it the global one.
pub struct Allocator;

#[inline]
fn is_naturally_aligned(layout: &Layout) -> bool {
    layout.align() <= NATURAL_ALIGNMENT_BYTES && layout.align() <= layout.size()
}

#[expect(unsafe_code, reason = "an allocator can only be had by implementing GlobalAlloc")]
// SAFETY: mimalloc keeps the contract of malloc and free. A block of `mi_malloc` is aligned to its size rounded down to a
// power of two or to 16, whichever is less, and every pointer given out here is freed with `mi_free`, which takes both kinds.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_naturally_aligned(&layout) {
            // SAFETY: any size may be asked for.
            unsafe { mi_malloc(layout.size()).cast() }
        } else {
            // SAFETY: a layout's alignment is a power of two.
            unsafe { mi_malloc_aligned(layout.size(), layout.align()).cast() }
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_naturally_aligned(&layout) {
            // SAFETY: as in `alloc`.
            unsafe { mi_zalloc(layout.size()).cast() }
        } else {
            // SAFETY: as in `alloc`.
            unsafe { mi_zalloc_aligned(layout.size(), layout.align()).cast() }
        }
    }

    #[inline]
    unsafe fn dealloc(&self, pointer: *mut u8, _layout: Layout) {
        // SAFETY: the caller got the pointer from here.
        unsafe { mi_free(pointer.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if layout.align() <= NATURAL_ALIGNMENT_BYTES && layout.align() <= new_size {
            // SAFETY: the caller got the pointer from here; wherever the block goes, it is aligned as in `alloc`.
            unsafe { mi_realloc(pointer.cast(), new_size).cast() }
        } else {
            // SAFETY: as above, and a layout's alignment is a power of two.
            unsafe { mi_realloc_aligned(pointer.cast(), new_size, layout.align()).cast() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That the number is the right one: nothing else is a second.
    #[test]
    fn mimalloc_keeps_what_is_freed_for_a_shorter_time() {
        #[expect(unsafe_code, reason = "the allocator is C")]
        // SAFETY: options may be asked for at any time.
        let kept = || unsafe { mi_option_get(MI_OPTION_PURGE) };
        assert_eq!(kept(), 1000);
        keep_less();
        assert_eq!(kept(), FREED_KEPT_MILLIS);
    }

    #[test]
    fn blocks_are_aligned_as_asked_wherever_they_go() {
        for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
            for size in [1, 3, 8, 15, 16, 17, 24, 40, 96, 100, 1000, 1025, 5000, 300_000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                #[expect(unsafe_code, reason = "the functions under test are unsafe")]
                // SAFETY: sizes are not 0, and each pointer is freed once, with the layout that it has then.
                unsafe {
                    let first = Allocator.alloc(layout);
                    let zeroed = Allocator.alloc_zeroed(layout);
                    let grown = Allocator.realloc(first, layout, 3 * size);
                    for pointer in [first, zeroed, grown] {
                        assert!(
                            pointer.addr().is_multiple_of(align),
                            "{size} octets at {pointer:?} for {align}"
                        );
                    }
                    assert_eq!(*zeroed.add(size - 1), 0);
                    Allocator.dealloc(zeroed, layout);
                    Allocator.dealloc(grown, Layout::from_size_align(3 * size, align).unwrap());
                }
            }
        }
    }
}
