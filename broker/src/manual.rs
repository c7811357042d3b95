//! `leveret man` and `leveret completions`: made of the definitions that the program itself reads its arguments by.

use std::io::{self, Write as _};
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints the completions of a shell.
pub fn print_completions(shell: Shell) -> io::Result<()> {
    // The generator would panic where standard output is closed.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "leveret", &mut text);
    io::stdout().write_all(&text)
}

/// Prints the manual page of the program, or writes those of all its commands into a directory.
pub fn write_manual(directory: Option<&Path>) -> io::Result<()> {
    match directory {
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text)?;
            io::stdout().write_all(&text)
        }
        Some(directory) => {
            std::fs::create_dir_all(directory)?;
            clap_mangen::generate_to(Cli::command(), directory)
        }
    }
}
