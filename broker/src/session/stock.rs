//! Large buffers that connections pass on to each other.
//!
//! The outbox of a busy consumer holds hundreds of kilobytes for a moment, again and again. To keep as much would cost
//! every connection that was busy once, and to grow to that size anew copies everything about twice. So a buffer that
//! has grown large is given back here when it is empty, and an outbox that becomes large looks here first.

use parking_lot::Mutex;

/// Bytes of buffers that wait here for the next one who needs them; what is beyond goes back to the allocator.
const STOCK_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A larger buffer, left by one huge message, is not kept.
const STOCKED_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// An outbox looks here when it holds this much: small ones are many and are better off with small buffers.
const LARGE_FROM_BYTES: usize = 4 * 1024;

/// The stock of the whole process. Nothing else is locked while it is, and nothing but moving a vector happens under it.
static STOCK: Mutex<Stock> = Mutex::new(Stock::new());

struct Stock {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// Makes room for so many more bytes, as [`Vec::reserve`] does, in a buffer of the stock if there is one.
#[inline]
pub fn reserve(buffer: &mut Vec<u8>, additional: usize) {
    if buffer.capacity() - buffer.len() < additional {
        grow(buffer, additional);
    }
}

/// Takes back a buffer that is not needed any more; what is in it is gone.
pub fn give_back(buffer: Vec<u8>) {
    // If there is no room for it, it is freed without the lock.
    let _freed = STOCK.lock().put(buffer);
}

#[cold]
fn grow(buffer: &mut Vec<u8>, additional: usize) {
    let needed = buffer.len() + additional;
    if needed > LARGE_FROM_BYTES {
        let found = STOCK.lock().take(needed);
        if let Some(mut larger) = found {
            larger.extend_from_slice(buffer);
            *buffer = larger;
            return;
        }
    }
    buffer.reserve(additional);
}

impl Stock {
    const fn new() -> Stock {
        Stock {
            buffers: Vec::new(),
            bytes: 0,
        }
    }

    /// The buffer, if it cannot be kept.
    fn put(&mut self, mut buffer: Vec<u8>) -> Option<Vec<u8>> {
        let capacity = buffer.capacity();
        let fits = capacity <= STOCKED_BUFFER_BYTES_MAX && self.bytes + capacity <= STOCK_BYTES_MAX;
        if !fits || capacity < 2 * LARGE_FROM_BYTES {
            return Some(buffer);
        }
        buffer.clear();
        self.bytes += capacity;
        self.buffers.push(buffer);
        None
    }

    /// The last buffer that is at least as large as one that grows to `needed` would become.
    fn take(&mut self, needed: usize) -> Option<Vec<u8>> {
        let found = self
            .buffers
            .iter()
            .rposition(|buffer| buffer.capacity() >= 2 * needed)?;
        let buffer = self.buffers.swap_remove(found);
        self.bytes -= buffer.capacity();
        Some(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(capacity: usize) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(capacity);
        buffer.push(1);
        buffer
    }

    #[test]
    fn what_was_given_back_is_taken_empty_by_who_needs_no_more() {
        let mut stock = Stock::new();
        assert!(stock.put(buffer(100_000)).is_none());
        assert_eq!(stock.take(50_001), None);
        let taken = stock.take(50_000).unwrap();
        assert!(taken.is_empty() && taken.capacity() >= 100_000);
        assert_eq!((stock.bytes, stock.take(1)), (0, None));
    }

    #[test]
    fn neither_small_nor_huge_buffers_are_kept_nor_too_many() {
        let mut stock = Stock::new();
        assert!(stock.put(buffer(2 * LARGE_FROM_BYTES - 1)).is_some());
        assert!(stock.put(buffer(STOCKED_BUFFER_BYTES_MAX + 1)).is_some());
        let kept = (0..100)
            .filter(|_| stock.put(buffer(STOCKED_BUFFER_BYTES_MAX)).is_none())
            .count();
        assert_eq!(kept, STOCK_BYTES_MAX / STOCKED_BUFFER_BYTES_MAX);
        assert!(stock.bytes <= STOCK_BYTES_MAX);
    }

    #[test]
    fn a_buffer_that_grows_keeps_what_is_in_it() {
        give_back(buffer(300_000));
        let mut growing = vec![7; LARGE_FROM_BYTES];
        reserve(&mut growing, 1000);
        assert_eq!(growing, vec![7; LARGE_FROM_BYTES]);
        assert!(growing.capacity() >= LARGE_FROM_BYTES + 1000);
    }
}
