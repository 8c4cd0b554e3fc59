//! Kernels: what a program is linked with below its C library.
//!
//! A kernel is one relocatable object inside the start file: `lib/kernel/NAME/crt1.o` holds musl's `_start`
//! and the kernel, and `lib/kernel/NAME/link.ld` is the linker script that goes with it. Because the start
//! file is part of every link, `configure` checks, cargo, clang and plain `gcc hello.c` work without options.
//!
//! All symbols of the kernel become local except the `libos_*` entry points, so a `no_std` Rust kernel and a
//! program with Rust's `std` (each with its own allocator, panic handler and `core`) do not collide.

use crate::assets;
use crate::cache;
use crate::error::{At, Error, Result};
use crate::install::{Options, Sdk};
use crate::run::Step;
use std::fs;
use std::path::Path;

/// The kernel of the library OS: images for it boot as Xen domains.
pub const LIBOS: &str = "libos";
/// The stand-in: a Linux process that gets the answers of a domain.
pub const STANDIN: &str = "standin";
/// The stand-in with files, for test suites that write some.
pub const STANDIN_FILES: &str = "standin-files";

/// Name of the link to the kernel that is used unless another one is asked for.
pub(crate) const DEFAULT: &str = "default";

/// File in a kernel's folder that tells what it was made from.
const STAMP: &str = "stamp";

/// Installs kernel `name` from its object file or static library (`liblibos.a`) and its linker script.
pub(crate) fn install(
    options: &Options,
    sdk: &Sdk,
    name: &str,
    object: &Path,
    script: Option<&Path>,
) -> Result<()> {
    if !object.is_file() {
        return Err(Error::Malformed {
            path: object.to_path_buf(),
            reason: "no such kernel object".to_owned(),
        });
    }
    let dir = sdk.kernel_dir(name);
    let mut inputs = vec![cache::sha256(&sdk.sysroot().join("lib/crt1-musl.o"))?, cache::sha256(object)?];
    if let Some(script) = script {
        inputs.push(cache::sha256(script)?);
    }
    let stamp = cache::sha256_parts(inputs.iter().map(String::as_bytes));
    if fs::read_to_string(dir.join(STAMP)).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    let log = options.log(&format!("kernel-{name}"));
    let work = options.cache.join("build").join(format!("kernel-{name}"));
    if work.exists() {
        fs::remove_dir_all(&work).at(&work)?;
    }
    fs::create_dir_all(&work).at(&work)?;
    let what = |step: &str| format!("{step} (kernel {name})");
    // Prebuilt Rust objects carry LLVM bitcode, on which some versions of GNU ld abort.
    let stripped = work.join(if is_archive(object)? { "kernel.a" } else { "kernel.o" });
    Step::new(what("drop bitcode"), "objcopy", &log)
        .args(["--remove-section=.llvmbc", "--remove-section=.llvmcmd"])
        .arg(object)
        .arg(&stripped)
        .run()?;
    let joined = work.join("joined.o");
    Step::new(what("join the kernel with crt1.o"), "ld", &log)
        .args(["-m", "elf_x86_64", "-r", "-o"])
        .arg(&joined)
        .arg(sdk.sysroot().join("lib/crt1-musl.o"))
        .arg("--whole-archive")
        .arg(&stripped)
        .run()?;
    let crt1 = work.join("crt1.o");
    Step::new(what("make the kernel's symbols local"), "objcopy", &log)
        .args(["--wildcard", "--keep-global-symbol=libos_*", "--keep-global-symbol=_start"])
        // Prebuilt objects of Rust's core refer to the unwinder, which a kernel that aborts never calls.
        .args(["--weaken-symbol=rust_eh_personality", "--weaken-symbol=_Unwind_Resume"])
        .arg(&joined)
        .arg(&crt1)
        .run()?;
    if let Some(script) = script {
        let to = work.join("link.ld");
        fs::copy(script, &to).at(script)?;
    }
    for file in [&stripped, &joined] {
        fs::remove_file(file).at(file)?;
    }
    fs::write(work.join(STAMP), stamp).at(&work)?;
    if dir.exists() {
        fs::remove_dir_all(&dir).at(&dir)?;
    }
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent).at(parent)?;
    }
    copy_dir(&work, &dir)
}

/// Compiles the stand-in kernel and installs it with and without files.
pub(crate) fn install_standin(options: &Options, sdk: &Sdk) -> Result<()> {
    let source = options.cache.join("build/standin");
    fs::create_dir_all(&source).at(&source)?;
    for asset in assets::STANDIN {
        let path = source.join(asset.path);
        fs::write(&path, asset.text).at(&path)?;
    }
    for (name, flags) in [(STANDIN, &[][..]), (STANDIN_FILES, &["-DSTANDIN_FILES"][..])] {
        let log = options.log(&format!("kernel-{name}"));
        let mut objects = Vec::new();
        for file in ["standin.S", "standin.c"] {
            let object = source.join(format!("{file}.o"));
            // The compiler alone: the wrapper links nothing before there is a kernel.
            Step::new(format!("compile {file}"), "gcc", &log)
                .args(["-nostdinc", "-isystem"])
                .arg(sdk.sysroot().join("include"))
                .args([
                    "-Os",
                    "-g1",
                    "-Wall",
                    "-Wextra",
                    "-ffreestanding",
                    "-fno-pie",
                    "-fno-stack-protector",
                ])
                .args(["-fcf-protection=none", "-ffunction-sections", "-fdata-sections", "-U_FORTIFY_SOURCE"])
                .arg(format!("-ffile-prefix-map={}=standin", source.display()))
                .args(flags)
                .arg("-c")
                .arg(source.join(file))
                .arg("-o")
                .arg(&object)
                .run()?;
            objects.push(object);
        }
        let object = source.join("standin.o");
        Step::new("join the stand-in", "ld", &log)
            .args(["-m", "elf_x86_64", "-r", "-o"])
            .arg(&object)
            .args(&objects)
            .run()?;
        install(options, sdk, name, &object, Some(&source.join("link.ld")))?;
    }
    Ok(())
}

/// Makes `name` the kernel that links use unless told otherwise.
pub(crate) fn set_default(sdk: &Sdk, name: &str) -> Result<()> {
    replace_link(&sdk.kernel_dir(DEFAULT), Path::new(name))?;
    // Where a compiler without our -B options looks.
    replace_link(&sdk.sysroot().join("lib/crt1.o"), &Path::new("kernel").join(DEFAULT).join("crt1.o"))
}

fn replace_link(link: &Path, target: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let new = link.with_extension("new");
    let _ = fs::remove_file(&new);
    std::os::unix::fs::symlink(target, &new).at(&new)?;
    fs::rename(&new, link).at(link)
}

fn is_archive(path: &Path) -> Result<bool> {
    use std::io::Read as _;
    let mut magic = [0; 8];
    let mut file = fs::File::open(path).at(path)?;
    Ok(file.read_exact(&mut magic).is_ok() && &magic == b"!<arch>\n")
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).at(to)?;
    for entry in fs::read_dir(from).at(from)? {
        let entry = entry.at(from)?;
        fs::copy(entry.path(), to.join(entry.file_name())).at(entry.path())?;
    }
    Ok(())
}
