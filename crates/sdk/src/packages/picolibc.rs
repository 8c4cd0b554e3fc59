//! Tests of the C library from picolibc's source package: the ones of the musl project's libc-testsuite that
//! picolibc keeps, newlib's own (among them 23,654 calls of mathematical functions with known results), and
//! picolibc's.
//!
//! The programs listed are those that concern standard behaviour; unmodified musl passes them as well.

use super::{Outcome, Program, Workshop, run_all};
use crate::assets;
use crate::error::{At, Result};
use crate::source;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const TARBALL: &str = "picolibc_1.8.10.orig.tar.gz";
const SHA256: &str = "d1fc2a20f217472f8d9da084a519a25678e8d91852a41c7f3f1840d3508f7163";

/// Programs of `test/libc-testsuite`, each compiled with its name as TEST_NAME. (`sscanf` expects an answer to
/// a malformed hexadecimal float that musl deliberately gives differently.)
const LIBC_TESTSUITE: &[&str] =
    &["basename", "dirname", "fnmatch", "qsort", "snprintf", "string", "strtod", "strtol", "wcstol"];

/// Programs of `newlib/testsuite`.
const NEWLIB: &[&str] = &[
    "newlib.locale/UTF-8",
    "newlib.stdio/nulprintf",
    "newlib.stdio/swprintf",
    "newlib.stdlib/size_max",
    "newlib.string/memcpy-1",
    "newlib.string/memmove1",
    "newlib.string/strcmp-1",
    "newlib.string/tstring",
    "newlib.time/tzset",
    "newlib.wctype/tiswctype",
    "newlib.wctype/twctrans",
];

/// Programs of `test` that need no files.
const PICOLIBC: &[&str] = &[
    "atexit",
    "complex-funcs",
    "constructor",
    "ffs",
    "long_double",
    "malloc_stress",
    "rand",
    "regex",
    "setjmp",
    "test-atomic",
    "test-long-long",
    "test-memchr",
    "test-memset",
    "test-sprintf-percent-n",
    "test-strchr",
    "test-strncpy",
    "test-strtod",
    "test-vfscanf-percent-a",
    "test-wcase",
    "test-wctomb",
    "test-wctype",
    "time-sprintf",
    "time-tests",
    "timegm",
];

/// Last line of the mathematics tests. Of the errors 908 are the conversions `fcvt` and `gcvt`, where newlib's
/// results are its own, and 2 are `ceil` of a signalling NaN, which musl leaves signalling; there is none in
/// any other function.
const MATHEMATICS: &str = "Tested 23654 functions, 910 errors detected";

/// Compiles the programs for the workshop's kernel.
pub fn programs(shop: &Workshop<'_>) -> Result<Vec<Program>> {
    let dir = shop.work.join("picolibc");
    let log = shop.log("picolibc");
    let source = dir.join("source");
    if !shop.is_current(&dir, &[SHA256])? {
        source::unpack(&shop.debian_source("picolibc", TARBALL, SHA256, &log)?, &source, &log)?;
        shop.set_current(&dir, &[SHA256])?;
    }
    (shop.report)("tests from picolibc: compiling");
    let images = dir.join(shop.kernel);
    fs::create_dir_all(&images).at(&images)?;
    let mut programs = Vec::new();
    let mut add = |name: &str, sources: &[PathBuf], flags: &[OsString], output: &'static str| -> Result<()> {
        let image = images.join(name);
        shop.step(&format!("compile {name}"), shop.sdk.tool("gcc"), &log)
            .args(["-w", "-O1", "-D_GNU_SOURCE"])
            .args(flags)
            .args(sources)
            .arg("-o")
            .arg(&image)
            .arg("-lm")
            .dir(&source)
            .run()?;
        programs.push(Program::plain(name, image).with_output(output));
        Ok(())
    };
    for name in LIBC_TESTSUITE {
        let flag = OsString::from(format!("-DTEST_NAME={name}"));
        add(&format!("testsuite-{name}"), &[format!("test/libc-testsuite/{name}.c").into()], &[flag], "")?;
    }
    for name in NEWLIB {
        let short = name.rsplit('/').next().unwrap_or(name);
        let sources = [format!("newlib/testsuite/{name}.c").into()];
        add(&format!("newlib-{short}"), &sources, &["-Inewlib/testsuite/include".into()], "")?;
    }
    for name in PICOLIBC {
        add(&format!("picolibc-{name}"), &[format!("test/{name}.c").into()], &[], "")?;
    }
    let (sources, flags) = mathematics(&source)?;
    add("newlib-mathematics", &sources, &flags, MATHEMATICS)?;
    // This one counts its disagreements in its exit status.
    if let Some(last) = programs.last_mut() {
        last.status = 1;
    }
    Ok(programs)
}

/// Source files and flags of newlib's mathematics tests, with the names that only newlib has added.
fn mathematics(source: &Path) -> Result<(Vec<PathBuf>, Vec<OsString>)> {
    let dir = source.join("newlib/libm/test");
    for name in ["newlib-names.h", "newlib-names.c"] {
        let path = source.join(name);
        fs::write(&path, assets::text(assets::PACKAGES, name)).at(&path)?;
    }
    let mut sources: Vec<PathBuf> = fs::read_dir(&dir)
        .at(&dir)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "c"))
        .collect();
    sources.sort();
    sources.push("newlib-names.c".into());
    let flags = ["-Inewlib/libm/test", "-include", "newlib-names.h"];
    Ok((sources, flags.iter().map(OsString::from).collect()))
}

/// Runs the programs over the workshop's kernel, which must be a stand-in.
pub fn check(shop: &Workshop<'_>) -> Result<Outcome> {
    let programs = programs(shop)?;
    let dir = shop.work.join("picolibc");
    (shop.report)("tests from picolibc: running");
    run_all("C library tests from picolibc", &programs, &dir, shop.jobs, Duration::from_secs(600))
}
