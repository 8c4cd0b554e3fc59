//! Tests of the test bed and of this program as a whole: good ends and bad ones, on a real Xen.

mod gdb;
mod process;

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use testbed::{DomainConfig, Error, Limits, TestBed, proto::Mode};

use self::process::Cli;
use super::{
    programs,
    report::{Report, Verdict},
};
use crate::{
    command::new,
    image::{finish::Image, sample},
    session,
    ui::Ui,
    workspace::Workspace,
};

/// Nominal limit for things that are done in a moment.
const MOMENT: Duration = Duration::from_secs(30);

/// The image that is run where any will do.
const HELLO: &str = "hello";

type SharedTest = fn(&Shared<'_>) -> anyhow::Result<()>;
type AloneTest = fn(&Alone<'_>) -> anyhow::Result<()>;

/// The tests that share one boot.
pub const SHARED: [(&str, SharedTest); 6] = [
    ("bed-shell", shell),
    ("bed-files", files),
    ("bed-hung-domain", hung_domain),
    ("bed-bad-configuration", bad_configuration),
    ("bed-too-little-memory", too_little_memory),
    ("bed-domains-side-by-side", side_by_side),
];

/// More tests of that kind, which take long.
pub const SHARED_LONG: [(&str, SharedTest); 2] = [("bed-native", native), ("bed-memory-sizes", memory_sizes)];

/// The tests that boot a test bed each.
const ALONE: [(&str, AloneTest); 13] = [
    ("cli-run", run_hello),
    ("cli-std-panic", std_panic),
    ("cli-interrupt", interrupt),
    ("cli-hung-domain", hung_in_run),
    ("cli-killed-dom0", killed_dom0),
    ("cli-killed-itself", killed_itself),
    ("cli-full-disk", full_disk),
    ("bed-crashed-dom0", crashed_dom0),
    ("cli-boot-limit", boot_limit),
    ("cli-demo", demo),
    ("gdb-pv", gdb::pv),
    ("gdb-pvh", gdb::pvh),
    ("gdb-crash-report", gdb::crash_report),
];

/// What the tests in the shared test bed use.
pub struct Shared<'a> {
    bed: &'a TestBed,
    workspace: &'a Workspace,
    ui: &'a Ui,
    hello: Option<&'a Image>,
    /// An image that never ends.
    spin: &'a Path,
}

/// What the tests with test beds of their own use.
struct Alone<'a> {
    workspace: &'a Workspace,
    hello: Option<&'a Image>,
    spin: &'a Path,
    ui: &'a Ui,
}

/// Runs the tests that share one boot.
///
/// # Errors
/// When the image for them cannot be written.
pub fn in_shared_bed(
    bed: &TestBed,
    workspace: &Workspace,
    images: &[Image],
    full: bool,
    report: &mut Report,
    ui: &Ui,
) -> anyhow::Result<()> {
    let sample = Sample::new()?;
    let shared = Shared { bed, workspace, ui, hello: find(images), spin: &sample.spin };
    for (name, test) in SHARED.iter().chain(SHARED_LONG.iter().filter(|_| full)) {
        if report.wants(name) {
            let result = test(&shared).and_then(|()| nothing_left(bed));
            report.add(name, verdict(result));
        }
    }
    Ok(())
}

/// Runs the tests that boot a test bed each, two at a time.
///
/// # Errors
/// When the image for them cannot be written.
pub fn on_their_own(
    workspace: &Workspace,
    images: &[Image],
    report: &mut Report,
    ui: &Ui,
) -> anyhow::Result<()> {
    let sample = Sample::new()?;
    let alone = Alone { workspace, hello: find(images), spin: &sample.spin, ui };
    let mut tests = ALONE.to_vec();
    tests.retain(|(name, _)| report.wants(name));
    if tests.is_empty() {
        return Ok(());
    }
    let bar = ui.bar(tests.len() as u64, "tests of the whole program");
    for pair in tests.chunks(2) {
        let results = thread::scope(|scope| {
            let running: Vec<_> = pair.iter().map(|(_, test)| scope.spawn(|| test(&alone))).collect();
            let joined = running.into_iter().map(|r| r.join().unwrap_or_else(|_| bail!("the test panicked")));
            joined.collect::<Vec<_>>()
        });
        for ((name, _), result) in pair.iter().zip(results) {
            bar.inc(1);
            bar.suspend(|| report.add(name, verdict(result)));
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// A folder with an image that never ends; removed when dropped.
struct Sample {
    dir: PathBuf,
    spin: PathBuf,
}

impl Sample {
    fn new() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("casemate-test-{}", std::process::id()));
        let spin = dir.join("spin");
        let written = fs::create_dir_all(&dir).and_then(|()| fs::write(&spin, sample::spinning_image()));
        written.with_context(|| format!("cannot write {}", spin.display()))?;
        Ok(Self { dir, spin })
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn find(images: &[Image]) -> Option<&Image> {
    images.iter().find(|i| i.name == HELLO)
}

fn verdict(result: anyhow::Result<()>) -> Verdict {
    match result {
        Err(error) if error.is::<Skip>() => Verdict::Skip(error.to_string()),
        result => result.map_err(|e| crate::ui::text_of(&e)).into(),
    }
}

/// The reason why a test cannot be run here.
#[derive(Debug)]
struct Skip(&'static str);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Skip {}

/// No domain but dom0 is there.
fn nothing_left(bed: &TestBed) -> anyhow::Result<()> {
    let output = bed.shell("xl list", Some(bed.limits().scale(MOMENT)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.lines().count() == 2, "domains were left behind:\n{text}");
    Ok(())
}

fn shell(shared: &Shared<'_>) -> anyhow::Result<()> {
    let limit = Some(shared.bed.limits().scale(MOMENT));
    let output = shared.bed.shell("echo out; echo err >&2; exit 3", limit)?;
    ensure!(output.status == 3 && output.stdout == b"out\n" && output.stderr == b"err\n", "{output:?}");
    let output =
        shared.bed.run(&["cat"], b"through dom0", limit, |_, piece| assert_eq!(piece, b"through dom0"))?;
    ensure!(output == 0);
    let late = shared.bed.shell("sleep 1000", Some(Duration::from_millis(200)));
    ensure!(matches!(late, Err(Error::TimeLimit { .. })), "{late:?}");
    let gone = shared.bed.shell("while ps | grep -q '[s]leep 1000'; do usleep 50000; done", limit);
    ensure!(gone.is_ok(), "the late program still runs");
    let missing = shared.bed.run(&["/nowhere"], &[], limit, |_, _| ());
    ensure!(missing.is_err_and(|e| e.to_string().contains("/nowhere")));
    Ok(())
}

fn files(shared: &Shared<'_>) -> anyhow::Result<()> {
    let dir = shared.spin.parent().context("no folder")?;
    // Longer than one piece, and not a multiple of it.
    let content: Vec<u8> = (0..3_000_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (name, content) in [("some", content.as_slice()), ("empty", &[])] {
        let file = dir.join(name);
        fs::write(&file, content)?;
        let there = shared.bed.put(&file)?;
        ensure!(shared.bed.put(&file)? == there, "copied twice");
        ensure!(shared.bed.fetch(&there)? == content, "{name}: content changed on the way");
    }
    ensure!(shared.bed.fetch("/nowhere").is_err_and(|e| e.to_string().contains("/nowhere")));
    ensure!(shared.bed.put(Path::new("/nowhere")).is_err());
    Ok(())
}

fn hung_domain(shared: &Shared<'_>) -> anyhow::Result<()> {
    for mode in [Mode::Pv, Mode::Pvh] {
        let mut config = DomainConfig::new(shared.spin, mode);
        config.limit = Some(Duration::from_secs(1));
        let result = shared.bed.run_domain(&config, |_| ());
        ensure!(matches!(result, Err(Error::TimeLimit { .. })), "{mode}: {result:?}");
    }
    Ok(())
}

fn bad_configuration(shared: &Shared<'_>) -> anyhow::Result<()> {
    let mut config = DomainConfig::new(shared.spin, Mode::Pv);
    config.extra = vec!["disk = nonsense [".to_owned()];
    let error = shared.bed.run_domain(&config, |_| ()).err().context("it was accepted")?.to_string();
    ensure!(error.contains("xl create failed") && error.contains("syntax error"), "{error}");
    config.extra.clear();
    config.cmdline = "line\nbreak".to_owned();
    let error = shared.bed.run_domain(&config, |_| ()).err().context("it was accepted")?.to_string();
    ensure!(error.contains("line break"), "{error}");
    Ok(())
}

fn too_little_memory(shared: &Shared<'_>) -> anyhow::Result<()> {
    let hello = shared.hello.ok_or(Skip("there is no image hello"))?;
    for mode in [Mode::Pv, Mode::Pvh] {
        let mut config = DomainConfig::new(&hello.path, mode);
        config.memory_mib = 1;
        config.limit = Some(shared.bed.limits().scale(MOMENT));
        match shared.bed.run_domain(&config, |_| ()) {
            Err(Error::Job(why)) => ensure!(why.contains("xl create failed"), "{mode}: {why}"),
            Err(other) => bail!("{mode}: {other}"),
            Ok(report) => ensure!(report.end.status != Some(0), "{mode}: ran in 1 MiB, which cannot hold it"),
        }
    }
    // More than the machine has.
    let mut config = DomainConfig::new(&hello.path, Mode::Pv);
    config.memory_mib = 65_000;
    let error = shared.bed.run_domain(&config, |_| ()).err().context("65,000 MiB were found")?;
    ensure!(error.to_string().contains("xl create failed"), "{error}");
    Ok(())
}

fn side_by_side(shared: &Shared<'_>) -> anyhow::Result<()> {
    let hello = shared.hello.ok_or(Skip("there is no image hello"))?;
    thread::scope(|scope| {
        let run = |mode| {
            let mut config = DomainConfig::new(&hello.path, mode);
            config.limit = Some(shared.bed.limits().scale(2 * MOMENT));
            shared.bed.run_domain(&config, |_| ())
        };
        let running: Vec<_> =
            [Mode::Pv, Mode::Pvh, Mode::Pv].into_iter().map(|mode| scope.spawn(move || run(mode))).collect();
        for domain in running {
            let report = domain.join().unwrap_or_else(|_| Err(Error::Job("panicked".to_owned())))?;
            let console = String::from_utf8_lossy(&report.console);
            ensure!(report.end.status == Some(0), "{:?}\n{console}", report.end);
            ensure!(console.matches("Hello").count() == 1, "not one greeting:\n{console}");
        }
        Ok(())
    })
}

/// The program on a machine that is a dom0 itself, which the booted dom0 is, too.
fn native(shared: &Shared<'_>) -> anyhow::Result<()> {
    let (bed, workspace) = (shared.bed, shared.workspace);
    let hello = shared.hello.ok_or(Skip("there is no image hello"))?;
    let program = bed.put(&workspace.static_program("casemate", shared.ui)?)?;
    let agent = bed.put(&session::agent(workspace, shared.ui)?)?;
    let (hello, spin) = (bed.put(&hello.path)?, bed.put(shared.spin)?);
    let limit = Some(bed.limits().scale(2 * MOMENT));
    // Enough of a source tree to be taken for one.
    let tree = "/tmp/tree";
    let prepare = format!(
        "for d in crates/testbed tools/agent; do mkdir -p {tree}/$d && touch {tree}/$d/Cargo.toml || exit 1; done"
    );
    ensure!(bed.shell(&prepare, limit)?.status == 0, "cannot prepare dom0");
    let casemate = format!("CASEMATE_ROOT={tree} CASEMATE_AGENT={agent} exec {program} run --memory 8");
    for mode in ["pv", "pvh"] {
        let output = bed.shell(&format!("{casemate} --mode {mode} {hello}"), limit)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(
            output.status == 0 && out.contains("Hello"),
            "{mode}: status {}\n{out}\n{err}",
            output.status
        );
    }
    let output = bed.shell(&format!("{casemate} --limit 0.5 {spin}"), limit)?;
    ensure!(
        output.status == 125 && String::from_utf8_lossy(&output.stderr).contains("did not end"),
        "{output:?}"
    );
    nothing_left(bed)?;
    // What it is killed by must not matter: its agent notices, and destroys the domain.
    let killed = format!(
        "({casemate} {spin}) & until [ $(xl list | wc -l) = 3 ]; do usleep 50000; done; kill -9 $!; \
         until [ $(xl list | wc -l) = 2 ]; do usleep 50000; done"
    );
    ensure!(bed.shell(&killed, limit)?.status == 0);
    Ok(())
}

fn memory_sizes(shared: &Shared<'_>) -> anyhow::Result<()> {
    let hello = shared.hello.ok_or(Skip("there is no image hello"))?;
    for mode in [Mode::Pv, Mode::Pvh] {
        for memory_mib in [4, 5, 8, 64, 256] {
            let mut config = DomainConfig::new(&hello.path, mode);
            config.memory_mib = memory_mib;
            config.limit = Some(shared.bed.limits().scale(MOMENT));
            let report = shared.bed.run_domain(&config, |_| ())?;
            let console = String::from_utf8_lossy(&report.console);
            ensure!(report.end.status == Some(0), "{mode}, {memory_mib} MiB: {:?}\n{console}", report.end);
        }
    }
    Ok(())
}

fn run_hello(alone: &Alone<'_>) -> anyhow::Result<()> {
    let hello = alone.hello.ok_or(Skip("there is no image hello"))?;
    let mut cli = Cli::start(alone.workspace, &["run", &hello.path.to_string_lossy(), "--mode", "pvh"], &[])?;
    let end = cli.finish()?;
    ensure!(end.status == Some(0) && end.stdout.contains("Hello"), "{end}");
    ensure!(cli.qemu().is_empty(), "QEMU was left behind");
    Ok(())
}

/// A panic of a program with Rust's std is told with functions and lines.
fn std_panic(alone: &Alone<'_>) -> anyhow::Result<()> {
    let dir = programs::folder(alone.workspace).join("panics");
    new::RUST_PROGRAM.write(alone.workspace, &dir, "panics")?;
    let source = "#[inline(never)]\nfn on_purpose(words: usize) -> usize {\n    [1, 2][words + 2]\n}\n\n\
                  fn main() {\n    println!(\"{}\", on_purpose(std::env::args().len()));\n}\n";
    fs::write(dir.join("src/main.rs"), source)?;
    let mut cli = Cli::start(alone.workspace, &["run", &dir.to_string_lossy()], &[])?;
    let end = cli.finish()?;
    ensure!(end.status == Some(101) && end.stdout.contains("the len is 2 but the index is 3"), "{end}");
    ensure!(end.stderr.contains("panics::on_purpose at ") && end.stderr.contains("main.rs:3"), "{end}");
    Ok(())
}

/// The demo: a file goes to a service domain over IDC and its digest comes back, in both modes.
fn demo(alone: &Alone<'_>) -> anyhow::Result<()> {
    let mut cli = Cli::start(alone.workspace, &["demo", "--json"], &[])?;
    let end = cli.finish()?;
    ensure!(end.status == Some(0), "{end}");
    let summary: serde_json::Value = serde_json::from_str(&end.stdout).with_context(|| end.to_string())?;
    let digest = summary["sha256sum"].as_str().unwrap_or_default();
    let results = summary["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    let modes: Vec<_> = results.iter().filter_map(|r| r["mode"].as_str()).collect();
    ensure!(digest.len() == 64 && modes == ["pv", "pvh"], "{end}");
    ensure!(results.iter().all(|r| r["digest"] == digest && r["bytes"].as_u64() > Some(0)), "{end}");
    let programs = summary["programs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let greets =
        |p: &serde_json::Value| p["line"].as_str().is_some_and(|line| line.starts_with("Hello from hello-"));
    ensure!(programs.len() == 4 && programs.iter().all(greets), "{end}");
    ensure!(cli.qemu().is_empty(), "QEMU was left behind");
    Ok(())
}

/// Starts `casemate run` with an image that never ends and waits until its domain is there.
fn spinning(alone: &Alone<'_>, more: &[&str]) -> anyhow::Result<Cli> {
    let spin = alone.spin.to_string_lossy();
    let mut cli = Cli::start(alone.workspace, &[&["run", &spin], more].concat(), &[])?;
    cli.wait_for("created in")?;
    ensure!(cli.qemu().len() == 1, "expected one QEMU");
    Ok(cli)
}

fn interrupt(alone: &Alone<'_>) -> anyhow::Result<()> {
    let mut cli = spinning(alone, &[])?;
    cli.interrupt()?;
    let end = cli.finish()?;
    ensure!(end.status == Some(130) && end.stderr.contains("the domain was destroyed"), "{end}");
    ensure!(cli.qemu().is_empty(), "QEMU was left behind");
    Ok(())
}

fn hung_in_run(alone: &Alone<'_>) -> anyhow::Result<()> {
    let mut cli = spinning(alone, &["--limit", "2"])?;
    let end = cli.finish()?;
    ensure!(end.status == Some(125) && end.stderr.contains("did not end within"), "{end}");
    ensure!(cli.qemu().is_empty(), "QEMU was left behind");
    Ok(())
}

fn killed_dom0(alone: &Alone<'_>) -> anyhow::Result<()> {
    let mut cli = spinning(alone, &[])?;
    process::kill(cli.qemu())?;
    let end = cli.finish()?;
    ensure!(end.status == Some(125) && end.stderr.contains("dom0 is gone"), "{end}");
    ensure!(end.stderr.contains("last lines of the console"), "{end}");
    Ok(())
}

fn killed_itself(alone: &Alone<'_>) -> anyhow::Result<()> {
    let mut cli = spinning(alone, &[])?;
    let qemu = cli.qemu();
    cli.kill()?;
    process::await_end(&qemu)
}

fn full_disk(alone: &Alone<'_>) -> anyhow::Result<()> {
    let hello = alone.hello.ok_or(Skip("there is no image hello"))?;
    if !rustix::process::geteuid().is_root() {
        return Err(Skip("only root can mount a small disk").into());
    }
    let agent = session::agent(alone.workspace, alone.ui)?;
    let dir = alone.spin.with_file_name("full");
    fs::create_dir_all(&dir)?;
    let options = c"size=4m";
    rustix::mount::mount("small", &dir, "tmpfs", rustix::mount::MountFlags::empty(), options)?;
    let result = (|| {
        let environment = [("CARGO_TARGET_DIR", dir.as_os_str()), ("CASEMATE_AGENT", agent.as_os_str())];
        let mut cli = Cli::start(alone.workspace, &["run", &hello.path.to_string_lossy()], &environment)?;
        let end = cli.finish()?;
        ensure!(end.status == Some(125) && end.stderr.contains("free some space"), "{end}");
        ensure!(
            fs::read_dir(dir.join("testbed"))?
                .flatten()
                .all(|f| f.metadata().is_ok_and(|m| m.len() < 1 << 22))
        );
        Ok(())
    })();
    rustix::mount::unmount(&dir, rustix::mount::UnmountFlags::DETACH)?;
    result
}

fn crashed_dom0(alone: &Alone<'_>) -> anyhow::Result<()> {
    let quiet = Ui::new(true);
    let bed = session::open(alone.workspace, &crate::cli::BedArgs::default(), 64, &quiet)?;
    let result = bed.shell("echo c > /proc/sysrq-trigger", Some(bed.limits().scale(MOMENT)));
    let error = result.err().context("dom0 survived its crash")?;
    ensure!(matches!(error, Error::Dom0Gone { .. }), "{error}");
    ensure!(error.to_string().contains("Dom0 crashed"), "the last lines of the console are missing: {error}");
    ensure!(bed.shell("true", None).is_err(), "a dead dom0 answered");
    Ok(())
}

fn boot_limit(alone: &Alone<'_>) -> anyhow::Result<()> {
    let spin = alone.spin.to_string_lossy();
    let environment = [("CASEMATE_BOOT_LIMIT", std::ffi::OsStr::new("1"))];
    let mut cli = Cli::start(alone.workspace, &["run", &spin], &environment)?;
    let end = cli.finish()?;
    ensure!(end.status == Some(125) && end.stderr.contains("CASEMATE_BOOT_LIMIT"), "{end}");
    ensure!(cli.qemu().is_empty(), "QEMU was left behind");
    ensure!(Limits::boot() > Duration::from_secs(1));
    Ok(())
}
