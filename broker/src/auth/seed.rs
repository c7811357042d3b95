//! The users a new broker starts with.

use super::edit::UsersEdit;
use super::error::AuthError;
use super::password::HashedPassword;
use crate::config::{Config, SeedPassword};

/// Pattern of a user that may do everything.
const EVERYTHING: &str = ".*";

/// Adds the default user, if it has a name, and the users of the configuration that do not exist yet. Existing users are left
/// as they are. For the first start only: a user that was deleted later must not come back.
pub fn seed_users(config: &Config, default_user: &str, edit: &mut UsersEdit<'_>) -> Result<(), AuthError> {
    for seed in &config.users {
        if edit.contains_user(&seed.name) {
            continue;
        }
        let password = match &seed.password {
            SeedPassword::Plain(secret) => HashedPassword::create(config.password_hashing, secret.expose())?,
            SeedPassword::Hashed(hashed) => hashed.clone(),
        };
        edit.add_user(&seed.name, password, seed.tags.clone())?;
        for grant in &seed.permissions {
            edit.set_permissions(&seed.name, &grant.vhost, &grant.configure, &grant.write, &grant.read)?;
        }
    }
    if !default_user.is_empty() && !edit.contains_user(default_user) {
        let password = HashedPassword::create(config.password_hashing, config.default_pass.expose())?;
        edit.add_user(default_user, password, vec!["administrator".to_owned()])?;
        edit.set_permissions(default_user, &config.default_vhost, EVERYTHING, EVERYTHING, EVERYTHING)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Operation, Secret, Users};
    use crate::config::{SeedGrant, SeedUser};
    use std::net::{IpAddr, Ipv4Addr};

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn seeded(users: &Users, config: &Config) {
        let mut edit = users.edit();
        seed_users(config, &config.default_user, &mut edit).unwrap();
        edit.commit();
    }

    fn listed_user(name: &str, password: SeedPassword) -> SeedUser {
        let grant = SeedGrant {
            vhost: "shop".to_owned(),
            configure: String::new(),
            write: "^orders$".to_owned(),
            read: String::new(),
        };
        SeedUser {
            name: name.to_owned(),
            password,
            tags: vec!["monitoring".to_owned()],
            permissions: vec![grant],
        }
    }

    #[test]
    fn without_configuration_guest_is_administrator_with_all_permissions() {
        let users = Users::new(Vec::new());
        seeded(&users, &Config::default());
        let guest = users.authenticate("guest", b"guest", LOCAL).unwrap();
        assert!(guest.is_administrator());
        assert!(
            users
                .access("guest", "/")
                .unwrap()
                .allows(Operation::Configure, "anything")
        );
    }

    #[test]
    fn listed_users_get_their_password_tags_and_permissions() {
        let hash = HashedPassword::new(b"hashed", *b"salt").unwrap();
        let config = Config {
            users: vec![
                listed_user("plain", SeedPassword::Plain(Secret::from("typed"))),
                listed_user("imported", SeedPassword::Hashed(hash)),
            ],
            default_user: String::new(),
            ..Config::default()
        };
        let users = Users::new(Vec::new());
        seeded(&users, &config);
        assert_eq!(users.list().len(), 2, "an empty default_user makes none");
        for (name, password) in [("plain", "typed"), ("imported", "hashed")] {
            assert!(
                users
                    .authenticate(name, password.as_bytes(), LOCAL)
                    .unwrap()
                    .is_monitoring()
            );
            assert!(users.access(name, "shop").unwrap().allows(Operation::Write, "orders"));
        }
    }

    #[test]
    fn users_that_exist_are_left_as_they_are() {
        let users = Users::new(Vec::new());
        let mut edit = users.edit();
        edit.add_user("guest", HashedPassword::new(b"changed", *b"salt").unwrap(), Vec::new())
            .unwrap();
        edit.commit();
        let config = Config {
            users: vec![listed_user("guest", SeedPassword::Plain(Secret::from("other")))],
            ..Config::default()
        };
        seeded(&users, &config);
        assert!(users.authenticate("guest", b"changed", LOCAL).is_ok());
        assert!(users.access("guest", "shop").is_none());
    }
}
