//! Debugging: `casemate run --gdb` with a scripted gdb, and the report of a crash.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, ensure};

use super::{Alone, Skip, process::Cli};

/// What gdb is told, after it has been connected.
const SCRIPT: &str = "\
set pagination off
break debug::weigh
continue
backtrace
print first
finish
continue
print second
info registers rip
stepi
next
continue
";

pub fn pv(alone: &Alone<'_>) -> anyhow::Result<()> {
    session(alone, "pv")
}

pub fn pvh(alone: &Alone<'_>) -> anyhow::Result<()> {
    session(alone, "pvh")
}

/// The image of a guest test: all images lie in one folder.
fn image(alone: &Alone<'_>, name: &str) -> anyhow::Result<PathBuf> {
    let path = alone.hello.ok_or(Skip("there is no image hello"))?.path.with_file_name(name);
    ensure!(path.is_file(), "there is no image {}", path.display());
    Ok(path)
}

fn session(alone: &Alone<'_>, mode: &str) -> anyhow::Result<()> {
    let image = image(alone, "debug")?;
    let mut cli =
        Cli::start(alone.workspace, &["run", "--gdb=server", &image.to_string_lossy(), "--mode", mode], &[])?;
    cli.wait_for("target remote ")?;
    let connect = cli.line("target remote ").context("the command is gone")?;
    let script = alone.spin.with_file_name(format!("{mode}.gdb"));
    fs::write(&script, format!("{connect}\n{SCRIPT}"))?;
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-q", "-batch", "-x"]).arg(&script).arg(image.with_extension("debug"));
    let output = gdb.output().context("cannot run gdb")?;
    let text =
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let end = cli.finish()?;
    let wanted = [
        "debug::weigh (first=5, second=8)",
        "tests/guest/src/bin/debug.rs:16",
        "debug::main () at tests/guest/src/bin/debug.rs:10",
        "libos_service_main",
        "$1 = 5",
        "Value returned is $2 = 40",
        "debug::weigh (first=1, second=9)",
        "$3 = 9",
        "<debug::weigh",
        // gdb shows the exit status in octal.
        "exited with code 061",
    ];
    for text_wanted in wanted {
        ensure!(text.contains(text_wanted), "gdb did not print {text_wanted:?} but:\n{text}\n{end}");
    }
    ensure!(end.status == Some(49) && end.stdout.contains("expect: exit 49"), "{end}");
    ensure!(cli.qemu().is_empty(), "QEMU was left behind");
    Ok(())
}

/// A crash names function, file and line without a debugger.
pub fn crash_report(alone: &Alone<'_>) -> anyhow::Result<()> {
    let image = image(alone, "null_read")?;
    let mut cli = Cli::start(alone.workspace, &["run", &image.to_string_lossy()], &[])?;
    let end = cli.finish()?;
    ensure!(end.status == Some(134), "{end}");
    ensure!(end.stdout.contains("trap: page fault") && end.stdout.contains("rax "), "{end}");
    ensure!(end.stderr.contains("null_read::main at ") && end.stderr.contains("null_read.rs:"), "{end}");
    Ok(())
}
