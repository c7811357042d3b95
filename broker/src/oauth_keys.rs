//! The file of the keys that sign access tokens: read at the start, and again at SIGHUP.

use std::path::Path;

use crate::auth::oauth::{KeySet, Oauth, Requirements};
use crate::config::Config;

/// What checks tokens, if the configuration accepts any; the reason if it cannot.
pub fn open(config: &Config) -> Result<Option<Oauth>, String> {
    let id = &config.oauth_resource_server_id;
    match (id.is_empty(), &config.oauth_jwks_file) {
        (true, None) => Ok(None),
        (true, Some(_)) => Err("oauth_jwks_file needs oauth_resource_server_id".to_owned()),
        (false, None) => Err("oauth_resource_server_id needs oauth_jwks_file".to_owned()),
        (false, Some(file)) => {
            let prefix = match config.oauth_scope_prefix.as_str() {
                "auto" => format!("{id}."),
                prefix => prefix.to_owned(),
            };
            let requirements = Requirements {
                resource_server_id: id.clone(),
                scope_prefix: prefix,
                issuer: config.oauth_issuer.clone(),
                username_claims: config.oauth_username_claims.clone(),
            };
            Ok(Some(Oauth::new(requirements, read(file)?)))
        }
    }
}

/// Takes the keys of the file instead of the present ones; these stay if it cannot be used.
pub fn reload(config: &Config, oauth: &Oauth) {
    let Some(file) = &config.oauth_jwks_file else { return };
    match read(file) {
        Ok(keys) => {
            oauth.replace_keys(keys);
            tracing::info!("the keys of access tokens are those of {} now", file.display());
        }
        Err(reason) => tracing::error!("{reason}; the keys of access tokens stay as they are"),
    }
}

fn read(file: &Path) -> Result<KeySet, String> {
    let text = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    KeySet::parse(&text).map_err(|error| format!("cannot use {}: {error}", file.display()))
}
