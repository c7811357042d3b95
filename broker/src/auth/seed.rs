//! The users a new broker starts with.

use super::error::AuthError;
use super::password::{HashedPassword, random_salt};
use super::users::UsersEdit;
use crate::config::{Config, SeedPassword};

/// Pattern of a user that may do everything.
const EVERYTHING: &str = ".*";

/// Adds the default user and the users of the configuration that do not exist yet. Existing users are left
/// as they are. For the first start only: a user that was deleted later must not come back.
pub fn seed_users(config: &Config, edit: &mut UsersEdit<'_>) -> Result<(), AuthError> {
    for seed in &config.users {
        if edit.contains_user(&seed.name) {
            continue;
        }
        let password = match &seed.password {
            SeedPassword::Plain(secret) => HashedPassword::new(secret.expose(), random_salt()?)?,
            SeedPassword::Hashed(hashed) => hashed.clone(),
        };
        edit.add_user(&seed.name, password, seed.tags.clone())?;
        for grant in &seed.permissions {
            edit.set_permissions(&seed.name, &grant.vhost, &grant.configure, &grant.write, &grant.read)?;
        }
    }
    let wants_default_user = !config.default_user.is_empty();
    if wants_default_user && !edit.contains_user(&config.default_user) {
        let password = HashedPassword::new(config.default_pass.expose(), random_salt()?)?;
        edit.add_user(&config.default_user, password, vec!["administrator".to_owned()])?;
        edit.set_permissions(
            &config.default_user,
            &config.default_vhost,
            EVERYTHING,
            EVERYTHING,
            EVERYTHING,
        )?;
    }
    Ok(())
}
