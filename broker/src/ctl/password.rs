//! Passwords on the command line: where they come from, and their hashes.

use std::io::{self, BufRead as _, IsTerminal as _};

use clap::{Args, ValueEnum};

use super::protocol::Password;
use crate::auth::{HashedPassword, HashingAlgorithm};

/// `hash_password`, which needs no broker.
#[derive(Debug, Args)]
pub(super) struct HashPassword {
    /// Read from standard input if it is not given, which keeps it out of the shell's history.
    #[arg(allow_hyphen_values = true)]
    password: Option<String>,
    /// RabbitMQ knows sha256 and sha512 only.
    #[arg(long, value_enum, default_value_t, ignore_case = true)]
    hashing_algorithm: Algorithm,
}

/// How a password can be hashed here. MD5 is only verified.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Algorithm {
    #[default]
    Argon2id,
    #[value(alias = "sha-256")]
    Sha256,
    #[value(alias = "sha-512")]
    Sha512,
}

impl From<Algorithm> for HashingAlgorithm {
    fn from(algorithm: Algorithm) -> HashingAlgorithm {
        match algorithm {
            Algorithm::Argon2id => HashingAlgorithm::Argon2id,
            Algorithm::Sha256 => HashingAlgorithm::Sha256,
            Algorithm::Sha512 => HashingAlgorithm::Sha512,
        }
    }
}

impl HashPassword {
    /// The hash, as `password_hash` has it in definitions and in the configuration.
    pub(super) fn hash(&self) -> Result<String, String> {
        let Password(password) = given_or_read(self.password.clone())?;
        let hashed = HashedPassword::create(self.hashing_algorithm.into(), password.as_bytes());
        let hashed = hashed.map_err(|error| format!("cannot hash_password: {error}"))?;
        Ok(hashed.encoded())
    }
}

/// The password of the command line, or else one line of standard input.
pub(super) fn given_or_read(password: Option<String>) -> Result<Password, String> {
    if let Some(password) = password {
        return Ok(Password(password));
    }
    let line = if io::stdin().is_terminal() {
        rpassword::prompt_password("Password: ")
    } else {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    };
    let line = line.map_err(|error| format!("cannot read the password from standard input: {error}"))?;
    Ok(Password(line.trim_end_matches(['\r', '\n']).to_owned()))
}
