//! How the kernel object and the images of services without a C library are built.
//!
//! 1. The kernel becomes a static library, and that one relocatable object ([`sdk::kernel::object`]), which cannot
//!    collide with an application's symbols and has one hole: `_start`. The same object lies below C programs.
//! 2. A service is built like any static program, with the kernel object and its linker script on the
//!    linker's command line.
//! 3. The result is checked and stripped ([`super::finish`]).

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use sdk::{idc::IdcFiles, kernel::Tools};
use sha2::{Digest, Sha256};

use super::finish::{self, Image};
use crate::{
    project::{self, Built, Package, Project},
    ui::Ui,
    workspace::{MUSL, Workspace},
};

/// Package of the kernel.
pub const KERNEL: &str = "casemate-libos";

/// Profile of the kernel and of images, in the workspace's `Cargo.toml`.
pub const PROFILE: &str = "domain";

/// The same for packages outside of the workspace.
const PROFILE_OUTSIDE: [&str; 6] = [
    "profile.domain.inherits='release'",
    "profile.domain.opt-level='s'",
    "profile.domain.lto='fat'",
    "profile.domain.codegen-units=1",
    "profile.domain.panic='abort'",
    "profile.domain.debug='line-tables-only'",
];

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

/// More flags for the kernel. It never unwinds, and its SHA-256 conditions entropy, a few blocks at a time: small
/// matters there, not fast.
pub const KERNEL_FLAGS: [&str; 6] = [
    "-C",
    "force-unwind-tables=no",
    "--cfg",
    "sha2_backend=\"soft\"",
    "--cfg",
    "sha2_backend_soft=\"compact\"",
];

/// The kernel, ready to be linked into images.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Its object file.
    pub object: PathBuf,
    /// The linker script of an image.
    pub script: PathBuf,
    /// Changes when either of them does.
    key: String,
    tools: Tools,
}

/// Builds the kernel object.
///
/// # Errors
/// When cargo or a tool fails.
pub fn kernel(workspace: &Workspace, ui: &Ui) -> anyhow::Result<Kernel> {
    let tools = Tools::find().context("`casemate setup` installs what is missing")?;
    let dir = workspace.target.join("kernel");
    let mut command = workspace.cargo("rustc");
    command.args(["--quiet", "--package", KERNEL, "--lib", "--crate-type", "staticlib"]);
    command.args(["--profile", PROFILE, "--target", MUSL, "--target-dir"]).arg(&dir);
    command.env(
        "CARGO_ENCODED_RUSTFLAGS",
        flags(&workspace.root, &workspace.root, &KERNEL_FLAGS.map(str::to_owned)),
    );
    let bar = ui.spinner("building the kernel");
    let built = project::build(command, "the kernel");
    bar.finish_and_clear();
    let library = built?.remove("libos").context("cargo built no static library of the kernel")?;
    let object = dir.join("libos.o");
    sdk::kernel::object(&tools, &library, &object)?;
    let script = workspace.root.join("crates/libos/link.ld");
    let mut hash = Sha256::new();
    for file in [&object, &script] {
        hash.update(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let key = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(Kernel { object, script, key, tools })
}

/// Package of the C library of IDC.
const IDC: &str = "casemate-idc-c";

/// Builds the C library of IDC, for domains over the C library and for this machine.
///
/// # Errors
/// When cargo or a tool fails.
pub fn idc(workspace: &Workspace, kernel: &Kernel, ui: &Ui) -> anyhow::Result<IdcFiles> {
    let dir = workspace.target.join("idc");
    let mut domain = workspace.cargo("rustc");
    domain.args(["--quiet", "--package", IDC, "--no-default-features", "--lib", "--crate-type", "staticlib"]);
    domain.args(["--profile", PROFILE, "--target", MUSL, "--target-dir"]).arg(&dir);
    let no_tables = ["-C", "force-unwind-tables=no"].map(str::to_owned);
    domain.env("CARGO_ENCODED_RUSTFLAGS", flags(&workspace.root, &workspace.root, &no_tables));
    let mut native = workspace.cargo("build");
    native.args(["--quiet", "--release", "--package", IDC, "--lib"]);
    let bar = ui.spinner("building the C library of IDC");
    let built = project::build(domain, "libidc for domains")
        .and_then(|domain| Ok((domain, project::build(native, "libidc for Linux")?)));
    bar.finish_and_clear();
    let (mut domain, mut native) = built?;
    let library = |built: &mut Built| built.remove("casemate_idc_c").context("cargo built no library of IDC");
    let object = dir.join("idc.o");
    sdk::kernel::object_of(&kernel.tools, &library(&mut domain)?, &object, sdk::idc::EXPORTS)?;
    let native = library(&mut native)?;
    let header = workspace.root.join("crates/idc-c/include/idc.h");
    Ok(IdcFiles { header, object, shared: native.with_extension("so"), native })
}

/// Builds the images of a service. `profile` is one of cargo's; nothing for that of services.
///
/// # Errors
/// When cargo or a tool fails, or an image is not fit to boot.
pub fn images(
    workspace: &Workspace,
    kernel: &Kernel,
    project: &Project,
    package: &Package,
    profile: Option<&str>,
    ui: &Ui,
) -> anyhow::Result<Vec<Image>> {
    let dir = project.target.join("domains");
    let rustflags = link_flags(workspace, project, kernel);
    let profile = profile.unwrap_or(PROFILE);
    let outside = project.root != workspace.root;
    let configs = || PROFILE_OUTSIDE.iter().filter(|_| outside).flat_map(|config| ["--config", *config]);
    let common = |subcommand| {
        let mut command = project::cargo(&package.dir, subcommand);
        command.args(["--quiet", "--package", &package.name, "--profile", profile, "--target", MUSL]);
        command.arg("--target-dir").arg(&dir).args(configs());
        command.env("CARGO_ENCODED_RUSTFLAGS", &rustflags);
        command
    };
    let key = format!("{} {profile} {}", kernel.key, rustflags.to_string_lossy());
    finish::relink_if_changed(common("clean"), &dir, package, &key)?;
    let mut command = common("build");
    command.arg("--bins");
    let bar = ui.spinner(format!("building {}", package.name));
    let built = project::build(command, &package.name);
    bar.finish_and_clear();
    finish::images(&project.images_dir(), kernel.tools.objcopy(), built?)
}

/// Flags for the compiler, in cargo's encoding.
fn flags(tree: &Path, project: &Path, more: &[String]) -> OsString {
    let mut flags: Vec<String> = CODE_FLAGS.map(str::to_owned).to_vec();
    flags.extend(remaps(tree, project));
    flags.extend_from_slice(more);
    flags.join("\x1f").into()
}

/// Flags by which places in panics and symbols do not depend on where the sources lie.
pub fn remaps(tree: &Path, project: &Path) -> Vec<String> {
    let remap = |from: &Path, to: &str| format!("--remap-path-prefix={}={to}", from.display());
    let mut flags = Vec::new();
    // The last one that fits is used.
    flags.extend(cargo_home().map(|home| remap(&home, "cargo")));
    if project != tree {
        flags.push(remap(tree, "casemate"));
    }
    flags.push(remap(project, "."));
    flags
}

fn cargo_home() -> Option<PathBuf> {
    let named = env::var_os("CARGO_HOME").map(PathBuf::from);
    named.or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")))
}

fn link_flags(workspace: &Workspace, project: &Project, kernel: &Kernel) -> OsString {
    let codegen = |value: String| ["-C".to_owned(), value];
    let link = |value: String| codegen(format!("link-arg={value}"));
    let more = [
        codegen("link-self-contained=no".to_owned()),
        codegen(format!("linker={}", kernel.tools.linker().display())),
        codegen("linker-flavor=ld.lld".to_owned()),
        link(kernel.object.display().to_string()),
        link(format!("-T{}", kernel.script.display())),
        link("--gc-sections".to_owned()),
        link("--eh-frame-hdr".to_owned()),
        link("--build-id=none".to_owned()),
    ];
    flags(&workspace.root, &project.root, &more.concat())
}

/// Builds a service's programs for Linux, if the package has such (`cfg(not(casemate))`).
///
/// # Errors
/// When cargo fails.
pub fn hosted(project: &Project, package: &Package, ui: &Ui) -> anyhow::Result<Built> {
    let mut command = project::cargo(&package.dir, "build");
    command.args(["--quiet", "--bins", "--package", &package.name, "--target-dir"]).arg(&project.target);
    let bar = ui.spinner(format!("building {} for Linux", package.name));
    let built = project::build(command, &package.name);
    bar.finish_and_clear();
    built.with_context(|| {
        format!("{} has no Linux program (code for cfg(not(casemate)), as in domains/echo)", package.name)
    })
}
