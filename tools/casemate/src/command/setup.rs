//! `casemate setup`.

use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use testbed::kvm::{self, Kvm};

use crate::{
    cli,
    needs::{self, Remedy},
    ui::Ui,
    workspace::{MUSL, Workspace},
};

/// Installs what is missing, or says how.
///
/// # Errors
/// When something is missing and cannot be installed.
pub fn setup(options: &cli::Setup, ui: &Ui) -> anyhow::Result<ExitCode> {
    let needs = needs::needs();
    for need in &needs {
        match &need.found {
            Some(found) => ui.step(format!("{}: there ({found})", need.what)),
            None => ui.step(format!("{}: missing ({})", need.what, need.purpose)),
        }
    }
    let missing: Vec<_> = needs.iter().filter(|n| n.found.is_none()).collect();
    if missing.is_empty() {
        ui.step("everything is there");
        return Ok(ExitCode::SUCCESS);
    }
    let commands = commands(&needs);
    if options.dry_run {
        println!("{}", commands.join("\n"));
        return Ok(ExitCode::SUCCESS);
    }
    let obstacle = obstacle(&needs);
    if let Some(obstacle) = obstacle {
        bail!("{obstacle}; run this, then `casemate setup` again:\n  {}", commands.join("\n  "));
    }
    install(&needs, ui)?;
    let left: Vec<_> = needs::needs().into_iter().filter(|n| n.found.is_none()).map(|n| n.what).collect();
    if !left.is_empty() {
        bail!("still missing after the installation: {}", left.join(", "));
    }
    if let Ok(workspace) = Workspace::find()
        && kvm::state(&workspace.testbed_dir()) == Kvm::Untried
    {
        ui.step("KVM might serve here instead of emulation; `casemate doctor --probe-kvm` tries it");
    }
    ui.step("everything is there now");
    Ok(ExitCode::SUCCESS)
}

/// Installs what is missing and says nothing when everything is there.
///
/// # Errors
/// When something is missing and cannot be installed.
pub fn ensure(ui: &Ui) -> anyhow::Result<()> {
    if needs::needs().iter().any(|n| n.found.is_none()) {
        setup(&cli::Setup { dry_run: false }, ui)?;
    }
    Ok(())
}

/// Why this program cannot install what is missing.
fn obstacle(needs: &[needs::Need]) -> Option<&'static str> {
    let packages = needs::missing_packages(needs);
    let lacks = |remedy: &Remedy| needs.iter().any(|n| n.found.is_none() && n.remedy == *remedy);
    if lacks(&Remedy::Rust) {
        Some("Rust is missing or too old")
    } else if lacks(&Remedy::RustTarget) && needs::first_line("rustup", &["--version"]).is_none() {
        Some("the Rust target is missing and there is no rustup to add it")
    } else if packages.is_empty() {
        None
    } else if needs::first_line("apt-get", &["--version"]).is_none() {
        Some("packages are missing and this machine has no apt (the names below are Debian's)")
    } else if !rustix::process::geteuid().is_root() {
        Some("packages are missing and only root can install them")
    } else {
        None
    }
}

/// The commands that install what is missing.
fn commands(needs: &[needs::Need]) -> Vec<String> {
    let mut commands = Vec::new();
    let lacks = |remedy: &Remedy| needs.iter().any(|n| n.found.is_none() && n.remedy == *remedy);
    if lacks(&Remedy::Rust) {
        commands.push("curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh".to_owned());
        commands.push("rustup update stable".to_owned());
    }
    if lacks(&Remedy::RustTarget) {
        commands.push(format!("rustup target add {MUSL}"));
    }
    let packages = needs::missing_packages(needs);
    if !packages.is_empty() {
        let root = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
        commands.push(format!("{root}apt-get update"));
        commands.push(format!("{root}apt-get install -y --no-install-recommends {}", packages.join(" ")));
    }
    commands
}

fn install(needs: &[needs::Need], ui: &Ui) -> anyhow::Result<()> {
    if needs.iter().any(|n| n.found.is_none() && n.remedy == Remedy::RustTarget) {
        run("rustup", &["target", "add", MUSL], ui)?;
    }
    let packages = needs::missing_packages(needs);
    if !packages.is_empty() {
        run("apt-get", &["update"], ui)?;
        // The newest Xen is known only now, if the package lists were empty before.
        let packages = needs::missing_packages(&needs::needs());
        let mut args = vec!["install", "-y", "--no-install-recommends"];
        args.extend(packages.iter().map(String::as_str));
        run("apt-get", &args, ui)?;
    }
    Ok(())
}

fn run(program: &str, args: &[&str], ui: &Ui) -> anyhow::Result<()> {
    ui.step(format!("{program} {}", args.join(" ")));
    let mut command = Command::new(program);
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    let status = command.status().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!("{program} {} failed ({status})", args.join(" "));
    }
    Ok(())
}
