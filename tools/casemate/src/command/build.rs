//! `casemate build`.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{bail, ensure};
use sdk::{Sdk, check::Kind};

use crate::{
    cli,
    image::{
        build::{self, Kernel},
        finish::Image,
        make,
        program::Recipe,
    },
    project::{Package, Project},
    toolchain::{self, Place},
    ui::Ui,
    workspace::Workspace,
};

/// Builds the images of what is named, or of what the current folder holds.
///
/// # Errors
/// When one cannot be built.
pub fn build(options: &cli::Build, ui: &Ui) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    let builder = Builder::new(&workspace, options.profile.as_deref(), ui);
    let sources = if options.packages.is_empty() {
        vec![Source::here(&workspace)?]
    } else {
        let named = options.packages.iter().map(|name| Source::named(&workspace, name));
        named.collect::<anyhow::Result<Vec<_>>>()?
    };
    let mut images = Vec::new();
    for source in &sources {
        images.extend(builder.images(source)?);
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&images)?);
    } else {
        for image in &images {
            let path = image.path.strip_prefix(&workspace.root).unwrap_or(&image.path);
            println!("{:24} {:>9} bytes  {}", image.name, image.stripped_size(), path.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds the kernel, then the images of packages of the tree; of all services when none is named.
///
/// # Errors
/// When one cannot be built.
pub fn build_packages(workspace: &Workspace, names: &[String], ui: &Ui) -> anyhow::Result<Vec<Image>> {
    let project = workspace.project()?;
    let packages = if names.is_empty() {
        services(&project)
    } else {
        names.iter().map(|name| project.package(name)).collect::<anyhow::Result<Vec<_>>>()?
    };
    ensure!(!packages.is_empty(), "the workspace has no domain package");
    Builder::new(workspace, None, ui).images(&Source::Cargo(project, packages))
}

fn services(project: &Project) -> Vec<Package> {
    project.packages.iter().filter(|p| p.is_domain && !p.bins.is_empty()).cloned().collect()
}

/// Something to build.
#[derive(Clone, Debug)]
pub enum Source {
    /// Packages of a cargo project.
    Cargo(Project, Vec<Package>),
    /// A folder with a Makefile.
    Make(PathBuf),
}

impl Source {
    /// What the current folder holds: a package, or a Makefile. In the tree's own folder, and anywhere else, that
    /// is all services of the tree.
    fn here(workspace: &Workspace) -> anyhow::Result<Self> {
        let here = env::current_dir()?;
        if !here.join("Cargo.toml").is_file() && make::has_makefile(&here) {
            return Ok(Self::Make(here));
        }
        match here.ancestors().find(|dir| dir.join("Cargo.toml").is_file()) {
            Some(dir) if !same(dir, &workspace.root) => Self::folder(workspace, dir),
            _ => {
                let project = workspace.project()?;
                let packages = services(&project);
                ensure!(!packages.is_empty(), "the workspace has no domain package");
                Ok(Self::Cargo(project, packages))
            }
        }
    }

    /// What a word of the command line names: a folder, a package of the project around the current folder, or one
    /// of the tree.
    ///
    /// # Errors
    /// When it names nothing that can be built.
    pub fn named(workspace: &Workspace, name: &str) -> anyhow::Result<Self> {
        let dir = Path::new(name);
        if dir.is_dir() && (name.contains(['/', '.']) || is_source(dir)) {
            return Self::folder(workspace, dir);
        }
        let here = env::current_dir()?;
        if let Some(around) = here.ancestors().find(|dir| dir.join("Cargo.toml").is_file())
            && !around.starts_with(&workspace.root)
            && let Ok(project) = Project::at(around)
            && let Ok(package) = project.package(name)
        {
            return Ok(Self::Cargo(project, vec![package]));
        }
        let project = workspace.project()?;
        let package = project.package(name)?;
        Ok(Self::Cargo(project, vec![package]))
    }

    fn folder(workspace: &Workspace, dir: &Path) -> anyhow::Result<Self> {
        if !dir.join("Cargo.toml").is_file() {
            ensure!(make::has_makefile(dir), "{} has neither a Cargo.toml nor a Makefile", dir.display());
            return Ok(Self::Make(dir.canonicalize()?));
        }
        let mut project = Project::at(dir)?;
        if same(&project.root, &workspace.root) {
            project = workspace.project()?;
        }
        let packages = match project.package_in(dir) {
            Some(package) => vec![package.clone()],
            None => project.packages.iter().filter(|p| !p.bins.is_empty()).cloned().collect(),
        };
        if packages.iter().all(|p| p.bins.is_empty()) {
            bail!("the package in {} is not a domain: it is a library, without a program", dir.display());
        }
        Ok(Self::Cargo(project, packages))
    }
}

/// Does this folder hold something to build?
pub fn is_source(dir: &Path) -> bool {
    dir.join("Cargo.toml").is_file() || make::has_makefile(dir)
}

fn same(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
}

/// Builds sources of every kind; kernel and tool chain are built once, and only if they are needed.
pub struct Builder<'a> {
    workspace: &'a Workspace,
    profile: Option<&'a str>,
    ui: &'a Ui,
    kernel: OnceCell<Kernel>,
    sdk: OnceCell<Sdk>,
}

impl<'a> Builder<'a> {
    /// One that has built nothing yet. `profile` is one of cargo's.
    pub fn new(workspace: &'a Workspace, profile: Option<&'a str>, ui: &'a Ui) -> Self {
        Self { workspace, profile, ui, kernel: OnceCell::new(), sdk: OnceCell::new() }
    }

    /// Domain images.
    ///
    /// # Errors
    /// When one cannot be built or is not fit to boot.
    pub fn images(&self, source: &Source) -> anyhow::Result<Vec<Image>> {
        let (project, packages) = match source {
            Source::Make(dir) => return make::images(self.sdk()?, dir, self.ui),
            Source::Cargo(project, packages) => (project, packages),
        };
        let mut images = Vec::new();
        for package in packages {
            images.extend(if package.is_domain {
                build::images(self.workspace, self.kernel()?, project, package, self.profile, self.ui)?
            } else {
                self.recipe(project, package)?.images(self.ui)?
            });
        }
        Ok(images)
    }

    /// The same programs as Linux processes, by name: over the stand-in kernel, or, for a service without a C
    /// library, what the package is when it is built for Linux.
    ///
    /// # Errors
    /// When one cannot be built.
    pub fn hosted(&self, source: &Source) -> anyhow::Result<BTreeMap<String, PathBuf>> {
        let (project, packages) = match source {
            Source::Make(dir) => {
                let programs = make::programs(self.sdk()?, dir, Kind::LinuxProcess, self.ui)?;
                let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                return Ok(programs.into_iter().map(|path| (name(&path), path)).collect());
            }
            Source::Cargo(project, packages) => (project, packages),
        };
        let mut programs = BTreeMap::new();
        for package in packages {
            programs.extend(if package.is_domain {
                build::hosted(project, package, self.ui)?
            } else {
                self.recipe(project, package)?.hosted(self.ui)?
            });
        }
        Ok(programs)
    }

    fn recipe<'b>(&'b self, project: &'b Project, package: &'b Package) -> anyhow::Result<Recipe<'b>> {
        let sdk = self.sdk()?;
        Ok(Recipe { workspace: self.workspace, sdk, project, package, profile: self.profile })
    }

    /// The kernel.
    ///
    /// # Errors
    /// When it cannot be built.
    pub fn kernel(&self) -> anyhow::Result<&Kernel> {
        if self.kernel.get().is_none() {
            let _ = self.kernel.set(build::kernel(self.workspace, self.ui)?);
        }
        self.kernel.get().ok_or_else(|| anyhow::anyhow!("there is no kernel"))
    }

    /// The tool chain.
    ///
    /// # Errors
    /// When it cannot be installed.
    pub fn sdk(&self) -> anyhow::Result<&Sdk> {
        if self.sdk.get().is_none() {
            let _ = self.sdk.set(match toolchain::named()? {
                Some(sdk) => sdk,
                None => {
                    let place = Place::default_of(self.workspace);
                    toolchain::install(self.workspace, self.kernel()?, &place, self.ui)?
                }
            });
        }
        self.sdk.get().ok_or_else(|| anyhow::anyhow!("there is no tool chain"))
    }
}
