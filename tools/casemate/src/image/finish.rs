//! From a linked program to an image: checked, stripped, and kept with its symbols.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use sdk::check::{Kind, Problem};
use serde::Serialize;

use super::check::{self, ImageInfo};
use crate::project::{Built, Package};

/// A finished image.
#[derive(Clone, Debug, Serialize)]
pub struct Image {
    /// Name of the program.
    pub name: String,
    /// The file to boot.
    pub path: PathBuf,
    /// The same with symbols.
    pub debug: PathBuf,
    /// What it says about itself.
    pub info: ImageInfo,
}

impl Image {
    /// Bytes of the file without symbols.
    pub fn stripped_size(&self) -> u64 {
        match sdk::size::report(&self.debug, None) {
            Ok(report) if self.path == self.debug => report.loaded_file,
            _ => self.info.file_size,
        }
    }
}

/// Makes images of what cargo linked, in the folder `out`.
///
/// # Errors
/// When one is not fit to boot, or a file cannot be written.
pub fn images(out: &Path, objcopy: &Path, built: Built) -> anyhow::Result<Vec<Image>> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut images = Vec::new();
    for (name, program) in built {
        let name = name.strip_prefix("casemate-").unwrap_or(&name).to_owned();
        check_linked(&program, Kind::Domain)?;
        let (path, debug) = (out.join(&name), out.join(format!("{name}.debug")));
        fs::copy(&program, &debug).with_context(|| format!("cannot write {}", debug.display()))?;
        let mut strip = Command::new(objcopy);
        strip.arg("--strip-all").arg(&debug).arg(&path);
        run(strip, "stripping an image")?;
        let info = check::check_file(&path)?;
        images.push(Image { name, path, debug, info });
    }
    Ok(images)
}

/// Checks a program that was just linked and still has its symbols.
///
/// # Errors
/// All that is wrong with it.
pub fn check_linked(program: &Path, kind: Kind) -> anyhow::Result<()> {
    let problems = sdk::check::check(program, kind)?;
    ensure!(problems.is_empty(), "the linker made a bad image of {}:{}", program.display(), list(&problems));
    Ok(())
}

/// Problems of an image, one a line.
pub fn list(problems: &[Problem]) -> String {
    let mut text = String::new();
    for problem in problems {
        let _ = write!(text, "\n  {problem}");
    }
    text
}

/// Cargo does not know that an image depends on the kernel, the linker script and the C library. When one of them
/// has changed since the package was linked, its own results are removed by `clean`, which makes cargo link it
/// anew. `dir` is the folder in which it is built.
///
/// # Errors
/// When cargo fails or a file cannot be written.
pub fn relink_if_changed(clean: Command, dir: &Path, package: &Package, key: &str) -> anyhow::Result<()> {
    let stamp = dir.join(format!("{}.linked-with", package.name));
    if fs::read_to_string(&stamp).is_ok_and(|old| old == key) {
        return Ok(());
    }
    run(clean, "cargo clean")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    fs::write(&stamp, key).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Runs a tool and shows what it says only when it fails.
///
/// # Errors
/// When it fails.
pub fn run(mut command: Command, what: &str) -> anyhow::Result<()> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!("{what} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
