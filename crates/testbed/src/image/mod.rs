//! The files that QEMU boots, built from installed packages and cached by content.
//!
//! Three files: the hypervisor (unpacked), dom0's kernel (unpacked) and dom0's initramfs. Each is kept in the
//! cache folder under a name with a key: a hash over the path, size and time of every input, this crate's
//! format version, and the content of the agent. A file appears under its name only when it is complete.

mod archive;
mod elf;
mod guest;
mod kernel;
mod modules;

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use sha2::{Digest, Sha256};

use self::archive::Archive;
pub use self::guest::{GuestFiles, build_guest};
pub use self::kernel::unpack_kernel;
use crate::linux::{VIF_MODULES, VIF_SCRIPT};
use crate::{
    Error,
    bed::Progress,
    host::{self, Kernel, Xen},
};

/// Raised when the way the files are built changes.
const FORMAT: &str = "casemate-testbed-2";

/// List of the modules that the agent loads when it brings dom0 or a guest up.
const MODULE_LIST: &str = "/lib/casemate/modules";

/// Modules that dom0 needs for the agent and for domains.
const MODULES: [&str; 9] = [
    "xen-privcmd",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xenfs",
    "virtio_pci",
    "virtio_console",
    "9pnet_virtio",
    "9p",
];

/// Modules that dom0 loads when the first guest with a network is started.
const NETWORK_MODULES: [&str; 1] = ["xen-netback"];

/// Configures dom0's end of a guest's network interface: an address by the number of the domain. No bridge, no
/// udev: `xl` runs this itself and waits for the last line.
const VIF_SCRIPT_TEXT: &str = r#"#!/bin/sh
# xl sets vif (the interface, vifDOMID.0) and XENBUS_PATH, and passes "online" or "offline".
[ "$1" = online ] || exit 0
domid=${vif#vif}
domid=${domid%%.*}
ip addr add 10.77.$((domid % 256)).1/24 dev "$vif" && ip link set "$vif" up &&
    xenstore-write "$XENBUS_PATH/hotplug-status" connected
"#;

/// Programs of the toolstack, from its own folder; those of the second list are a convenience.
const TOOLS: [&str; 4] = ["xl", "xenstored", "xenconsoled", "xen-init-dom0"];
const EXTRA_TOOLS: [&str; 6] =
    ["xenconsole", "libxl-save-helper", "lsevtchn", "xenctx", "xentop", "vchan-socket-proxy"];

/// Programs of the package xenstore-utils, without the prefix `xenstore-`.
const XENSTORE_TOOLS: [&str; 8] = ["ls", "read", "write", "list", "exists", "rm", "watch", "chmod"];

/// Files of each kind that stay in the cache. Guests differ in their files, and several may be started at once.
const KEEP: usize = 8;

/// The three files.
#[derive(Clone, Debug)]
pub struct Images {
    pub xen: PathBuf,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
}

/// Builds what is not in the cache yet.
///
/// # Errors
/// When something is not installed or a file cannot be read or written.
pub fn build(
    cache: &Path,
    agent: &Path,
    extra_modules: &[String],
    progress: &dyn Fn(Progress),
) -> Result<Images, Error> {
    fs::create_dir_all(cache).map_err(Error::io("cannot create", cache))?;
    let (xen, kernel) = (host::xen()?, host::kernel()?);
    let store = Store { cache };
    let hypervisor = store.get("xen", key(&[&xen.hypervisor])?, |out| {
        let data = decompress(read(&xen.hypervisor)?, &xen.hypervisor)?;
        out.write_all(&data).map_err(Error::io("cannot write", cache))
    })?;
    let image = store.kernel(&kernel, || progress(Progress::Building("unpacking the kernel of dom0")))?;
    let plan = Plan::new(&xen, &kernel, agent, extra_modules)?;
    let initramfs = store.get("dom0.cpio", plan.key()?, |out| {
        progress(Progress::Building("packing the file system of dom0"));
        plan.archive()?.write(io::BufWriter::new(out)).map_err(Error::io("cannot write", cache))
    })?;
    Ok(Images { xen: hypervisor, kernel: image, initramfs })
}

/// The cache folder.
struct Store<'a> {
    cache: &'a Path,
}

impl Store<'_> {
    /// Path of the unpacked kernel.
    fn kernel(&self, kernel: &Kernel, begins: impl FnOnce()) -> Result<PathBuf, Error> {
        self.get("vmlinux", key(&[&kernel.image])?, |out| {
            begins();
            let data = unpack_kernel(read(&kernel.image)?, &kernel.image)?;
            out.write_all(&data).map_err(Error::io("cannot write", self.cache))
        })
    }

    /// Path of the file of one kind and key; it is made when it is not there.
    fn get(
        &self,
        kind: &str,
        key: String,
        make: impl FnOnce(&mut File) -> Result<(), Error>,
    ) -> Result<PathBuf, Error> {
        let path = self.cache.join(format!("{kind}-{key}"));
        if path.is_file() {
            return Ok(path);
        }
        self.prune(kind);
        // Unique, because several processes and threads may build the same at once.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let partial = self.cache.join(format!("{kind}-{key}.{}-{number}.partial", std::process::id()));
        let result = File::create(&partial)
            .map_err(Error::io("cannot create", &partial))
            .and_then(|mut file| make(&mut file))
            .and_then(|()| fs::rename(&partial, &path).map_err(Error::io("cannot create", &path)));
        if let Err(error) = result {
            let _ = fs::remove_file(&partial);
            return Err(error);
        }
        Ok(path)
    }

    /// Removes the oldest files of one kind. A running QEMU has read its files already.
    fn prune(&self, kind: &str) {
        let entries = fs::read_dir(self.cache).into_iter().flatten().flatten();
        let mut old: Vec<_> = entries
            .filter(|e| e.file_name().to_string_lossy().starts_with(&format!("{kind}-")))
            .filter_map(|e| Some((e.metadata().ok()?.modified().ok()?, e.path())))
            .collect();
        old.sort();
        let surplus = old.len().saturating_sub(KEEP - 1);
        for (_, path) in old.drain(..surplus) {
            let _ = fs::remove_file(path);
        }
    }
}

/// What goes into dom0's initramfs.
struct Plan<'a> {
    kernel: &'a Kernel,
    agent: &'a Path,
    modules: Vec<String>,
    busybox: PathBuf,
    /// Path in the image and file on the host.
    programs: Vec<(String, PathBuf)>,
    libraries: Vec<(String, PathBuf)>,
    xl_conf: Option<PathBuf>,
}

impl<'a> Plan<'a> {
    fn new(xen: &Xen, kernel: &'a Kernel, agent: &'a Path, extra_modules: &[String]) -> Result<Self, Error> {
        let mut programs = Vec::new();
        let mut from_tools = |name: &str, required: bool| {
            let path = xen.tools.join(name);
            if path.is_file() {
                programs.push((path.to_string_lossy().into_owned(), path));
            } else if required {
                return Err(Error::Missing {
                    what: format!("{} of the Xen toolstack", path.display()),
                    advice: format!("reinstall the package xen-utils-{}", xen.version),
                });
            }
            Ok(())
        };
        TOOLS.iter().try_for_each(|name| from_tools(name, true))?;
        EXTRA_TOOLS.iter().try_for_each(|name| from_tools(name, false))?;
        for name in XENSTORE_TOOLS.map(|n| format!("xenstore-{n}")) {
            programs.push((format!("/bin/{name}"), host::program(&name, "xenstore-utils")?));
        }
        let busybox = host::program("busybox", "busybox-static")?;
        let files: Vec<PathBuf> = programs.iter().map(|p| p.1.clone()).chain([busybox.clone()]).collect();
        let mut libraries = elf::libraries(&files)?;
        // The C library loads it by name when a thread is cancelled; xenconsoled and xl do that.
        for dir in ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64"] {
            let path = Path::new(dir).join("libgcc_s.so.1");
            if path.is_file() {
                libraries.insert(path.to_string_lossy().into_owned(), path);
                break;
            }
        }
        let modules = MODULES.iter().map(ToString::to_string).chain(extra_modules.iter().cloned());
        Ok(Self {
            kernel,
            agent,
            modules: modules.collect(),
            busybox,
            programs,
            libraries: libraries.into_iter().collect(),
            xl_conf: Some(PathBuf::from("/etc/xen/xl.conf")).filter(|p| p.is_file()),
        })
    }

    fn key(&self) -> Result<String, Error> {
        let index = self.kernel.modules.join("modules.dep");
        let mut inputs: Vec<&Path> = vec![&self.busybox, &self.kernel.image, &index];
        inputs.extend(self.programs.iter().chain(&self.libraries).map(|p| p.1.as_path()));
        inputs.extend(self.xl_conf.as_deref());
        let agent = fs::read(self.agent).map_err(Error::io("cannot read", self.agent))?;
        let mut hash = Sha256::new();
        hash.update(key(&inputs)?);
        hash.update(self.modules.join(" "));
        hash.update(Sha256::digest(&agent));
        Ok(hex(&hash.finalize()))
    }

    fn archive(&self) -> Result<Archive, Error> {
        let mut image = Archive::default();
        add_basics(&mut image, self.agent)?;
        for dir in ["/var/lib/xen/dump", "/var/log/xen/console", "/etc/xen/scripts"] {
            image.folder(dir);
        }
        self.add_programs(&mut image)?;
        // Without a configuration of its own, `xl` tries to shrink dom0 for each domain, and lets PVH domains run where
        // QEMU corrupts them.
        let mut conf = match &self.xl_conf {
            Some(path) => fs::read(path).map_err(Error::io("cannot read", path))?,
            None => Vec::new(),
        };
        conf.extend_from_slice(b"\nautoballoon=\"off\"\nvm.hvm.cpumask=\"all,^0\"\n");
        image.file("/etc/xen/xl.conf", 0o644, conf);
        image.file(VIF_SCRIPT, 0o755, VIF_SCRIPT_TEXT);
        add_modules(&mut image, self.kernel, &self.modules, MODULE_LIST)?;
        add_modules(&mut image, self.kernel, &NETWORK_MODULES.map(str::to_owned), VIF_MODULES)?;
        Ok(image)
    }

    fn add_programs(&self, image: &mut Archive) -> Result<(), Error> {
        for (path, file) in self.programs.iter().chain(&self.libraries) {
            image.host_file(path, 0o755, file)?;
        }
        for (path, _) in self.programs.iter().filter(|p| !p.0.starts_with("/bin/")) {
            let name = path.rsplit('/').next().unwrap_or(path);
            image.link(&format!("/sbin/{name}"), path);
        }
        add_busybox(image, &self.busybox)
    }
}

/// Adds busybox with a link for each of its applets, unless there is something of that name already.
fn add_busybox(image: &mut Archive, busybox: &Path) -> Result<(), Error> {
    image.host_file("/bin/busybox", 0o755, busybox)?;
    let applets = Command::new(busybox).arg("--list").output().map_err(Error::io("cannot run", busybox))?;
    for applet in String::from_utf8_lossy(&applets.stdout).lines() {
        let path = format!("/bin/{applet}");
        if !image.contains(&path) {
            image.link(&path, "busybox");
        }
    }
    Ok(())
}

/// Adds modules with their dependencies, and a list of them in load order.
fn add_modules(image: &mut Archive, kernel: &Kernel, wanted: &[String], list: &str) -> Result<(), Error> {
    let mut names = String::new();
    for (name, content) in modules::collect(kernel, wanted)? {
        let path = format!("/lib/casemate/{name}");
        names.push_str(&format!("{path}\n"));
        image.file(&path, 0o644, content);
    }
    image.file(list, 0o644, names);
    Ok(())
}

/// Adds what the agent needs as process 1, in dom0 and in a guest.
fn add_basics(image: &mut Archive, agent: &Path) -> Result<(), Error> {
    for dir in
        ["/dev", "/proc", "/sys", "/run", "/tmp", "/root", "/host", "/mnt", "/usr/sbin", "/var/log/xen"]
    {
        image.folder(dir);
    }
    image.link("/var/run", "/run");
    image.link("/var/lock", "/run/lock");
    image.device("/dev/console", 5, 1);
    image.device("/dev/null", 1, 3);
    image.file("/etc/passwd", 0o644, *b"root:x:0:0:root:/root:/bin/sh\n");
    image.file("/etc/group", 0o644, *b"root:x:0:\n");
    image.host_file("/init", 0o755, agent)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::io("cannot read", path))
}

/// A key over path, size and time of files.
///
/// # Errors
/// When one is not there.
pub fn key(inputs: &[&Path]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    hash.update(FORMAT);
    for path in inputs {
        let meta = fs::metadata(path).map_err(Error::io("cannot read", path))?;
        let line = format!("{}\0{}\0{}.{}\n", path.display(), meta.len(), meta.mtime(), meta.mtime_nsec());
        hash.update(line);
    }
    Ok(hex(&hash.finalize()))
}

/// The first 16 bytes in hexadecimal: enough for a file name.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(16).map(|b| format!("{b:02x}")).collect()
}

/// Unpacks xz, gzip or zstd, told apart by their first bytes; anything else is returned as it is.
///
/// # Errors
/// [`Error::BadFile`].
fn decompress(data: Vec<u8>, file: &Path) -> Result<Vec<u8>, Error> {
    let bad = |why: String| Error::BadFile { file: file.display().to_string(), why };
    let mut out = Vec::new();
    let result = match data.as_slice() {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            lzma_rust2::XzReader::new(data.as_slice(), false).read_to_end(&mut out)
        }
        [0x1f, 0x8b, ..] => flate2::read::GzDecoder::new(data.as_slice()).read_to_end(&mut out),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ruzstd::decoding::StreamingDecoder::new(data.as_slice())
            .map_err(|e| bad(format!("cannot unpack: {e}")))?
            .read_to_end(&mut out),
        [b'B', b'Z', b'h', ..] => {
            return Err(bad("compressed with bzip2, which is not supported".to_owned()));
        }
        [0x02, 0x21, 0x4c, 0x18, ..] => {
            return Err(bad("compressed with lz4, which is not supported".to_owned()));
        }
        _ => return Ok(data),
    };
    result.map_err(|e| bad(format!("cannot unpack: {e}")))?;
    Ok(out)
}
