//! Opening the test bed for a command.

use std::path::PathBuf;

use anyhow::{Context, bail};
use testbed::{Config, Progress, TestBed, host};

use crate::{cli::BedArgs, ui::Ui, workspace::Workspace};

/// Environment variable that names a ready-made agent, instead of building it.
const AGENT_VARIABLE: &str = "CASEMATE_AGENT";

/// Memory of dom0 and room for Xen itself, in MiB.
const DOM0_MIB: u32 = 512;
const XEN_MIB: u32 = 256;

/// Opens the test bed with room for domains of `domains_mib` MiB in all, and shows how the boot goes.
///
/// # Errors
/// When something is missing or it does not come up.
pub fn open(workspace: &Workspace, options: &BedArgs, domains_mib: u32, ui: &Ui) -> anyhow::Result<TestBed> {
    open_with(workspace, options, domains_mib, false, ui)
}

/// Like [`open`], with more parameters for a Xen that is booted.
///
/// # Errors
/// See [`open`].
pub fn open_with_xen(
    workspace: &Workspace,
    options: &BedArgs,
    domains_mib: u32,
    xen_args: &[&str],
    ui: &Ui,
) -> anyhow::Result<TestBed> {
    let more = |config: &mut Config| config.xen_args.extend(xen_args.iter().map(ToString::to_string));
    open_configured(workspace, options, domains_mib, more, ui)
}

/// Like [`open`], with a debugger or without.
///
/// # Errors
/// See [`open`].
pub fn open_with(
    workspace: &Workspace,
    options: &BedArgs,
    domains_mib: u32,
    debugger: bool,
    ui: &Ui,
) -> anyhow::Result<TestBed> {
    open_configured(workspace, options, domains_mib, |config| config.debugger = debugger, ui)
}

fn open_configured(
    workspace: &Workspace,
    options: &BedArgs,
    domains_mib: u32,
    configure: impl FnOnce(&mut Config),
    ui: &Ui,
) -> anyhow::Result<TestBed> {
    let mut config = Config::new(workspace.testbed_dir(), agent(workspace, ui)?);
    config.accel = options.accel.into();
    configure(&mut config);
    config.dom0_memory_mib = DOM0_MIB;
    config.memory_mib = config.memory_mib.max(DOM0_MIB + XEN_MIB + domains_mib);
    if !host::is_dom0() {
        enough_memory(config.memory_mib)?;
    }
    let bar = ui.spinner(if host::is_dom0() {
        "opening this machine's Xen"
    } else {
        "booting Xen and dom0 in QEMU"
    });
    let progress = |stage| match stage {
        Progress::Building(what) => bar.set_message(what),
        Progress::Booting => bar.set_message("booting Xen and dom0 in QEMU"),
        Progress::Ready => {}
    };
    let bed = TestBed::open(&config, &progress);
    bar.finish_and_clear();
    let bed = bed?;
    let hello = bed.hello();
    let seconds = bed.boot_time().as_secs_f64();
    ui.step(format!("Xen {} with Linux {} as dom0, ready after {seconds:.1} s", hello.xen, hello.kernel));
    Ok(bed)
}

/// The agent for dom0, built if need be.
///
/// # Errors
/// When it cannot be built.
pub fn agent(workspace: &Workspace, ui: &Ui) -> anyhow::Result<PathBuf> {
    match std::env::var_os(AGENT_VARIABLE) {
        Some(path) => std::path::absolute(PathBuf::from(path)).context(AGENT_VARIABLE),
        None => workspace.static_program("casemate-agent", ui),
    }
}

/// Refuses a machine that does not fit into this one's memory.
fn enough_memory(needed_mib: u32) -> anyhow::Result<()> {
    match available_memory_mib() {
        Some(mib) if mib < u64::from(needed_mib) => bail!(
            "the test bed needs {needed_mib} MiB of memory and this machine has {mib} MiB available: close \
             programs, or give the domain less with --memory"
        ),
        _ => Ok(()),
    }
}

/// Memory that programs can still get, in MiB.
pub fn available_memory_mib() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = info.lines().find_map(|l| l.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB"))?;
    Some(kib.trim().parse::<u64>().ok()? / 1024)
}
