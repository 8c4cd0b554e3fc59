//! Linux guests on the test bed: the kernel that dom0 runs, a file system of our own making, and an agent in it.
//!
//! The agent is the same program as in dom0. In a guest it is process 1, too; it takes jobs from the agent in dom0
//! over IDC, so that programs in the guest are run, fed, watched and killed as those in dom0 are, any number at
//! once. The console is left to the kernel; when a guest does not come up, the error quotes it.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::{
    Error, TestBed,
    bed::{Call, Output},
    domain::{Domain, DomainConfig},
    image::{self, GuestFiles},
    proto::{Job, Mode, Stream},
};

/// Parameters of the kernel. As in dom0, what costs time at boot is off. A panic is a crash of the domain at once, and
/// no endless loop.
const KERNEL_ARGS: &str = "console=hvc0 quiet rdinit=/init mitigations=off cryptomgr.notests rodata=off apparmor=0 \
                           audit=0 nokaslr tsc=reliable panic=-1 xen_legacy_crash";

/// Modules that every guest has, loaded at its start.
const MODULES: [&str; 6] =
    ["xen-evtchn", "xen-gntdev", "xen-gntalloc", "xenfs", "xen-netfront", "tpm_vtpm_proxy"];

/// Nominal time for a guest to come up.
const BOOT: Duration = Duration::from_secs(120);

/// Nominal limit for what the test bed itself has a guest or dom0 do.
const MOMENT: Duration = Duration::from_secs(30);

/// Lines of the console that an error quotes.
const TAIL_LINES: usize = 20;

/// Event channels of a guest; `xl` would allow 1,023, which a thousand IDC channels do not leave room for.
const EVENT_CHANNELS: u32 = 16_384;

/// Reading the time must not trap: Xen would emulate each read where it does not trust the processor's counter, which
/// it never does in QEMU. That is slow.
const TSC_MODE: &str = "tsc_mode = \"native\"";

/// Script in dom0 that configures a guest's network interface (`xl-network-configuration(5)`).
pub(crate) const VIF_SCRIPT: &str = "/etc/xen/scripts/vif-casemate";

/// List of the modules in dom0's image that are loaded when a guest with a network is started.
pub(crate) const VIF_MODULES: &str = "/lib/casemate/modules-network";

/// A Linux guest to start.
#[derive(Clone, Debug)]
pub struct LinuxConfig {
    /// Kind of virtual machine.
    pub mode: Mode,
    /// Memory in MiB. The files of the guest live in it.
    pub memory_mib: u32,
    /// What is in its file system, besides busybox, the agent and modules.
    pub files: GuestFiles,
    /// More modules, loaded at its start.
    pub modules: Vec<String>,
    /// More parameters for its kernel.
    pub kernel_args: Vec<String>,
    /// A network interface `eth0` to dom0, and to nowhere else: see [`LinuxGuest::addresses`].
    pub network: bool,
    /// More lines for its configuration file (`xl.cfg(5)`).
    pub extra: Vec<String>,
}

impl LinuxConfig {
    /// A guest with 160 MiB, nothing but the basics in its file system, and no network.
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            memory_mib: 160,
            files: GuestFiles::default(),
            modules: Vec::new(),
            kernel_args: Vec::new(),
            network: false,
            extra: Vec::new(),
        }
    }
}

/// A Linux guest that takes jobs. Clones share it; it is destroyed when the last one is dropped.
#[derive(Clone)]
pub struct LinuxGuest {
    shared: Arc<Shared>,
}

struct Shared {
    bed: TestBed,
    domain: Domain,
    addresses: Option<(String, String)>,
    numbers: AtomicU32,
}

impl TestBed {
    /// Starts a Linux guest and waits until its agent takes jobs. Its kernel is the one of dom0 (on a machine that is
    /// a dom0 itself: the newest that is installed).
    ///
    /// # Errors
    /// When a file is missing, what `xl` says, or that the guest did not come up, with the last lines of its console;
    /// failures of the test bed.
    pub fn start_linux(&self, config: &LinuxConfig) -> Result<LinuxGuest, Error> {
        let bed = self.config();
        let modules = MODULES.iter().map(ToString::to_string).chain(config.modules.iter().cloned());
        let images = image::build_guest(&bed.cache, &bed.agent, &modules.collect::<Vec<_>>(), &config.files)?;
        let (kernel, initramfs) = (self.put_kernel(&images.kernel)?, self.put(&images.initramfs)?);
        let mut domain = DomainConfig::new(&images.kernel, config.mode);
        domain.memory_mib = config.memory_mib;
        domain.cmdline = format!("{KERNEL_ARGS} {}", config.kernel_args.join(" ")).trim().to_owned();
        domain.extra = vec![
            format!("ramdisk = \"{initramfs}\""),
            format!("event_channels = {EVENT_CHANNELS}"),
            TSC_MODE.to_owned(),
        ];
        if config.network {
            self.prepare_network()?;
            domain.extra.push(format!("vif = [\"script={VIF_SCRIPT}\"]"));
        }
        domain.extra.extend(config.extra.iter().cloned());
        let domain = self.boot_linux(&kernel, &domain)?;
        let addresses = if config.network { Some(self.configure_network(domain.id())?) } else { None };
        let shared = Shared { bed: self.clone(), domain, addresses, numbers: AtomicU32::new(0) };
        Ok(LinuxGuest { shared: Arc::new(shared) })
    }

    fn boot_linux(&self, kernel: &str, config: &DomainConfig) -> Result<Domain, Error> {
        let name = format!("{}-linux-{}", config.mode, self.next_number());
        let domain = self.start_domain_as(name, kernel.to_owned(), config)?;
        let limit = self.limits().scale(BOOT);
        let call = Call { limit: Some(limit), what: "the boot of a Linux guest", ..Call::default() };
        match self.call(Job::ConnectGuest { domid: domain.id() }, call, |_, _| ()) {
            Ok(_) => Ok(domain),
            Err(error @ (Error::Job(_) | Error::TimeLimit { .. })) => Err(did_not_come_up(&domain, &error)),
            Err(error) => Err(error),
        }
    }

    /// Loads dom0's side of network interfaces.
    fn prepare_network(&self) -> Result<(), Error> {
        if !self.is_booted() {
            return Err(Error::Job(
                "on a machine that is a dom0 itself, a guest's network is configured with a `vif` line of your own"
                    .to_owned(),
            ));
        }
        // Several may do this at once: the one that comes second finds the module there.
        let script = format!(
            "for m in $(cat {VIF_MODULES}); do insmod $m 2>/tmp/insmod.$$ || grep -q exists /tmp/insmod.$$ || \
             {{ cat /tmp/insmod.$$ >&2; exit 1; }}; done"
        );
        self.demand(None, &script).map(drop)
    }

    /// Gives the guest's end of the network an address; returns dom0's and the guest's.
    fn configure_network(&self, domid: u16) -> Result<(String, String), Error> {
        // dom0's address was given by the script, which computes it in the same way.
        let (dom0, guest) = (format!("10.77.{}.1", domid % 256), format!("10.77.{}.2", domid % 256));
        let script = format!("ip link set lo up && ip addr add {guest}/24 dev eth0 && ip link set eth0 up");
        self.demand(Some(domid), &script)?;
        Ok((dom0, guest))
    }

    /// Runs a script that has to succeed.
    fn demand(&self, guest: Option<u16>, script: &str) -> Result<Vec<u8>, Error> {
        let output = self.shell_in(guest, script, Some(self.limits().scale(MOMENT)))?;
        match output.status {
            0 => Ok(output.stdout),
            status => Err(Error::Job(format!(
                "`{script}` failed with status {status}: {}",
                String::from_utf8_lossy(&output.stderr).trim_end()
            ))),
        }
    }
}

/// Why a guest did not come up.
fn did_not_come_up(domain: &Domain, error: &Error) -> Error {
    let console = domain.console().unwrap_or_default();
    let text = String::from_utf8_lossy(&console).into_owned();
    let lines: Vec<_> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n  ");
    Error::Job(format!(
        "Linux did not come up as domain {}: {error}\nlast lines of its console:\n  {tail}",
        domain.id()
    ))
}

impl LinuxGuest {
    /// Id of the domain.
    pub fn id(&self) -> u16 {
        self.shared.domain.id()
    }

    /// The domain: its console, state and end.
    pub fn domain(&self) -> &Domain {
        &self.shared.domain
    }

    /// Addresses of dom0 and of the guest on the network between them, if the guest has one. They exist inside the
    /// emulated machine only.
    pub fn addresses(&self) -> Option<(&str, &str)> {
        self.shared.addresses.as_ref().map(|(dom0, guest)| (dom0.as_str(), guest.as_str()))
    }

    /// Runs a program in the guest; see [`TestBed::run`].
    ///
    /// # Errors
    /// See there; [`Error::Job`] also when the guest ends meanwhile.
    pub fn run(
        &self,
        argv: &[&str],
        input: &[u8],
        limit: Option<Duration>,
        output: impl FnMut(Stream, &[u8]),
    ) -> Result<i32, Error> {
        self.shared.bed.run_in(Some(self.id()), argv, input, limit, output)
    }

    /// Runs a shell command in the guest and collects its output.
    ///
    /// # Errors
    /// See [`LinuxGuest::run`].
    pub fn shell(&self, command: &str, limit: Option<Duration>) -> Result<Output, Error> {
        self.shared.bed.shell_in(Some(self.id()), command, limit)
    }

    /// Copies a file into the guest, to a place of its own, and returns its path there.
    ///
    /// # Errors
    /// When it cannot be read or stored; failures of the test bed.
    pub fn put(&self, file: &Path) -> Result<String, Error> {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = format!("/tmp/casemate/{}/{name}", self.shared.numbers.fetch_add(1, Ordering::Relaxed));
        self.push(file, &path)?;
        Ok(path)
    }

    /// Copies a file into the guest, with its permission bits.
    ///
    /// # Errors
    /// As for [`LinuxGuest::put`].
    pub fn push(&self, file: &Path, path: &str) -> Result<(), Error> {
        self.shared.bed.push_in(Some(self.id()), file, path)
    }

    /// Content of a file in the guest.
    ///
    /// # Errors
    /// When it cannot be read; failures of the test bed.
    pub fn fetch(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.shared.bed.fetch_in(Some(self.id()), path)
    }

    /// Destroys the guest now, as if its power were cut; once is enough.
    ///
    /// # Errors
    /// Failures of the test bed.
    pub fn destroy(&self) -> Result<(), Error> {
        self.shared.domain.destroy()
    }
}
