//! Programs of a folder with a Makefile: any C program that is built with `make` and `$(CC)`.
//!
//! The Makefile runs with the SDK's commands first in `PATH`, and with `CC` and its like set to them. What it
//! makes is found by looking: programs that carry Xen's notes are domain images, those that carry the stand-in's
//! are Linux processes.

use std::{
    env, fs,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use anyhow::{Context, bail};
use sdk::{
    Sdk,
    check::{self as sdk_check, Kind},
    kernel,
};

use super::{check, finish::Image};
use crate::ui::Ui;

/// Names under which GNU make looks for its file.
const NAMES: [&str; 3] = ["GNUmakefile", "makefile", "Makefile"];

/// Folders below the Makefile's in which programs are looked for.
const DEPTH: u32 = 3;

/// Larger files are not looked at.
const LARGEST: u64 = 256 << 20;

/// Is there a Makefile in this folder?
pub fn has_makefile(dir: &Path) -> bool {
    NAMES.iter().any(|name| dir.join(name).is_file())
}

/// Runs make and returns the domain images that it made.
///
/// # Errors
/// When make fails, or there is none, or one is not fit to boot.
pub fn images(sdk: &Sdk, dir: &Path, ui: &Ui) -> anyhow::Result<Vec<Image>> {
    let programs = programs(sdk, dir, Kind::Domain, ui)?;
    let images = programs.into_iter().map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Image { name, debug: path.clone(), info: check::check_file(&path)?, path })
    });
    images.collect()
}

/// Runs make and returns the programs of this kind that it made.
///
/// # Errors
/// When make fails, or there is none.
pub fn programs(sdk: &Sdk, dir: &Path, kind: Kind, ui: &Ui) -> anyhow::Result<Vec<PathBuf>> {
    make(sdk, dir, kind, false, ui)?;
    let (mut right, wrong) = find(dir, kind);
    let kernel = sdk.kernel_dir(kernel_of(kind)).join("crt1.o");
    let libraries = [kernel, sdk.sysroot().join("lib/libidc.a")];
    let is_old = |program: &PathBuf| libraries.iter().any(|library| modified(program) < modified(library));
    if (right.is_empty() && !wrong.is_empty()) || right.iter().any(is_old) {
        // Make does not know that the kernel and the SDK's libraries are something that its programs depend on.
        make(sdk, dir, kind, true, ui)?;
        right = find(dir, kind).0;
    }
    if right.is_empty() {
        bail!(
            "make in {} made no domain image: does its Makefile use $(CC), or x86_64-casemate-linux-musl-gcc?",
            dir.display()
        );
    }
    Ok(right)
}

fn make(sdk: &Sdk, dir: &Path, kind: Kind, all: bool, ui: &Ui) -> anyhow::Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([sdk.bin()].into_iter().chain(env::split_paths(&path)))?;
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new("make");
    command.current_dir(dir).env("PATH", path).arg(format!("-j{jobs}"));
    for (variable, tool) in [("CC", "gcc"), ("AR", "ar"), ("RANLIB", "ranlib"), ("STRIP", "strip")] {
        command.env(variable, sdk.tool(tool));
    }
    command.env("CASEMATE_KERNEL", kernel_of(kind));
    if all {
        command.arg("--always-make");
    }
    let bar = ui.spinner(format!("make in {}", dir.display()));
    let output = command.output();
    bar.finish_and_clear();
    let output = output.context("cannot run make: `casemate setup` installs it")?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        bail!("make in {} failed:\n{}", dir.display(), String::from_utf8_lossy(&text).trim_end());
    }
    Ok(())
}

fn kernel_of(kind: Kind) -> &'static str {
    if kind == Kind::Domain { kernel::LIBOS } else { kernel::STANDIN }
}

fn modified(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|m| m.modified()).ok()
}

/// Programs of this kind and of the other one, sorted by path.
fn find(dir: &Path, kind: Kind) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut files = Vec::new();
    walk(dir, DEPTH, &mut files);
    files.sort();
    let (mut right, mut wrong) = (Vec::new(), Vec::new());
    for file in files {
        match fs::read(&file).ok().as_deref().and_then(sdk_check::kind_of) {
            Some(found) if found == kind => right.push(file),
            Some(_) => wrong.push(file),
            None => {}
        }
    }
    (right, wrong)
}

/// Collects the ELF files of a folder that are linked programs; links, hidden files and `NAME.debug`, which has the
/// symbols of `NAME`, are left out.
fn walk(dir: &Path, depth: u32, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, Ok(kind)) = (entry.path(), entry.file_type()) else { continue };
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() && depth > 0 {
            walk(&path, depth - 1, files);
        } else if kind.is_file() && path.extension().is_none_or(|e| e != "debug") && is_program(&path) {
            files.push(path);
        }
    }
}

fn is_program(path: &Path) -> bool {
    let mut header = [0; 18];
    let Ok(mut file) = fs::File::open(path) else { return false };
    // e_type 2: a linked program with fixed addresses.
    file.read_exact(&mut header).is_ok()
        && header.starts_with(b"\x7fELF\x02\x01")
        && header[16..] == [2, 0]
        && file.metadata().is_ok_and(|m| m.len() <= LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sample::spinning_image;

    #[test]
    fn images_are_found_among_other_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("main.c", b"int main;");
        write("short", b"\x7fELF");
        write("build/one", &spinning_image());
        write("two", &spinning_image());
        write("two.debug", &spinning_image());
        write(".git/three", &spinning_image());
        write("cut", &spinning_image()[..100]);
        let (right, wrong) = find(dir.path(), Kind::Domain);
        assert_eq!(right, [dir.path().join("build/one"), dir.path().join("two")]);
        assert!(wrong.is_empty());
        assert_eq!(find(dir.path(), Kind::LinuxProcess), (wrong, right));
        assert!(!has_makefile(dir.path()));
        write("makefile", b"all:");
        assert!(has_makefile(dir.path()));
    }
}
