//! `leveret ctl`: users, virtual hosts and permissions.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs control commands against one broker.
#[derive(Clone, Debug)]
pub struct Ctl {
    program: PathBuf,
    leading_arguments: Vec<OsString>,
}

impl Ctl {
    /// `leveret ctl --data-dir DIR`.
    pub fn of_data_dir(binary: PathBuf, data_dir: &Path) -> Self {
        Self {
            program: binary,
            leading_arguments: vec!["ctl".into(), "--data-dir".into(), data_dir.into()],
        }
    }

    /// A program that takes the same commands.
    pub fn of_program(program: PathBuf) -> Self {
        Self {
            program,
            leading_arguments: Vec::new(),
        }
    }

    /// Runs a command that must succeed and returns what it printed.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "ctl {arguments:?} ended with {}\n{printed}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        printed
    }

    /// Runs a command that must fail and returns what it printed on standard error.
    #[track_caller]
    pub fn refuse(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(!output.status.success(), "ctl {arguments:?} was to fail");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        crate::broker::remove_settings(&mut command);
        command
            .args(&self.leading_arguments)
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", self.program.display()))
    }
}
