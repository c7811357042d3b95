//! Who may connect, and what they may do: users, passwords, permissions and SASL.
//!
//! Nothing here touches a socket, a file or the clock; only salts need randomness. The registry of
//! [`Users`] hands out the records that must be stored, and the caller stores them.

mod argon2_memory;
mod argon2id;
mod authenticated;
mod edit;
mod error;
pub mod oauth;
pub mod password;
pub mod permissions;
pub mod sasl;
mod secret;
pub mod seed;
pub mod throttle;
mod topic_permissions;
mod user;
mod users;
mod verified;

pub use authenticated::Authenticated;
pub use edit::{USER_NAME_MAX_BYTES, UsersEdit};
pub use error::{AuthError, LoginRefused};
pub use password::{HashedPassword, HashingAlgorithm};
pub use permissions::{Operation, Permissions};
pub use sasl::{Credentials, Mechanism, SaslError};
pub use secret::Secret;
pub use throttle::LoginThrottle;
pub use topic_permissions::TopicPermissions;
pub use user::{PermissionRecord, RecordChange, TopicPermissionRecord, User, UserEvent, UserRecord};
pub use users::Users;
