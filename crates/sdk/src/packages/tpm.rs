//! A TPM 2.0 in one program: Debian's `libtpms.a`, unchanged, over OpenSSL's libcrypto.
//!
//! It shows that a static library built by another distribution against glibc's headers links with the SDK's C
//! library (the glibc-compatibility object), and that OpenSSL's own build system takes the tool chain.

use super::{Outcome, Program, Workshop, run_all};
use crate::assets;
use crate::error::{At, Result};
use crate::source;
use crate::source::crates::Crate;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The crate that holds OpenSSL 3 complete (the interface that Debian's libtpms was built for).
const SOURCE: Crate = Crate {
    name: "openssl-src",
    version: "300.6.1+3.6.3",
    sha256: "46eb8fb9fb3b61ce1c0f8a026c4c1a0714d3a9e138e7fbde78753ce2babc3846",
};

/// What a TPM does not use of OpenSSL is not built.
const OPTIONS: &[&str] = &[
    "linux-x86_64",
    "no-shared",
    "no-tests",
    "no-apps",
    "no-docs",
    "no-dso",
    "no-module",
    "no-engine",
    "no-async",
    "no-sock",
    "no-ui-console",
    "no-autoload-config",
    "no-afalgeng",
    "no-legacy",
    "no-cmp",
    "no-cms",
    "no-ct",
    "no-ocsp",
    "no-ts",
    "no-srp",
    "no-comp",
    "no-http",
    "no-tls",
    "no-dtls",
    "no-quic",
    "no-ml-dsa",
    "no-ml-kem",
    "no-slh-dsa",
    "no-lms",
    "no-argon2",
    "no-aria",
    "no-bf",
    "no-blake2",
    "no-cast",
    "no-chacha",
    "no-gost",
    "no-idea",
    "no-md4",
    "no-mdc2",
    "no-poly1305",
    "no-rc2",
    "no-rc4",
    "no-rmd160",
    "no-scrypt",
    "no-seed",
    "no-siphash",
    "no-siv",
    "no-sm2",
    "no-sm3",
    "no-sm4",
    "no-whirlpool",
    "-Os",
    "-ffunction-sections",
    "-fdata-sections",
];

/// Builds libcrypto; does nothing when that is done. Returns the folder with `libcrypto.a` and `include`.
pub fn openssl(shop: &Workshop<'_>) -> Result<PathBuf> {
    let dir = shop.work.join("openssl");
    let tree = dir.join("openssl");
    let inputs: Vec<&str> = OPTIONS.iter().copied().chain([SOURCE.sha256]).collect();
    if shop.is_current(&dir, &inputs)? {
        return Ok(tree);
    }
    let log = shop.log("openssl");
    source::unpack(&SOURCE.archive(shop.cache, &log)?, &dir, &log)?;
    (shop.report)("OpenSSL: Configure and make libcrypto.a (a minute or two)");
    shop.step("configure OpenSSL", "perl", &log)
        .arg("Configure")
        .arg(format!("--cross-compile-prefix={}-", crate::TARGET))
        .args(OPTIONS)
        .dir(&tree)
        .run()?;
    for target in ["build_generated", "libcrypto.a"] {
        shop.step("build OpenSSL", "make", &log)
            .arg(format!("-j{}", shop.jobs))
            .arg(target)
            .dir(&tree)
            .run()?;
    }
    shop.set_current(&dir, &inputs)?;
    Ok(tree)
}

/// Unpacks Debian's libtpms; does nothing when that is done. Returns the folder with `usr`.
fn libtpms(shop: &Workshop<'_>) -> Result<PathBuf> {
    let dir = shop.work.join("tpm");
    let log = shop.log("tpm");
    fs::create_dir_all(&dir).at(&dir)?;
    let libtpms = dir.join("libtpms");
    if !libtpms.join("usr/include/libtpms/tpm_library.h").is_file() {
        let package = source::apt::unpack_binary_package("libtpms-dev", shop.cache, &libtpms, &log)?;
        (shop.report)(&format!("libtpms from {package}"));
    }
    Ok(libtpms)
}

/// Builds or fetches what a TPM links with. Returns a folder with `libtpms.a` and `libcrypto.a`, for the environment
/// variable `CASEMATE_TPM_LIBRARIES` of the crate casemate-libtpms.
pub fn libraries(shop: &Workshop<'_>) -> Result<PathBuf> {
    let (openssl, libtpms) = (openssl(shop)?, libtpms(shop)?);
    let dir = shop.work.join("tpm-libraries");
    fs::create_dir_all(&dir).at(&dir)?;
    for from in [openssl.join("libcrypto.a"), libtpms.join("usr/lib/x86_64-linux-gnu/libtpms.a")] {
        let to = dir.join(from.file_name().unwrap_or_default());
        // Cargo looks at the time of a file: one that has not changed keeps its own.
        let new = fs::read(&from).at(&from)?;
        if fs::read(&to).is_ok_and(|old| old == new) {
            continue;
        }
        fs::write(&to, new).at(&to)?;
    }
    Ok(dir)
}

/// Links the TPM program for the workshop's kernel.
pub fn programs(shop: &Workshop<'_>) -> Result<Vec<Program>> {
    let (openssl, libtpms) = (openssl(shop)?, libtpms(shop)?);
    let dir = shop.work.join("tpm");
    let log = shop.log("tpm");
    let program = dir.join("tpm.c");
    fs::write(&program, assets::text(assets::PACKAGES, "tpm.c")).at(&program)?;
    let image = dir.join(format!("tpm-{}", shop.kernel));
    shop.step("link the TPM", shop.sdk.tool("gcc"), &log)
        .arg("-Os")
        .arg(&program)
        .arg("-I")
        .arg(libtpms.join("usr/include"))
        .arg(libtpms.join("usr/lib/x86_64-linux-gnu/libtpms.a"))
        .arg(openssl.join("libcrypto.a"))
        .arg("-o")
        .arg(&image)
        .env("CASEMATE_MAP", "yes")
        .run()?;
    Ok(vec![Program::plain("tpm", image).with_output("TPM 2.0: all commands succeeded")])
}

/// Runs the TPM over the workshop's kernel, which must be a stand-in.
pub fn check(shop: &Workshop<'_>) -> Result<Outcome> {
    let programs = programs(shop)?;
    run_all("TPM 2.0 of libtpms", &programs, &shop.work.join("tpm"), 1, Duration::from_secs(300))
}
