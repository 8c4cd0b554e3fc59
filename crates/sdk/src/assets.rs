//! The files of the repository's `sdk/` folder, inside the library: an installed `casemate` needs no checkout.

/// A file and where it goes, relative to some folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asset {
    /// Relative path.
    pub(crate) path: &'static str,
    /// Content.
    pub(crate) text: &'static str,
}

/// The asset at `sdk/$folder/$path`.
macro_rules! assets {
    ($folder:literal: $($path:literal),+ $(,)?) => {
        &[$(Asset {
            path: $path,
            text: include_str!(concat!("../../../sdk/", $folder, "/", $path)),
        }),+]
    };
}

/// What is copied over musl's source tree.
pub(crate) const OVERLAY: &[Asset] = assets!("overlay":
    "arch/x86_64/syscall_arch.h",
    "src/process/x86_64/vfork.s",
    "src/signal/x86_64/restore.s",
    "src/thread/x86_64/__set_thread_area.s",
    "src/thread/x86_64/__unmapself.s",
    "src/thread/x86_64/clone.s",
    "src/thread/x86_64/syscall_cp.s",
);

/// Additions to libc.a.
pub(crate) const COMPAT: &[Asset] = assets!("compat": "glibc.c");

/// An unwinder for programs that do not unwind.
pub(crate) const UNWIND: &[Asset] = assets!("rust": "no-unwind.c");

/// The stand-in kernel.
pub(crate) const STANDIN: &[Asset] = assets!("standin": "standin.S", "standin.c", "standin.h", "link.ld");

/// Scratch files in memory.
pub(crate) const FILES: &[Asset] = assets!("files": "files.c");

/// Wrapper scripts and GCC's spec file.
pub(crate) const WRAPPERS: &[Asset] = assets!("wrappers":
    "gcc.sh", "clang.sh", "ld.sh", "binutils.sh", "pkg-config.sh", "run.sh", "casemate.specs",
);

/// Files for build systems; `@PREFIX@` stands for the installation's folder.
pub(crate) const SHARE: &[Asset] = assets!("share":
    "toolchain.cmake", "meson-cross.ini", "meson-run.ini", "cargo-config.toml", "cargo-standin.toml",
);

/// The conformance programs (see [`crate::conformance`]).
pub(crate) const TESTS: &[Asset] = assets!("tests":
    "abort.c", "absent.c", "assert.c", "cancel.c", "check.h", "console.c", "environment.c", "exit.c",
    "files.c", "hello.c", "limits.c", "malloc.c", "math.c", "memory.c", "pipe.c", "pthread.c", "random.c", "readonly.c",
    "setjmp.c", "signal.c", "stdio.c", "string.c", "time.c", "unmapped.c",
);

/// What goes with third-party packages (see [`crate::packages`]).
pub(crate) const PACKAGES: &[Asset] =
    assets!("packages": "newlib-names.c", "newlib-names.h", "posix-tests.txt", "tpm.c");

/// Text of the asset at `path`.
///
/// # Panics
/// If there is none: the lists above are fixed at compile time and a test looks up every name in use.
pub(crate) fn text(assets: &[Asset], path: &str) -> &'static str {
    match assets.iter().find(|asset| asset.path == path) {
        Some(asset) => asset.text,
        None => panic!("no asset {path}"),
    }
}
