//! The source tree: where it is, what it contains, and cargo.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::{
    project::{self, Package, Project},
    ui::Ui,
};

/// Target of everything that is linked statically: the kernel, domain images, programs for dom0.
pub const MUSL: &str = "x86_64-unknown-linux-musl";

/// What Debian's libxen-dev has for a static program that uses libxenvchan.
const VCHAN_LIBRARIES: [&str; 7] =
    ["-lxenvchan", "-lxenstore", "-lxengnttab", "-lxenevtchn", "-lxentoolcore", "-lxentoollog", "-lxencall"];

/// Environment variable that names the source tree; the launcher sets it.
const ROOT_VARIABLE: &str = "CASEMATE_ROOT";

/// The source tree.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Its folder.
    pub root: PathBuf,
    /// Where everything is built.
    pub target: PathBuf,
}

impl Workspace {
    /// Finds the tree: `CASEMATE_ROOT`, or the nearest one around the current folder or around this program.
    ///
    /// # Errors
    /// When there is none.
    pub fn find() -> anyhow::Result<Self> {
        let named = env::var_os(ROOT_VARIABLE).map(PathBuf::from);
        let starts = [env::current_dir().ok(), env::current_exe().ok()];
        let around = || {
            starts.iter().flatten().flat_map(|s| s.ancestors()).find(|d| is_root(d)).map(Path::to_path_buf)
        };
        let root = match named {
            Some(root) if is_root(&root) => root,
            Some(root) => {
                bail!("{ROOT_VARIABLE} names {}, which is not the Casemate source tree", root.display())
            }
            None => around().context(
                "this is not the Casemate source tree: change into it, or set CASEMATE_ROOT to its folder",
            )?,
        };
        // Cargo and the compiler name files by their real paths.
        let root = root.canonicalize().unwrap_or(root);
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir).context("CARGO_TARGET_DIR")?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// A cargo command in the tree.
    pub fn cargo(&self, subcommand: &str) -> Command {
        project::cargo(&self.root, subcommand)
    }

    /// The tree as a cargo project.
    ///
    /// # Errors
    /// When cargo cannot tell.
    pub fn project(&self) -> anyhow::Result<Project> {
        let mut project = Project::at(&self.root)?;
        project.target.clone_from(&self.target);
        Ok(project)
    }

    /// The packages, in the order of their names.
    ///
    /// # Errors
    /// When cargo cannot tell.
    pub fn packages(&self) -> anyhow::Result<Vec<Package>> {
        Ok(self.project()?.packages)
    }

    /// Builds a Linux program as a static binary, for dom0.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn static_program(&self, package: &str, ui: &Ui) -> anyhow::Result<PathBuf> {
        let mut command = self.cargo("build");
        command.args(["--quiet", "--release", "--package", package, "--target", MUSL]);
        let bar = ui.spinner(format!("building {package}"));
        let built = project::build(command, package);
        bar.finish_and_clear();
        // A program may have a shorter name than its package.
        let program = package.strip_prefix("casemate-").unwrap_or(package);
        let mut built = built?;
        let path = built.remove(package).or_else(|| built.remove(program));
        path.with_context(|| format!("cargo built no program {package}"))
    }

    /// Builds an example of a package as a static Linux binary, for dom0 and Linux guests.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn static_example(&self, package: &str, example: &str, ui: &Ui) -> anyhow::Result<PathBuf> {
        let mut command = self.cargo("build");
        command.args(["--quiet", "--release", "--package", package, "--example", example, "--target", MUSL]);
        let bar = ui.spinner(format!("building {example}"));
        let built = project::build(command, example);
        bar.finish_and_clear();
        built?.remove(example).with_context(|| format!("cargo built no program {example}"))
    }

    /// Builds `tests/peers/NAME.c`, which uses Xen's own libxenvchan, as a static program for dom0 and Linux guests; `flags`
    /// are more for the compiler.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn vchan_program(&self, name: &str, flags: &[&str]) -> anyhow::Result<PathBuf> {
        let dir = self.target.join("peers");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let program = dir.join(name);
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-Wall", "-Werror", "-static"]).args(flags).arg("-o").arg(&program);
        compiler.arg(self.root.join("tests/peers").join(name).with_extension("c")).args(VCHAN_LIBRARIES);
        let output = compiler.output().context("cannot run cc")?;
        if !output.status.success() {
            bail!(
                "{name}, which uses libxenvchan, cannot be built (is libxen-dev there? `casemate setup` installs it):\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(program)
    }

    /// Folder for what the test bed builds and logs.
    pub fn testbed_dir(&self) -> PathBuf {
        self.target.join("testbed")
    }
}

/// Is this the folder of the tree?
fn is_root(dir: &Path) -> bool {
    dir.join("crates/testbed/Cargo.toml").is_file() && dir.join("tools/agent/Cargo.toml").is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_around_this_test_is_found() {
        assert!(is_root(&Workspace::find().unwrap().root));
    }
}
