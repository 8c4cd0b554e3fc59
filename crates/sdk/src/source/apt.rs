//! Debian source and binary packages.
//!
//! Source packages come from a suite that the machine itself may not use, so apt runs with private lists and
//! cache folders: nothing of the system's apt state is read except the archive's address, or changed. It
//! works without root.

use crate::error::{At, Error, Result};
use crate::run::Step;
use std::fs;
use std::path::{Path, PathBuf};

/// The suite whose source packages are used: the first one with musl 1.2.5.
pub(crate) const SUITE: &str = "trixie";

/// Where Debian keeps the archive's keys.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Address of the Debian archive in the machine's own apt configuration.
fn archive(log: &Path) -> Result<String> {
    let targets = Step::new("look for the Debian archive", "apt-get", log)
        .args([
            "indextargets",
            "--format",
            "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(COMPONENT)",
            "Created-By: Packages",
        ])
        .output()?;
    targets.lines().find_map(|line| line.strip_suffix("|Debian|Debian|main")).map(str::to_owned).ok_or_else(
        || Error::Source {
            what: "Debian source packages".to_owned(),
            reason: "apt on this machine knows no Debian archive (run `apt-get update` first; on another \
                     distribution give the source by path, e.g. `--musl-source`)"
                .to_owned(),
        },
    )
}

/// Downloads the files of a Debian source package of `suite` into `cache` and returns their folder.
///
/// Not every mirror serves every file: the caller takes what it needs by checksum, so a partial download is
/// not an error here.
pub(crate) fn source_package(package: &str, suite: &str, cache: &Path, log: &Path) -> Result<PathBuf> {
    let apt = cache.join("apt");
    let download = apt.join("source").join(package);
    for dir in [&apt.join("lists/partial"), &apt.join("archives/partial"), &download] {
        fs::create_dir_all(dir).at(dir)?;
    }
    let sources = apt.join(format!("{suite}.sources"));
    let mut text = format!("Types: deb-src\nURIs: {}\nSuites: {suite}\nComponents: main\n", archive(log)?);
    if Path::new(KEYRING).exists() {
        text.push_str(&format!("Signed-By: {KEYRING}\n"));
    }
    fs::write(&sources, text).at(&sources)?;
    let options = [
        format!("Dir::Etc::sourcelist={}", sources.display()),
        "Dir::Etc::sourceparts=-".to_owned(),
        format!("Dir::State::lists={}", apt.join("lists").display()),
        format!("Dir::Cache={}", apt.display()),
        "APT::Sandbox::User=root".to_owned(),
        "Acquire::Languages=none".to_owned(),
    ];
    let apt_get = |what: &str| {
        let step = Step::new(format!("{what} (source package {package})"), "apt-get", log).dir(&download);
        options.iter().fold(step, |step, option| step.arg("-o").arg(option))
    };
    apt_get("read Debian's list of sources").arg("update").run()?;
    match apt_get("download").args(["source", "--download-only"]).arg(package).run() {
        Ok(()) | Err(Error::Command { .. }) => Ok(download),
        Err(error) => Err(error),
    }
}

/// Downloads a binary package of the machine's own suite into `cache`, unpacks it into `dir`, and returns the
/// package's file name. apt checks it against the archive's signature.
pub(crate) fn unpack_binary_package(package: &str, cache: &Path, dir: &Path, log: &Path) -> Result<String> {
    let debs = cache.join("deb");
    fs::create_dir_all(&debs).at(&debs)?;
    let prefix = format!("{package}_");
    let find = || -> Result<Option<PathBuf>> {
        let mut found: Vec<PathBuf> = fs::read_dir(&debs)
            .at(&debs)?
            .filter_map(|entry| entry.ok().map(|e| e.path()))
            .filter(|p| p.extension().is_some_and(|e| e == "deb"))
            .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&prefix)))
            .collect();
        found.sort();
        Ok(found.pop())
    };
    if find()?.is_none() {
        Step::new(format!("download package {package}"), "apt-get", log)
            .args(["-o", "APT::Sandbox::User=root", "download"])
            .arg(package)
            .dir(&debs)
            .run()?;
    }
    let deb = find()?.ok_or_else(|| Error::Source {
        what: format!("Debian package {package}"),
        reason: "apt-get downloaded nothing; see the log".to_owned(),
    })?;
    if dir.exists() {
        fs::remove_dir_all(dir).at(dir)?;
    }
    fs::create_dir_all(dir).at(dir)?;
    Step::new(format!("unpack {package}"), "dpkg-deb", log).arg("--extract").arg(&deb).arg(dir).run()?;
    Ok(deb.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default())
}
