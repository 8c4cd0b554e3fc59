//! `casemate vtpm`: instances of the vTPM and their domains. What it does is `vtpmd`'s library; here is only the image that
//! was built in this tree, for those who name none.

mod measure;

use std::process::ExitCode;

use vtpmd::cli::InstanceCommand;

use crate::{cli, ui::Ui, workspace::Workspace};

/// Name of the image below `target/images`.
const IMAGE: &str = "vtpm";

/// Does it and prints what there is to say.
///
/// # Errors
/// What went wrong, and what to do about it.
pub fn vtpm(options: &cli::Vtpm, ui: &Ui) -> anyhow::Result<ExitCode> {
    let mut command = match &options.command {
        cli::VtpmCommand::Measure(options) => return measure::measure(options, ui),
        cli::VtpmCommand::Instance(command) => command.clone(),
    };
    if let InstanceCommand::Create { image: image @ None, .. } = &mut command
        && let Ok(workspace) = Workspace::find()
    {
        let built = workspace.target.join("images").join(IMAGE);
        *image = built.is_file().then_some(built);
    }
    let said = command.run()?;
    if !said.is_empty() {
        println!("{said}");
    }
    Ok(ExitCode::SUCCESS)
}
