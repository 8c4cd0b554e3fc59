//! `casemate check`.

use std::process::ExitCode;

use crate::{cli, image::check, ui::Ui};

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
    info.has_no_writable_code()?;
    ui.step(format!("{} is a bootable domain image", options.image.display()));
    Ok(ExitCode::SUCCESS)
}
