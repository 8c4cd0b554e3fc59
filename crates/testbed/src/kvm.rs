//! Whether Xen works under KVM here.
//!
//! Xen with PVH domains under KVM needs nested virtualisation, and machines differ in how well theirs works. So
//! KVM is used only where a [`probe`] has booted Xen under it, and the answer is kept for this combination of
//! processor, host kernel, QEMU and Xen.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Accel, Config, DomainConfig, Error, Progress, TestBed, host, image, proto::Mode};

/// What is known about KVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "why")]
pub enum Kvm {
    /// It cannot work here, for this reason.
    Unavailable(String),
    /// It might work; nobody has tried.
    Untried,
    /// Xen was seen to work under it.
    Works,
    /// Xen was tried under it and failed, in this way.
    Fails(String),
}

/// The kept answer of a probe.
#[derive(Serialize, Deserialize)]
struct Answer {
    key: String,
    failure: Option<String>,
}

/// What is known about KVM, without trying.
pub fn state(cache: &Path) -> Kvm {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let nested = |module: &str| fs::read_to_string(format!("/sys/module/{module}/parameters/nested"));
    let nested = nested("kvm_amd").or_else(|_| nested("kvm_intel"));
    let device = OpenOptions::new().read(true).write(true).open("/dev/kvm").map(drop);
    if let Err(why) = could_work(&cpu, nested.as_deref().ok(), device) {
        return Kvm::Unavailable(why);
    }
    let answer = fs::read(path(cache)).ok().and_then(|json| serde_json::from_slice::<Answer>(&json).ok());
    match (answer, key()) {
        (Some(answer), Ok(key)) if answer.key == key => answer.failure.map_or(Kvm::Works, Kvm::Fails),
        _ => Kvm::Untried,
    }
}

/// Boots Xen under KVM, lets it build a PV and a PVH domain, and keeps the answer.
///
/// # Errors
/// When the answer cannot be kept. That KVM does not work is not an error.
pub fn probe(config: &Config, sample: Option<&Path>, progress: &dyn Fn(Progress)) -> Result<Kvm, Error> {
    let before = state(&config.cache);
    if let Kvm::Unavailable(_) = before {
        return Ok(before);
    }
    let config = Config { accel: Accel::Kvm, ..config.clone() };
    let failure = try_it(&config, sample, progress).err().map(|e| e.to_string());
    let answer = Answer { key: key()?, failure };
    let file = path(&config.cache);
    let json = serde_json::to_vec(&answer).map_err(|e| Error::io("cannot write", &file)(e.into()))?;
    fs::write(&file, json).map_err(Error::io("cannot write", &file))?;
    Ok(answer.failure.map_or(Kvm::Works, Kvm::Fails))
}

fn try_it(config: &Config, sample: Option<&Path>, progress: &dyn Fn(Progress)) -> Result<(), Error> {
    let bed = TestBed::boot(config, progress)?;
    if !bed.hello().capabilities.contains("hvm-3.0-x86_64") {
        return Err(Error::Job("Xen finds no virtualisation hardware for PVH domains".to_owned()));
    }
    for mode in sample.map_or(&[][..], |_| &[Mode::Pv, Mode::Pvh]) {
        let mut domain = DomainConfig::new(sample.unwrap_or(Path::new("")), *mode);
        domain.limit = Some(bed.limits().scale(std::time::Duration::from_secs(60)));
        bed.run_domain(&domain, |_| ())?;
    }
    bed.shutdown()
}

/// What can be told without trying.
fn could_work(cpuinfo: &str, nested: Option<&str>, device: io::Result<()>) -> Result<(), String> {
    let flags = cpuinfo.lines().find(|l| l.starts_with("flags")).unwrap_or_default();
    if !flags.split_whitespace().any(|f| f == "svm" || f == "vmx") {
        return Err("the processor offers no virtualisation (neither svm nor vmx)".to_owned());
    }
    if !nested.is_some_and(|n| matches!(n.trim(), "1" | "Y" | "y")) {
        return Err(
            "KVM does not allow nested virtualisation (parameter nested of kvm_amd or kvm_intel)".to_owned()
        );
    }
    device.map_err(|e| format!("/dev/kvm cannot be used: {e}"))
}

fn path(cache: &Path) -> PathBuf {
    cache.join("kvm.json")
}

/// Changes when something changes on which the answer depends.
fn key() -> Result<String, Error> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find(|l| l.starts_with("model name")).unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (qemu, xen) = (host::program(host::QEMU, "qemu-system-x86")?, host::xen()?);
    Ok(format!("{model} {} {}", kernel.trim(), image::key(&[&qemu, &xen.hypervisor])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_obstacle_is_named() {
        let amd = "model name : x\nflags\t\t: fpu svm npt\n";
        assert!(could_work("flags : fpu vme\n", Some("1"), Ok(())).unwrap_err().contains("svm"));
        assert!(could_work(amd, Some("0\n"), Ok(())).unwrap_err().contains("nested"));
        assert!(could_work(amd, None, Ok(())).is_err());
        let denied = Err(io::ErrorKind::PermissionDenied.into());
        assert!(could_work(amd, Some("Y\n"), denied).unwrap_err().contains("/dev/kvm"));
        assert_eq!(could_work(amd, Some("1\n"), Ok(())), Ok(()));
    }
}
