//! `leveret check`, `leveret backup` and `leveret config`: whether a store is sound, a copy of it, and what a configuration comes to.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use leveret_storage::{CheckReport, check, repair};

use crate::clock;
use crate::config::{ConfigError, Sources};
use crate::ctl::client::{ClientError, CtlClient};
use crate::ctl::place::PlaceArgs;
use crate::ctl::{Reply, Request};
use crate::net::tls::{Tls, TlsSettings};
use crate::owner::become_owner;
use crate::settings;

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Data directory of a broker that does not run.
    #[arg(value_name = "DATA_DIR")]
    directory: PathBuf,
    /// If anything is wrong, keep all that is readable: it is copied into a new database, and the old one stays beside it.
    #[arg(long)]
    repair: bool,
}

#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Directory of the copy, which must not exist yet. A broker can be started on it.
    #[arg(value_name = "DEST")]
    destination: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Looks at a store, or mends it, and prints what was found. False if something is wrong that was not mended.
pub fn run_check(args: &CheckArgs) -> Result<bool, String> {
    let directory = &args.directory;
    become_owner(directory).map_err(|error| format!("cannot check {}: {error}", directory.display()))?;
    let looked = if args.repair {
        repair(directory, &settings::log_of)
    } else {
        check(directory, &settings::log_of)
    };
    let report = looked.map_err(|error| format!("cannot check {}: {error}", directory.display()))?;
    match print(directory, &report) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(format!("cannot print: {error}")),
        _ => {}
    }
    Ok(report.problems.is_empty() || report.kept_as.is_some())
}

fn print(directory: &Path, report: &CheckReport) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let CheckReport {
        definitions,
        queues,
        chunks,
        messages,
        entries,
        message_bytes,
        bodies,
        orphans,
        ..
    } = report;
    writeln!(
        out,
        "{}: {definitions} definitions, {queues} queues, {chunks} chunks, {messages} messages of {message_bytes} bytes",
        directory.display()
    )?;
    if *entries > 0 {
        writeln!(out, "{entries} keys of messages that came, to know duplicates by")?;
    }
    if *bodies > 0 {
        writeln!(
            out,
            "{bodies} shared bodies, {orphans} of them without messages, which the next start drops"
        )?;
    }
    for problem in &report.problems {
        writeln!(out, "damaged: {problem}")?;
    }
    match &report.kept_as {
        Some(kept) => writeln!(
            out,
            "mended: all that is readable was kept; the database as it was is in {}, delete it when you have no more use for it",
            kept.display()
        ),
        None if report.problems.is_empty() => writeln!(out, "sound"),
        None => writeln!(out, "not sound; 'leveret check --repair' keeps all that is readable"),
    }
}

/// Has the running broker make a copy of its data.
pub fn run_backup(args: BackupArgs) -> Result<(), String> {
    let directory = std::path::absolute(&args.destination)
        .map_err(|error| format!("cannot find {}: {error}", args.destination.display()))?;
    let request = Request::Backup {
        directory: directory.display().to_string(),
    };
    let client = CtlClient::connect(args.place.place()).and_then(CtlClient::with_patience);
    let reply = client.and_then(|mut client| client.call(&request));
    match reply {
        Ok(Reply::Message(text)) => {
            println!("{text}");
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(ClientError::Refused(error)) => Err(format!("cannot make a backup: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// What a configuration comes to, its warnings as comments, or everything that is wrong with it and its certificates.
pub fn check_config(file: Option<PathBuf>) -> Result<String, Vec<String>> {
    let told = |mistakes: Vec<ConfigError>| mistakes.iter().map(ToString::to_string).collect::<Vec<_>>();
    let sources = Sources::of_process(file, Vec::new()).map_err(|mistake| told(vec![mistake]))?;
    let loaded = sources.check().map_err(told)?;
    let mut warnings = loaded.warnings;
    if let Some(settings) = TlsSettings::of(&loaded.config) {
        let tls = Tls::load(settings).map_err(|error| vec![format!("cannot serve TLS: {error}")])?;
        warnings.extend(tls.complaints(clock::unix_time()));
    }
    let warnings: String = warnings
        .iter()
        .map(|warning| format!("# warning: {warning}\n"))
        .collect();
    Ok(warnings + &loaded.settings.describe())
}
