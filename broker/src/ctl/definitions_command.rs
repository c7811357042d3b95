//! The commands of `leveret ctl` that write and read definitions files.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde_json::Value;

use super::output::{Formatter, print};
use super::protocol::{Reply, Request};

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
#[allow(clippy::enum_variant_names, reason = "they are the names of the commands")]
pub(super) enum DefinitionsCommand {
    /// Write everything that was declared as a definitions file of RabbitMQ's form.
    ExportDefinitions {
        /// Where to; standard output if it is not given or '-'.
        file: Option<PathBuf>,
    },
    /// Make what a definitions file has and the broker has not; what differs is changed or told.
    ImportDefinitions {
        /// The file; standard input if it is not given or '-'.
        file: Option<PathBuf>,
        /// Change nothing, only say what would change.
        #[arg(long = "dry-run")]
        dry_run: bool,
    },
}

impl DefinitionsCommand {
    pub(super) fn into_request(self) -> Result<Request, String> {
        Ok(match self {
            Self::ExportDefinitions { .. } => Request::ExportDefinitions {},
            Self::ImportDefinitions { file, dry_run } => Request::ImportDefinitions {
                definitions: read_json(file.filter(|file| is_file(file)))?,
                dry_run,
            },
        })
    }
}

impl DefinitionsCommand {
    /// Where the answer goes, if not to standard output.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Self::ExportDefinitions { file } => file.clone().filter(|file| is_file(file)),
            Self::ImportDefinitions { .. } => None,
        }
    }
}

/// `-` stands for standard input or output.
fn is_file(path: &Path) -> bool {
    path.as_os_str() != "-"
}

/// Writes the answer into a file.
pub(super) fn write_file(path: &Path, reply: &Reply, formatter: Formatter) -> Result<(), String> {
    let mut text = Vec::new();
    let written = print(reply, formatter, true, &mut text).and_then(|()| std::fs::write(path, text));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Reads JSON from a file or standard input.
fn read_json(file: Option<PathBuf>) -> Result<Value, String> {
    let name = file
        .as_ref()
        .map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
    let mut text = Vec::new();
    let read = match &file {
        Some(path) => std::fs::read(path).map(|read| text = read),
        None => io::stdin().lock().read_to_end(&mut text).map(|_| ()),
    };
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    serde_json::from_slice(&text).map_err(|error| format!("cannot read {name}: it is no JSON: {error}"))
}
