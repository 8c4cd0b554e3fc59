//! `casemate run --gdb`.

use std::{
    fs,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, bail, ensure};
use object::{Object, ObjectSegment, ObjectSymbol, SegmentFlags, elf::PF_X};
use tempfile::TempDir;
use testbed::{
    Domain,
    gdb::{Debugger, Target},
    host,
    proto::{End, Mode},
};

use super::{debug_file, show_console};
use crate::{cli, image::check::ImageInfo, interrupt::Interrupt, needs, ui::Ui, workspace::Workspace};

/// Symbol of a service's way into its main function, made by `service::main!`.
const SERVICE_MAIN: &str = "libos_service_main";

/// Can a domain be debugged here?
///
/// # Errors
/// When not: why, and what to do.
pub fn is_possible(kind: cli::Gdb) -> anyhow::Result<()> {
    ensure!(
        !host::is_dom0(),
        "a domain on this machine's own Xen cannot be debugged: `--gdb` needs the emulated machine that the test bed \
         boots where there is no Xen"
    );
    if kind == cli::Gdb::Terminal { find().map(drop) } else { Ok(()) }
}

/// The program.
fn find() -> anyhow::Result<String> {
    needs::program("gdb").context("gdb is missing. Install it:\n  apt-get install gdb")
}

/// Debugs a domain that was created paused, until it has ended or the debugger has; returns the end of the domain
/// and of its console.
///
/// # Errors
/// When that cannot be done.
pub fn run(
    kind: cli::Gdb,
    domain: &Domain,
    (image, info, mode): (&Path, &ImageInfo, Mode),
    workspace: &Workspace,
    interrupt: &Interrupt,
    ui: &Ui,
) -> anyhow::Result<(End, Vec<u8>)> {
    let symbols = debug_file(image).context("the image is gone")?;
    let symbols = std::path::absolute(symbols)?;
    let socket = Socket::new()?;
    let debugger = Debugger::new(domain, target(image, info, mode)?)?;
    let notifier = debugger.notifier();
    let quit = notifier.clone();
    let path = socket.path.clone();
    interrupt.on_signal(move || {
        quit.quit();
        wake(&path);
    });
    interrupt.leave_keyboard(kind == cli::Gdb::Terminal);
    let shown = thread::scope(|scope| {
        let console = scope.spawn(|| {
            let shown = show_console(domain);
            if let Ok((end, _)) = &shown {
                notifier.ended(end);
            }
            shown
        });
        let served = match kind {
            cli::Gdb::Server => {
                ui.step(format!("gdb {}", symbols.display()));
                ui.step(format!("  target remote {}", socket.path.display()));
                socket.serve(debugger)
            }
            cli::Gdb::Terminal => {
                commands(&symbols, &socket.path, workspace).and_then(|c| on_terminal(&c, &socket, debugger))
            }
        };
        // Whoever debugged has gone, so nobody needs the domain any more; when it has ended, this changes nothing.
        let destroyed = domain.destroy();
        let shown = console.join().unwrap_or_else(|_| bail!("the console could not be shown"));
        served?;
        destroyed?;
        shown
    });
    interrupt.leave_keyboard(false);
    shown
}

/// What the proxy has to know of an image.
fn target(image: &Path, info: &ImageInfo, mode: Mode) -> anyhow::Result<Target> {
    let entry = match mode {
        Mode::Pv => info.pv_entry,
        Mode::Pvh => info.pvh_entry,
    };
    let data = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let file = object::File::parse(&*data)?;
    let mut returns = Vec::new();
    for segment in file.segments() {
        if matches!(segment.flags(), SegmentFlags::Elf { p_flags, .. } if p_flags.0 & PF_X.0 != 0) {
            returns.extend(returns_in(segment.address(), segment.data()?));
        }
    }
    Ok(Target { mode, entry: entry.context("the image has no entry")?, range: info.range, returns })
}

/// Addresses behind everything that looks like a call of Xen: `syscall`, `vmmcall`, `vmcall`. Some may lie in the
/// middle of other instructions, where no processor ever stops.
fn returns_in(address: u64, code: &[u8]) -> Vec<u64> {
    let found = (0..code.len()).filter_map(|at| match code.get(at..)? {
        [0x0f, 0x05, ..] => Some(at + 2),
        [0x0f, 0x01, 0xc1 | 0xd9, ..] => Some(at + 3),
        _ => None,
    });
    found.map(|at| address + at as u64).collect()
}

/// What gdb is told to do first.
fn commands(symbols: &Path, socket: &Path, workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let data = fs::read(symbols).with_context(|| format!("cannot read {}", symbols.display()))?;
    let file = object::File::parse(&*data)?;
    let has = |name: &str| file.symbols().any(|s| s.is_definition() && s.name() == Ok(name));
    let mut commands = vec![
        format!("directory {}", workspace.root.display()),
        format!("target remote {}", socket.display()),
    ];
    // Where an exception and a panic arrive, before the domain says its last words.
    for end in ["libos_trap", "libos_panic"].into_iter().filter(|name| has(name)) {
        commands.push(format!("break *{end}"));
    }
    if has(SERVICE_MAIN) {
        // The service's own function is often inlined there.
        commands.extend([format!("tbreak {SERVICE_MAIN}"), "continue".to_owned()]);
    } else if has("main") {
        commands.extend(["tbreak main".to_owned(), "continue".to_owned()]);
    }
    Ok([vec![format!("file {}", symbols.display())], commands].concat())
}

/// Runs gdb on this terminal until it ends.
fn on_terminal(commands: &[String], socket: &Socket, debugger: Debugger) -> anyhow::Result<()> {
    let mut gdb = Command::new(find()?);
    gdb.arg("-q").args(commands.iter().flat_map(|c| ["-ex", c]));
    let mut child = gdb.spawn().context("cannot start gdb")?;
    thread::scope(|scope| {
        let server = scope.spawn(|| socket.serve(debugger));
        let ended = child.wait();
        // It may have ended without connecting.
        wake(&socket.path);
        let served = server.join().unwrap_or_else(|_| bail!("the debugger's proxy panicked"));
        ended.context("cannot wait for gdb")?;
        served
    })
}

/// A socket for one gdb, in a folder of its own that nobody else can enter.
struct Socket {
    path: PathBuf,
    listener: UnixListener,
    _dir: TempDir,
}

impl Socket {
    fn new() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("casemate-").tempdir().context("cannot make a folder")?;
        let path = dir.path().join("gdb");
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path, listener, _dir: dir })
    }

    /// Waits for gdb and serves it.
    fn serve(&self, debugger: Debugger) -> anyhow::Result<()> {
        let (gdb, _) = self.listener.accept().context("cannot wait for gdb")?;
        Ok(debugger.serve(gdb)?)
    }
}

/// Ends the wait for a gdb that will not come: by one that hangs up at once.
fn wake(socket: &Path) {
    // When nobody waits any more, that is as well.
    let _ = UnixStream::connect(socket);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_xen_are_found() {
        let code = [0x90, 0x0f, 0x05, 0x0f, 0x01, 0xd9, 0x0f, 0x01, 0xc1, 0x0f];
        assert_eq!(returns_in(0x1000, &code), [0x1003, 0x1006, 0x1009]);
        assert!(returns_in(0, &[]).is_empty());
    }
}
