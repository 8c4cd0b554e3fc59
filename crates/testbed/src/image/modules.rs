//! Kernel modules with their dependencies, in load order.

use std::{collections::HashMap, fs, path::Path};

use super::decompress;
use crate::{Error, host::Kernel};

/// Ends a module that carries a signature (`MODULE_SIG_STRING` in Linux's `module_signature.h`).
const SIGNATURE_MARK: &[u8] = b"~Module signature appended~\n";

/// Bytes of `struct module_signature` before the mark; its last four are the length of the signature.
const SIGNATURE_INFO: usize = 12;

/// The index of a kernel's modules.
struct Index {
    /// Module name to file and the files that it depends on, relative to the folder of modules.
    files: HashMap<String, (String, Vec<String>)>,
    builtin: Vec<String>,
}

/// The modules `wanted` and what they depend on, in load order: file name and content.
///
/// Signatures are cut off: checking them takes an RSA operation each, and dom0 in the test bed does not
/// insist on them.
///
/// # Errors
/// When the kernel has no such module or a file cannot be read.
pub fn collect(kernel: &Kernel, wanted: &[String]) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let read = |name: &str| {
        let path = kernel.modules.join(name);
        fs::read_to_string(&path).map_err(Error::io("cannot read", &path))
    };
    let index = Index::parse(&read("modules.dep")?, &read("modules.builtin")?);
    let mut order = Vec::new();
    for name in wanted {
        index.visit(name, &mut order).map_err(|name| Error::Missing {
            what: format!("the module {name} of Linux {}", kernel.release),
            advice: "install the package linux-image-amd64 (a kernel built for clouds lacks modules)"
                .to_owned(),
        })?;
    }
    order
        .into_iter()
        .map(|file| {
            let path = kernel.modules.join(&file);
            let data = fs::read(&path).map_err(Error::io("cannot read", &path))?;
            let data = decompress(data, &path)?;
            let name = Path::new(&file).file_name().unwrap_or_default().to_string_lossy();
            let name = name.split(".ko").next().unwrap_or_default();
            Ok((format!("{name}.ko"), without_signature(data)))
        })
        .collect()
}

impl Index {
    fn parse(dep: &str, builtin: &str) -> Self {
        let mut files = HashMap::new();
        for line in dep.lines() {
            if let Some((file, needs)) = line.split_once(':') {
                let needs = needs.split_whitespace().map(str::to_owned).collect();
                files.insert(module_name(file), (file.to_owned(), needs));
            }
        }
        Self { files, builtin: builtin.lines().map(module_name).collect() }
    }

    /// Appends a module after what it depends on; the error is the name of a module that is not there.
    fn visit(&self, name: &str, order: &mut Vec<String>) -> Result<(), String> {
        let name = module_name(name);
        let Some((file, needs)) = self.files.get(&name) else {
            return if self.builtin.contains(&name) { Ok(()) } else { Err(name) };
        };
        if order.contains(file) {
            return Ok(());
        }
        // `modules.dep` lists all dependencies, also indirect ones, never in a circle.
        for need in needs.iter().rev() {
            self.visit(need, order)?;
        }
        order.push(file.clone());
        Ok(())
    }
}

/// `kernel/drivers/xen/xen-evtchn.ko.xz` -> `xen_evtchn`: the kernel does not tell `-` from `_`.
fn module_name(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

fn without_signature(mut module: Vec<u8>) -> Vec<u8> {
    let Some(rest) = module.strip_suffix(SIGNATURE_MARK) else {
        return module;
    };
    if let Some((_, info)) = rest.split_last_chunk::<4>() {
        let signature = u32::from_be_bytes(*info) as usize;
        if let Some(end) = rest.len().checked_sub(SIGNATURE_INFO + signature) {
            module.truncate(end);
        }
    }
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_come_first_and_once() {
        let dep = "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs.ko.xz\n\
                   kernel/net/9p/9pnet.ko.xz:\nkernel/fs/netfs.ko.xz:\n\
                   kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz\n";
        let index = Index::parse(dep, "kernel/drivers/virtio/virtio-pci.ko\n");
        let mut order = Vec::new();
        for name in ["9p", "9pnet-virtio", "virtio_pci"] {
            index.visit(name, &mut order).unwrap();
        }
        let names: Vec<_> = order.iter().map(|f| module_name(f)).collect();
        assert_eq!(names, ["netfs", "9pnet", "9p", "9pnet_virtio"]);
        assert_eq!(index.visit("nowhere", &mut order), Err("nowhere".to_owned()));
    }

    #[test]
    fn signatures_are_cut_off() {
        let mut module = b"module body".to_vec();
        module.extend_from_slice(b"SIGNATURE");
        module.extend_from_slice(&[0; 8]);
        module.extend_from_slice(&9u32.to_be_bytes());
        module.extend_from_slice(SIGNATURE_MARK);
        assert_eq!(without_signature(module), b"module body");
        assert_eq!(without_signature(b"plain".to_vec()), b"plain");
        let lie = [&[0xff; 12], SIGNATURE_MARK].concat();
        assert_eq!(without_signature(lie.clone()), lie);
    }
}
