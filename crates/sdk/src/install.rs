//! Installing the SDK, and what an installed SDK offers.

use crate::assets::{self, Asset};
use crate::cache;
use crate::error::{At, Error, Result};
use crate::run::Step;
use crate::{TARGET, kernel, musl, rust};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The names of GNU binutils that get a prefixed twin.
const BINUTILS: &[&str] =
    &["ar", "as", "nm", "ranlib", "objcopy", "objdump", "strip", "readelf", "size", "addr2line"];

/// The library OS kernel, as the installation takes it.
#[derive(Clone, Debug)]
pub struct KernelFiles {
    /// One relocatable object, made by [`kernel::object`].
    pub object: PathBuf,
    /// The linker script of a domain image.
    pub script: PathBuf,
}

/// How to install.
pub struct Options<'a> {
    /// Where to install.
    pub prefix: PathBuf,
    /// Where downloads and logs are kept; shared by installations.
    pub cache: PathBuf,
    /// musl's source (a tarball or a folder) in place of the pinned one. It is taken as it is.
    pub musl_source: Option<PathBuf>,
    /// The library OS kernel. Without it, programs link with the stand-in only.
    pub kernel: Option<KernelFiles>,
    /// Program that checks every linked image (`casemate-check`); it is copied into the SDK.
    pub checker: Option<PathBuf>,
    /// Parallel jobs of `make`.
    pub jobs: usize,
    /// Called with a sentence at the start of each longer step.
    pub report: &'a (dyn Fn(&str) + 'a),
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("prefix", &self.prefix)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Options<'_> {
    /// The log file of a step.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.cache.join("log").join(format!("{name}.log"))
    }
}

/// An installed SDK.
#[derive(Clone, Debug)]
pub struct Sdk {
    prefix: PathBuf,
}

impl Sdk {
    /// Opens the installation at `prefix`.
    pub fn open(prefix: impl Into<PathBuf>) -> Result<Self> {
        let prefix = prefix.into();
        let prefix = fs::canonicalize(&prefix).map_err(|_| Error::NotInstalled {
            prefix: prefix.clone(),
            reason: "no SDK here; build it with `casemate sdk`".to_owned(),
        })?;
        let sdk = Self { prefix };
        if sdk.tool("gcc").is_file() && sdk.kernel_dir(kernel::DEFAULT).join("crt1.o").is_file() {
            return Ok(sdk);
        }
        Err(Error::NotInstalled {
            prefix: sdk.prefix,
            reason: "not a complete SDK; build it again with `casemate sdk`".to_owned(),
        })
    }

    /// The installation's folder, absolute.
    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// Folder of the target's headers and libraries.
    pub fn sysroot(&self) -> PathBuf {
        self.prefix.join(TARGET)
    }

    /// Folder of headers and libraries for programs of this machine: the C library of IDC.
    pub fn native(&self) -> PathBuf {
        self.prefix.join("native")
    }

    /// Folder of the commands; goes into `PATH` for `./configure --host=x86_64-casemate-linux-musl`.
    pub fn bin(&self) -> PathBuf {
        self.prefix.join("bin")
    }

    /// A command, for example `gcc`.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.bin().join(format!("{TARGET}-{name}"))
    }

    /// A file for a build system: `toolchain.cmake`, `meson-cross.ini`, `meson-run.ini`, `cargo-config.toml`.
    pub fn share(&self, name: &str) -> PathBuf {
        self.prefix.join("share/casemate").join(name)
    }

    /// Folder of a kernel's start file and linker script.
    pub fn kernel_dir(&self, name: &str) -> PathBuf {
        self.sysroot().join("lib/kernel").join(name)
    }

    /// Changes when a program that was linked for kernel `name` should be linked anew.
    pub fn key(&self, name: &str) -> String {
        let lib = self.sysroot().join("lib");
        let files = [
            self.kernel_dir(name).join("stamp"),
            lib.join("musl.stamp"),
            lib.join("compat.stamp"),
            lib.join("rust/std/std.stamp"),
            lib.join("rust/small/std.stamp"),
        ];
        let texts = files.map(|file| fs::read_to_string(file).unwrap_or_default());
        cache::sha256_parts(texts.iter().map(String::as_bytes))
    }

    /// Whether this kernel is installed (see [`kernel::LIBOS`], [`kernel::STANDIN`]).
    pub fn has_kernel(&self, name: &str) -> bool {
        self.kernel_dir(name).join("crt1.o").is_file()
    }
}

/// Builds what is missing and installs it. Quick when everything is there; safe to call at the same time from
/// several processes. Needs the network once (musl's source), unless that is in the cache or given.
pub fn install(options: &Options<'_>) -> Result<Sdk> {
    let files = options.kernel.iter().flat_map(|files| [&files.object, &files.script]);
    if let Some(absent) = files.chain(&options.checker).find(|path| !path.is_file()) {
        return Err(Error::Malformed { path: absent.clone(), reason: "no such file".to_owned() });
    }
    for path in [&options.prefix, &options.cache] {
        fs::create_dir_all(path).at(path)?;
        // Makefiles and configure scripts cannot quote.
        let absolute = fs::canonicalize(path).at(path)?;
        if absolute
            .to_str()
            .is_none_or(|text| text.contains(|c: char| c.is_whitespace() || "'\"\\$&;#:".contains(c)))
        {
            return Err(Error::Malformed {
                path: absolute,
                reason: "make cannot work in a folder with blanks or shell characters in its path; choose \
                         another one (--prefix)"
                    .to_owned(),
            });
        }
    }
    // Wrappers and make see these paths from other folders.
    let options = Options {
        prefix: fs::canonicalize(&options.prefix).at(&options.prefix)?,
        cache: fs::canonicalize(&options.cache).at(&options.cache)?,
        musl_source: options.musl_source.clone(),
        kernel: options.kernel.clone(),
        checker: options.checker.clone(),
        ..*options
    };
    let options = &options;
    // Both locks: the cache holds the build folders, and one prefix may be built from several caches.
    let _cache = lock(&options.cache.join("lock"))?;
    let _prefix = lock(&options.prefix.join(".lock"))?;
    let sdk = Sdk { prefix: options.prefix.clone() };
    let sysroot = sdk.sysroot();
    fs::create_dir_all(&sysroot).at(&sysroot)?;
    musl::install(options, &sysroot)?;
    install_wrappers(options, &sdk)?;
    kernel::install_standin(options, &sdk)?;
    let mut default = kernel::STANDIN;
    if let Some(files) = &options.kernel {
        kernel::install_libos(options, &sdk, &files.object, &files.script)?;
    }
    if sdk.has_kernel(kernel::LIBOS) {
        default = kernel::LIBOS;
    }
    kernel::set_default(&sdk, default)?;
    install_compat(options, &sdk)?;
    install_kernel_headers(&sdk)?;
    rust::install(options, &sdk)?;
    Ok(sdk)
}

/// Takes the lock file at `path` for as long as the result lives.
fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).at(path)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
        .map_err(std::io::Error::from)
        .at(path)?;
    Ok(file)
}

fn install_wrappers(options: &Options<'_>, sdk: &Sdk) -> Result<()> {
    let libexec = sdk.prefix.join("libexec/casemate");
    let wrapper = |name| assets::text(assets::WRAPPERS, name);
    for (name, asset) in
        [("gcc", "gcc.sh"), ("clang", "clang.sh"), ("pkg-config", "pkg-config.sh"), ("run", "run.sh")]
    {
        write_script(&sdk.tool(name), wrapper(asset))?;
    }
    for name in BINUTILS {
        write_script(&sdk.tool(name), wrapper("binutils.sh"))?;
    }
    write_script(&libexec.join("ld"), wrapper("ld.sh"))?;
    link(&sdk.tool("cc"), &format!("{TARGET}-gcc"))?;
    link(&sdk.tool("ld"), "../libexec/casemate/ld")?;
    write(&sdk.sysroot().join("lib/casemate.specs"), wrapper("casemate.specs"))?;
    let prefix = sdk.prefix.display().to_string();
    for Asset { path, text } in assets::SHARE {
        write(&sdk.share(path), &text.replace("@PREFIX@", &prefix))?;
    }
    let check = libexec.join("check");
    if let Some(checker) = &options.checker {
        let new = libexec.join("check.new");
        fs::copy(checker, &new).at(checker)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).at(&new)?;
        fs::rename(&new, &check).at(&check)?;
    }
    Ok(())
}

/// Adds the glibc-compatibility object to libc.a, unless this libc.a has it.
fn install_compat(options: &Options<'_>, sdk: &Sdk) -> Result<()> {
    let lib = sdk.sysroot().join("lib");
    let musl = fs::read_to_string(lib.join("musl.stamp")).unwrap_or_default();
    let texts = assets::COMPAT.iter().map(|asset| asset.text).chain([musl.as_str()]);
    let stamp = cache::sha256_parts(texts.map(str::as_bytes));
    let stamp_file = lib.join("compat.stamp");
    if fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    let log = options.log("compat");
    let dir = options.cache.join("build/compat");
    fs::create_dir_all(&dir).at(&dir)?;
    for asset in assets::COMPAT {
        let source = dir.join(asset.path);
        let object = dir.join(format!("casemate-{}", asset.path)).with_extension("o");
        fs::write(&source, asset.text).at(&source)?;
        Step::new(format!("compile {}", asset.path), sdk.tool("gcc"), &log)
            .args(["-Os", "-g1", "-Wall", "-Wextra", "-ffunction-sections", "-fdata-sections"])
            .args(["-fno-stack-protector", "-U_FORTIFY_SOURCE"])
            .arg(format!("-ffile-prefix-map={}=compat", dir.display()))
            .arg("-c")
            .arg(&source)
            .arg("-o")
            .arg(&object)
            .run()?;
        Step::new("add to libc.a", "ar", &log).arg("rcs").arg(lib.join("libc.a")).arg(&object).run()?;
    }
    fs::write(&stamp_file, stamp).at(&stamp_file)
}

/// Links the machine's Linux user-space headers into the sysroot: musl has none of its own, and packages read
/// constants from them. (Debian: linux-libc-dev, which GCC needs anyway.)
fn install_kernel_headers(sdk: &Sdk) -> Result<()> {
    let places = [
        ("linux", &["/usr/include/linux"][..]),
        ("asm-generic", &["/usr/include/asm-generic"]),
        ("asm", &["/usr/include/x86_64-linux-gnu/asm", "/usr/include/asm"]),
    ];
    for (name, candidates) in places {
        if let Some(found) = candidates.iter().find(|path| Path::new(path).is_dir()) {
            link(&sdk.sysroot().join("include").join(name), found)?;
        }
    }
    Ok(())
}

/// Writes a file, and its folder, unless it has this content already.
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
        return Ok(());
    }
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).at(dir)?;
    }
    fs::write(path, text).at(path)
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).at(path)
}

fn link(path: &Path, target: &str) -> Result<()> {
    if fs::read_link(path).is_ok_and(|old| old == Path::new(target)) {
        return Ok(());
    }
    let _ = fs::remove_file(path);
    std::os::unix::fs::symlink(target, path).at(path)
}
