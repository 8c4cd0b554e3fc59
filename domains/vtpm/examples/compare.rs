//! The vTPM between hosted processes against swtpm behind a Unix socket, in windows that take turns.
//!
//! ```text
//! cargo build --release -p casemate-vtpm-domain && cargo run --release -p casemate-vtpm-domain --example compare [DIRECTORY]
//! ```
//! DIRECTORY is where both keep their state; give one on a RAM disk to leave the disk out of NV_Write.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use idc::{DomId, HostedConfig, Idc};
use vtpm::Family;
use vtpm::command::answer_code;
use vtpm::frame::{Kind, Status};
use vtpmd::client::Client;
use vtpmd::manager::Manager;
use vtpmd::registry::{Binding, Registry};

const VTPM: u16 = 10;
const GUEST: u16 = 20;
const WINDOWS: usize = 15;
const PATIENCE: Duration = Duration::from_secs(60);

const OWNER: [u8; 4] = [0x40, 0, 0, 1];
const PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
const INDEX: [u8; 4] = [0x01, 0x50, 0, 1];

fn plain(code: u32, parameters: &[u8]) -> Vec<u8> {
    [&[0x80, 1][..], &(10 + parameters.len() as u32).to_be_bytes(), &code.to_be_bytes(), parameters].concat()
}

fn with_password(code: u32, handles: &[u8], parameters: &[u8]) -> Vec<u8> {
    let len = (10 + handles.len() + PASSWORD.len() + parameters.len()) as u32;
    [&[0x80, 2][..], &len.to_be_bytes(), &code.to_be_bytes(), handles, &PASSWORD, parameters].concat()
}

/// `TPM2_CreatePrimary` of a restricted signing key.
fn create_primary(rest: &[u8], kind: u8) -> Vec<u8> {
    let public = [&[0, kind, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10][..], rest].concat();
    let parameters =
        [&[0, 4, 0, 0, 0, 0][..], &(public.len() as u16).to_be_bytes(), &public, &[0; 6]].concat();
    with_password(0x131, &OWNER, &parameters)
}

/// A command, and a byte of it that is another one each time.
struct Timed {
    bytes: Vec<u8>,
    changing: Option<usize>,
}

trait Tpm {
    fn run(&mut self, command: &[u8]) -> Result<Vec<u8>>;
}

struct Ours(Client);

impl Tpm for Ours {
    fn run(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let reply = self.0.request(Kind::Command, 0, command)?;
        ensure!(reply.status == Status::Ok, "{}", reply.status);
        Ok(reply.contents)
    }
}

struct Theirs(UnixStream);

impl Tpm for Theirs {
    fn run(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut answer = vec![0; 4096];
        let len = self.0.read(&mut answer)?;
        answer.truncate(len);
        Ok(answer)
    }
}

/// Ends with the program.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `TPM_RC_RETRY`.
const RETRY: u32 = 0x922;

fn checked(tpm: &mut dyn Tpm, command: &[u8]) -> Result<Vec<u8>> {
    let mut answer = tpm.run(command)?;
    while answer_code(&answer) == Some(RETRY) {
        answer = tpm.run(command)?;
    }
    ensure!(answer_code(&answer) == Some(0), "the TPM answers {answer:02x?}");
    Ok(answer)
}

/// Microseconds a command, in one window.
fn window(tpm: &mut dyn Tpm, command: &Timed, count: u32) -> Result<f64> {
    let mut bytes = command.bytes.clone();
    let begin = Instant::now();
    for _ in 0..count {
        // What is there already is not written again.
        if let Some(byte) = command.changing.and_then(|place| bytes.get_mut(place)) {
            *byte = byte.wrapping_add(1);
        }
        checked(tpm, &bytes)?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}

fn ours(dir: &Path) -> Result<(Ours, Process)> {
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
    Ok((Ours(client), Process(process)))
}

fn theirs(dir: &Path) -> Result<(Theirs, Process)> {
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
            Ok(stream) => return Ok((Theirs(stream), process)),
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
    let ecc = create_primary(&[0, 0x18, 0, 0x0b, 0, 3, 0, 0x10, 0, 0, 0, 0], 0x23);
    let rsa = create_primary(&[0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 0, 0], 1);
    // 64 bytes, written and read by owner and authorisation.
    let public = [&INDEX[..], &[0, 0x0b, 0x02, 0x06, 0x00, 0x06, 0, 0, 0, 64]].concat();
    let define = with_password(0x12a, &OWNER, &[&[0, 0, 0, public.len() as u8][..], &public].concat());
    for tpm in [&mut ours as &mut dyn Tpm, &mut theirs] {
        checked(tpm, &define)?;
        // The handles are 0x80000000 and 0x80000001.
        checked(tpm, &ecc)?;
        checked(tpm, &rsa)?;
    }
    let extend = [&[0, 0, 0, 1, 0, 0x0b][..], &[0x11; 32]].concat();
    let write = [&[0, 64][..], &[0x22; 64], &[0, 0]].concat();
    let quote = |handle| {
        with_password(0x158, &[0x80, 0, 0, handle], &[0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 1])
    };
    let commands = [
        ("GetRandom 16", plain(0x17b, &[0, 16]), 400),
        ("PCR_Extend", with_password(0x182, &[0, 0, 0, 16], &extend), 400),
        ("NV_Write 64", with_password(0x137, &[OWNER, INDEX].concat(), &write), 40),
        ("Quote P-256", quote(0), 40),
        ("Quote RSA-2048", quote(1), 10),
    ];
    println!(
        "{:16} {:>12} {:>12} {:>8}   least of {WINDOWS} windows (median)",
        "us", "vTPM", "swtpm", "ratio"
    );
    for (name, command, count) in commands {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        // The first byte of the data, behind header, handles, password and length.
        let changing = name.starts_with("NV_Write").then_some(10 + 8 + 13 + 2);
        let command = Timed { bytes: command, changing };
        for _ in 0..WINDOWS {
            a.push(window(&mut ours, &command, count)?);
            b.push(window(&mut theirs, &command, count)?);
        }
        a.sort_by(f64::total_cmp);
        b.sort_by(f64::total_cmp);
        let middle = WINDOWS / 2;
        println!(
            "{name:16} {:12.1} {:12.1} {:8.2}   ({:.1}, {:.1}, {:.2})",
            a[0],
            b[0],
            a[0] / b[0],
            a[middle],
            b[middle],
            a[middle] / b[middle]
        );
    }
    Ok(())
}
