//! The Open POSIX Test Suite: threads, semaphores, clocks and signals against the text of the standard.
//!
//! Its programs (GPL) are fetched, compiled and run; nothing of it is linked with anything of ours. Most of the
//! suite concerns things that a domain does not have; `sdk/packages/posix-tests.txt` lists the programs that
//! apply, which unmodified musl passes as well.

use super::{Outcome, Program, Workshop, run_all};
use crate::assets;
use crate::cache;
use crate::error::{At, Error, Result};
use crate::source;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TARBALL: &str = "posixtestsuite_1.5.2.orig.tar.gz";
const SHA256: &str = "15a2185672127cba851d35ec9d538ff6148defdbb75f99c7e9c50aeba0f94757";

/// `(folder, test)` of every program that applies.
fn tests() -> Vec<(&'static str, &'static str)> {
    assets::text(assets::PACKAGES, "posix-tests.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .flat_map(|(folder, names)| names.split_whitespace().map(move |name| (folder, name)))
        .collect()
}

/// Compiles the programs for the workshop's kernel.
pub fn programs(shop: &Workshop<'_>) -> Result<Vec<Program>> {
    let dir = shop.work.join("posix");
    let log = shop.log("posix");
    let source = dir.join("source");
    if !shop.is_current(&dir, &[SHA256])? {
        let tarball = shop.debian_source("posixtestsuite", TARBALL, SHA256, &log)?;
        source::unpack(&tarball, &source, &log)?;
        shop.set_current(&dir, &[SHA256])?;
    }
    let tests = tests();
    (shop.report)(&format!("Open POSIX Test Suite: compiling {} programs", tests.len()));
    let images = dir.join(shop.kernel);
    fs::create_dir_all(&images).at(&images)?;
    let programs: Vec<Program> = tests
        .iter()
        .map(|(folder, name)| {
            Program::plain(format!("{folder}/{name}"), images.join(format!("{folder}.{name}")))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some((folder, name)) = tests.get(index) else { return Ok(()) };
            shop.step(&format!("compile {folder}/{name}"), shop.sdk.tool("gcc"), &log)
                .args(["-w", "-O1", "-D_XOPEN_SOURCE=600", "-D_GNU_SOURCE", "-Iinclude"])
                .arg(format!("conformance/interfaces/{folder}/{name}.c"))
                .arg("-o")
                .arg(&programs[index].image)
                .dir(&source)
                .run()?;
        }
    };
    super::in_parallel(shop.jobs, &work)?;
    Ok(programs)
}

/// Runs the programs over the workshop's kernel, which must be a stand-in. Many of them sleep, so more run at a
/// time than there are processors.
pub fn check(shop: &Workshop<'_>) -> Result<Outcome> {
    let programs = programs(shop)?;
    let dir = shop.work.join("posix");
    (shop.report)("Open POSIX Test Suite: running");
    run_all("Open POSIX Test Suite", &programs, &dir, shop.jobs * 4, Duration::from_secs(300))
}

impl Workshop<'_> {
    /// A file of a Debian source package, from the cache or the archive.
    pub(super) fn debian_source(
        &self,
        package: &str,
        file: &str,
        sha256: &str,
        log: &std::path::Path,
    ) -> Result<PathBuf> {
        let kept = self.cache.join(file);
        if cache::holds(&kept, sha256)? {
            return Ok(kept);
        }
        (self.report)(&format!("fetching {package} (Debian source package)"));
        let found = source::apt::source_package(package, source::apt::SUITE, self.cache, log)?.join(file);
        if !found.exists() {
            return Err(Error::Source {
                what: format!("{package} ({file})"),
                reason: format!("the Debian mirror does not have it; put it into {}", self.cache.display()),
            });
        }
        cache::adopt(&found, &kept, sha256)?;
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_list_is_read() {
        let tests = super::tests();
        assert!(tests.len() > 350, "{} tests", tests.len());
        assert!(tests.contains(&("pthread_cond_wait", "1-1")));
        assert!(tests.iter().all(|(folder, name)| !folder.contains(' ') && name.contains('-')));
    }
}
