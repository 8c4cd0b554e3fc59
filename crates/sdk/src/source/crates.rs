//! C libraries whose source is published inside a crate.
//!
//! `cargo fetch` brings the crate into cargo's own cache (through whatever mirror cargo is configured for);
//! the archive is then taken from there by checksum.

use crate::cache;
use crate::error::{At, Error, Result};
use crate::run::Step;
use std::fs;
use std::path::{Path, PathBuf};

/// A published crate, pinned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crate {
    /// Name in the registry.
    pub(crate) name: &'static str,
    /// Exact version.
    pub(crate) version: &'static str,
    /// SHA-256 of the archive, as in the registry's index.
    pub(crate) sha256: &'static str,
}

impl Crate {
    /// The crate's archive (a compressed tar file), from `cache` or through cargo.
    pub(crate) fn archive(&self, cache: &Path, log: &Path) -> Result<PathBuf> {
        let file = format!("{}-{}.crate", self.name, self.version);
        let kept = cache.join(&file);
        if cache::holds(&kept, self.sha256)? {
            return Ok(kept);
        }
        fs::create_dir_all(cache).at(cache)?;
        let found = match find(&file) {
            Some(path) => path,
            None => {
                self.fetch(cache, log)?;
                find(&file).ok_or_else(|| Error::Source {
                    what: format!("crate {} {}", self.name, self.version),
                    reason: "cargo fetched it, but it is not in cargo's registry cache".to_owned(),
                })?
            }
        };
        cache::adopt(&found, &kept, self.sha256)?;
        Ok(kept)
    }

    /// Lets cargo download it, as the dependency of an empty package.
    fn fetch(&self, cache: &Path, log: &Path) -> Result<()> {
        let package = cache.join("fetch").join(self.name);
        let src = package.join("src");
        fs::create_dir_all(&src).at(&src)?;
        let manifest = package.join("Cargo.toml");
        let text = format!(
            "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n\
             {} = {{ version = \"={}\", default-features = false }}\n",
            self.name, self.version
        );
        fs::write(&manifest, text).at(&manifest)?;
        fs::write(src.join("lib.rs"), "").at(&src)?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Step::new(format!("fetch crate {} {}", self.name, self.version), cargo, log)
            .args(["fetch", "--target", crate::RUST_TARGET, "--manifest-path"])
            .arg(&manifest)
            .run()
    }
}

/// Looks for a crate's archive in the caches of cargo's registries.
fn find(file: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/cache")).ok()?;
    registries.filter_map(|entry| entry.ok()).map(|entry| entry.path().join(file)).find(|path| path.is_file())
}
