//! Password hashes in RabbitMQ's forms.
//!
//! A stored hash is base64 of `salt ++ digest(salt ++ password)` with a salt of four bytes. Hashes exported
//! from RabbitMQ (definitions, `rabbitmqctl hash_password`) verify here and the other way round.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use super::error::AuthError;

/// Length of the salt in front of every digest.
pub const SALT_BYTES: usize = 4;

/// How a password is hashed. MD5 is only verified, for users that came from RabbitMQ before 3.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashingAlgorithm {
    Sha256,
    Sha512,
    Md5,
}

impl HashingAlgorithm {
    /// The name in definitions and stored records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
            Self::Md5 => "rabbit_password_hashing_md5",
        }
    }

    /// Reads RabbitMQ's names and the short ones of LavinMQ (`SHA256`, `SHA512`, `MD5`).
    pub fn from_name(name: &str) -> Result<Self, AuthError> {
        match name {
            "rabbit_password_hashing_sha256" | "SHA256" => Ok(Self::Sha256),
            "rabbit_password_hashing_sha512" | "SHA512" => Ok(Self::Sha512),
            "rabbit_password_hashing_md5" | "MD5" => Ok(Self::Md5),
            _ => Err(AuthError::UnknownHashingAlgorithm { name: name.to_owned() }),
        }
    }

    fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Md5 => 16,
        }
    }

    fn digest(self, salt: &[u8], password: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::new()
                .chain_update(salt)
                .chain_update(password)
                .finalize()
                .to_vec(),
            Self::Sha512 => Sha512::new()
                .chain_update(salt)
                .chain_update(password)
                .finalize()
                .to_vec(),
            Self::Md5 => Md5::new().chain_update(salt).chain_update(password).finalize().to_vec(),
        }
    }
}

/// A password that can be checked but not read.
#[derive(Clone, PartialEq, Eq)]
pub struct HashedPassword {
    algorithm: HashingAlgorithm,
    /// Salt and digest, not encoded. Empty for a user that cannot log in with a password.
    hash: Vec<u8>,
}

impl HashedPassword {
    /// Hashes a password with SHA-256 and a salt from [`random_salt`]. A blank password is refused.
    pub fn new(password: &[u8], salt: [u8; SALT_BYTES]) -> Result<Self, AuthError> {
        Self::with_algorithm(HashingAlgorithm::Sha256, password, salt)
    }

    /// As [`HashedPassword::new`], with a chosen algorithm.
    pub fn with_algorithm(
        algorithm: HashingAlgorithm,
        password: &[u8],
        salt: [u8; SALT_BYTES],
    ) -> Result<Self, AuthError> {
        if password.is_empty() {
            return Err(AuthError::BlankPassword);
        }
        Ok(Self::salted(algorithm, password, salt))
    }

    /// Reads a stored or imported hash. The empty hash is a user without a password, whom no password lets in.
    pub fn from_base64(algorithm: HashingAlgorithm, hash: &str) -> Result<Self, AuthError> {
        let malformed = || AuthError::MalformedHash {
            algorithm: algorithm.name(),
        };
        let hash = BASE64.decode(hash.trim()).map_err(|_| malformed())?;
        if !hash.is_empty() && hash.len() != SALT_BYTES + algorithm.digest_bytes() {
            return Err(malformed());
        }
        Ok(Self { algorithm, hash })
    }

    /// What an unknown user is checked against, so that the time of the answer does not tell who exists.
    pub(super) fn of_nobody() -> Self {
        Self::salted(HashingAlgorithm::Sha256, b"nobody", *b"none")
    }

    /// The algorithm that made this hash.
    pub fn algorithm(&self) -> HashingAlgorithm {
        self.algorithm
    }

    /// The hash as it is stored and exported.
    pub fn to_base64(&self) -> String {
        BASE64.encode(&self.hash)
    }

    /// Whether this is the password that was hashed. Compares in constant time; a blank password never matches.
    pub fn verify(&self, password: &[u8]) -> bool {
        let (salt, digest) = self.hash.split_at_checked(SALT_BYTES).unwrap_or((b"none", &[]));
        let computed = self.algorithm.digest(salt, password);
        bool::from(computed.ct_eq(digest)) && !password.is_empty()
    }

    fn salted(algorithm: HashingAlgorithm, password: &[u8], salt: [u8; SALT_BYTES]) -> Self {
        let mut hash = salt.to_vec();
        hash.extend(algorithm.digest(&salt, password));
        Self { algorithm, hash }
    }
}

impl fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashedPassword")
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// A salt from the operating system's random numbers.
pub fn random_salt() -> Result<[u8; SALT_BYTES], AuthError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|error| AuthError::NoRandomness {
        reason: error.to_string(),
    })?;
    Ok(salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The salt of the worked example in RabbitMQ's guide to passwords.
    const GUIDE_SALT: [u8; SALT_BYTES] = [0x90, 0x8d, 0xc6, 0x0a];
    const GUIDE_HASH: &str = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";

    /// Password, algorithm and hash: the guide's example, one exported by a RabbitMQ node, the MD5 example that
    /// a RabbitMQ developer gave on the mailing list, and the guide's example computed by Python's hashlib for SHA-512.
    const KNOWN: [(&str, HashingAlgorithm, &str); 4] = [
        ("test12", HashingAlgorithm::Sha256, GUIDE_HASH),
        (
            "1",
            HashingAlgorithm::Sha256,
            "y4xPTRVfzXg68sz9ALqeQzARam3CwnGo53xS752cDV5+Utzh",
        ),
        ("simon", HashingAlgorithm::Md5, "ytUIm8s3AnKsXQjptplKFytfVxI="),
        (
            "test12",
            HashingAlgorithm::Sha512,
            "kI3GChuNuIYf8lRbCCxZjgjKwsY19ns6+uFO0zcXRBGA/XGJPYD8OWMy7EB8TaOmAzjP2azv84GbINYwX2cDWb4DHnc=",
        ),
    ];

    #[test]
    fn hashes_made_by_rabbitmq_verify() {
        for (password, algorithm, hash) in KNOWN {
            let hashed = HashedPassword::from_base64(algorithm, hash).unwrap();
            assert!(hashed.verify(password.as_bytes()), "{password} {algorithm:?}");
            assert_eq!(hashed.to_base64(), hash);
            for wrong in ["", "Test12", "test1", "test123", "test12\0"] {
                assert!(
                    !hashed.verify(wrong.as_bytes()),
                    "{wrong:?} for {password} {algorithm:?}"
                );
            }
        }
    }

    #[test]
    fn new_passwords_get_the_hash_that_rabbitmq_would_give_them() {
        let hashed = HashedPassword::new(b"test12", GUIDE_SALT).unwrap();
        assert_eq!(
            (hashed.algorithm(), hashed.to_base64().as_str()),
            (HashingAlgorithm::Sha256, GUIDE_HASH)
        );
        for (password, algorithm, hash) in KNOWN {
            let salt = BASE64.decode(hash).unwrap()[..SALT_BYTES].try_into().unwrap();
            let hashed = HashedPassword::with_algorithm(algorithm, password.as_bytes(), salt).unwrap();
            assert_eq!(hashed.to_base64(), hash);
        }
    }

    #[test]
    fn a_blank_password_is_neither_hashed_nor_accepted() {
        assert_eq!(HashedPassword::new(b"", GUIDE_SALT), Err(AuthError::BlankPassword));
        let of_blank = HashedPassword::salted(HashingAlgorithm::Sha256, b"", GUIDE_SALT);
        assert!(!of_blank.verify(b""));
    }

    #[test]
    fn the_empty_hash_lets_nobody_in() {
        let locked = HashedPassword::from_base64(HashingAlgorithm::Sha256, "").unwrap();
        assert!(!locked.verify(b"") && !locked.verify(b"x"));
        assert_eq!(locked.to_base64(), "");
    }

    #[test]
    fn malformed_hashes_are_refused() {
        let sha256_in_sha512 = (HashingAlgorithm::Sha512, GUIDE_HASH);
        for (algorithm, hash) in [
            (HashingAlgorithm::Sha256, "not base64!"),
            (HashingAlgorithm::Md5, "kI3GCg=="),
            sha256_in_sha512,
        ] {
            let refused = HashedPassword::from_base64(algorithm, hash);
            assert_eq!(
                refused,
                Err(AuthError::MalformedHash {
                    algorithm: algorithm.name()
                }),
                "{hash}"
            );
        }
    }

    #[test]
    fn algorithms_are_known_by_rabbitmqs_names_and_by_short_ones() {
        for algorithm in [
            HashingAlgorithm::Sha256,
            HashingAlgorithm::Sha512,
            HashingAlgorithm::Md5,
        ] {
            assert_eq!(HashingAlgorithm::from_name(algorithm.name()), Ok(algorithm));
        }
        assert_eq!(HashingAlgorithm::from_name("SHA512"), Ok(HashingAlgorithm::Sha512));
        assert!(HashingAlgorithm::from_name("rabbit_password_hashing_rot13").is_err());
    }

    #[test]
    fn salts_differ_and_debug_output_hides_the_hash() {
        let salts: std::collections::HashSet<_> = (0..16).map(|_| random_salt().unwrap()).collect();
        assert!(salts.len() > 1);
        let shown = format!("{:?}", HashedPassword::new(b"test12", GUIDE_SALT).unwrap());
        assert_eq!(shown, "HashedPassword { algorithm: Sha256, .. }");
    }
}
