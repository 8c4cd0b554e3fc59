//! `casemate doctor`.

use std::{path::Path, process::ExitCode};

use console::style;
use serde::Serialize;
use testbed::{
    Config, host,
    kvm::{self, Kvm},
};

use crate::{
    cli,
    needs::{self, Need},
    session,
    ui::Ui,
    workspace::Workspace,
};

/// Space below which a build may run out, in MiB.
const ENOUGH_SPACE_MIB: u64 = 4096;

/// Memory below which the test bed does not fit, in MiB.
const ENOUGH_MEMORY_MIB: u64 = 2560;

/// What the doctor finds.
#[derive(Serialize)]
struct Report {
    /// Nothing is missing.
    healthy: bool,
    /// Domains run on this machine's own Xen.
    native_xen: bool,
    needs: Vec<Need>,
    kvm: Kvm,
    target: String,
    space_mib: Option<u64>,
    memory_mib: Option<u64>,
}

/// Looks at the machine.
///
/// # Errors
/// When the source tree is not found, or a probe that was asked for cannot be made.
pub fn doctor(options: &cli::Doctor, ui: &Ui) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    let needs = needs::needs();
    let complete = needs.iter().all(|n| n.found.is_some());
    let kvm = if options.probe_kvm && complete {
        let bar = ui.spinner("booting Xen under KVM");
        let config = Config::new(workspace.testbed_dir(), session::agent(&workspace, ui)?);
        let kvm = kvm::probe(&config, None, &|_| ());
        bar.finish_and_clear();
        kvm?
    } else {
        kvm::state(&workspace.testbed_dir())
    };
    let space_mib = space(&workspace.target).or_else(|| space(&workspace.root));
    let memory_mib = session::available_memory_mib();
    let roomy =
        space_mib.is_none_or(|m| m >= ENOUGH_SPACE_MIB) && memory_mib.is_none_or(|m| m >= ENOUGH_MEMORY_MIB);
    let report = Report {
        healthy: complete && roomy,
        native_xen: host::is_dom0(),
        needs,
        kvm,
        target: workspace.target.display().to_string(),
        space_mib,
        memory_mib,
    };
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(if report.healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(report: &Report) {
    let line = |good: bool, what: &str, text: &str| {
        let mark = if good { style("ok     ").green() } else { style("missing").red() };
        println!("{mark}  {what:32} {text}");
    };
    for need in &report.needs {
        line(need.found.is_some(), need.what, need.found.as_deref().unwrap_or(need.purpose));
    }
    let note = |what: &str, text: String| println!("note     {what:32} {text}");
    note(
        "Xen",
        if report.native_xen {
            "this machine is a dom0: its own Xen is used (as root)".to_owned()
        } else {
            "booted in QEMU".to_owned()
        },
    );
    note(
        "KVM",
        match &report.kvm {
            Kvm::Unavailable(why) => format!("not used: {why}"),
            Kvm::Untried => "not used; `casemate doctor --probe-kvm` tries it".to_owned(),
            Kvm::Works => "used: Xen was seen to work under it".to_owned(),
            Kvm::Fails(why) => {
                format!("not used, Xen failed under it: {}", why.lines().next().unwrap_or_default())
            }
        },
    );
    if let Some(mib) = report.space_mib {
        line(mib >= ENOUGH_SPACE_MIB, "disk space", &format!("{mib} MiB free for {}", report.target));
    }
    if let Some(mib) = report.memory_mib {
        line(mib >= ENOUGH_MEMORY_MIB, "memory", &format!("{mib} MiB available"));
    }
    if !report.healthy {
        println!("`casemate setup` installs what is missing");
    }
}

/// Free space of the file system of a folder, in MiB.
fn space(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize) >> 20)
}
