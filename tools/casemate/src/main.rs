//! `casemate`: sets a machine up, builds domain images, runs them on Xen, tests everything.
//!
//! Exit status: that of the domain for `run`; 0 for success; 1 for failure; 2 for a wrong command line;
//! 125 when `run` could not run the domain at all; 134 for a crashed domain; 128 plus the signal when
//! interrupted.
#![forbid(unsafe_code)]

mod beside;
mod cli;
mod command;
mod image;
mod interrupt;
mod linked;
mod needs;
mod project;
mod session;
mod symbolize;
mod toolchain;
mod ui;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let ui = ui::Ui::new(cli.quiet);
    let failure = cli.command.failure_status();
    match command::dispatch(cli, &ui) {
        Ok(code) => code,
        Err(error) => {
            ui.error(&error);
            ExitCode::from(failure)
        }
    }
}
