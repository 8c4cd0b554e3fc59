//! GMP, the paper's example of an autoconf package: `./configure --host=x86_64-casemate-linux-musl`, `make`,
//! `make check`, nothing else.

use super::{Outcome, Program, Workshop, is_program};
use crate::error::{At, Result};
use crate::source;
use crate::source::crates::Crate;
use std::fs;
use std::path::{Path, PathBuf};

/// The crate that holds GMP 6.3.0 complete.
const SOURCE: Crate = Crate {
    name: "gmp-mpfr-sys",
    version: "1.7.1",
    sha256: "7db155b537cb791b133341f99f68371d86ee7fa4c79aacfbc376d72d23c70531",
};

const TREE: &str = "gmp-6.3.0-c";

/// Test programs that write scratch files and read them back.
const NEED_FILES: &[&str] = &[
    "misc/t-printf",
    "misc/t-scanf",
    "mpf/t-inp_str",
    "mpq/io",
    "mpq/t-inp_str",
    "mpz/io",
    "mpz/t-inp_str",
    "mpz/t-io_raw",
];

/// Configures and builds the library; does nothing when that is done. Returns the build folder.
pub fn build(shop: &Workshop<'_>) -> Result<PathBuf> {
    let dir = shop.work.join("gmp");
    let tree = dir.join(TREE);
    if shop.is_current(&dir, &[SOURCE.sha256])? {
        return Ok(tree);
    }
    let log = shop.log("gmp");
    source::unpack(&SOURCE.archive(shop.cache, &log)?, &dir, &log)?;
    (shop.report)("GMP: ./configure --host=x86_64-casemate-linux-musl");
    shop.step("configure GMP", "./configure", &log)
        .arg(format!("--host={}", crate::TARGET))
        .dir(&tree)
        .run()?;
    (shop.report)("GMP: make");
    shop.step("build GMP", "make", &log).arg(format!("-j{}", shop.jobs)).dir(&tree).run()?;
    shop.set_current(&dir, &[SOURCE.sha256])?;
    Ok(tree)
}

/// Builds the test programs for the workshop's kernel.
pub fn programs(shop: &Workshop<'_>) -> Result<Vec<Program>> {
    let tree = build(shop)?;
    let tests = tree.join("tests");
    let linked_for = tree.join(".casemate-kernel");
    // The kernel is no input that make knows.
    if !fs::read_to_string(&linked_for).is_ok_and(|name| name == shop.kernel)
        || shop.kernel.starts_with(crate::kernel::LIBOS)
    {
        for program in find(&tests, &|path| is_program(path))? {
            fs::remove_file(&program).at(&program)?;
        }
    }
    let log = shop.log("gmp");
    (shop.report)("GMP: make check TESTS= (builds the test programs)");
    shop.step("build GMP's test programs", "make", &log)
        .args(["check", "TESTS=", &format!("-j{}", shop.jobs)])
        .dir(&tree)
        .run()?;
    fs::write(&linked_for, shop.kernel).at(&linked_for)?;
    let programs = find(&tests, &|path| is_program(path))?.into_iter().map(|image| {
        let name = image.strip_prefix(&tests).unwrap_or(&image).display().to_string();
        let needs_files = NEED_FILES.contains(&name.as_str());
        Program { needs_files, ..Program::plain(name, image) }
    });
    Ok(programs.collect())
}

/// The fixed sample that stands for the whole suite where each program is a domain to boot: 30 programs, evenly
/// spread over the suite, that need no files.
pub fn sample(programs: &[Program]) -> Vec<&Program> {
    const SAMPLE: usize = 30;
    let fit: Vec<&Program> = programs.iter().filter(|program| !program.needs_files).collect();
    (0..SAMPLE.min(fit.len())).map(|i| fit[i * fit.len() / SAMPLE.min(fit.len())]).collect()
}

/// Runs `make check` over the workshop's kernel, which must be a stand-in.
pub fn check(shop: &Workshop<'_>) -> Result<Outcome> {
    let count = programs(shop)?.len();
    let tree = build(shop)?;
    let tests = tree.join("tests");
    let is_result = |path: &Path| path.extension().is_some_and(|e| e == "trs");
    for old in find(&tests, &is_result)? {
        fs::remove_file(&old).at(&old)?;
    }
    let log = shop.log("gmp");
    (shop.report)("GMP: make check");
    // make's own verdict is in the result files; with --keep-going all tests run.
    let verdict = shop
        .step("run GMP's tests", "make", &log)
        .args(["check", "--keep-going", &format!("-j{}", shop.jobs)])
        .dir(&tree)
        .run();
    let mut outcome = Outcome { suite: "GMP make check".to_owned(), ..Outcome::default() };
    for path in find(&tests, &is_result)? {
        let name = path.strip_prefix(&tests).unwrap_or(&path).with_extension("").display().to_string();
        let text = fs::read_to_string(&path).at(&path)?;
        match text.lines().find_map(|line| line.strip_prefix(":test-result: ")) {
            Some("PASS") => outcome.passed.push(name),
            Some("SKIP") => outcome.skipped.push(name),
            other => outcome.failed.push(format!("{name} ({})", other.unwrap_or("no result"))),
        }
    }
    if outcome.failed.is_empty() {
        verdict?;
    }
    if outcome.total() + outcome.skipped.len() != count {
        outcome.failed.push(format!("{} of {count} programs have a result", outcome.total()));
    }
    Ok(outcome)
}

/// Files below `dir` that `wanted` accepts, sorted.
fn find(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).at(&dir)? {
            let entry = entry.at(&dir)?;
            let path = entry.path();
            let kind = entry.file_type().at(&path)?;
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_file() && wanted(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_spread_and_has_no_file_users() {
        let program = |n: usize| Program {
            needs_files: n.is_multiple_of(10),
            ..Program::plain(format!("{n}"), "image")
        };
        let all: Vec<Program> = (0..178).map(program).collect();
        let sample = sample(&all);
        assert_eq!(sample.len(), 30);
        assert!(sample.iter().all(|p| !p.needs_files));
        assert_ne!(sample[0].name, sample[1].name);
        assert_eq!(super::sample(&all[..5]).len(), 4);
    }
}
