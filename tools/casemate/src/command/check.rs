//! `casemate check`.

use std::{fs, process::ExitCode};

use anyhow::{Context, ensure};
use sdk::check::{Kind, Problem};

use super::run::debug_file;
use crate::{
    cli,
    image::{check, finish::list},
    ui::Ui,
};

/// Checks an image file and says what is in it.
///
/// # Errors
/// When it is not fit to boot.
pub fn check(options: &cli::Check, ui: &Ui) -> anyhow::Result<ExitCode> {
    let info = check::check_file(&options.image)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&info)?);
    } else {
        println!("{info}");
    }
    // System calls are found in functions, that is, where there are symbols.
    let symbols = debug_file(&options.image).unwrap_or_else(|| options.image.clone());
    let mut problems = sdk::check::check(&symbols, Kind::Domain)?;
    let foreign = problems.contains(&Problem::KernelUnmarked);
    let stripped = problems.contains(&Problem::Stripped);
    if foreign || stripped {
        // Another kernel's image has its own rules; what is left is what holds for every one.
        let data = fs::read(&options.image).with_context(|| options.image.display().to_string())?;
        problems = sdk::check::layout(&data);
    }
    ensure!(problems.is_empty(), "{}:{}", options.image.display(), list(&problems));
    if stripped {
        ui.step("it has no symbols, so system call instructions were not looked for");
    }
    ui.step(format!("{} is a bootable domain image", options.image.display()));
    Ok(ExitCode::SUCCESS)
}
