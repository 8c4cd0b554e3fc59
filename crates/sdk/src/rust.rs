//! What the SDK takes from the installed Rust target: the unwinder, and copies of the prebuilt std without what
//! cannot work in a domain.
//!
//! std turns the addresses of a panic's backtrace into names by reading the program's own file, and carries a
//! DWARF reader and a decompressor for that: 160 KB. A domain has no files, so this ends in "unknown" each time
//! (`casemate symbolize` names the addresses, outside). In a copy of std's library the one function that does it
//! becomes `ret`, and the linker drops what only that function used. The `ld` wrapper puts the copy in the place of
//! the original, whose name, with its hash, it has; rustc knows nothing of this. A second copy, for
//! `CASEMATE_STD=small`, prints no backtraces at all and goes with an unwinder that does nothing.
//!
//! Nothing depends on the trimming: where a function is not found (another version of Rust), or link-time
//! optimisation takes std's bitcode in place of this library, the image is merely larger.

use crate::assets;
use crate::cache;
use crate::error::{At, Error, Result};
use crate::install::{Options, Sdk};
use crate::run::Step;
use object::{Object as _, ObjectSection as _, SectionKind};
use std::fs;
use std::path::{Path, PathBuf};

/// A function of std: parts of the name of its section (in the old and the new mangling), and machine code with
/// which it is to begin. The rest of it becomes `ret`.
type Cut = (&'static [&'static str], &'static [u8]);

const RET: u8 = 0xc3;

/// `std::backtrace_rs::symbolize::gimli::Cache::with_global`: calls back with the symbols of the program, or, when
/// there are none, not at all.
const SYMBOLS: Cut = (&["backtrace_rs9symbolize5gimli", "5Cache11with_global"], &[RET]);

/// `<std::sys::backtrace::BacktraceLock::print::DisplayBacktrace as Display>::fmt`; returns `Ok`, which is 0.
const BACKTRACE: Cut = (&["BacktraceLock5print", "16DisplayBacktrace", "7Display3fmt"], &[0x31, 0xc0, RET]);

/// The copies: folder below `lib/rust`, and what is cut.
const COPIES: [(&str, &[Cut]); 2] = [("std", &[SYMBOLS]), ("small", &[SYMBOLS, BACKTRACE])];

/// Takes what the installed Rust target has. Without Rust or the target there is nothing to do; C programs do not
/// need it.
pub(crate) fn install(options: &Options<'_>, sdk: &Sdk) -> Result<()> {
    let log = options.log("rust");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let Ok(sysroot) = Step::new("look for Rust", rustc, &log).args(["--print", "sysroot"]).output() else {
        return Ok(());
    };
    let from = Path::new(sysroot.trim()).join("lib/rustlib").join(crate::RUST_TARGET).join("lib");
    // Its folder itself must not be a library folder: it holds a libc.a whose system calls are instructions.
    let unwinder = from.join("self-contained/libunwind.a");
    if unwinder.is_file() {
        fs::copy(&unwinder, sdk.sysroot().join("lib/libunwind.a")).at(&unwinder)?;
    }
    install_no_unwinder(options, sdk, &log)?;
    let Some(std) = find_std(&from) else { return Ok(()) };
    for (name, cuts) in COPIES {
        trim(options, sdk, &std, name, cuts, &log)?;
    }
    Ok(())
}

/// std's library in a folder of Rust's.
fn find_std(dir: &Path) -> Option<PathBuf> {
    let mut found = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    });
    found.next()
}

/// Compiles the unwinder of small programs.
fn install_no_unwinder(options: &Options<'_>, sdk: &Sdk, log: &Path) -> Result<()> {
    let text = assets::text(assets::UNWIND, "no-unwind.c");
    let to = folder(sdk, "small");
    let stamp = cache::sha256_parts([text.as_bytes()]);
    let stamp_file = to.join("unwind.stamp");
    if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    let work = options.cache.join("build/rust");
    for dir in [&work, &to] {
        fs::create_dir_all(dir).at(dir)?;
    }
    let (source, object) = (work.join("no-unwind.c"), work.join("no-unwind.o"));
    fs::write(&source, text).at(&source)?;
    Step::new("compile no-unwind.c", sdk.tool("gcc"), log)
        .args(["-Os", "-Wall", "-Wextra", "-ffunction-sections", "-fno-stack-protector", "-c"])
        .arg(&source)
        .arg("-o")
        .arg(&object)
        .run()?;
    let library = to.join("libunwind.a");
    let _ = fs::remove_file(&library);
    Step::new("make libunwind.a", "ar", log).arg("rcs").arg(&library).arg(&object).run()?;
    fs::write(&stamp_file, stamp).at(&stamp_file)
}

fn folder(sdk: &Sdk, copy: &str) -> PathBuf {
    sdk.sysroot().join("lib/rust").join(copy)
}

/// Makes a copy of std's library without some functions.
fn trim(options: &Options<'_>, sdk: &Sdk, std: &Path, copy: &str, cuts: &[Cut], log: &Path) -> Result<()> {
    let to = folder(sdk, copy);
    let name = std.file_name().unwrap_or_default();
    let data = fs::read(std).at(std)?;
    let parts = cuts.iter().flat_map(|(parts, code)| parts.iter().map(|p| p.as_bytes()).chain([*code]));
    let stamp = cache::sha256_parts([data.as_slice()].into_iter().chain(parts));
    let stamp_file = to.join("std.stamp");
    if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) && to.join(name).is_file() {
        return Ok(());
    }
    if copy == COPIES[0].0 {
        (options.report)("copying Rust's std without what needs files");
    }
    let work = options.cache.join("build/rust").join(copy);
    if work.exists() {
        fs::remove_dir_all(&work).at(&work)?;
    }
    for dir in [&work, &to] {
        fs::create_dir_all(dir).at(dir)?;
    }
    let library = work.join(name);
    fs::copy(std, &library).at(std)?;
    Step::new("unpack std", "ar", log).arg("x").arg(&library).dir(&work).run()?;
    for entry in fs::read_dir(&work).at(&work)? {
        let path = entry.at(&work)?.path();
        if path.extension().is_some_and(|e| e == "o") && cut(&path, cuts, log)? {
            Step::new("pack std", "ar", log).arg("r").arg(&library).arg(&path).run()?;
        }
    }
    fs::rename(&library, to.join(name)).at(&library)?;
    fs::remove_dir_all(&work).at(&work)?;
    fs::write(&stamp_file, stamp).at(&stamp_file)
}

/// Replaces the code of functions in an object file; false when it has none of them.
fn cut(path: &Path, cuts: &[Cut], log: &Path) -> Result<bool> {
    let data = fs::read(path).at(path)?;
    let file = object::File::parse(&*data).map_err(|error| Error::Malformed {
        path: path.to_path_buf(),
        reason: format!("not an object file: {error}"),
    })?;
    let sections = file.sections().filter(|section| section.kind() == SectionKind::Text);
    let mut found = Vec::new();
    for section in sections {
        let name = section.name().unwrap_or_default();
        let cut = cuts.iter().find(|(parts, _)| parts.iter().all(|part| name.contains(part)));
        if let Some((_, code)) = cut
            && section.size() >= code.len() as u64
        {
            let mut content = code.to_vec();
            content.resize(usize::try_from(section.size()).unwrap_or(code.len()), RET);
            found.push((name.to_owned(), content));
        }
    }
    if found.is_empty() {
        return Ok(false);
    }
    let mut step = Step::new("cut functions out of std", "objcopy", log);
    // The bitcode is for link-time optimisation, which takes it from the original.
    step = step.args(["--remove-section=.llvmbc", "--remove-section=.llvmcmd"]);
    for (number, (name, content)) in found.iter().enumerate() {
        let file = path.with_extension(format!("{number}.bin"));
        fs::write(&file, content).at(&file)?;
        step = step.arg(format!("--remove-relocations={name}"));
        step = step.arg(format!("--update-section={name}={}", file.display()));
    }
    step.arg(path).run()?;
    Ok(true)
}
