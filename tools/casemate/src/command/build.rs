//! `casemate build`.

use std::process::ExitCode;

use anyhow::ensure;

use crate::{
    cli,
    image::build::{self, Image},
    ui::Ui,
    workspace::Workspace,
};

/// Builds the images of the named packages, or of all domain packages.
///
/// # Errors
/// When one cannot be built.
pub fn build(options: &cli::Build, ui: &Ui) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    let images = build_packages(&workspace, &options.packages, ui)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&images)?);
    } else {
        for image in &images {
            let path = image.path.strip_prefix(&workspace.root).unwrap_or(&image.path);
            println!("{:24} {:>9} bytes  {}", image.name, image.info.file_size, path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the kernel, then the images of packages; of all domain packages when none is named.
///
/// # Errors
/// When one cannot be built.
pub fn build_packages(workspace: &Workspace, names: &[String], ui: &Ui) -> anyhow::Result<Vec<Image>> {
    let packages = if names.is_empty() {
        workspace.packages()?.into_iter().filter(|p| p.is_domain && !p.bins.is_empty()).collect()
    } else {
        names.iter().map(|name| workspace.package(name)).collect::<anyhow::Result<Vec<_>>>()?
    };
    ensure!(!packages.is_empty(), "the workspace has no domain package");
    let kernel = build::kernel(workspace, ui)?;
    let mut images = Vec::new();
    for package in &packages {
        images.extend(build::images(workspace, &kernel, package, ui)?);
    }
    Ok(images)
}
