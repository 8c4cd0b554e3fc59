//! QEMU as a child process that cannot be left behind.
//!
//! QEMU is started through the agent program's `--supervise`, which asks the kernel to kill it when the
//! parent thread dies, and then becomes QEMU. That thread only waits for QEMU, so it lives exactly as long.

use std::{
    fs::File,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{
    Error,
    bed::Config,
    host::{self, QEMU},
    rundir::RunDir,
};

/// Kernel parameters of dom0. It is a short-lived helper, so what costs time at boot is off.
const KERNEL_ARGS: &str = "console=hvc0 quiet panic=1 rdinit=/init mitigations=off cryptomgr.notests rodata=off \
                           apparmor=0 audit=0 nokaslr tsc=reliable";

/// Parameters of Xen: what it says about crashed domains must reach its log.
const XEN_ARGS: &str = "console=com1 com1=115200,8n1 spec-ctrl=no conring_size=128k loglvl=warning/warning \
                        guest_loglvl=warning/warning";

/// Socket of QEMU's gdb stub, in the run folder.
pub const GDB_SOCKET: &str = "gdb.sock";

/// How QEMU runs the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Emulated.
    Tcg,
    /// Virtualised.
    Kvm,
}

/// A running QEMU.
#[derive(Debug)]
pub struct Qemu {
    handle: OwnedFd,
    ended: Arc<(Mutex<Option<ExitStatus>>, Condvar)>,
}

impl Qemu {
    /// Starts QEMU in a run folder; returns it and the connection with the agent to come.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(config: &Config, dir: &RunDir, engine: Engine) -> Result<(Self, UnixStream), Error> {
        let qemu = host::program(QEMU, "qemu-system-x86")?;
        let (ours, theirs) = UnixStream::pair().map_err(Error::io("cannot make a socket for", &qemu))?;
        let log_path = dir.path().join("qemu.log");
        let log = File::create(&log_path).map_err(Error::io("cannot create", &log_path))?;
        let mut command = Command::new(&config.agent);
        command
            .arg("--supervise")
            .arg(std::process::id().to_string())
            .arg(&qemu)
            .args(arguments(config, engine))
            .current_dir(dir.path())
            // Not in the terminal's foreground group: Ctrl-C is for us to handle.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        let ended = Arc::new((Mutex::new(None), Condvar::new()));
        let handle = spawn(command, &config.agent, Arc::clone(&ended))?;
        Ok((Self { handle, ended }, ours))
    }

    /// Waits for the end.
    pub fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let (status, changed) = &*self.ended;
        let status = status.lock().unwrap_or_else(PoisonError::into_inner);
        let result = changed.wait_timeout_while(status, limit, |s| s.is_none());
        *result.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Kills it.
    pub fn kill(&self) {
        // It may have ended already.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
        // A killed process ends unless the kernel is broken; then waiting longer would not help.
        self.wait(Duration::from_secs(10));
    }
}

/// Starts the command in a thread that stays until it has ended.
fn spawn(
    mut command: Command,
    program: &Path,
    ended: Arc<(Mutex<Option<ExitStatus>>, Condvar)>,
) -> Result<OwnedFd, Error> {
    let (started, start) = mpsc::channel();
    let keeper = thread::Builder::new().name("qemu".to_owned()).spawn(move || {
        let spawned = command.spawn().and_then(|child| {
            let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
            Ok((child, handle))
        });
        // The connection with the agent must have no other holder than QEMU.
        drop(command);
        match spawned {
            Err(error) => drop(started.send(Err(error))),
            Ok((mut child, handle)) => {
                let _ = started.send(Ok(handle));
                let status = child.wait().unwrap_or_default();
                *ended.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                ended.1.notify_all();
            }
        }
    });
    let doing = "cannot start QEMU through";
    keeper.map_err(Error::io(doing, program))?;
    let handle = start.recv().map_err(|e| std::io::Error::other(e.to_string()));
    handle.and_then(|h| h).map_err(Error::io(doing, program))
}

/// QEMU's arguments. Every path is relative to the run folder.
fn arguments(config: &Config, engine: Engine) -> Vec<String> {
    let (accel, cpu) = match engine {
        // This processor runs PV and PVH domains of Xen 4.17 under emulation; richer ones do not. Without
        // RDRAND each domain would wait seconds for random numbers.
        Engine::Tcg => ("tcg,thread=multi,tb-size=256", "qemu64,+svm,+npt,+rdrand"),
        Engine::Kvm => ("kvm", "host"),
    };
    let dom0 = config.dom0_memory_mib;
    // The machine has a processor for PVH domains' sake that dom0 does not need, and the host may have no more than two:
    // a third processor of dom0 makes everything take half as long again.
    let xen_args =
        format!("{XEN_ARGS} dom0_mem={dom0}M,max:{dom0}M dom0_max_vcpus=2 {}", config.xen_args.join(" "));
    let kernel_args = format!("{KERNEL_ARGS} {}", config.kernel_args.join(" "));
    // A comma ends a module in QEMU's `-initrd`; doubled, it stands for itself.
    let initrd = format!("vmlinux {},dom0.cpio", kernel_args.trim().replace(',', ",,"));
    let (cpus, memory) = (config.cpus.to_string(), config.memory_mib.to_string());
    let gdb = format!("unix:{GDB_SOCKET},server=on,wait=off");
    let debugger: &[&str] = if config.debugger { &["-gdb", &gdb] } else { &[] };
    let exit = format!("isa-debug-exit,iobase={:#x},iosize=0x04", crate::proto::EXIT_PORT);
    [
        ["-accel", accel].as_slice(),
        &["-cpu", cpu],
        &["-smp", &cpus],
        &["-m", &memory],
        &["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-monitor", "none"],
        &["-serial", "file:console.log"],
        &["-device", &exit],
        &["-chardev", "socket,id=agent,fd=0"],
        &["-device", "virtio-serial-pci,disable-legacy=off"],
        &["-device", "virtserialport,chardev=agent,name=casemate.agent"],
        &["-fsdev", "local,id=share,path=share,security_model=none,multidevs=remap"],
        &["-device", "virtio-9p-pci,fsdev=share,mount_tag=host,disable-legacy=off"],
        &["-kernel", "xen", "-append", xen_args.trim()],
        &["-initrd", &initrd],
        debugger,
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}
