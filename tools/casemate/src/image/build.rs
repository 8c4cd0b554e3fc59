//! How the kernel object and domain images are built.
//!
//! 1. The kernel becomes a static library, and that one relocatable object that holds only what its entry points
//!    (`libos_*`) reach. All of its other symbols are made local, so that it cannot collide with those of an
//!    application, and it has one hole: `_start`.
//! 2. A domain package is built like any static program, with the kernel object and its linker script on the
//!    linker's command line.
//! 3. The result is checked (boot notes, no memory writable and executable at once) and stripped.
//!
//! The tools are those of the Rust toolchain (`rust-lld`, `rust-objcopy`); where a distribution's Rust comes
//! without them, LLVM's or GNU's of the same purpose serve.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::check::{self, ImageInfo};
use crate::{
    ui::Ui,
    workspace::{MUSL, Package, Workspace},
};

/// Package of the kernel.
pub const KERNEL: &str = "casemate-libos";

/// Pattern of the symbols by which applications reach the kernel, and by which Xen enters it.
const ENTRY_POINTS: &str = "libos_*";

/// Profile of the kernel and of images, in the workspace's `Cargo.toml`.
pub const PROFILE: &str = "domain";

/// Flags for every line of code in a domain. Images have fixed addresses; frame pointers make backtraces.
pub const CODE_FLAGS: [&str; 8] = [
    "--cfg",
    "casemate",
    "-C",
    "relocation-model=static",
    "-C",
    "force-frame-pointers=yes",
    "-C",
    "target-feature=+crt-static",
];

/// The kernel, ready to be linked into images.
#[derive(Clone, Debug)]
pub struct Kernel {
    object: PathBuf,
    script: PathBuf,
    /// Changes when either of them does.
    key: String,
}

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

/// The tools of the linking steps.
pub struct Tools {
    linker: PathBuf,
    objcopy: PathBuf,
}

impl Tools {
    /// Finds them in the Rust toolchain, else in the search path.
    ///
    /// # Errors
    /// When one is nowhere.
    pub fn find() -> anyhow::Result<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
        let output = Command::new(rustc).args(["--print", "sysroot"]).output().context("cannot run rustc")?;
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        let libraries = fs::read_dir(sysroot.join("lib/rustlib")).into_iter().flatten().flatten();
        let mut dirs: Vec<_> = libraries.map(|e| e.path().join("bin")).filter(|d| d.is_dir()).collect();
        dirs.extend(env::var_os("PATH").iter().flat_map(env::split_paths));
        // A tool may be there and not run: some toolchains come without the library that rust-objcopy wants.
        let runs = |path: &PathBuf| {
            let mut command = Command::new(path);
            if path.file_name().is_some_and(|n| n == "rust-lld") {
                command.args(["-flavor", "gnu"]);
            }
            command.arg("--version").output().is_ok_and(|o| o.status.success())
        };
        let find = |names: &[&str]| {
            let candidates = |n| dirs.iter().map(move |d: &PathBuf| d.join(n)).filter(|p| p.is_file());
            let found = names.iter().flat_map(|n| candidates(*n)).find(runs);
            found.with_context(|| format!("none of {} runs here: run `casemate setup`", names.join(", ")))
        };
        Ok(Self {
            linker: find(&["rust-lld", "ld.lld"])?,
            objcopy: find(&["rust-objcopy", "llvm-objcopy", "objcopy"])?,
        })
    }

    /// The linker as a command; `rust-lld` plays several linkers and has to be told which.
    fn linker(&self) -> Command {
        let mut command = Command::new(&self.linker);
        if self.linker.file_name().is_some_and(|n| n == "rust-lld") {
            command.args(["-flavor", "gnu"]);
        }
        command
    }
}

impl fmt::Display for Tools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        write!(f, "{}, {}", name(&self.linker), name(&self.objcopy))
    }
}

/// Builds the kernel object.
///
/// # Errors
/// When cargo or a tool fails.
pub fn kernel(workspace: &Workspace, ui: &Ui) -> anyhow::Result<Kernel> {
    let tools = Tools::find()?;
    let dir = workspace.target.join("kernel");
    let mut command = workspace.cargo("rustc");
    command.args(["--quiet", "--package", KERNEL, "--lib", "--crate-type", "staticlib"]);
    command.args(["--profile", PROFILE, "--target", MUSL, "--target-dir"]).arg(&dir);
    command.env("CARGO_ENCODED_RUSTFLAGS", flags(workspace, &[]));
    let bar = ui.spinner("building the kernel");
    let built = workspace.build(command, "the kernel");
    bar.finish_and_clear();
    let library = built?.remove("libos").context("cargo built no static library of the kernel")?;
    let object = dir.join("libos.o");
    let whole = dir.join("libos-whole.o");
    let mut link = tools.linker();
    link.args(["-r", "--undefined-glob", ENTRY_POINTS, "-o"]).arg(&whole).arg(&library);
    run(link, "linking the kernel")?;
    let mut localise = Command::new(&tools.objcopy);
    localise.args(["--remove-section=.llvmbc", "--remove-section=.llvmcmd", "--wildcard"]);
    localise.arg(format!("--keep-global-symbol={ENTRY_POINTS}")).arg(&whole).arg(&object);
    run(localise, "finishing the kernel object")?;
    let script = workspace.root.join("crates/libos/link.ld");
    let mut hash = Sha256::new();
    for file in [&object, &script] {
        hash.update(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let key = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(Kernel { object, script, key })
}

/// Builds the images of a package.
///
/// # Errors
/// When cargo or a tool fails, or an image is not fit to boot.
pub fn images(
    workspace: &Workspace,
    kernel: &Kernel,
    package: &Package,
    ui: &Ui,
) -> anyhow::Result<Vec<Image>> {
    ensure!(!package.bins.is_empty(), "the package {} has no program to become an image", package.name);
    let tools = Tools::find()?;
    let dir = workspace.target.join("domain");
    let rustflags = link_flags(workspace, kernel, &tools);
    relink_if_changed(workspace, &dir, package, &format!("{} {}", kernel.key, rustflags.to_string_lossy()))?;
    let mut command = workspace.cargo("build");
    command.args(["--quiet", "--package", &package.name, "--bins", "--profile", PROFILE, "--target", MUSL]);
    command.arg("--target-dir").arg(&dir).env("CARGO_ENCODED_RUSTFLAGS", rustflags);
    let bar = ui.spinner(format!("building {}", package.name));
    let built = workspace.build(command, &package.name);
    bar.finish_and_clear();
    let out = workspace.images_dir();
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut images = Vec::new();
    for (name, program) in built? {
        let name = name.strip_prefix("casemate-").unwrap_or(&name).to_owned();
        images.push(finish(&tools, &out, name, &program)?);
    }
    Ok(images)
}

/// Checks a linked program, strips it and puts it with its symbols where images belong.
fn finish(tools: &Tools, out: &Path, name: String, program: &Path) -> anyhow::Result<Image> {
    let linked = check::check_file(program).and_then(|info| info.has_no_writable_code().map(|()| info));
    linked.with_context(|| format!("the linker made a bad image of {name}"))?;
    let (path, debug) = (out.join(&name), out.join(format!("{name}.debug")));
    fs::copy(program, &debug).with_context(|| format!("cannot write {}", debug.display()))?;
    let mut strip = Command::new(&tools.objcopy);
    strip.arg("--strip-all").arg(&debug).arg(&path);
    run(strip, "stripping an image")?;
    let info = check::check_file(&path)?;
    Ok(Image { name, path, debug, info })
}

/// Flags for the compiler, in cargo's encoding.
fn flags(workspace: &Workspace, more: &[String]) -> OsString {
    let mut flags: Vec<String> = CODE_FLAGS.map(str::to_owned).to_vec();
    // Places in panics and symbols must not depend on where the tree lies.
    flags.push(format!("--remap-path-prefix={}=.", workspace.root.display()));
    if let Some(home) = cargo_home() {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    flags.extend_from_slice(more);
    flags.join("\x1f").into()
}

fn cargo_home() -> Option<PathBuf> {
    let named = env::var_os("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

fn link_flags(workspace: &Workspace, kernel: &Kernel, tools: &Tools) -> OsString {
    let codegen = |value: String| ["-C".to_owned(), value];
    let link = |value: String| codegen(format!("link-arg={value}"));
    let more = [
        codegen("link-self-contained=no".to_owned()),
        codegen(format!("linker={}", tools.linker.display())),
        codegen("linker-flavor=ld.lld".to_owned()),
        link(kernel.object.display().to_string()),
        link(format!("-T{}", kernel.script.display())),
        link("--gc-sections".to_owned()),
        link("--eh-frame-hdr".to_owned()),
        link("--build-id=none".to_owned()),
    ];
    flags(workspace, &more.concat())
}

/// Cargo does not know that an image depends on the kernel object and the linker script. When one of them has
/// changed since the package was linked, its own results are removed, which makes cargo link it anew.
fn relink_if_changed(workspace: &Workspace, dir: &Path, package: &Package, key: &str) -> anyhow::Result<()> {
    let stamp = dir.join(format!("{}.linked-with", package.name));
    if fs::read_to_string(&stamp).is_ok_and(|old| old == key) {
        return Ok(());
    }
    let mut command = workspace.cargo("clean");
    command.args(["--quiet", "--package", &package.name, "--profile", PROFILE, "--target", MUSL]);
    command.arg("--target-dir").arg(dir);
    run(command, "cargo clean")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    fs::write(&stamp, key).with_context(|| format!("cannot write {}", stamp.display()))
}

/// Runs a tool and shows what it says only when it fails.
fn run(mut command: Command, what: &str) -> anyhow::Result<()> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!("{what} failed:\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
