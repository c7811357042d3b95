//! Argon2id: hashes that cost memory and time to guess, in the form `$argon2id$v=19$m=19456,t=2,p=1$SALT$DIGEST`.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;

use super::argon2_memory::CheckMemory;

/// Memory of one check of a password made here: what OWASP recommends for two passes.
const MEMORY_KIB: u32 = 19 << 10;
/// Passes over that memory.
const PASSES: u32 = 2;
/// Most memory that an imported hash may ask for.
const IMPORTED_MEMORY_KIB_MAX: u32 = 256 << 10;
/// Most passes that an imported hash may ask for.
const IMPORTED_PASSES_MAX: u32 = 16;
/// Most lanes that an imported hash may ask for; they are computed one after the other.
const IMPORTED_LANES_MAX: u32 = 16;
/// Length of the salt of a password hashed here.
pub const SALT_BYTES: usize = 16;
/// Length of the digest of a password hashed here.
const DIGEST_BYTES: usize = 32;
/// Longest salt or digest that is read.
const PART_BYTES_MAX: usize = 128;

/// A hash taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argon2id {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    digest: Vec<u8>,
}

impl Argon2id {
    /// Hashes a password.
    pub fn new(password: &[u8], salt: [u8; SALT_BYTES]) -> Option<Argon2id> {
        let mut hash = Argon2id::of_nobody();
        hash.salt = salt.to_vec();
        hash.digest = hash.digest_of(password)?;
        Some(hash)
    }

    /// As costly to check as a new one, and of no password.
    pub fn of_nobody() -> Argon2id {
        Argon2id {
            memory_kib: MEMORY_KIB,
            passes: PASSES,
            lanes: 1,
            salt: vec![0; SALT_BYTES],
            digest: vec![0; DIGEST_BYTES],
        }
    }

    /// What this password comes to; nothing when there is no memory for it.
    pub fn digest_of(&self, password: &[u8]) -> Option<Vec<u8>> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(self.digest.len())).ok()?;
        let mut digest = vec![0; self.digest.len()];
        let memory = CheckMemory::new(params.block_count())?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(password, &self.salt, &mut digest, memory)
            .ok()?;
        Some(digest)
    }

    /// What the right password comes to.
    pub fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// Reads the form in which it is stored, within bounds.
    pub fn parse(text: &str) -> Option<Argon2id> {
        let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
        let (costs, salt, digest) = (parts.next()?, parts.next()?, parts.next()?);
        let mut costs = costs.split(',');
        let mut cost = |name: &str| costs.next()?.strip_prefix(name)?.parse::<u32>().ok();
        let (memory_kib, passes, lanes) = (cost("m=")?, cost("t=")?, cost("p=")?);
        let bounded =
            memory_kib <= IMPORTED_MEMORY_KIB_MAX && passes <= IMPORTED_PASSES_MAX && lanes <= IMPORTED_LANES_MAX;
        if !bounded || parts.next().is_some() || costs.next().is_some() {
            return None;
        }
        let part = |text: &str| BASE64.decode(text).ok().filter(|part| part.len() <= PART_BYTES_MAX);
        let hash = Argon2id {
            memory_kib,
            passes,
            lanes,
            salt: part(salt).filter(|salt| salt.len() >= argon2::MIN_SALT_LEN)?,
            digest: part(digest)?,
        };
        Params::new(memory_kib, passes, lanes, Some(hash.digest.len())).ok()?;
        Some(hash)
    }

    /// The form in which it is stored.
    pub fn encoded(&self) -> String {
        let Argon2id {
            memory_kib,
            passes,
            lanes,
            salt,
            digest,
        } = self;
        let (salt, digest) = (BASE64.encode(salt), BASE64.encode(digest));
        format!("$argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt}${digest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the command line tool of the reference implementation: `echo -n password | argon2 somesalt -id -t 2 -k 256 -p 1`.
    const KNOWN: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn what_the_reference_implementation_made_verifies() {
        let hash = Argon2id::parse(KNOWN).unwrap();
        assert_eq!(hash.digest_of(b"password").unwrap(), hash.digest());
        assert_ne!(hash.digest_of(b"passwort").unwrap(), hash.digest());
        assert_eq!(hash.encoded(), KNOWN);
    }

    #[test]
    fn what_costs_too_much_or_makes_no_sense_is_not_read() {
        let salt_and_digest = KNOWN.strip_prefix("$argon2id$v=19$m=256,t=2,p=1").unwrap();
        assert!(Argon2id::parse(&format!("$argon2id$v=19$m=256,t=2,p=1{salt_and_digest}")).is_some());
        for costs in [
            "m=999999999,t=2,p=1",
            "m=256,t=99,p=1",
            "m=256,t=2,p=99",
            "m=1,t=2,p=1",
            "m=256,t=2",
            "m=256,t=2,p=1,x=1",
            "",
        ] {
            assert_eq!(
                Argon2id::parse(&format!("$argon2id$v=19${costs}{salt_and_digest}")),
                None,
                "{costs}"
            );
        }
        for bad in [
            "",
            "$",
            "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65",
            "$argon2id$v=19$m=256,t=2,p=1$$",
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$!",
        ] {
            assert_eq!(Argon2id::parse(bad), None, "{bad}");
        }
        assert_eq!(Argon2id::parse(&format!("{KNOWN}$more")), None);
    }
}
