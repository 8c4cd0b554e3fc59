//! Kernels: what a program is linked with below its C library.
//!
//! A kernel is one relocatable object inside the start file: `lib/kernel/NAME/crt1.o` holds musl's `_start`
//! and the kernel, and `lib/kernel/NAME/link.ld` is the linker script that goes with it. Because the start
//! file is part of every link, `configure` checks, cargo, clang and plain `gcc hello.c` work without options.
//!
//! All symbols of the kernel become local except the `libos_*` entry points, so a `no_std` Rust kernel and a
//! program with Rust's `std` (each with its own allocator, panic handler and `core`) do not collide.

use crate::assets::{self, Asset};
use crate::cache;
use crate::error::{At, Error, Result};
use crate::install::{Options, Sdk};
use crate::run::Step;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt, fs};

/// The kernel of the library OS: images for it boot as Xen domains.
pub const LIBOS: &str = "libos";
/// The same with scratch files in memory, which are gone when the domain ends.
pub const LIBOS_FILES: &str = "libos-files";
/// The stand-in: a Linux process that gets the answers of a domain.
pub const STANDIN: &str = "standin";
/// The stand-in with files, for test suites that write some.
pub const STANDIN_FILES: &str = "standin-files";

/// Name of the link to the kernel that is used unless another one is asked for.
pub(crate) const DEFAULT: &str = "default";

/// Changes when a kernel's folder is to be made anew from the same files.
const LAYOUT: &[u8] = b"3";

/// File in a kernel's folder that tells what it was made from.
const STAMP: &str = "stamp";

/// What a program and a kernel call each other by.
const ENTRY_POINTS: &str = "libos_*";

/// The tools that make a kernel's object file.
///
/// They are those of the Rust toolchain; where a distribution's Rust comes without them, LLVM's or GNU's of the
/// same purpose serve.
#[derive(Clone, Debug)]
pub struct Tools {
    linker: PathBuf,
    objcopy: PathBuf,
}

impl Tools {
    /// Finds them in the Rust toolchain, else in the search path.
    pub fn find() -> Result<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let sysroot = Command::new(rustc).args(["--print", "sysroot"]).output().ok();
        let sysroot = sysroot.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()));
        let libraries = sysroot.and_then(|root| fs::read_dir(root.join("lib/rustlib")).ok());
        let mut dirs: Vec<_> = libraries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .filter(|dir| dir.is_dir())
            .collect();
        dirs.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
        // A tool may be there and not run: some toolchains come without the library that rust-objcopy wants.
        let runs = |path: &PathBuf| {
            let mut command = Command::new(path);
            if is_rust_lld(path) {
                command.args(["-flavor", "gnu"]);
            }
            command.arg("--version").output().is_ok_and(|out| out.status.success())
        };
        let find = |names: &[&'static str]| {
            let candidates =
                |name| dirs.iter().map(move |dir: &PathBuf| dir.join(name)).filter(|p| p.is_file());
            let found = names.iter().flat_map(|name| candidates(*name)).find(runs);
            found.ok_or_else(|| Error::Missing {
                what: "make the kernel's object file".to_owned(),
                program: names.join("` or `"),
                package: "lld binutils",
                source: std::io::ErrorKind::NotFound.into(),
            })
        };
        Ok(Self {
            linker: find(&["rust-lld", "ld.lld"])?,
            objcopy: find(&["rust-objcopy", "llvm-objcopy", "objcopy"])?,
        })
    }

    /// The linker for domain images that need no C library.
    pub fn linker(&self) -> &Path {
        &self.linker
    }

    /// The tool that strips.
    pub fn objcopy(&self) -> &Path {
        &self.objcopy
    }
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        write!(f, "{}, {}", name(&self.linker), name(&self.objcopy))
    }
}

/// `rust-lld` plays several linkers and has to be told which.
fn is_rust_lld(linker: &Path) -> bool {
    linker.file_name().is_some_and(|name| name == "rust-lld")
}

/// Makes the kernel's object file `object` from its static library: what its entry points reach, with every other
/// symbol local, and `_start` to be filled in. This one file lies below services without a C library, and,
/// joined with a C library's start file, below all other programs ([`KernelFiles`](crate::KernelFiles)).
pub fn object(tools: &Tools, library: &Path, object: &Path) -> Result<()> {
    object_of(tools, library, object, ENTRY_POINTS)
}

/// The same for any static library of Rust below or beside a C program: what the names that match `exports` reach,
/// with every other symbol local.
pub fn object_of(tools: &Tools, library: &Path, object: &Path, exports: &str) -> Result<()> {
    // Files of this process's own: others may make the same object at this time.
    let own = |name: &str| object.with_extension(format!("{}.{name}", std::process::id()));
    let (log, whole, done) = (own("log"), own("whole.o"), own("new.o"));
    let mut link = Step::new("link an object", &tools.linker, &log);
    if is_rust_lld(&tools.linker) {
        link = link.args(["-flavor", "gnu"]);
    }
    link.args(["-r", "--undefined-glob", exports, "-o"]).arg(&whole).arg(library).run()?;
    localise(&tools.objcopy, &[exports], &whole, &done, &log)?;
    fs::rename(&done, object).at(object)?;
    // After a failure they stay, to be looked at.
    [&whole, &log].into_iter().try_for_each(|file| fs::remove_file(file).at(file))
}

/// Makes all symbols local but these.
fn localise(objcopy: &Path, keep: &[&str], from: &Path, to: &Path, log: &Path) -> Result<()> {
    Step::new("make symbols local", objcopy, log)
        // Objects of Rust carry LLVM bitcode, on which some versions of GNU ld abort.
        .args(["--remove-section=.llvmbc", "--remove-section=.llvmcmd", "--wildcard"])
        // Nothing unwinds through a kernel; debuggers follow its frame pointers.
        .args(["--remove-section=.eh_frame", "--remove-section=.rela.eh_frame"])
        .args(keep.iter().map(|name| format!("--keep-global-symbol={name}")))
        .arg(from)
        .arg(to)
        .run()
}

/// Installs kernel `name` from its object file and its linker script.
pub(crate) fn install(options: &Options, sdk: &Sdk, name: &str, object: &Path, script: &Path) -> Result<()> {
    if !is_object(object)? {
        return Err(Error::Malformed {
            path: object.to_path_buf(),
            reason: "not the object file of a kernel (see sdk::kernel::object)".to_owned(),
        });
    }
    let dir = sdk.kernel_dir(name);
    let start = sdk.sysroot().join("lib/crt1-musl.o");
    let inputs = [&start, object, script].map(cache::sha256).into_iter().collect::<Result<Vec<_>>>()?;
    let stamp = cache::sha256_parts(inputs.iter().map(String::as_bytes).chain([LAYOUT]));
    if fs::read_to_string(dir.join(STAMP)).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    if name == LIBOS {
        (options.report)("linking the kernel into crt1.o");
    }
    let log = options.log(&format!("kernel-{name}"));
    let work = options.cache.join("build").join(format!("kernel-{name}"));
    if work.exists() {
        fs::remove_dir_all(&work).at(&work)?;
    }
    fs::create_dir_all(&work).at(&work)?;
    let joined = work.join("joined.o");
    Step::new(format!("join kernel {name} with crt1.o"), "ld", &log)
        .args(["-m", "elf_x86_64", "-r", "-o"])
        .arg(&joined)
        .arg(&start)
        .arg(object)
        .run()?;
    localise(Path::new("objcopy"), &[ENTRY_POINTS, "_start"], &joined, &work.join("crt1.o"), &log)?;
    fs::remove_file(&joined).at(&joined)?;
    fs::copy(script, work.join("link.ld")).at(script)?;
    if name == LIBOS {
        // For programs that cannot unwind: no tables for it.
        let text = fs::read_to_string(script).at(script)?;
        let tables = "*(.gcc_except_table .gcc_except_table.*) \
                      *(EXCLUDE_FILE(*crtbeginT.o *crtend.o) .eh_frame EXCLUDE_FILE(*crtbeginT.o *crtend.o) .eh_frame.*)";
        let text = text.replacen("SECTIONS {", &format!("SECTIONS {{\n  /DISCARD/ : {{ {tables} }}"), 1);
        let small = work.join("link-small.ld");
        fs::write(&small, text).at(&small)?;
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

/// Installs the library OS kernel, alone and below scratch files in memory.
pub(crate) fn install_libos(options: &Options, sdk: &Sdk, object: &Path, script: &Path) -> Result<()> {
    install(options, sdk, LIBOS, object, script)?;
    let dir = options.cache.join("build/files");
    fs::create_dir_all(&dir).at(&dir)?;
    let log = options.log(&format!("kernel-{LIBOS_FILES}"));
    let kernel = dir.join("kernel.o");
    Step::new("put files before the kernel", "objcopy", &log)
        .args([
            "--redefine-sym=libos_syscall=kernel_syscall",
            "--redefine-sym=libos_syscall_cp=kernel_syscall_cp",
        ])
        .arg(object)
        .arg(&kernel)
        .run()?;
    let joined = compile(options, sdk, LIBOS_FILES, &dir, assets::FILES, &[], &[&kernel])?;
    install(options, sdk, LIBOS_FILES, &joined, script)
}

/// Compiles the stand-in kernel and installs it with and without files.
pub(crate) fn install_standin(options: &Options, sdk: &Sdk) -> Result<()> {
    let dir = options.cache.join("build/standin");
    fs::create_dir_all(&dir).at(&dir)?;
    for (name, flags) in [(STANDIN, &[][..]), (STANDIN_FILES, &["-DSTANDIN_FILES"][..])] {
        let object = compile(options, sdk, name, &dir, assets::STANDIN, flags, &[])?;
        install(options, sdk, name, &object, &dir.join("link.ld"))?;
    }
    Ok(())
}

/// Compiles the C and assembly files among `sources` in `dir` and joins them with `more` objects.
fn compile(
    options: &Options,
    sdk: &Sdk,
    name: &str,
    dir: &Path,
    sources: &[Asset],
    flags: &[&str],
    more: &[&Path],
) -> Result<PathBuf> {
    let log = options.log(&format!("kernel-{name}"));
    let mut objects = Vec::new();
    for asset in sources {
        let path = dir.join(asset.path);
        fs::write(&path, asset.text).at(&path)?;
    }
    for file in sources.iter().map(|asset| asset.path).filter(|p| p.ends_with(".c") || p.ends_with(".S")) {
        let object = dir.join(format!("{file}.o"));
        // The compiler alone: the wrapper links nothing before there is a kernel.
        Step::new(format!("compile {file}"), "gcc", &log)
            .args(["-nostdinc", "-isystem"])
            .arg(sdk.sysroot().join("include"))
            .args(["-Os", "-g1", "-Wall", "-Wextra", "-ffreestanding", "-fno-pie", "-fno-stack-protector"])
            .args(["-fcf-protection=none", "-ffunction-sections", "-fdata-sections", "-U_FORTIFY_SOURCE"])
            .arg(format!("-ffile-prefix-map={}=sdk", dir.display()))
            .args(flags)
            .arg("-c")
            .arg(dir.join(file))
            .arg("-o")
            .arg(&object)
            .run()?;
        objects.push(object);
    }
    let joined = dir.join(format!("{name}.o"));
    Step::new(format!("join kernel {name}"), "ld", &log)
        .args(["-m", "elf_x86_64", "-r", "-o"])
        .arg(&joined)
        .args(&objects)
        .args(more)
        .run()?;
    Ok(joined)
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

fn is_object(path: &Path) -> Result<bool> {
    use std::io::Read as _;
    let mut header = [0; 18];
    let mut file = fs::File::open(path).at(path)?;
    // e_type 1: relocatable.
    Ok(file.read_exact(&mut header).is_ok()
        && header.starts_with(b"\x7fELF\x02\x01")
        && header[16..] == [1, 0])
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).at(to)?;
    for entry in fs::read_dir(from).at(from)? {
        let entry = entry.at(from)?;
        fs::copy(entry.path(), to.join(entry.file_name())).at(entry.path())?;
    }
    Ok(())
}
