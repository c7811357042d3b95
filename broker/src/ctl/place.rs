//! Where the broker is that a command is for.

use std::fmt;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::config::CTL_SOCKET_FILE;

/// Data directory of a broker that nobody configured.
const DATA_DIR: &str = "./data";
/// Socket of the broker that the packages install.
const INSTALLED_SOCKET: &str = "/run/leveret/ctl.sock";

/// How a command says which broker it is for.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Data directory of the broker; ./data by default, or if there is no broker, that of the installed one.
    #[arg(
        long,
        value_name = "DIR",
        env = "LEVERET_DATA_DIR",
        hide_env_values = true,
        global = true
    )]
    data_dir: Option<PathBuf>,
    /// Socket of the broker, if it is not ctl.sock in the data directory.
    #[arg(
        long,
        value_name = "PATH",
        env = "LEVERET_CTL_SOCKET",
        hide_env_values = true,
        global = true
    )]
    socket: Option<PathBuf>,
}

/// Where a broker is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    DataDir(PathBuf),
    Socket(PathBuf),
    /// Nobody said where: the broker that is here, else the installed one.
    Usual,
}

impl PlaceArgs {
    /// What was said.
    pub fn place(self) -> Place {
        match (self.socket, self.data_dir) {
            (Some(socket), _) => Place::Socket(socket),
            (None, Some(directory)) => Place::DataDir(directory),
            (None, None) => Place::Usual,
        }
    }
}

fn usual(here: &Path, installed: &Path) -> Place {
    if here.join(CTL_SOCKET_FILE).exists() {
        return Place::DataDir(here.to_owned());
    }
    if installed.exists() {
        return Place::Socket(installed.to_owned());
    }
    Place::Usual
}

impl Place {
    /// Where the usual broker is now. It may not have started yet, so whoever waits for it looks again.
    pub fn found(self) -> Place {
        match self {
            Self::Usual => usual(Path::new(DATA_DIR), Path::new(INSTALLED_SOCKET)),
            said => said,
        }
    }

    /// The socket to connect to.
    pub fn socket(&self) -> PathBuf {
        match self {
            Self::DataDir(directory) => directory.join(CTL_SOCKET_FILE),
            Self::Socket(path) => path.clone(),
            Self::Usual => INSTALLED_SOCKET.into(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataDir(directory) => write!(f, "data directory {}", directory.display()),
            Self::Socket(path) => write!(f, "socket {}", path.display()),
            Self::Usual => write!(f, "data directory {DATA_DIR} or socket {INSTALLED_SOCKET}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_installed_broker_is_meant_where_none_is_here() {
        let folder = tempfile::tempdir().unwrap();
        let (here, installed) = (folder.path().join("data"), folder.path().join("ctl.sock"));
        assert_eq!(usual(&here, &installed), Place::Usual, "neither is there yet");
        std::fs::write(&installed, "").unwrap();
        assert_eq!(usual(&here, &installed), Place::Socket(installed.clone()));
        std::fs::create_dir(&here).unwrap();
        std::fs::write(here.join(CTL_SOCKET_FILE), "").unwrap();
        assert_eq!(usual(&here, &installed), Place::DataDir(here));
    }

    #[test]
    fn what_was_said_counts() {
        let said = |socket: Option<&str>, data_dir: Option<&str>| {
            let args = PlaceArgs {
                socket: socket.map(PathBuf::from),
                data_dir: data_dir.map(PathBuf::from),
            };
            args.place()
        };
        assert_eq!(said(Some("/s"), Some("/d")), Place::Socket("/s".into()));
        assert_eq!(said(None, Some("/d")), Place::DataDir("/d".into()));
        assert_eq!(said(None, None), Place::Usual);
        assert_eq!(
            Place::Usual.to_string(),
            "data directory ./data or socket /run/leveret/ctl.sock"
        );
    }
}
