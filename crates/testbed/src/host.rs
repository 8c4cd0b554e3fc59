//! What the machine has installed: Xen, its toolstack, a kernel for dom0, busybox.
//!
//! The layout is Debian's (`/boot/xen-4.17-amd64.gz`, `/usr/lib/xen-4.17/bin`, `/boot/vmlinuz-RELEASE`,
//! `/lib/modules/RELEASE`); of several versions the newest complete one is taken.

use std::{
    cmp::Ordering,
    fs,
    path::{Path, PathBuf},
};

use crate::Error;

/// Program that emulates the machine.
pub const QEMU: &str = "qemu-system-x86_64";

/// A version of Xen with its toolstack.
#[derive(Clone, Debug)]
pub struct Xen {
    /// Such as `4.17`.
    pub version: String,
    /// The hypervisor, compressed with gzip or plain.
    pub hypervisor: PathBuf,
    /// Folder of `xl`, `xenstored`, `xenconsoled`, ...
    pub tools: PathBuf,
}

/// A Linux kernel that can be dom0.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// Such as `6.1.0-21-amd64`.
    pub release: String,
    /// The bzImage.
    pub image: PathBuf,
    /// Folder with `modules.dep`.
    pub modules: PathBuf,
}

/// Is this machine the control domain of a running Xen?
pub fn is_dom0() -> bool {
    fs::read_to_string("/proc/xen/capabilities").is_ok_and(|c| c.contains("control_d"))
}

/// The newest Xen that is installed together with its toolstack.
///
/// # Errors
/// [`Error::Missing`].
pub fn xen() -> Result<Xen, Error> {
    xen_in(Path::new("/boot"), Path::new("/usr/lib"))
}

fn xen_in(boot: &Path, lib: &Path) -> Result<Xen, Error> {
    let mut found: Vec<Xen> = names(boot)
        .into_iter()
        .filter_map(|name| {
            let version = name.strip_prefix("xen-")?;
            let version = version.strip_suffix(".gz").unwrap_or(version);
            let version = version.strip_suffix("-amd64").unwrap_or(version);
            let is_version = version.contains('.') && version.chars().all(|c| c.is_ascii_digit() || c == '.');
            is_version.then(|| Xen {
                version: version.to_owned(),
                hypervisor: boot.join(&name),
                tools: lib.join(format!("xen-{version}/bin")),
            })
        })
        .collect();
    found.sort_by(|a, b| compare_versions(&a.version, &b.version));
    let newest = found.last().map(|x| x.version.clone());
    found.into_iter().rev().find(|x| x.tools.join("xl").is_file()).ok_or_else(|| match newest {
        Some(version) => Error::Missing {
            what: format!("the toolstack of Xen {version}"),
            advice: format!("install the package xen-utils-{version}, or run `casemate setup`"),
        },
        None => Error::Missing {
            what: "the Xen hypervisor".to_owned(),
            advice: "install the packages xen-hypervisor-4.17-amd64 (or newer) and xen-utils-4.17, or run \
                     `casemate setup`"
                .to_owned(),
        },
    })
}

/// The newest Linux kernel that is installed with its modules and can be dom0.
///
/// # Errors
/// [`Error::Missing`].
pub fn kernel() -> Result<Kernel, Error> {
    kernel_in(Path::new("/boot"), Path::new("/lib/modules"))
}

fn kernel_in(boot: &Path, modules: &Path) -> Result<Kernel, Error> {
    let mut releases: Vec<String> = names(modules)
        .into_iter()
        .filter(|r| {
            let config = fs::read_to_string(boot.join(format!("config-{r}")));
            boot.join(format!("vmlinuz-{r}")).is_file()
                && modules.join(r).join("modules.dep").is_file()
                && config.is_ok_and(|c| c.lines().any(|l| l == "CONFIG_XEN_DOM0=y"))
        })
        .collect();
    releases.sort_by(|a, b| compare_versions(a, b));
    let release = releases.pop().ok_or_else(|| Error::Missing {
        what: "a Linux kernel for dom0 (with CONFIG_XEN_DOM0, its modules and its configuration in /boot)"
            .to_owned(),
        advice: "install the package linux-image-amd64, or run `casemate setup`".to_owned(),
    })?;
    Ok(Kernel { image: boot.join(format!("vmlinuz-{release}")), modules: modules.join(&release), release })
}

/// Full path of a program.
///
/// # Errors
/// [`Error::Missing`], which names the package.
pub fn program(name: &str, package: &str) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
        .ok_or_else(|| Error::Missing {
            what: format!("the program {name}"),
            advice: format!("install the package {package}, or run `casemate setup`"),
        })
}

/// Names in a folder; none when it is not there.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).collect()
}

/// Orders version strings: runs of digits by number, the rest by character.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let number = |s: &str| s.len() - s.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (na, nb) = (number(a), number(b));
        let order = if na > 0 && nb > 0 {
            let (da, db) = (a[..na].trim_start_matches('0'), b[..nb].trim_start_matches('0'));
            let order = da.len().cmp(&db.len()).then_with(|| da.cmp(db));
            (a, b) = (&a[na..], &b[nb..]);
            order
        } else {
            let (mut ca, mut cb) = (a.chars(), b.chars());
            let (ha, hb) = (ca.next(), cb.next());
            if ha.is_none() && hb.is_none() {
                return Ordering::Equal;
            }
            (a, b) = (ca.as_str(), cb.as_str());
            ha.cmp(&hb)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        assert_eq!(compare_versions("4.17", "4.9"), Ordering::Greater);
        assert_eq!(compare_versions("6.1.0-9-amd64", "6.1.0-21-amd64"), Ordering::Less);
        assert_eq!(compare_versions("6.1", "6.1"), Ordering::Equal);
        assert_eq!(compare_versions("6.1", "6.1.1"), Ordering::Less);
    }

    #[test]
    fn the_newest_complete_xen_is_taken() {
        let root = tempfile::tempdir().unwrap();
        let (boot, lib) = (root.path().join("boot"), root.path().join("lib"));
        fs::create_dir_all(&boot).unwrap();
        assert!(matches!(xen_in(&boot, &lib), Err(Error::Missing { .. })));
        for version in ["4.9", "4.17", "4.20"] {
            fs::write(boot.join(format!("xen-{version}-amd64.gz")), "").unwrap();
        }
        fs::write(boot.join("xen-4.20-amd64.config"), "").unwrap();
        let message = xen_in(&boot, &lib).unwrap_err().to_string();
        assert!(message.contains("xen-utils-4.20"), "{message}");
        for version in ["4.9", "4.17"] {
            fs::create_dir_all(lib.join(format!("xen-{version}/bin"))).unwrap();
            fs::write(lib.join(format!("xen-{version}/bin/xl")), "").unwrap();
        }
        assert_eq!(xen_in(&boot, &lib).unwrap().version, "4.17");
    }

    #[test]
    fn a_kernel_needs_modules_and_dom0_support() {
        let root = tempfile::tempdir().unwrap();
        let (boot, modules) = (root.path().join("boot"), root.path().join("modules"));
        fs::create_dir_all(&boot).unwrap();
        for (release, config) in [("6.1.0-9", "CONFIG_XEN_DOM0=y\n"), ("6.12.0-1-cloud", "CONFIG_X=y\n")] {
            fs::create_dir_all(modules.join(release)).unwrap();
            fs::write(modules.join(release).join("modules.dep"), "").unwrap();
            fs::write(boot.join(format!("vmlinuz-{release}")), "").unwrap();
            fs::write(boot.join(format!("config-{release}")), config).unwrap();
        }
        assert_eq!(kernel_in(&boot, &modules).unwrap().release, "6.1.0-9");
    }
}
