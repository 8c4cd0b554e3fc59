//! `casemate completions` and `casemate man`.

use std::{fs, io, path::Path, process::ExitCode};

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use crate::{cli::Cli, ui::Ui};

/// Prints the completion script for a shell.
///
/// # Errors
/// Never so far.
pub fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    clap_complete::generate(shell, &mut Cli::command(), "casemate", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for the program and one for each command.
///
/// # Errors
/// When a file cannot be written.
pub fn man(dir: &Path, ui: &Ui) -> anyhow::Result<ExitCode> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    clap_mangen::generate_to(Cli::command(), dir)
        .with_context(|| format!("cannot write manual pages to {}", dir.display()))?;
    ui.step(format!("manual pages written to {}", dir.display()));
    Ok(ExitCode::SUCCESS)
}
