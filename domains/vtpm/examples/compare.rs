//! The vTPM between hosted processes against swtpm behind a Unix socket, in windows that take turns.
//!
//! ```text
//! cargo build --release -p casemate-vtpm-domain && cargo run --release -p casemate-vtpm-domain --example compare [DIRECTORY]
//! ```
//! DIRECTORY is where both keep their state; give one on a RAM disk to leave the disk out of NV_Write.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use idc::{DomId, HostedConfig, Idc};
use vtpm::Family;
use vtpmd::client::Client;
use vtpmd::manager::Manager;
use vtpmd::measure::{self, Stream};
use vtpmd::registry::{Binding, Registry};

const VTPM: u16 = 10;
const GUEST: u16 = 20;
const WINDOWS: usize = 15;
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the program.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ours(dir: &Path) -> Result<(Client, Process)> {
    let registry = Registry::open(&dir.join("state"), &dir.join("run"))?;
    let master = registry.master(None)?;
    let uuid = registry.create(&master, "compared", Family::Tpm20)?.id()?;
    registry.bind(&uuid, &Binding { domid: VTPM, guests: vec![GUEST], fresh: true, ours: false })?;
    let hosted = |domid| Idc::hosted(HostedConfig::new(DomId(domid)).directory(dir.join("idc")));
    let idc = hosted(0)?;
    let manager = Manager::new(registry, master, DomId(0))?;
    std::thread::spawn(move || manager.run(&idc));
    // Examples lie in a folder below the programs.
    let example = std::env::current_exe()?;
    let program = example.parent().and_then(Path::parent).context("no folder")?.join("casemate-vtpm");
    let process = Command::new(&program)
        .args([format!("domid={VTPM}"), format!("directory={}", dir.join("idc").display())])
        .stdout(Stdio::null())
        .spawn()
        .with_context(|| format!("build {} first", program.display()))?;
    let client = Client::new(&hosted(GUEST)?, DomId(VTPM), PATIENCE);
    Ok((client, Process(process)))
}

fn theirs(dir: &Path) -> Result<(Stream<UnixStream>, Process)> {
    let (state, socket) = (dir.join("swtpm"), dir.join("swtpm.sock"));
    std::fs::create_dir(&state)?;
    let process = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--tpmstate", &format!("dir={}", state.display())])
        .args(["--server", &format!("type=unixio,path={}", socket.display())])
        .spawn()
        .context("swtpm is needed")?;
    let process = Process(process);
    let begin = Instant::now();
    loop {
        match UnixStream::connect(&socket) {
            Ok(stream) => return Ok((Stream(stream), process)),
            Err(error) if begin.elapsed() > PATIENCE => return Err(error).context("swtpm does not listen"),
            Err(_) => std::thread::yield_now(),
        }
    }
}

fn main() -> Result<()> {
    let base = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = base.join(format!("vtpm-compare-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let result = compare(&dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

fn compare(dir: &Path) -> Result<()> {
    let (mut ours, _vtpm) = ours(dir)?;
    let (mut theirs, _swtpm) = theirs(dir)?;
    print!("{}", measure::table(&measure::compare(&mut ours, &mut theirs, WINDOWS, 1)?));
    Ok(())
}
