//! LZ4, a meson package: library, command and its own tests.

use super::{Outcome, Program, Workshop, junit, run_all};
use crate::error::{At, Result};
use crate::source;
use crate::source::crates::Crate;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The crate that holds LZ4 1.10.0 complete.
const SOURCE: Crate = Crate {
    name: "lz4-sys",
    version: "1.11.1+lz4-1.10.0",
    sha256: "6bd8c0d6c6ed0cd30b3652886bb8711dc4bb01d637a68105a3d5158039b418e6",
};

/// meson's tests, without two that compress gigabytes and one that has system calls of its own.
const TESTS: &[&str] = &[
    "checkFrame",
    "datagen",
    "decompress-partial.c",
    "decompress-partial-usingDict.c",
    "lz4-basic",
    "lz4-contentSize",
    "lz4-dict",
    "lz4-frame-concatenation",
    "lz4-multiple",
    "lz4-multiple-legacy",
    "lz4-opt-parser",
    "lz4-skippable",
    "lz4-sparse",
    "lz4-testmode",
];

/// Configures and builds everything for the workshop's kernel; another kernel only links again. Returns the
/// build folder.
pub fn build(shop: &Workshop<'_>) -> Result<PathBuf> {
    let dir = shop.work.join("lz4");
    let log = shop.log("lz4");
    let build = dir.join("build");
    let link = format!("-Dc_link_args=-mkernel={}", shop.kernel);
    if !shop.is_current(&dir, &[SOURCE.sha256])? {
        source::unpack(&SOURCE.archive(shop.cache, &log)?, &dir, &log)?;
        (shop.report)("LZ4: meson setup");
        let mut setup = shop
            .step("configure LZ4", "meson", &log)
            .args(["setup", "build", "liblz4/build/meson", "-Dprograms=true", "-Dtests=true"])
            .arg(&link)
            .arg("--cross-file")
            .arg(shop.sdk.share("meson-cross.ini"));
        // Domains are booted by the test bed, not by meson.
        if shop.kernel.starts_with(crate::kernel::STANDIN) {
            setup = setup.arg("--cross-file").arg(shop.sdk.share("meson-run.ini"));
        }
        setup.dir(&dir).run()?;
        shop.set_current(&dir, &[SOURCE.sha256])?;
    } else {
        shop.step("configure LZ4 again", "meson", &log).arg("configure").arg(&build).arg(&link).run()?;
    }
    (shop.report)("LZ4: build");
    shop.step("build LZ4", "ninja", &log).arg(format!("-j{}", shop.jobs)).arg("-C").arg(&build).run()?;
    Ok(build)
}

/// The test programs that need no files: fixed cases, and the package's two randomised tests for a few seconds
/// with a fixed seed.
pub fn programs(shop: &Workshop<'_>) -> Result<Vec<Program>> {
    let tests = build(shop)?.join("meson/tests");
    let program =
        |name: &str| Program::plain(format!("lz4-{}", name.trim_end_matches(".c")), tests.join(name));
    Ok(vec![
        program("decompress-partial.c"),
        program("decompress-partial-usingDict.c"),
        program("frametest").with_args(&["-s1", "-i200"]).with_output("All tests completed"),
        program("fuzzer").with_args(&["-s1", "-i200"]),
    ])
}

/// Runs `meson test`, and the two randomised tests that it leaves out. The scripts drive the `lz4` command on
/// files, so the workshop's kernel must be [`crate::kernel::STANDIN_FILES`].
pub fn check(shop: &Workshop<'_>) -> Result<Outcome> {
    let programs = programs(shop)?;
    let dir = shop.work.join("lz4");
    let log = shop.log("lz4");
    let results = dir.join("build/meson-logs/testlog.junit.xml");
    let _ = fs::remove_file(&results);
    (shop.report)("LZ4: meson test");
    let verdict = shop
        .step("run LZ4's tests", "meson", &log)
        .args(["test", "--no-rebuild", "-C", "build"])
        .args(TESTS)
        .dir(&dir)
        .run();
    let mut outcome = run_all("LZ4 meson test", &programs[2..], &dir, shop.jobs, Duration::from_secs(600))?;
    match fs::read_to_string(&results) {
        Ok(xml) => junit::read(&xml, &mut outcome),
        Err(error) => {
            verdict?;
            return Err(error).at(&results);
        }
    }
    if outcome.failed.is_empty() {
        verdict?;
    }
    Ok(outcome)
}
