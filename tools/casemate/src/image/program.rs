//! Programs with Rust's std, of any cargo package: built by stock cargo over the SDK's C library.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use sdk::{
    Sdk,
    check::Kind,
    kernel,
    packages::{self, Workshop},
};

use super::{
    build::remaps,
    finish::{self, Image},
};
use crate::{
    project::{self, Built, Package, Project},
    ui::Ui,
    workspace::{MUSL, Workspace},
};

/// Profile of programs unless another one is asked for: the package's own `release`, with line tables.
const PROFILE: &str = "program";

/// Profile of the smallest programs: without unwinding and backtraces.
const SMALL: &str = "small";

/// What the profiles are, as cargo's configuration. No link-time optimisation in `small`: it would take std's
/// bitcode, with all that the SDK's copy of std is made without.
const PROFILES: [&str; 9] = [
    "profile.program.inherits='release'",
    "profile.program.debug='line-tables-only'",
    "profile.program.strip='none'",
    "profile.small.inherits='program'",
    "profile.small.opt-level='s'",
    "profile.small.lto=false",
    "profile.small.codegen-units=1",
    "profile.small.panic='abort'",
    "profile.small.strip='none'",
];

/// Variables that would take the place of what the SDK tells cargo, or that the link wrappers read.
const MISLEADING: [&str; 7] = [
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUSTFLAGS",
    "CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER",
    "CASEMATE_KERNEL",
    "CASEMATE_STD",
];

/// The package that links with a TPM's C libraries, and the variable by which it learns where they are.
const TPM: (&str, &str) = ("casemate-vtpm-domain", "CASEMATE_TPM_LIBRARIES");

/// What to build, and with what.
#[derive(Clone, Copy, Debug)]
pub struct Recipe<'a> {
    /// The source tree.
    pub workspace: &'a Workspace,
    /// The tool chain.
    pub sdk: &'a Sdk,
    /// The project that the package belongs to.
    pub project: &'a Project,
    /// The package.
    pub package: &'a Package,
    /// A profile of cargo's; nothing for that of programs.
    pub profile: Option<&'a str>,
}

impl Recipe<'_> {
    /// Builds domain images.
    ///
    /// # Errors
    /// When cargo or a tool fails, or an image is not fit to boot.
    pub fn images(&self, ui: &Ui) -> anyhow::Result<Vec<Image>> {
        let built = self.build(kernel::LIBOS, ui)?;
        finish::images(&self.project.images_dir(), &self.sdk.tool("objcopy"), built)
    }

    /// Builds the same as Linux processes over the stand-in kernel, with symbols.
    ///
    /// # Errors
    /// When cargo or a tool fails, or the result is not fit to run.
    pub fn hosted(&self, ui: &Ui) -> anyhow::Result<Built> {
        let built = self.build(kernel::STANDIN, ui)?;
        for program in built.values() {
            finish::check_linked(program, Kind::LinuxProcess)?;
        }
        Ok(built)
    }

    fn build(&self, kernel: &str, ui: &Ui) -> anyhow::Result<Built> {
        let name = &self.package.name;
        let dir = self.project.target.join(if kernel == kernel::LIBOS { "programs" } else { "standin" });
        let profile = self.profile.unwrap_or(PROFILE);
        let key = format!("{} {profile}", self.sdk.key(kernel));
        finish::relink_if_changed(self.cargo("clean", kernel, profile, &dir), &dir, self.package, &key)?;
        let mut command = self.cargo("build", kernel, profile, &dir);
        command.arg("--bins");
        if *name == TPM.0 {
            command.env(TPM.1, self.tpm_libraries(kernel, ui)?);
        }
        let bar = ui.spinner(format!("building {name}"));
        let built = project::build(command, name);
        bar.finish_and_clear();
        built
    }

    /// libtpms and libcrypto; the first time takes minutes.
    fn tpm_libraries(&self, kernel: &str, ui: &Ui) -> anyhow::Result<PathBuf> {
        let bar = ui.spinner("libraries of the TPM");
        let result = packages::tpm::libraries(&Workshop {
            sdk: self.sdk,
            cache: &self.workspace.target.join("sdk-cache"),
            work: &self.workspace.target.join("packages").join(kernel),
            kernel,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            report: &|text| bar.set_message(text.to_owned()),
        });
        bar.finish_and_clear();
        Ok(result?)
    }

    fn cargo(&self, subcommand: &str, kernel: &str, profile: &str, dir: &Path) -> Command {
        let mut command = project::cargo(&self.package.dir, subcommand);
        command.args(["--quiet", "--package", &self.package.name, "--target", MUSL]);
        command.args(["--profile", profile, "--target-dir"]).arg(dir);
        let mut files: Vec<PathBuf> = vec![self.sdk.share("cargo-config.toml")];
        if kernel != kernel::LIBOS {
            files.push(self.sdk.share("cargo-standin.toml"));
        }
        for file in files {
            command.arg("--config").arg(file);
        }
        command.args(PROFILES.iter().flat_map(|profile| ["--config", profile]));
        let mut flags = vec!["-Cforce-frame-pointers=yes".to_owned()];
        flags.extend(remaps(&self.workspace.root, &self.project.root));
        // Strings of JSON are strings of TOML.
        let flags: Vec<String> = flags.into_iter().map(|f| serde_json::Value::from(f).to_string()).collect();
        command.arg("--config").arg(format!("target.{MUSL}.rustflags=[{}]", flags.join(",")));
        for name in MISLEADING {
            command.env_remove(name);
        }
        if profile == SMALL {
            command.env("CASEMATE_STD", SMALL);
        }
        command
    }
}
