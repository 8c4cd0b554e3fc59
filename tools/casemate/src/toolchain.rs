//! The SDK as the commands need it: installed below the target folder when it is first asked for.

use std::{cell::RefCell, env, path::PathBuf};

use anyhow::Context;
use sdk::{KernelFiles, Options, Sdk};

use crate::{
    image::build::{self, Kernel},
    project,
    ui::Ui,
    workspace::Workspace,
};

/// Environment variable that names an installed SDK to use as it is.
const SDK_VARIABLE: &str = "CASEMATE_SDK";

/// Where and from what to install.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the SDK goes.
    pub prefix: PathBuf,
    /// musl's source, in place of the pinned one.
    pub musl_source: Option<PathBuf>,
}

impl Place {
    /// The usual place.
    pub fn default_of(workspace: &Workspace) -> Self {
        Self { prefix: workspace.target.join("sdk"), musl_source: None }
    }
}

/// The SDK that `CASEMATE_SDK` names; nothing when it names none.
///
/// # Errors
/// When there is no SDK at that place.
pub fn named() -> anyhow::Result<Option<Sdk>> {
    let Some(prefix) = env::var_os(SDK_VARIABLE) else { return Ok(None) };
    Sdk::open(PathBuf::from(prefix)).context(SDK_VARIABLE).map(Some)
}

/// Installs what is missing of the SDK; quick and silent when nothing is.
///
/// # Errors
/// When a tool or the C library's source is missing, or a build fails.
pub fn install(workspace: &Workspace, kernel: &Kernel, place: &Place, ui: &Ui) -> anyhow::Result<Sdk> {
    // The same packages as for this program itself, so that their common parts are not built twice.
    let mut command = workspace.cargo("build");
    command.args(["--quiet", "--release", "--package", "casemate", "--package", "casemate-sdk"]);
    command.args(["--bin", "casemate-check"]);
    let bar = RefCell::new(None);
    let report = |text: &str| {
        let mut bar = bar.borrow_mut();
        match bar.as_ref() {
            None => *bar = Some(ui.spinner(format!("SDK: {text}"))),
            Some(bar) if bar.is_hidden() => ui.step(format!("SDK: {text}")),
            Some(bar) => bar.set_message(format!("SDK: {text}")),
        }
    };
    let checker = project::build(command, "the check of images")?.remove("casemate-check");
    let idc = build::idc(workspace, kernel, ui)?;
    let result = sdk::install(&Options {
        prefix: place.prefix.clone(),
        cache: workspace.target.join("sdk-cache"),
        musl_source: place.musl_source.clone(),
        kernel: Some(KernelFiles { object: kernel.object.clone(), script: kernel.script.clone() }),
        checker: Some(checker.context("cargo built no program casemate-check")?),
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        report: &report,
    });
    if let Some(bar) = bar.into_inner() {
        bar.finish_and_clear();
    }
    let result = result.and_then(|sdk| {
        sdk::idc::install(&sdk, &idc, &workspace.target.join("sdk-cache/build/idc"))?;
        Ok(sdk)
    });
    result.context("the tool chain could not be installed (`casemate setup` installs the programs it needs)")
}
