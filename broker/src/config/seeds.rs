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
        Ok(SeedUser {
            name: required(entry, "name")?,
            password: password(entry)?,
            tags: entry.get("tags").map_or(Ok(Vec::new()), value::texts)?,
            permissions: entry.get("permissions").map_or(Ok(Vec::new()), grants)?,
        })
    })
}

fn grants(list: &Value) -> Result<Vec<SeedGrant>, String> {
    entries(list, "permissions", &["vhost", "configure", "write", "read"], |entry| {
        let pattern = |field| entry.get(field).map_or(Ok(".*".to_owned()), value::text);
        let grant = SeedGrant {
            vhost: entry.get("vhost").map_or(Ok("/".to_owned()), value::some_text)?,
            configure: pattern("configure")?,
            write: pattern("write")?,
            read: pattern("read")?,
        };
        Permissions::new(&grant.configure, &grant.write, &grant.read).map_err(|error| error.to_string())?;
        Ok(grant)
    })
}

fn password(entry: &Table) -> Result<SeedPassword, String> {
    match (entry.get("password"), entry.get("password_hash")) {
        (Some(plain), None) => Ok(SeedPassword::Plain(value::password(plain)?)),
        (None, Some(hash)) => {
            let algorithm = entry.get("hashing_algorithm").map(value::text).transpose()?;
            let algorithm = algorithm
                .as_deref()
                .map_or(Ok(HashingAlgorithm::Sha256), HashingAlgorithm::from_name);
            algorithm
                .and_then(|algorithm| HashedPassword::from_base64(algorithm, &value::text(hash).unwrap_or_default()))
                .map(SeedPassword::Hashed)
                .map_err(|error| error.to_string())
        }
        _ => Err("each of users needs either 'password' or 'password_hash'".to_owned()),
    }
}

fn required(entry: &Table, field: &str) -> Result<String, String> {
    let found = entry.get(field).ok_or_else(|| format!("'{field}' is missing"))?;
    value::some_text(found).map_err(|reason| format!("'{field}': {reason}"))
}

/// Reads a list of tables that may have these fields only.
fn entries<T>(
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
                Err(format!("unknown key '{unknown}' in {name}; did you mean '{nearest}'?"))
            }
            None => read(entry),
        })
        .collect()
}
