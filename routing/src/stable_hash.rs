//! A hash that is the same on every machine, in every version and after every restart, because it decides to which
//! queue a key belongs.
//!
//! FNV-1a over the octets, and the finalizer of SplitMix64 where bits have to be spread.

use std::hash::Hasher;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// Takes octets one after the other. Numbers go in as their big-endian octets, whatever the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StableHasher(u64);

impl StableHasher {
    pub(crate) fn new() -> Self {
        Self(FNV_OFFSET)
    }
}

impl Hasher for StableHasher {
    #[inline]
    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = (self.0 ^ u64::from(*octet)).wrapping_mul(FNV_PRIME);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_be_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        mixed(self.0)
    }
}

/// Every bit of the input changes about half of the output's; no two inputs have one output.
#[inline]
pub(crate) fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_the_same_for_ever() {
        let hash = |text: &str| {
            let mut hasher = StableHasher::new();
            hasher.write(text.as_bytes());
            hasher.finish()
        };
        // A change of these numbers would move keys to other queues in every running system.
        assert_eq!(hash(""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash("customer 1"), 0x87f6_11ed_6ccb_fdde);
    }
}
