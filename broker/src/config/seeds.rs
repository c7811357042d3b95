//! Virtual hosts and users that are made at the first start: the lists `[[vhosts]]` and `[[users]]` of the file.

use toml::{Table, Value};

use super::{suggest, value};
use crate::auth::{HashedPassword, HashingAlgorithm, Permissions, Secret};

/// A virtual host to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedVhost {
    pub name: String,
}

/// A user to make.
#[derive(Debug, Clone, PartialEq)]
pub struct SeedUser {
    pub name: String,
    pub password: SeedPassword,
    pub tags: Vec<String>,
    pub permissions: Vec<SeedGrant>,
}

/// A password, or the hash of one as RabbitMQ's definitions have it.
#[derive(Debug, Clone, PartialEq)]
pub enum SeedPassword {
    Plain(Secret),
    Hashed(HashedPassword),
}

/// What a user may do in one virtual host. The patterns are known to compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeedGrant {
    pub vhost: String,
    pub configure: String,
    pub write: String,
    pub read: String,
}

/// Reads `[[vhosts]]`.
pub(super) fn vhosts(list: &Value) -> Result<Vec<SeedVhost>, String> {
    entries(list, "vhosts", &["name"], |entry| {
        Ok(SeedVhost {
            name: required(entry, "name")?,
        })
    })
}

/// Reads `[[users]]`.
pub(super) fn users(list: &Value) -> Result<Vec<SeedUser>, String> {
    const FIELDS: &[&str] = &[
        "name",
        "password",
        "password_hash",
        "hashing_algorithm",
        "tags",
        "permissions",
    ];
    entries(list, "users", FIELDS, |entry| {
        let name = required(entry, "name")?;
        user(&name, entry).map_err(|reason| format!("user '{name}': {reason}"))
    })
}

fn user(name: &str, entry: &Table) -> Result<SeedUser, String> {
    Ok(SeedUser {
        name: name.to_owned(),
        password: password(entry)?,
        tags: optional(entry, "tags", value::texts)?.unwrap_or_default(),
        permissions: optional(entry, "permissions", grants)?.unwrap_or_default(),
    })
}

fn grants(list: &Value) -> Result<Vec<SeedGrant>, String> {
    entries(list, "permissions", &["vhost", "configure", "write", "read"], |entry| {
        let pattern = |field| Ok::<_, String>(optional(entry, field, value::text)?.unwrap_or_else(|| ".*".to_owned()));
        let grant = SeedGrant {
            vhost: optional(entry, "vhost", value::some_text)?.unwrap_or_else(|| "/".to_owned()),
            configure: pattern("configure")?,
            write: pattern("write")?,
            read: pattern("read")?,
        };
        Permissions::new(&grant.configure, &grant.write, &grant.read).map_err(|error| error.to_string())?;
        Ok(grant)
    })
}

fn password(entry: &Table) -> Result<SeedPassword, String> {
    let plain = optional(entry, "password", value::password)?;
    let hash = optional(entry, "password_hash", value::text)?;
    let algorithm = optional(entry, "hashing_algorithm", value::text)?;
    match (plain, hash) {
        (Some(plain), None) => Ok(SeedPassword::Plain(plain)),
        (None, Some(hash)) => algorithm
            .map_or(Ok(HashingAlgorithm::Sha256), |name| HashingAlgorithm::from_name(&name))
            .and_then(|algorithm| HashedPassword::decode(algorithm, &hash))
            .map(SeedPassword::Hashed)
            .map_err(|error| error.to_string()),
        _ => Err("either 'password' or 'password_hash' is needed".to_owned()),
    }
}

pub(super) fn required(entry: &Table, field: &str) -> Result<String, String> {
    optional(entry, field, value::some_text)?.ok_or_else(|| format!("'{field}' is missing"))
}

fn optional<T>(entry: &Table, field: &str, read: impl Fn(&Value) -> Result<T, String>) -> Result<Option<T>, String> {
    let found = entry.get(field).map(read).transpose();
    found.map_err(|reason| format!("'{field}': {reason}"))
}

/// Reads a list of tables that may have these fields only.
pub(super) fn entries<T>(
    list: &Value,
    name: &str,
    fields: &[&str],
    read: impl Fn(&Table) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let tables = list
        .as_array()
        .and_then(|items| items.iter().map(Value::as_table).collect::<Option<Vec<_>>>());
    let tables =
        tables.ok_or_else(|| value::expected(&format!("a list of tables, as [[{name}]] in the file"), list))?;
    tables
        .into_iter()
        .map(|entry| match entry.keys().find(|key| !fields.contains(&key.as_str())) {
            Some(unknown) => {
                let nearest = suggest::nearest(unknown, fields.iter().copied());
                let nearest = nearest
                    .map(|nearest| format!("; did you mean '{nearest}'?"))
                    .unwrap_or_default();
                Err(format!("unknown key '{}' in {name}{nearest}", suggest::shown(unknown)))
            }
            None => read(entry),
        })
        .collect()
}
