//! `casemate run`.

mod gdb;

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use sdk::check::{Kind, kind_of, layout};
use testbed::{
    Domain, DomainConfig, command_line,
    proto::{End, Reason},
};

use super::build::{Builder, Source, is_source};
use crate::{
    cli,
    image::check::{self, ImageInfo},
    interrupt::Interrupt,
    session,
    symbolize::Symbolizer,
    ui::Ui,
    workspace::Workspace,
};

/// Exit status for a domain that crashed without one of its own: that of a Linux program that aborts.
const CRASHED: u8 = 134;

/// Exit status of a program with Rust's std that panicked.
const STD_PANIC: u8 = 101;

/// Exit status for a domain that was destroyed from outside: that of a Linux program that was killed.
const DESTROYED: u8 = 137;

/// Bytes at the end of the console in which a backtrace is looked for.
const LAST_WORDS: usize = 64 * 1024;

/// Boots an image and shows its console until it ends.
///
/// # Errors
/// When it cannot be run at all.
pub fn run(options: &cli::Run, ui: &Ui) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::find()?;
    if options.hosted {
        return run_hosted(&workspace, options, ui);
    }
    let (image, info) = find_image(&workspace, options, ui)?;
    info.fits(options.mode.into(), options.memory)
        .with_context(|| format!("{} cannot be run", image.display()))?;
    for problem in layout(&fs::read(&image).unwrap_or_default()) {
        ui.warn(format!("{}: {problem}", image.display()));
    }
    let cmdline = command_line(&with_backtraces(&options.args)).map_err(anyhow::Error::msg)?;
    let interrupt = Interrupt::install()?;
    if let Some(kind) = options.gdb {
        gdb::is_possible(kind)?;
    }
    let bed = session::open_with(&workspace, &options.bed, options.memory, options.gdb.is_some(), ui)?;
    let mut config = DomainConfig::new(&image, options.mode.into());
    config.memory_mib = options.memory;
    config.cmdline = cmdline;
    config.extra.clone_from(&options.extra);
    config.paused = options.gdb.is_some();
    config.limit = options
        .limit
        .map(|s| Duration::try_from_secs_f64(s).context("--limit has to be a number of seconds"))
        .transpose()?
        .map(|limit| bed.limits().scale(limit));
    let domain = Arc::new(bed.start_domain(&config).map_err(|e| explain(e.into(), options.memory))?);
    ui.step(format!("domain {} created in {:.2} s", domain.id(), domain.create_time().as_secs_f64()));
    let shown = if let Some(kind) = options.gdb {
        gdb::run(kind, &domain, (&image, &info, options.mode.into()), &workspace, &interrupt, ui)
    } else {
        let victim = Arc::clone(&domain);
        interrupt.on_signal(move || {
            // When this fails, dom0 is gone, and the domain with it.
            let _ = victim.destroy();
        });
        forward_input(&domain);
        show_console(&domain)
    };
    interrupt.clear();
    let (end, last_words) = shown?;
    domain.destroy()?;
    drop(domain);
    let status = report(&end, &last_words, &image, &interrupt, ui)?;
    bed.shutdown()?;
    Ok(ExitCode::from(status))
}

/// Rust's std prints the addresses of a panic's backtrace only when it is told to; [`report`] names them.
fn with_backtraces(words: &[String]) -> Vec<String> {
    let told = words.iter().any(|word| word.starts_with("env.RUST_BACKTRACE="));
    words.iter().cloned().chain((!told).then(|| "env.RUST_BACKTRACE=full".to_owned())).collect()
}

/// An image file by its path, or the image of what is built now.
fn find_image(workspace: &Workspace, options: &cli::Run, ui: &Ui) -> anyhow::Result<(PathBuf, ImageInfo)> {
    let name = options.image.as_str();
    if is_image(name) {
        return Ok((PathBuf::from(name), check::check_file(Path::new(name))?));
    }
    let source = Source::named(workspace, name)?;
    let images = Builder::new(workspace, options.profile.as_deref(), ui).images(&source)?;
    let path = only(name, images.iter().map(|image| image.path.as_path()))?;
    let image = images.iter().find(|image| image.path == path);
    image.map(|image| (image.path.clone(), image.info.clone())).with_context(|| format!("no image {name}"))
}

/// Does it name a file, there or not, rather than something to build?
fn is_image(name: &str) -> bool {
    let path = Path::new(name);
    path.is_file()
        || (!path.is_dir() && name.contains(['/', '.']))
        || (path.is_dir() && !is_source(path) && name.contains('/'))
}

/// The one file that was built.
fn only<'a>(name: &str, paths: impl Iterator<Item = &'a Path>) -> anyhow::Result<PathBuf> {
    match *paths.collect::<Vec<_>>() {
        [path] => Ok(path.to_owned()),
        ref several => bail!("{name} has several images; name one of: {}", {
            several.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        }),
    }
}

/// Becomes the program, built to run on this machine.
fn run_hosted(workspace: &Workspace, options: &cli::Run, ui: &Ui) -> anyhow::Result<ExitCode> {
    let name = options.image.as_str();
    let program = if is_image(name) {
        let path = PathBuf::from(name);
        let data = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            kind_of(&data) == Some(Kind::LinuxProcess),
            "{name} is not linked for the stand-in kernel: link it with -mkernel=standin, or CASEMATE_KERNEL=standin \
             in the environment"
        );
        path
    } else {
        let source = Source::named(workspace, name)?;
        let programs = Builder::new(workspace, options.profile.as_deref(), ui).hosted(&source)?;
        only(name, programs.values().map(PathBuf::as_path))?
    };
    let program = std::path::absolute(&program)?;
    let error = Command::new(&program).args(&options.args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// Adds advice to what the toolstack says.
fn explain(error: anyhow::Error, memory: u32) -> anyhow::Error {
    let text = error.to_string();
    let tight = ["Out of memory", "out of memory", "not enough memory", "xc_dom_boot_mem_init", "panic"];
    if tight.iter().any(|t| text.contains(t)) || text.contains("domain building failed") {
        return error.context(format!(
            "the domain could not be built with {memory} MiB of memory; try more with --memory"
        ));
    }
    error
}

/// Copies what the domain prints to standard output until it ends. Returns the end of that, too.
fn show_console(domain: &Domain) -> anyhow::Result<(End, Vec<u8>)> {
    let mut output = io::stdout().lock();
    let (mut broken, mut last_words) = (false, Vec::new());
    let end = domain.wait(|piece| {
        last_words.extend_from_slice(piece);
        last_words.drain(..last_words.len().saturating_sub(LAST_WORDS));
        if !broken && output.write_all(piece).and_then(|()| output.flush()).is_err() {
            // Nobody listens any more (such as `| head`).
            broken = true;
            let _ = domain.destroy();
        }
    })?;
    Ok((end, last_words))
}

/// Copies what is typed to the domain, and the end of it, which on a terminal is control-D. The thread ends with
/// the process.
fn forward_input(domain: &Arc<Domain>) {
    let domain = Arc::downgrade(domain);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length) = io::stdin().lock().read(&mut piece) {
            let bytes = if length > 0 { &piece[..length] } else { &b"\x04"[..] };
            let Some(domain) = domain.upgrade() else { return };
            if domain.input(bytes).is_err() || length == 0 {
                return;
            }
        }
    });
}

/// Says how the domain ended and returns the exit status for it.
fn report(end: &End, last_words: &[u8], image: &Path, interrupt: &Interrupt, ui: &Ui) -> anyhow::Result<u8> {
    if let Some(signal) = interrupt.signal() {
        ui.step("the domain was destroyed");
        return Ok(u8::try_from(128 + signal).unwrap_or(DESTROYED));
    }
    match (end.reason, end.status) {
        (Reason::PowerOff, Some(status)) => {
            if status == STD_PANIC {
                explain_crash(end, last_words, image);
            }
            Ok(status)
        }
        (Reason::PowerOff, None) => bail!(
            "the domain powered off without an exit status (it writes none to data/exit-status in xenstore)"
        ),
        (Reason::Destroyed, _) => {
            ui.warn("the domain was destroyed from outside");
            Ok(DESTROYED)
        }
        (reason, status) => {
            ui.warn(match reason {
                Reason::Crash => "the domain crashed".to_owned(),
                Reason::Reboot => {
                    "the domain asked for a reboot, or its processor gave up (triple fault)".to_owned()
                }
                other => format!("the domain ended with reason {other:?}"),
            });
            explain_crash(end, last_words, image);
            Ok(status.filter(|s| *s != 0).unwrap_or(CRASHED))
        }
    }
}

/// Prints what Xen logged about the domain, and the domain's own backtrace again with names, where the symbols of
/// the image are at hand.
fn explain_crash(end: &End, last_words: &[u8], image: &Path) {
    let symbols = debug_file(image).and_then(|path| Symbolizer::new(&path).ok());
    for line in &end.xen_log {
        let line = symbols.as_ref().map_or_else(|| line.clone(), |s| s.line(line));
        eprintln!("xen: {line}");
    }
    let Some(symbols) = symbols else { return };
    for line in String::from_utf8_lossy(last_words).lines().map(str::trim_end) {
        let named = symbols.line(line);
        if named != line {
            eprintln!("{named}");
        }
    }
}

/// The file with the symbols of an image: `NAME.debug`, or the image itself when it was not stripped.
pub fn debug_file(image: &Path) -> Option<PathBuf> {
    let mut name = image.file_name()?.to_owned();
    name.push(".debug");
    let debug = image.with_file_name(name);
    [debug, image.to_owned()].into_iter().find(|p| p.is_file())
}
