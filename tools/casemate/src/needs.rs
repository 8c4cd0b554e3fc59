//! What this machine needs, what of it is there, and how to get the rest. `setup` and `doctor` share it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;
use testbed::host;

use crate::workspace::MUSL;

/// Something that has to be there.
#[derive(Clone, Debug, Serialize)]
pub struct Need {
    /// What it is.
    pub what: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// What was found; nothing when it is missing.
    pub found: Option<String>,
    /// How to get it.
    pub remedy: Remedy,
}

/// How to get something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// Packages of Debian.
    Packages(Vec<String>),
    /// A target of the Rust toolchain.
    RustTarget,
    /// A newer Rust.
    Rust,
}

/// Oldest Rust that builds the tree.
const RUST: (u32, u32) = (1, 88);

/// Version of Xen whose packages are named when apt cannot be asked.
const DEFAULT_XEN: &str = "4.17";

/// Everything that this machine needs, there or not.
pub fn needs() -> Vec<Need> {
    let packages = |names: &[&str]| Remedy::Packages(names.iter().map(ToString::to_string).collect());
    let need = |what, purpose, found, remedy| Need { what, purpose, found, remedy };
    let mut needs = vec![
        need("Rust 1.88 or newer", "builds everything", rust(), Remedy::Rust),
        need(
            "Rust target for static programs",
            "kernel, domains, programs in dom0",
            musl(),
            Remedy::RustTarget,
        ),
        need("C compiler", "links programs for this machine", program("cc"), packages(&["gcc", "libc6-dev"])),
        need("C++ compiler", "builds the fuzzer, to test with it", program("c++"), packages(&["g++"])),
        need("linker for images", "kernel and domains", image_tools(), packages(&["lld", "binutils"])),
        need("make", "builds the C library", program("make"), packages(&["make"])),
        need("patch", "applies its security fixes", program("patch"), packages(&["patch"])),
        need("xz", "unpacks its source", program("xz"), packages(&["xz-utils"])),
        need("Clang", "second compiler of the tool chain", program("clang"), packages(&["clang"])),
        need("m4", "builds GMP, to test the tool chain", program("m4"), packages(&["m4"])),
        need("CMake", "builds Mbed TLS, to test it", program("cmake"), packages(&["cmake"])),
        need("meson", "builds LZ4, to test it", program("meson"), packages(&["meson"])),
        need("ninja", "under meson", program("ninja"), packages(&["ninja-build"])),
        need("perl", "builds OpenSSL, to test it", perl(), packages(&["perl"])),
        need(
            "pkg-config",
            "finds libraries for the tool chain",
            program("pkg-config"),
            packages(&["pkg-config"]),
        ),
        need(
            "libtpms",
            "the vTPM's engine",
            file("/usr/include/libtpms/tpm_library.h"),
            packages(&["libtpms-dev"]),
        ),
        need("swtpm", "what the vTPM is compared with", program("swtpm"), packages(&["swtpm"])),
        need(
            "tpm2-tools",
            "test of the vTPM",
            program("tpm2_getrandom"),
            packages(&["tpm2-tools", "libtss2-tcti-swtpm0", "libtss2-tcti-mssim0"]),
        ),
        need("openssl", "checks the vTPM's signatures", program("openssl"), packages(&["openssl"])),
        need("gdb", "`casemate run --gdb`", program("gdb"), packages(&["gdb"])),
        need(
            "DejaVu fonts",
            "letters in the figures",
            file("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
            packages(&["fonts-dejavu-core"]),
        ),
        need(
            "Xen's headers",
            "test of the ABI crate",
            file("/usr/include/xen/xen.h"),
            packages(&["libxen-dev"]),
        ),
    ];
    if host::is_dom0() {
        needs.push(need("xl", "runs domains", program("xl"), packages(&["xen-utils-common"])));
        return needs;
    }
    let version =
        host::xen().map(|x| x.version).ok().or_else(newest_xen).unwrap_or_else(|| DEFAULT_XEN.to_owned());
    let xen =
        Remedy::Packages(vec![format!("xen-hypervisor-{version}-amd64"), format!("xen-utils-{version}")]);
    let hypervisor = host::xen().ok().map(|x| format!("{} ({})", x.version, x.hypervisor.display()));
    let kernel = host::kernel().ok().map(|k| k.release);
    needs.extend([
        need("QEMU", "is the machine under Xen", qemu(), packages(&["qemu-system-x86"])),
        need("Xen with its toolstack", "runs domains", hypervisor, xen),
        need("xenstore programs", "in dom0", program("xenstore-read"), packages(&["xenstore-utils"])),
        need("Linux for dom0", "in dom0", kernel, packages(&["linux-image-amd64"])),
        need("busybox", "in dom0", program("busybox"), packages(&["busybox-static"])),
    ]);
    needs
}

/// The packages that are missing.
pub fn missing_packages(needs: &[Need]) -> Vec<String> {
    let missing = needs.iter().filter(|n| n.found.is_none());
    let mut packages: Vec<String> = missing
        .flat_map(|n| match &n.remedy {
            Remedy::Packages(packages) => packages.clone(),
            _ => Vec::new(),
        })
        .filter(|p| !installed(p))
        .collect();
    packages.dedup();
    packages
}

/// The first line that a command prints.
pub fn first_line(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}

fn rust() -> Option<String> {
    let version = first_line("rustc", &["--version"])?;
    first_line("cargo", &["--version"])?;
    is_new_enough(&version).then_some(version)
}

/// Is `rustc 1.90.0 (...)` new enough?
fn is_new_enough(version: &str) -> bool {
    let mut numbers =
        version.split_whitespace().nth(1).unwrap_or_default().split('.').map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= RUST
}

fn musl() -> Option<String> {
    let sysroot = PathBuf::from(first_line("rustc", &["--print", "sysroot"])?);
    let dir = sysroot.join("lib/rustlib").join(MUSL).join("lib");
    let has_std =
        fs::read_dir(dir).ok()?.flatten().any(|e| e.file_name().to_string_lossy().starts_with("libstd-"));
    has_std.then(|| MUSL.to_owned())
}

/// OpenSSL's build wants the modules of the whole package, not perl-base's.
fn perl() -> Option<String> {
    first_line("perl", &["-MIPC::Cmd", "-MPod::Usage", "-e", "print $^V"])
}

fn image_tools() -> Option<String> {
    let tools = sdk::kernel::Tools::find().ok()?;
    Some(tools.to_string())
}

fn qemu() -> Option<String> {
    program(host::QEMU)?;
    first_line(host::QEMU, &["--version"])
}

/// Where a program is.
pub fn program(name: &str) -> Option<String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    let found = dirs.map(|d| d.join(name)).find(|p| p.is_file());
    found.map(|p| p.display().to_string())
}

fn file(path: &str) -> Option<String> {
    Path::new(path).is_file().then(|| path.to_owned())
}

fn installed(package: &str) -> bool {
    first_line("dpkg-query", &["-W", "-f", "${db:Status-Status}", package]).is_some_and(|s| s == "installed")
}

/// The newest Xen that apt knows.
fn newest_xen() -> Option<String> {
    let output =
        Command::new("apt-cache").args(["search", "--names-only", "^xen-hypervisor-.*-amd64$"]).output();
    newest_of(&String::from_utf8_lossy(&output.ok()?.stdout))
}

fn newest_of(names: &str) -> Option<String> {
    let version = |line: &str| {
        let name = line.split_whitespace().next()?;
        let version = name.strip_prefix("xen-hypervisor-")?.strip_suffix("-amd64")?.to_owned();
        version.chars().all(|c| c.is_ascii_digit() || c == '.').then_some(version)
    };
    let mut versions: Vec<_> = names.lines().filter_map(version).collect();
    versions.sort_by(|a, b| host::compare_versions(a, b));
    versions.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_rust() {
        assert!(is_new_enough("rustc 1.88.0 (abc 2025-06-23)"));
        assert!(is_new_enough("rustc 2.0.0"));
        assert!(!is_new_enough("rustc 1.63.0"));
        assert!(!is_new_enough("rustc"));
    }

    #[test]
    fn the_newest_xen_is_chosen_by_number() {
        let names = "xen-hypervisor-4.9-amd64 - Xen\nxen-hypervisor-4.17-amd64 - Xen\n\
                     xen-hypervisor-4.20-amd64-dbg - symbols\nxen-hypervisor-common - files\n";
        assert_eq!(newest_of(names).as_deref(), Some("4.17"));
        assert_eq!(newest_of(""), None);
    }
}
