//! `casemate sdk`.

use std::{process::ExitCode, time::Instant};

use serde_json::json;

use crate::{
    cli,
    image::build,
    toolchain::{self, Place},
    ui::Ui,
    workspace::Workspace,
};

/// Installs the SDK and says how to use it.
///
/// # Errors
/// When something that it is made of is missing, or a build fails.
pub fn sdk(options: &cli::Sdk, ui: &Ui) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    let begin = Instant::now();
    let mut place = Place::default_of(&workspace);
    if let Some(prefix) = &options.prefix {
        place.prefix.clone_from(prefix);
    }
    place.musl_source.clone_from(&options.musl_source);
    let kernel = build::kernel(&workspace, ui)?;
    let sdk = toolchain::install(&workspace, &kernel, &place, ui)?;
    let seconds = begin.elapsed().as_secs_f64();
    if options.json {
        let compiler = sdk.tool("gcc");
        let value = json!({
            "prefix": sdk.prefix(),
            "bin": sdk.bin(),
            "sysroot": sdk.sysroot(),
            "compiler": compiler,
            "musl": ::sdk::MUSL_VERSION,
            "seconds": seconds,
        });
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        ui.step(format!("the SDK is ready after {seconds:.1} s; its commands are in"));
        println!("{}", sdk.bin().display());
    }
    Ok(ExitCode::SUCCESS)
}
