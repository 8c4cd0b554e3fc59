//! Mbed TLS, a CMake package: libraries, programs and its own test suites.

use super::{Outcome, Program, Workshop, junit};
use crate::error::{At, Result};
use crate::source;
use crate::source::crates::Crate;
use std::fs;
use std::path::PathBuf;

/// The crate that holds Mbed TLS 2.28 complete.
const SOURCE: Crate = Crate {
    name: "mbedtls-sys-auto",
    version: "2.28.15",
    sha256: "2fdbd15978db1dec7592cf8864094bcf6f7a101d7f84af15c2423967079982c1",
};

/// Configures and builds everything for the workshop's kernel; another kernel only links again. Returns the
/// build folder.
pub fn build(shop: &Workshop<'_>) -> Result<PathBuf> {
    let dir = shop.work.join("mbedtls");
    let log = shop.log("mbedtls");
    if !shop.is_current(&dir, &[SOURCE.sha256])? {
        source::unpack(&SOURCE.archive(shop.cache, &log)?, &dir, &log)?;
        shop.set_current(&dir, &[SOURCE.sha256])?;
    }
    let build = dir.join("build");
    (shop.report)("Mbed TLS: cmake");
    shop.step("configure Mbed TLS", "cmake", &log)
        .args(["-S", "vendor", "-B", "build", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"])
        .arg(format!("-DCMAKE_TOOLCHAIN_FILE={}", shop.sdk.share("toolchain.cmake").display()))
        .arg(format!("-DCMAKE_CROSSCOMPILING_EMULATOR={}", shop.sdk.tool("run").display()))
        // A change here makes ninja link again, which the variable CASEMATE_KERNEL would not.
        .arg(format!("-DCMAKE_EXE_LINKER_FLAGS=-mkernel={}", shop.kernel))
        .dir(&dir)
        .run()?;
    (shop.report)("Mbed TLS: build");
    shop.step("build Mbed TLS", "ninja", &log).arg(format!("-j{}", shop.jobs)).arg("-C").arg(&build).run()?;
    Ok(build)
}

/// The program that a domain runs: all self tests, except the one that waits for a timer signal and the one that
/// reads `/dev/urandom`.
pub fn programs(shop: &Workshop<'_>) -> Result<Vec<Program>> {
    let build = build(shop)?;
    Ok(vec![
        Program::plain("mbedtls-selftest", build.join("programs/test/selftest"))
            .with_args(&["-x", "timing", "entropy"])
            .with_output("[ All tests PASS ]"),
    ])
}

/// Runs `ctest`. The suites read their cases from files, so the workshop's kernel must be
/// [`crate::kernel::STANDIN_FILES`].
pub fn check(shop: &Workshop<'_>) -> Result<Outcome> {
    let build = build(shop)?;
    let log = shop.log("mbedtls");
    let results = build.join("results.xml");
    let _ = fs::remove_file(&results);
    (shop.report)("Mbed TLS: ctest");
    // One at a time: some suites use the same scratch files.
    let verdict = shop
        .step("run Mbed TLS's tests", "ctest", &log)
        .args(["-j1", "--output-junit"])
        .arg(&results)
        .dir(&build)
        .run();
    let mut outcome = Outcome { suite: "Mbed TLS ctest".to_owned(), ..Outcome::default() };
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
