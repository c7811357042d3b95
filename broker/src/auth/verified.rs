//! Passwords that were right lately, so that a client that logs in again and again, as over HTTP, costs one slow check.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::password::HashedPassword;

/// Users of whom the right password is remembered; beyond, all are forgotten.
const VERIFIED_MAX: usize = 10_000;

/// Of each user a digest of the right password, under a key that never leaves this process.
pub struct VerifiedPasswords {
    /// None on a machine without random numbers: nothing is remembered there.
    key: Option<[u8; 32]>,
    by_user: HashMap<String, [u8; 32]>,
}

impl VerifiedPasswords {
    /// Remembers nothing yet.
    pub fn new() -> VerifiedPasswords {
        let mut key = [0; 32];
        let filled = getrandom::fill(&mut key);
        VerifiedPasswords {
            key: filled.ok().map(|()| key),
            by_user: HashMap::new(),
        }
    }

    /// Was this password right, for this hash?
    pub fn knows(&self, user: &str, hash: &HashedPassword, password: &[u8]) -> bool {
        let known = self.by_user.get(user).zip(self.digest(hash, password));
        known.is_some_and(|(known, digest)| bool::from(known.ct_eq(&digest)))
    }

    /// Remembers that it is.
    pub fn remember(&mut self, user: &str, hash: &HashedPassword, password: &[u8]) {
        let Some(digest) = self.digest(hash, password) else {
            return;
        };
        if self.by_user.len() >= VERIFIED_MAX && !self.by_user.contains_key(user) {
            self.by_user.clear();
        }
        self.by_user.insert(user.to_owned(), digest);
    }

    /// The stored hash goes in, so that a changed password is forgotten.
    fn digest(&self, hash: &HashedPassword, password: &[u8]) -> Option<[u8; 32]> {
        let hash = hash.encoded();
        let digest = Sha256::new()
            .chain_update(self.key?)
            .chain_update((hash.len() as u64).to_be_bytes())
            .chain_update(hash)
            .chain_update(password);
        Some(digest.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_remembered_for_its_user_and_hash_only() {
        let hash = |salt: &[u8; 4]| HashedPassword::new(b"right", *salt).unwrap();
        let (hashed, changed) = (hash(b"salt"), hash(b"pepp"));
        let mut verified = VerifiedPasswords::new();
        assert!(!verified.knows("u", &hashed, b"right"));
        verified.remember("u", &hashed, b"right");
        assert!(verified.knows("u", &hashed, b"right"));
        assert!(!verified.knows("u", &hashed, b"wrong"));
        assert!(!verified.knows("v", &hashed, b"right"));
        assert!(!verified.knows("u", &changed, b"right"));
    }

    #[test]
    fn memory_is_bounded() {
        let hashed = HashedPassword::new(b"right", *b"salt").unwrap();
        let mut verified = VerifiedPasswords::new();
        for number in 0..VERIFIED_MAX * 2 + 5 {
            verified.remember(&number.to_string(), &hashed, b"right");
            assert!(verified.by_user.len() <= VERIFIED_MAX);
        }
    }
}
