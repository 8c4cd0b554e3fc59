//! The source tree: where it is, what it contains, and cargo.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::ui::Ui;

/// Target of everything that is linked statically: the kernel, domain images, programs for dom0.
pub const MUSL: &str = "x86_64-unknown-linux-musl";

/// Environment variable that names the source tree; the launcher sets it.
const ROOT_VARIABLE: &str = "CASEMATE_ROOT";

/// A package is a domain when it uses this one.
const SERVICE: &str = "casemate-service";

/// The source tree.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Its folder.
    pub root: PathBuf,
    /// Where everything is built.
    pub target: PathBuf,
}

/// A package of the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its full name.
    pub name: String,
    /// Its programs.
    pub bins: Vec<String>,
    /// Does it become domain images?
    pub is_domain: bool,
}

/// A program that cargo built: its name and where it is.
pub type Built = BTreeMap<String, PathBuf>;

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
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => std::path::absolute(dir).context("CARGO_TARGET_DIR")?,
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// A cargo command in the tree.
    pub fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
        command.arg(subcommand).current_dir(&self.root);
        command
    }

    /// The packages, in the order of their names.
    ///
    /// # Errors
    /// When cargo cannot tell.
    pub fn packages(&self) -> anyhow::Result<Vec<Package>> {
        let mut command = self.cargo("metadata");
        command.args(["--no-deps", "--format-version", "1"]).stderr(Stdio::inherit());
        let output = command.output().context(
            "cannot run cargo: install Rust (https://rustup.rs), or run ./casemate, which says how",
        )?;
        if !output.status.success() {
            bail!("cargo metadata failed");
        }
        parse_metadata(&output.stdout)
    }

    /// A package by its name, with or without the prefix `casemate-`.
    ///
    /// # Errors
    /// When there is none; the message names those that there are.
    pub fn package(&self, name: &str) -> anyhow::Result<Package> {
        let packages = self.packages()?;
        let full = format!("casemate-{name}");
        let found = packages.iter().find(|p| p.name == name || p.name == full);
        match found {
            Some(package) if package.is_domain => Ok(package.clone()),
            Some(package) => bail!("the package {} is not a domain: it does not use {SERVICE}", package.name),
            None => bail!("there is neither a file nor a package {name:?}; domain packages are: {}", {
                let names = packages.iter().filter(|p| p.is_domain).map(|p| p.name.as_str());
                names.map(|n| n.strip_prefix("casemate-").unwrap_or(n)).collect::<Vec<_>>().join(", ")
            }),
        }
    }

    /// Runs a cargo build and returns the programs and libraries that it made. Compiler messages go to the
    /// terminal as they come.
    ///
    /// # Errors
    /// When cargo fails.
    pub fn build(&self, mut command: Command, what: &str) -> anyhow::Result<Built> {
        command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot run cargo")?;
        let mut built = Built::new();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                let line = line.context("cannot read what cargo prints")?;
                if let Ok(Message { reason, target, executable, filenames }) = serde_json::from_str(&line)
                    && reason == "compiler-artifact"
                {
                    let static_library =
                        || filenames.into_iter().find(|f| f.extension().is_some_and(|e| e == "a"));
                    if let Some(path) = executable.or_else(static_library) {
                        built.insert(target.name, path);
                    }
                }
            }
        }
        let status = child.wait().context("cannot wait for cargo")?;
        if !status.success() {
            bail!("building {what} failed");
        }
        Ok(built)
    }

    /// Builds a Linux program as a static binary, for dom0.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn static_program(&self, package: &str, ui: &Ui) -> anyhow::Result<PathBuf> {
        let mut command = self.cargo("build");
        command.args(["--quiet", "--release", "--package", package, "--target", MUSL]);
        let bar = ui.spinner(format!("building {package}"));
        let built = self.build(command, package);
        bar.finish_and_clear();
        // A program may have a shorter name than its package.
        let program = package.strip_prefix("casemate-").unwrap_or(package);
        let mut built = built?;
        let path = built.remove(package).or_else(|| built.remove(program));
        path.with_context(|| format!("cargo built no program {package}"))
    }

    /// Folder for what the test bed builds and logs.
    pub fn testbed_dir(&self) -> PathBuf {
        self.target.join("testbed")
    }

    /// Folder for finished images.
    pub fn images_dir(&self) -> PathBuf {
        self.target.join("images")
    }
}

fn is_root(dir: &Path) -> bool {
    dir.join("crates/testbed/Cargo.toml").is_file() && dir.join("tools/agent/Cargo.toml").is_file()
}

/// A message of cargo (`cargo build --message-format=json`).
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: MessageTarget,
    executable: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct MessageTarget {
    name: String,
}

fn parse_metadata(json: &[u8]) -> anyhow::Result<Vec<Package>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<RawPackage>,
    }
    #[derive(Deserialize)]
    struct RawPackage {
        name: String,
        dependencies: Vec<Named>,
        targets: Vec<RawTarget>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    #[derive(Deserialize)]
    struct RawTarget {
        name: String,
        kind: Vec<String>,
    }
    let metadata: Metadata =
        serde_json::from_slice(json).context("cargo metadata printed something unknown")?;
    let mut packages: Vec<_> = metadata
        .packages
        .into_iter()
        .map(|p| Package {
            is_domain: p.dependencies.iter().any(|d| d.name == SERVICE),
            bins: p
                .targets
                .into_iter()
                .filter(|t| t.kind.iter().any(|k| k == "bin"))
                .map(|t| t.name)
                .collect(),
            name: p.name,
        })
        .collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_apart() {
        let json = br#"{"packages":[
            {"name":"casemate-hello","dependencies":[{"name":"casemate-service"}],
             "targets":[{"name":"casemate-hello","kind":["bin"]}]},
            {"name":"casemate-agent","dependencies":[],"targets":[{"name":"x","kind":["lib"]}]}]}"#;
        let packages = parse_metadata(json).unwrap();
        assert_eq!(packages[0].name, "casemate-agent");
        assert!(!packages[0].is_domain && packages[0].bins.is_empty());
        assert!(packages[1].is_domain && packages[1].bins == ["casemate-hello"]);
    }

    #[test]
    fn the_tree_around_this_test_is_found() {
        assert!(is_root(&Workspace::find().unwrap().root));
    }
}
