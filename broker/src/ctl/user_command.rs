//! The commands of `leveret ctl` about users.

use clap::Subcommand;

use super::password::given_or_read;
use super::protocol::Request;

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
pub(super) enum UserCommand {
    /// Make a user, without permissions.
    AddUser {
        name: String,
        /// Read from standard input if it is not given, which keeps it out of the shell's history.
        #[arg(allow_hyphen_values = true)]
        password: Option<String>,
    },
    /// Delete a user and close its connections.
    DeleteUser { name: String },
    /// Give a user another password.
    ChangePassword {
        name: String,
        /// Read from standard input if it is not given.
        #[arg(allow_hyphen_values = true)]
        password: Option<String>,
    },
    /// Let a user in with certificates and tokens only, until it gets another password.
    ClearPassword { name: String },
    /// Replace the tags of a user, such as administrator, monitoring or management.
    SetUserTags { name: String, tags: Vec<String> },
    /// List users and their tags.
    ListUsers,
}

impl UserCommand {
    pub(super) fn into_request(self) -> Result<Request, String> {
        Ok(match self {
            Self::AddUser { name, password } => Request::AddUser {
                name,
                password: given_or_read(password)?,
            },
            Self::DeleteUser { name } => Request::DeleteUser { name },
            Self::ChangePassword { name, password } => Request::ChangePassword {
                name,
                password: given_or_read(password)?,
            },
            Self::ClearPassword { name } => Request::ClearPassword { name },
            Self::SetUserTags { name, tags } => Request::SetUserTags { name, tags },
            Self::ListUsers => Request::ListUsers {},
        })
    }
}
