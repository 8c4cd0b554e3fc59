//! Cargo projects: this tree, or one that lies anywhere else.

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

/// A package is a service without a C library when it uses this one.
const SERVICE: &str = "casemate-service";

/// A cargo workspace, or a package that is none's member.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its folder.
    pub root: PathBuf,
    /// Where cargo builds it.
    pub target: PathBuf,
    /// Its packages, in the order of their names.
    pub packages: Vec<Package>,
}

/// A package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its full name.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Its programs.
    pub bins: Vec<String>,
    /// Is it a service without a C library?
    pub is_domain: bool,
}

/// A program that cargo built: its name and where it is.
pub type Built = BTreeMap<String, PathBuf>;

impl Project {
    /// The project that the folder `dir` belongs to.
    ///
    /// # Errors
    /// When there is none, or its manifest is wrong.
    pub fn at(dir: &Path) -> anyhow::Result<Self> {
        let mut command = cargo(dir, "metadata");
        command.args(["--no-deps", "--format-version", "1"]);
        let output = command.output().context(
            "cannot run cargo: install Rust (https://rustup.rs), or run ./casemate, which says how",
        )?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
            bail!("cargo does not understand {}:\n{text}", dir.display());
        }
        parse_metadata(&output.stdout)
    }

    /// A package by its name, with or without the prefix `casemate-`.
    ///
    /// # Errors
    /// When there is none; the message names those that there are.
    pub fn package(&self, name: &str) -> anyhow::Result<Package> {
        let full = format!("casemate-{name}");
        let found = self.packages.iter().find(|p| p.name == name || p.name == full);
        match found {
            Some(package) if !package.bins.is_empty() => Ok(package.clone()),
            Some(package) => {
                bail!("the package {} is not a domain: it is a library, without a program", package.name)
            }
            None => bail!("there is neither a file nor a package {name:?}; domain packages are: {}", {
                let names = self.packages.iter().filter(|p| p.is_domain).map(|p| p.name.as_str());
                names.map(|n| n.strip_prefix("casemate-").unwrap_or(n)).collect::<Vec<_>>().join(", ")
            }),
        }
    }

    /// The package whose folder `dir` is.
    pub fn package_in(&self, dir: &Path) -> Option<&Package> {
        let dir = dir.canonicalize().ok()?;
        self.packages.iter().find(|p| p.dir.canonicalize().is_ok_and(|d| d == dir))
    }

    /// Folder for finished images.
    pub fn images_dir(&self) -> PathBuf {
        self.target.join("images")
    }
}

/// A cargo command in a folder. Flags in the environment would take the place of those that make a domain.
pub fn cargo(dir: &Path, subcommand: &str) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.arg(subcommand).current_dir(dir);
    command
}

/// Runs a cargo build and returns the programs and libraries that it made. Compiler messages go to the
/// terminal as they come.
///
/// # Errors
/// When cargo fails.
pub fn build(mut command: Command, what: &str) -> anyhow::Result<Built> {
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
                // A build script is a program, too, but none of the package's.
                let program = executable.filter(|_| target.kind.iter().any(|k| k == "bin" || k == "example"));
                if let Some(path) = program.or_else(static_library) {
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

/// A message of cargo (`cargo build --message-format=json`).
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Target,
    executable: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

fn parse_metadata(json: &[u8]) -> anyhow::Result<Project> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<RawPackage>,
        workspace_root: PathBuf,
        target_directory: PathBuf,
    }
    #[derive(Deserialize)]
    struct RawPackage {
        name: String,
        manifest_path: PathBuf,
        dependencies: Vec<Named>,
        targets: Vec<Target>,
    }
    #[derive(Deserialize)]
    struct Named {
        name: String,
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
            dir: p.manifest_path.parent().map(Path::to_path_buf).unwrap_or_default(),
            name: p.name,
        })
        .collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Project { root: metadata.workspace_root, target: metadata.target_directory, packages })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_told_apart() {
        let json = br#"{"workspace_root":"/w","target_directory":"/w/target","packages":[
            {"name":"casemate-hello","manifest_path":"/w/hello/Cargo.toml",
             "dependencies":[{"name":"casemate-service"}],
             "targets":[{"name":"casemate-hello","kind":["bin"]}]},
            {"name":"casemate-agent","manifest_path":"/w/agent/Cargo.toml","dependencies":[],
             "targets":[{"name":"x","kind":["lib"]}]}]}"#;
        let project = parse_metadata(json).unwrap();
        let packages = &project.packages;
        assert_eq!(packages[0].name, "casemate-agent");
        assert!(!packages[0].is_domain && packages[0].bins.is_empty());
        assert!(packages[1].is_domain && packages[1].bins == ["casemate-hello"]);
        assert_eq!(packages[1].dir, Path::new("/w/hello"));
        assert_eq!(project.images_dir(), Path::new("/w/target/images"));
        assert!(project.package("hello").is_ok());
        assert!(project.package("agent").unwrap_err().to_string().contains("not a domain"));
        assert!(project.package("other").unwrap_err().to_string().contains("domain packages are: hello"));
    }
}
