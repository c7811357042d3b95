//! Password hashes: argon2id for those made here, and RabbitMQ's forms.
//!
//! A stored hash of RabbitMQ is base64 of `salt ++ digest(salt ++ password)` with a salt of four bytes. Hashes exported
//! from RabbitMQ (definitions, `rabbitmqctl hash_password`) verify here and the other way round.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use super::argon2id::{self, Argon2id};
use super::error::AuthError;

/// Length of the salt in front of every digest.
pub const SALT_BYTES: usize = 4;

/// How a password is hashed. MD5 is only verified, for users that came from RabbitMQ before 3.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashingAlgorithm {
    Argon2id,
    Sha256,
    Sha512,
    Md5,
}

impl HashingAlgorithm {
    /// The name in definitions and stored records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Argon2id => "leveret_password_hashing_argon2id",
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
            Self::Md5 => "rabbit_password_hashing_md5",
        }
    }

    /// Reads RabbitMQ's names and the short ones of LavinMQ (`SHA256`, `SHA512`, `MD5`).
    pub fn from_name(name: &str) -> Result<Self, AuthError> {
        match name {
            "leveret_password_hashing_argon2id" | "argon2id" => Ok(Self::Argon2id),
            "rabbit_password_hashing_sha256" | "SHA256" => Ok(Self::Sha256),
            "rabbit_password_hashing_sha512" | "SHA512" => Ok(Self::Sha512),
            "rabbit_password_hashing_md5" | "MD5" => Ok(Self::Md5),
            _ => Err(AuthError::UnknownHashingAlgorithm { name: name.to_owned() }),
        }
    }

    /// Does a check take so long that it must not be made on a thread that serves others?
    pub fn is_slow(self) -> bool {
        self == Self::Argon2id
    }

    fn digest_bytes(self) -> usize {
        match self {
            Self::Argon2id => 0,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Md5 => 16,
        }
    }

    fn digest(self, salt: &[u8], password: &[u8]) -> Vec<u8> {
        match self {
            Self::Argon2id => Vec::new(),
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
pub struct HashedPassword(Hash);

#[derive(Clone, PartialEq, Eq)]
enum Hash {
    Argon2id(Argon2id),
    Rabbit {
        algorithm: HashingAlgorithm,
        /// Salt and digest, not encoded. Empty for a user that cannot log in with a password.
        hash: Vec<u8>,
    },
}

impl HashedPassword {
    /// Hashes a password with a random salt. A blank one is refused.
    pub fn create(algorithm: HashingAlgorithm, password: &[u8]) -> Result<Self, AuthError> {
        if !algorithm.is_slow() {
            return Self::with_algorithm(algorithm, password, random_salt()?);
        }
        if password.is_empty() {
            return Err(AuthError::BlankPassword);
        }
        let hash = Argon2id::new(password, random_salt::<{ argon2id::SALT_BYTES }>()?);
        Ok(Self(Hash::Argon2id(hash.ok_or(AuthError::NoMemory)?)))
    }

    /// Hashes a password with SHA-256 and a salt from [`random_salt`]. A blank password is refused.
    pub fn new(password: &[u8], salt: [u8; SALT_BYTES]) -> Result<Self, AuthError> {
        Self::with_algorithm(HashingAlgorithm::Sha256, password, salt)
    }

    /// As [`HashedPassword::new`], with a chosen algorithm of RabbitMQ.
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
    pub fn decode(algorithm: HashingAlgorithm, hash: &str) -> Result<Self, AuthError> {
        let malformed = || AuthError::MalformedHash {
            algorithm: algorithm.name(),
        };
        let hash = hash.trim();
        // An argon2id hash says itself what it is; those who copy hashes may leave the algorithm out.
        if algorithm.is_slow() && !hash.is_empty() || hash.starts_with("$argon2id$") {
            return Ok(Self(Hash::Argon2id(Argon2id::parse(hash).ok_or_else(malformed)?)));
        }
        let hash = BASE64.decode(hash).map_err(|_| malformed())?;
        if !hash.is_empty() && hash.len() != SALT_BYTES + algorithm.digest_bytes() {
            return Err(malformed());
        }
        Ok(Self(Hash::Rabbit { algorithm, hash }))
    }

    /// A user that cannot log in with a password.
    pub fn none() -> Self {
        Self(Hash::Rabbit {
            algorithm: HashingAlgorithm::Sha256,
            hash: Vec::new(),
        })
    }

    /// What an unknown user is checked against, so that the time of the answer does not tell who exists.
    pub(super) fn of_nobody(algorithm: HashingAlgorithm) -> Self {
        if algorithm.is_slow() {
            return Self(Hash::Argon2id(Argon2id::of_nobody()));
        }
        Self::salted(algorithm, b"nobody", *b"none")
    }

    /// The algorithm that made this hash.
    pub fn algorithm(&self) -> HashingAlgorithm {
        match &self.0 {
            Hash::Argon2id(_) => HashingAlgorithm::Argon2id,
            Hash::Rabbit { algorithm, .. } => *algorithm,
        }
    }

    /// The hash as it is stored and exported.
    pub fn encoded(&self) -> String {
        match &self.0 {
            Hash::Argon2id(hash) => hash.encoded(),
            Hash::Rabbit { hash, .. } => BASE64.encode(hash),
        }
    }

    /// Whether this is the password that was hashed. Compares in constant time; a blank password never matches.
    pub fn verify(&self, password: &[u8]) -> bool {
        let matches = match &self.0 {
            Hash::Argon2id(hash) => {
                let computed = hash.digest_of(password);
                computed.is_some_and(|computed| bool::from(computed.ct_eq(hash.digest())))
            }
            Hash::Rabbit { algorithm, hash } => {
                let (salt, digest) = hash.split_at_checked(SALT_BYTES).unwrap_or((b"none", &[]));
                let computed = algorithm.digest(salt, password);
                !digest.is_empty() && bool::from(computed.ct_eq(digest))
            }
        };
        matches && !password.is_empty()
    }

    fn salted(algorithm: HashingAlgorithm, password: &[u8], salt: [u8; SALT_BYTES]) -> Self {
        let mut hash = salt.to_vec();
        hash.extend(algorithm.digest(&salt, password));
        Self(Hash::Rabbit { algorithm, hash })
    }
}

impl fmt::Debug for HashedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashedPassword")
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

/// A salt from the operating system's random numbers.
pub fn random_salt<const BYTES: usize>() -> Result<[u8; BYTES], AuthError> {
    let mut salt = [0; BYTES];
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
            let hashed = HashedPassword::decode(algorithm, hash).unwrap();
            assert!(hashed.verify(password.as_bytes()), "{password} {algorithm:?}");
            assert_eq!(hashed.encoded(), hash);
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
            (hashed.algorithm(), hashed.encoded().as_str()),
            (HashingAlgorithm::Sha256, GUIDE_HASH)
        );
        for (password, algorithm, hash) in KNOWN {
            let salt = BASE64.decode(hash).unwrap()[..SALT_BYTES].try_into().unwrap();
            let hashed = HashedPassword::with_algorithm(algorithm, password.as_bytes(), salt).unwrap();
            assert_eq!(hashed.encoded(), hash);
        }
    }

    #[test]
    fn new_passwords_are_hashed_as_was_chosen_and_read_back() {
        for algorithm in [
            HashingAlgorithm::Argon2id,
            HashingAlgorithm::Sha256,
            HashingAlgorithm::Sha512,
        ] {
            let hashed = HashedPassword::create(algorithm, b"secret").unwrap();
            assert_eq!(hashed.algorithm(), algorithm);
            assert_eq!(HashedPassword::decode(algorithm, &hashed.encoded()).unwrap(), hashed);
            assert!(hashed.verify(b"secret") && !hashed.verify(b"Secret") && !hashed.verify(b""));
            assert_ne!(
                HashedPassword::create(algorithm, b"secret").unwrap(),
                hashed,
                "the salt differs"
            );
            assert_eq!(HashedPassword::create(algorithm, b""), Err(AuthError::BlankPassword));
            let nobody = HashedPassword::of_nobody(algorithm);
            assert!(nobody.algorithm() == algorithm && !nobody.verify(b"") && !nobody.verify(b"secret"));
            let without = HashedPassword::decode(algorithm, "").unwrap();
            assert!(without.encoded().is_empty() && !without.verify(b""));
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
        let locked = HashedPassword::decode(HashingAlgorithm::Sha256, "").unwrap();
        assert!(!locked.verify(b"") && !locked.verify(b"x"));
        assert_eq!(locked.encoded(), "");
    }

    #[test]
    fn malformed_hashes_are_refused() {
        let sha256_in_sha512 = (HashingAlgorithm::Sha512, GUIDE_HASH);
        for (algorithm, hash) in [
            (HashingAlgorithm::Sha256, "not base64!"),
            (HashingAlgorithm::Md5, "kI3GCg=="),
            sha256_in_sha512,
        ] {
            let refused = HashedPassword::decode(algorithm, hash);
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
            HashingAlgorithm::Argon2id,
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
        let salts: std::collections::HashSet<_> = (0..16).map(|_| random_salt::<SALT_BYTES>().unwrap()).collect();
        assert!(salts.len() > 1);
        let shown = format!("{:?}", HashedPassword::new(b"test12", GUIDE_SALT).unwrap());
        assert_eq!(shown, "HashedPassword { algorithm: Sha256, .. }");
    }
}
