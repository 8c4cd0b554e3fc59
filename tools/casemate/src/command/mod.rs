//! One module for each command.

mod bench;
pub mod build;
mod check;
mod demo;
mod docs;
mod doctor;
mod measure;
mod new;
pub mod run;
mod sdk;
mod setup;
mod size;
mod symbolize;
mod test;
mod vtpm;

use std::process::ExitCode;

pub use self::bench::BenchSection;

use crate::{
    cli::{Cli, Command},
    ui::Ui,
};

/// Does what the command line says.
///
/// # Errors
/// What went wrong, in words for the person.
pub fn dispatch(cli: Cli, ui: &Ui) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Setup(options) => setup::setup(&options, ui),
        Command::Bench(options) => bench::bench(&options, ui),
        Command::Doctor(options) => doctor::doctor(&options, ui),
        Command::Build(options) => build::build(&options, ui),
        Command::Sdk(options) => sdk::sdk(&options, ui),
        Command::New(options) => new::new(&options, ui),
        Command::Size(options) => size::size(&options),
        Command::Check(options) => check::check(&options, ui),
        Command::Run(options) => run::run(&options, ui),
        Command::Symbolize(options) => symbolize::symbolize(&options),
        Command::Completions { shell } => docs::completions(shell),
        Command::Man { dir } => docs::man(&dir, ui),
        Command::Test(options) => test::test(&options, ui),
        Command::Demo(options) => demo::demo(&options, ui),
        Command::Vtpm(options) => vtpm::vtpm(&options, ui),
        Command::Measure(options) => measure::measure(&options, ui),
    }
}
