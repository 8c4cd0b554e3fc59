//! The C library: musl with our overlay, in which every system call is a call of the kernel.

use crate::assets;
use crate::cache;
use crate::error::{At, Error, Result};
use crate::install::Options;
use crate::run::Step;
use crate::source;
use std::fs;
use std::path::{Path, PathBuf};

/// Version of musl that is built unless a source is given: Debian's, with the security fixes that 1.2.6 has.
pub const MUSL_VERSION: &str = "1.2.5";

const TARBALL: &str = "musl_1.2.5.orig.tar.gz";
const TARBALL_SHA256: &str = "a9a118bbe84d8764da0ea0d28b3ab3fae8477fc7e4085d90102b8596fc7c75e4";

/// Fixes from the Debian package, in order; each is pinned, whatever the package's revision.
const PATCHES: &[(&str, &str)] = &[
    (
        // CVE-2025-26519: iconv, EUC-KR decoder.
        "CVE-2025-26519-0001_iconv_fix_erroneous_input_validation_in_EUC_KR_decod.patch",
        "19f9e36002c9680da1dd480035dfcca6610d13d9b9e5ca1a6783bedc049b99b0",
    ),
    (
        "CVE-2025-26519-0002_iconv_harden_UTF_8_output_code_path_against_input_de.patch",
        "70e9d5f98dae49b0b3dd180b4a0bd2f222acda3e58b9b4bf00b25b0d592339dd",
    ),
    (
        // iconv, GB18030 decoder: a second of computing time per character.
        "0001-fix-pathological-slowness-incorrect-mappings-in-icon.patch",
        "313e78e290eae305ca0fbfc384f785e60502e4c70c1166f67d7e9dda1442ae75",
    ),
    (
        // CVE-2026-40200: qsort could overrun its stack.
        "0002-qsort-fix-leonardo-heap-corruption-from-bug-in-doubl.patch",
        "495ede3d85132d47ae50686679f6b754f4f1fe69eb5170510164d93603cdefbc",
    ),
];

/// Small code, one section per function so that the linker can drop what is not used, line tables for
/// backtraces and debuggers.
const CFLAGS: &str = "-Os -g1 -fno-pie -fno-stack-protector -ffunction-sections -fdata-sections";

/// Where the source comes from.
enum Source {
    /// The pinned tarball and patches, all in the cache.
    Pinned { tarball: PathBuf, patches: Vec<PathBuf> },
    /// A tarball or a source tree of the user's, taken as it is.
    Given(PathBuf),
}

/// Finds the source: the user's, the cache, or the Debian source package.
fn source(options: &Options) -> Result<Source> {
    if let Some(path) = &options.musl_source {
        if !path.exists() {
            return Err(Error::Source {
                what: format!("musl from {}", path.display()),
                reason: "no such file or folder".to_owned(),
            });
        }
        return Ok(Source::Given(path.clone()));
    }
    let dir = options.cache.join("musl");
    fs::create_dir_all(&dir).at(&dir)?;
    let pinned = Source::Pinned {
        tarball: dir.join(TARBALL),
        patches: PATCHES.iter().map(|(name, _)| dir.join(name)).collect(),
    };
    if complete(&dir)? {
        return Ok(pinned);
    }
    (options.report)(&format!("fetching musl {MUSL_VERSION} (Debian source package)"));
    let log = options.log("fetch-musl");
    let package = source::apt::source_package("musl", source::apt::SUITE, &options.cache, &log)?;
    take(&package.join(TARBALL), &dir.join(TARBALL), TARBALL_SHA256)?;
    let packaging = newest(&package, "musl_", ".debian.tar.xz")?;
    let unpacked = options.cache.join("build/musl-packaging");
    source::unpack(&packaging, &unpacked, &log)?;
    for (name, sha256) in PATCHES {
        take(&unpacked.join("patches").join(name), &dir.join(name), sha256)?;
    }
    Ok(pinned)
}

/// Whether the cache folder holds everything that is pinned.
fn complete(dir: &Path) -> Result<bool> {
    for (name, sha256) in PATCHES.iter().copied().chain([(TARBALL, TARBALL_SHA256)]) {
        if !cache::holds(&dir.join(name), sha256)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn take(from: &Path, to: &Path, sha256: &str) -> Result<()> {
    if !from.exists() {
        let name = from.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(Error::Source {
            what: format!("musl {MUSL_VERSION}"),
            reason: format!(
                "the Debian source package has no {name} (a mirror without sources, or a newer package?); \
                 give musl's source by path: --musl-source"
            ),
        });
    }
    cache::adopt(from, to, sha256)
}

/// The last file, by name, of `dir` with this beginning and end.
fn newest(dir: &Path, prefix: &str, suffix: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(dir)
        .at(dir)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(prefix) && name.ends_with(suffix)
        })
        .collect();
    found.sort();
    found.pop().ok_or_else(|| Error::Source {
        what: format!("musl {MUSL_VERSION}"),
        reason: format!(
            "no {prefix}*{suffix} in {}; give musl's source by path: --musl-source",
            dir.display()
        ),
    })
}

/// Builds musl and installs headers, `libc.a` and start files below `sysroot`; does nothing when the same
/// source, overlay, flags and compiler are installed already. Returns whether it built.
pub(crate) fn install(options: &Options, sysroot: &Path) -> Result<bool> {
    let source = source(options)?;
    let log = options.log("musl");
    let compiler = Step::new("ask for GCC's version", "gcc", &log).arg("--version").output()?;
    let stamp = stamp(&source, &compiler)?;
    let stamp_file = sysroot.join("lib/musl.stamp");
    if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(false);
    }
    let tree = options.cache.join("build/musl");
    unpack(options, &source, &tree, &log)?;
    for asset in assets::OVERLAY {
        let path = tree.join(asset.path);
        fs::write(&path, asset.text).at(&path)?;
    }
    (options.report)("building musl (about half a minute)");
    let cflags = format!("{CFLAGS} -ffile-prefix-map={}=musl-{MUSL_VERSION}", tree.display());
    Step::new("configure musl", "./configure", &log)
        .arg(format!("--prefix={}", sysroot.display()))
        .args(["--target=x86_64-linux-musl", "--disable-shared", "--disable-gcc-wrapper"])
        .arg(format!("CFLAGS={cflags}"))
        .env("CC", "gcc")
        .env("AR", "ar")
        .env("RANLIB", "ranlib")
        .dir(&tree)
        .run()?;
    Step::new("build musl", "make", &log).arg(format!("-j{}", options.jobs)).dir(&tree).run()?;
    Step::new("install musl", "make", &log).arg("install").dir(&tree).run()?;
    let lib = sysroot.join("lib");
    // The start code without a kernel: crt1.o proper is made from it, once per kernel.
    let (plain, kept) = (lib.join("crt1.o"), lib.join("crt1-musl.o"));
    fs::rename(&plain, &kept).at(&plain)?;
    for pie in ["Scrt1.o", "rcrt1.o"] {
        fs::remove_file(lib.join(pie)).at(lib.join(pie))?;
    }
    fs::write(&stamp_file, stamp).at(&stamp_file)?;
    fs::remove_dir_all(&tree).at(&tree)?;
    Ok(true)
}

fn unpack(options: &Options, source: &Source, tree: &Path, log: &Path) -> Result<()> {
    match source {
        Source::Pinned { tarball, patches } => {
            source::unpack(tarball, tree, log)?;
            for patch in patches {
                Step::new("apply a security fix to musl", "patch", log)
                    .args(["--strip=1", "--forward", "--fuzz=0", "--input"])
                    .arg(patch)
                    .dir(tree)
                    .run()?;
            }
        }
        Source::Given(path) if path.is_dir() => {
            if tree.exists() {
                fs::remove_dir_all(tree).at(tree)?;
            }
            if let Some(parent) = tree.parent() {
                fs::create_dir_all(parent).at(parent)?;
            }
            Step::new("copy musl's source", "cp", log).arg("-r").arg(path).arg(tree).run()?;
        }
        Source::Given(path) => source::unpack(path, tree, log)?,
    }
    let version_file = tree.join("VERSION");
    let version = fs::read_to_string(&version_file).map_err(|_| Error::Source {
        what: "musl".to_owned(),
        reason: "the given source has no VERSION file: not a source tree of musl".to_owned(),
    })?;
    if matches!(source, Source::Given(_)) {
        (options.report)(&format!(
            "musl {} as given: the pinned security fixes are not applied",
            version.trim()
        ));
    }
    Ok(())
}

/// Identifies everything that the built library depends on.
fn stamp(source: &Source, compiler: &str) -> Result<String> {
    let mut parts: Vec<String> = vec![CFLAGS.to_owned(), compiler.to_owned()];
    match source {
        Source::Pinned { .. } => {
            parts.push(TARBALL_SHA256.to_owned());
            parts.extend(PATCHES.iter().map(|(_, sha256)| (*sha256).to_owned()));
        }
        Source::Given(path) if path.is_dir() => parts.push(path.display().to_string()),
        Source::Given(path) => parts.push(cache::sha256(path)?),
    }
    for asset in assets::OVERLAY {
        parts.push(asset.path.to_owned());
        parts.push(asset.text.to_owned());
    }
    Ok(cache::sha256_parts(parts.iter().map(String::as_bytes)))
}
