//! `rabbitmq.conf` and what is in `conf.d` beside it: the keys of RabbitMQ's own configuration that operators use most, read as ours.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Origin};
use super::file::Entry;
use super::rabbitmq_keys::{KNOWN, Translation};
use super::{Config, suggest};

/// What the file says, in our keys, and what is to be told about the rest.
pub(super) struct Translated {
    pub entries: Vec<Entry>,
    pub warnings: Vec<String>,
    pub mistakes: Vec<ConfigError>,
    pub needs: Vec<Need>,
}

/// What a line is good for only if another source says something beside it.
pub(super) struct Need {
    pub is_met: fn(&Config) -> bool,
    pub mistake: ConfigError,
}

/// Folder beside the file whose files are read after it.
const FOLDER: &str = "conf.d";

/// Where a line stands: which of the files, and its number there.
pub(super) type Place = (usize, usize);

/// One `key = value` line.
pub(super) struct Line {
    pub place: Place,
    pub key: String,
    pub value: String,
}

/// Whether a file is RabbitMQ's: its name ends as theirs do.
pub(super) fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "conf")
}

/// The files that belong to one: those of the folder `conf.d` beside it whose names end as its own does, in the order of their names.
pub(super) fn further_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(path.with_file_name(FOLDER)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths?;
    paths.retain(|path| is_one(path) && path.is_file());
    paths.sort();
    Ok(paths)
}

/// Reads the texts of the files as one text: of a key that is there twice the last is in force.
pub(super) fn parse(files: &[(PathBuf, String)]) -> Translated {
    let mut translation = Translation::default();
    let origin = |(file, line): Place| Origin::File {
        path: files.get(file).map(|(path, _)| path.clone()).unwrap_or_default(),
        line,
    };
    let lines: Vec<_> = files
        .iter()
        .enumerate()
        .flat_map(|(file, (_, text))| {
            (1..)
                .zip(text.lines())
                .map(move |(number, line)| ((file, number), line))
        })
        .filter_map(|(place, line)| split(line, place).transpose().map(|line| (place, line)))
        .collect();
    let read = lines.iter().filter_map(|(_, line)| line.as_ref().ok());
    let last: HashMap<String, Place> = read.map(|line| (line.key.clone(), line.place)).collect();
    for (place, line) in lines {
        let origin = origin(place);
        let line = match line {
            Ok(line) if last.get(&line.key) == Some(&place) => line,
            Ok(_) => continue,
            Err(reason) => {
                let reason = reason.to_owned();
                translation.mistakes.push(ConfigError::Syntax { origin, reason });
                continue;
            }
        };
        match translation.take(&line) {
            Ok(()) => {}
            Err(Refusal::Unknown) => {
                let key = suggest::shown(&line.key);
                let nearest = suggest::nearest(&line.key, KNOWN.iter().copied());
                let nearest = nearest.map(|nearest| format!("; the nearest key that has one is '{nearest}'"));
                let nearest = nearest.unwrap_or_default();
                let warning = format!("{origin}: '{key}' has no effect here{nearest}");
                translation.warnings.push(warning);
            }
            Err(Refusal::Useless(reason)) => {
                let key = &line.key;
                let warning = format!("{origin}: '{key}' has no effect here: {reason}");
                translation.warnings.push(warning);
            }
            Err(Refusal::Bad(reason)) => translation.mistakes.push(ConfigError::BadValue {
                origin,
                key: line.key,
                reason,
            }),
        }
    }
    translation.finish(origin)
}

/// Key and value of a line; none of one that is empty or a comment.
fn split(line: &str, place: Place) -> Result<Option<Line>, &'static str> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (key, value) = line.split_once('=').ok_or("expected KEY = VALUE")?;
    let value = value.trim();
    let value = match value.strip_prefix('\'') {
        Some(quoted) => quoted.split_once('\'').ok_or("the closing quote is missing")?.0,
        None => value.split('#').next().unwrap_or_default().trim(),
    };
    let key = key.trim();
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err("expected KEY = VALUE");
    }
    Ok(Some(Line {
        place,
        key: key.to_owned(),
        value: value.to_owned(),
    }))
}

/// Why a line is not taken.
pub(super) enum Refusal {
    /// No key that means something here.
    Unknown,
    /// It is done in another way here.
    Useless(&'static str),
    /// A value that cannot be used, or one that promises more than is kept here.
    Bad(String),
}
