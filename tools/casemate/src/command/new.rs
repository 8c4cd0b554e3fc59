//! `casemate new`.

use std::{
    fs,
    path::{Component, Path},
    process::ExitCode,
};

use anyhow::{Context, bail, ensure};

use crate::{
    cli::{self, LanguageArg, TemplateArg},
    ui::Ui,
    workspace::Workspace,
};

/// A file of a new package: its path, and its text with `@NAME@` and `@ROOT@` to be filled in.
type File = (&'static str, &'static str);

/// What a package is made from.
#[derive(Debug)]
pub struct Template {
    /// Words for the person.
    what: &'static str,
    files: &'static [File],
    /// Are its dependencies those of the tree, in the versions of the tree's `Cargo.lock`?
    locked: bool,
}

macro_rules! template {
    ($name:literal) => {
        include_str!(concat!("../../templates/", $name))
    };
}

impl Template {
    /// Writes the files into a folder, over those that are there.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn write(&self, workspace: &Workspace, dir: &Path, name: &str) -> anyhow::Result<()> {
        // In strings of TOML, and in a Makefile's comment.
        let root = workspace.root.canonicalize().unwrap_or_else(|_| workspace.root.clone());
        let root = root.to_str().filter(|root| !root.contains(['"', '\\', '\n'])).with_context(|| {
            format!("{} cannot be written into a manifest; move the tree to another folder", root.display())
        })?;
        for (file, text) in self.files {
            let path = dir.join(file);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
            }
            let text = text.replace("@NAME@", name).replace("@ROOT@", root);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if self.locked {
            // Then cargo needs no network that the tree itself did not need.
            let (from, to) = (workspace.root.join("Cargo.lock"), dir.join("Cargo.lock"));
            fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        }
        Ok(())
    }
}

/// A program in Rust with std.
pub const RUST_PROGRAM: Template = Template {
    what: "a Rust program with std",
    files: &[
        ("Cargo.toml", template!("rust-program.toml")),
        ("src/main.rs", template!("rust-program.rs")),
        (".gitignore", "/target\n"),
    ],
    locked: false,
};

/// A program in Rust without std.
pub const RUST_NO_STD: Template = Template {
    what: "a Rust program without std",
    files: &[
        ("Cargo.toml", template!("rust-no-std.toml")),
        ("src/main.rs", template!("rust-no-std.rs")),
        (".gitignore", "/target\n"),
    ],
    locked: true,
};

/// A service in Rust over IDC.
pub const RUST_SERVICE: Template = Template {
    what: "a Rust service over IDC",
    files: &[
        ("Cargo.toml", template!("rust-service.toml")),
        ("src/main.rs", template!("rust-service.rs")),
        (".gitignore", "/target\n"),
    ],
    locked: true,
};

/// A program in C.
pub const C_PROGRAM: Template = Template {
    what: "a C program",
    files: &[
        ("Makefile", template!("c-program.mk")),
        ("main.c", template!("c-program.c")),
        (".gitignore", "/@NAME@\n"),
    ],
    locked: false,
};

/// A service in C over IDC.
pub const C_SERVICE: Template = Template {
    what: "a C service over IDC",
    files: &[
        ("Makefile", template!("c-service.mk")),
        ("service.c", template!("c-service.c")),
        (".gitignore", "/@NAME@\n/@NAME@-linux\n"),
    ],
    locked: false,
};

/// Names that cargo, Rust or the templates have another use for.
const RESERVED: [&str; 18] = [
    "alloc",
    "all",
    "build",
    "clean",
    "core",
    "deps",
    "examples",
    "idc",
    "incremental",
    "main",
    "proc-macro",
    "proc_macro",
    "service",
    "src",
    "std",
    "target",
    "test",
    "tests",
];

/// Words of Rust that name no crate.
const KEYWORDS: &str = " abstract as async await become box break const continue crate do dyn else enum extern false \
    final fn for gen if impl in let loop macro match mod move mut override priv pub ref return self static struct \
    super trait true try type typeof unsafe unsized use virtual where while yield ";

/// Writes a new package.
///
/// # Errors
/// When the name is none, the folder is there already, or a file cannot be written.
pub fn new(options: &cli::New, ui: &Ui) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    let template = template(options)?;
    let name = name_of(&options.path)?;
    check_name(name, options.template)?;
    let dir = &options.path;
    ensure!(fs::symlink_metadata(dir).is_err(), "{} is there already; choose another name", dir.display());
    template.write(&workspace, dir, name)?;
    ui.step(format!("{}: {}. Next: cd {0} && casemate run .", dir.display(), template.what));
    Ok(ExitCode::SUCCESS)
}

fn template(options: &cli::New) -> anyhow::Result<Template> {
    match (options.language, options.template) {
        (LanguageArg::C, _) if options.no_std => {
            bail!("--no-std is about Rust; a C program has its C library")
        }
        (LanguageArg::C, TemplateArg::Program) => Ok(C_PROGRAM),
        (LanguageArg::C, TemplateArg::Service) => Ok(C_SERVICE),
        (LanguageArg::Rust, TemplateArg::Service) => Ok(RUST_SERVICE),
        (LanguageArg::Rust, TemplateArg::Program) if options.no_std => Ok(RUST_NO_STD),
        (LanguageArg::Rust, TemplateArg::Program) => Ok(RUST_PROGRAM),
    }
}

/// The last part of the path, which is the package's name.
fn name_of(path: &Path) -> anyhow::Result<&str> {
    match path.components().next_back() {
        Some(Component::Normal(name)) => {
            name.to_str().with_context(|| format!("{} is not a name for a package", path.display()))
        }
        _ => bail!("{:?} does not end in a name for the package", path.display().to_string()),
    }
}

fn check_name(name: &str, template: TemplateArg) -> anyhow::Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    ensure!(
        name.chars().all(good) && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.len() <= 64,
        "{name:?} is not a name for a package: take 1 to 64 letters, digits, `-` and `_`, beginning with a letter"
    );
    ensure!(
        !RESERVED.contains(&name) && !KEYWORDS.contains(&format!(" {name} ")),
        "{name:?} means something else already; choose another name"
    );
    let in_idc = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!(
        template != TemplateArg::Service || (name.len() <= 32 && name.chars().all(in_idc)),
        "{name:?} is not a name for a service: take 1 to 32 small letters, digits and `-`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let long = "x".repeat(65);
        let program = |name| check_name(name, TemplateArg::Program);
        for good in ["a", "counter", "my_counter-2", "Counter", &long[..64]] {
            program(good).unwrap();
        }
        for bad in ["", "2nd", "-x", "_x", "a b", "a/b", "ä", "a.b", "fn", "test", "all", "$(x)", &long] {
            assert!(program(bad).is_err(), "{bad:?}");
        }
        let service = |name| check_name(name, TemplateArg::Service);
        service("key-vault2").unwrap();
        for bad in ["Vault", "key_vault", &long[..33]] {
            assert!(service(bad).is_err(), "{bad:?}");
        }
        assert_eq!(name_of(Path::new("/a/b/")).unwrap(), "b");
        assert!(name_of(Path::new("..")).is_err() && name_of(Path::new("/")).is_err());
    }
}
