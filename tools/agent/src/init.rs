//! Process 1 of a booted dom0 or Linux guest: brings it up, starts the agent proper, reaps orphans, ends the machine.
//!
//! Nothing here waits for a time; what has to appear is waited for with inotify. Each stage is printed
//! with the time since boot on the console, which the test bed keeps, so that a boot that does not get
//! through shows how far it came.

use std::{
    ffi::{CString, OsStr},
    fs::{self, File, OpenOptions},
    io,
    os::unix::{fs::FileExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use rustix::{
    fs::inotify,
    mount::{MountFlags, mount},
    process::{WaitOptions, wait},
};
use testbed::proto;

/// Where the image keeps the list of modules, in load order.
const MODULE_LIST: &str = "/lib/casemate/modules";

/// Search path of everything that runs in dom0; the kernel gives process 1 none.
const PATH: &str = "/sbin:/bin:/usr/sbin:/usr/bin";

/// Brings dom0 or a guest up, serves, and ends the machine. Never returns.
pub fn run() -> ! {
    let served = begin().and_then(|is_dom0| match is_dom0 {
        true => bring_up().and_then(|port| serve(&["--serve-port".as_ref(), port.as_os_str()])),
        false => {
            let served = serve(&["--serve-guest".as_ref()]);
            stage(&format!("the agent has ended: {served:?}"));
            end_guest()
        }
    });
    let code = match served {
        Ok(status) if status.success() => proto::EXIT_CLEAN,
        Ok(status) => {
            stage(&format!("the agent ended with {status}"));
            proto::EXIT_FAILED
        }
        Err(e) => {
            stage(&format!("dom0 could not be set up: {e}"));
            proto::EXIT_FAILED
        }
    };
    end_machine(code)
}

/// Prints one line on dom0's console.
fn stage(what: &str) {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    eprintln!("casemate-agent: {} {what}", uptime.split(' ').next().unwrap_or("?"));
}

/// What dom0 and a guest have in common; returns whether this is dom0.
fn begin() -> io::Result<bool> {
    for (source, target, kind) in [
        ("dev", "/dev", "devtmpfs"),
        ("proc", "/proc", "proc"),
        ("sysfs", "/sys", "sysfs"),
        ("tmpfs", "/run", "tmpfs"),
        ("tmpfs", "/tmp", "tmpfs"),
        ("devpts", "/dev/pts", "devpts"),
    ] {
        fs::create_dir_all(target)?;
        mount_at(source, target, kind, None)?;
    }
    stage("file systems mounted");
    for line in fs::read_to_string(MODULE_LIST)?.lines() {
        // A module that is refused is not fatal by itself: the step that needs it says so.
        let image = fs::read(line)?;
        if let Err(e) = rustix::system::init_module(&image, c"") {
            stage(&format!("module {line}: {e}"));
        }
    }
    stage("modules loaded");
    mount_at("xenfs", "/proc/xen", "xenfs", None)?;
    Ok(fs::read_to_string("/proc/xen/capabilities")?.contains("control_d"))
}

fn bring_up() -> io::Result<PathBuf> {
    for dir in ["/run/xen", "/run/xenstored", "/run/lock", "/var/log/xen/console", "/var/lib/xen"] {
        fs::create_dir_all(dir)?;
    }
    run_to_end("xenstored", &["--internal-db", "--pid-file", "/run/xenstored.pid"])?;
    stage("xenstored started");
    run_to_end("xen-init-dom0", &[])?;
    run_to_end("xenconsoled", &["--pid-file=/run/xenconsoled.pid"])?;
    stage("xenconsoled started");
    if let Err(e) =
        mount_at("host", "/host", "9p", Some("trans=virtio,version=9p2000.L,msize=262144,cache=none"))
    {
        stage(&format!("no shared folder on /host: {e}"));
    }
    let port = wait_for_port()?;
    stage("ready");
    Ok(port)
}

fn mount_at(source: &str, target: &str, kind: &str, data: Option<&str>) -> io::Result<()> {
    let data = data.map(CString::new).transpose()?;
    mount(source, target, kind, MountFlags::empty(), data.as_deref())
        .map_err(|e| io::Error::other(format!("mount {kind} on {target}: {e}")))
}

/// Runs a set-up program; its output goes to the console.
fn run_to_end(program: &str, args: &[&str]) -> io::Result<()> {
    let status = Command::new(program)
        .args(args)
        .env("PATH", PATH)
        .status()
        .map_err(|e| io::Error::new(e.kind(), format!("{program}: {e}")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{program} failed: {status}"))) }
}

/// Waits until the virtio-serial port has its device node, which devtmpfs makes when the driver has
/// talked with the device.
fn wait_for_port() -> io::Result<PathBuf> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, "/dev", inotify::WatchFlags::CREATE)?;
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(&watch, &mut buffer);
    loop {
        for entry in fs::read_dir("/dev")? {
            let name = entry?.file_name();
            if name.to_str().is_some_and(|n| n.starts_with("vport")) {
                return Ok(Path::new("/dev").join(name));
            }
        }
        events.next()?;
    }
}

/// Runs the agent proper as a child and reaps whatever else ends meanwhile.
fn serve(how: &[&OsStr]) -> io::Result<ExitStatus> {
    let child = Command::new("/init").args(how).env("PATH", PATH).spawn()?;
    loop {
        if let Some((pid, status)) = wait(WaitOptions::empty())?
            && pid.as_raw_nonzero().get().unsigned_abs() == child.id()
        {
            return Ok(ExitStatus::from_raw(status.as_raw()));
        }
    }
}

/// Ends a guest. Linux cannot power a PVH domain off, and the toolstack does not let it begin anew.
fn end_guest() -> ! {
    rustix::fs::sync();
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    std::process::exit(1)
}

/// Ends the machine with a status that the test bed understands.
fn end_machine(code: u8) -> ! {
    rustix::fs::sync();
    let port = OpenOptions::new().write(true).open("/dev/port");
    if let Err(e) = port.and_then(|p: File| p.write_all_at(&[code], u64::from(proto::EXIT_PORT))) {
        stage(&format!("cannot end the machine through its exit port: {e}"));
    }
    // Only reached when the port is missing; process 1 must not end (the kernel would panic, which
    // ends the machine as well, and without the test bed's status).
    let _ = rustix::system::reboot(rustix::system::RebootCommand::PowerOff);
    std::process::exit(1)
}
