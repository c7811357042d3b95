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
