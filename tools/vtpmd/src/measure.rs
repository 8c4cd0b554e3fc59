//! Times of TPM commands, of two TPMs in windows that take turns, so that a change in the machine's load meets both alike.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use idc::{DomId, Idc};
use serde::Serialize;
use vtpm::command::answer_code;
use vtpm::frame::{CONTENTS_MAX, Kind, Status};

use crate::client::Client;

/// `TPM_RC_RETRY`.
const RETRY: u32 = 0x922;
const OWNER: [u8; 4] = [0x40, 0, 0, 1];
/// An empty password.
const PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
const INDEX: [u8; 4] = [0x01, 0x50, 0, 0x20];

/// A way to a TPM.
pub trait Tpm {
    /// Runs a command.
    ///
    /// # Errors
    /// There is no answer.
    fn run(&mut self, command: &[u8]) -> Result<Vec<u8>>;
}

/// Over IDC.
impl Tpm for Client {
    fn run(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        let reply = self.request(Kind::Command, 0, command)?;
        ensure!(reply.status == Status::Ok, "{}", reply.status);
        Ok(reply.contents)
    }
}

/// Through a socket or a device: what is written is a command, what is read is an answer.
#[derive(Debug)]
pub struct Stream<S>(pub S);

impl<S: Read + Write> Tpm for Stream<S> {
    fn run(&mut self, command: &[u8]) -> Result<Vec<u8>> {
        self.0.write_all(command)?;
        let mut answer = vec![0; CONTENTS_MAX];
        let len = self.0.read(&mut answer)?;
        answer.truncate(len);
        Ok(answer)
    }
}

/// A TPM by a word: `idc:N`, `unix:PATH` (swtpm's socket) or `device:PATH`.
///
/// # Errors
/// It cannot be opened, or the word is another one.
pub fn open(place: &str) -> Result<Box<dyn Tpm>> {
    if let Some(domid) = place.strip_prefix("idc:") {
        let domid = domid.parse().with_context(|| format!("`{domid}` is no domain"))?;
        return Ok(Box::new(Client::new(&Idc::open()?, DomId(domid), Duration::from_secs(600))));
    }
    if let Some(path) = place.strip_prefix("unix:") {
        let stream = UnixStream::connect(path).with_context(|| format!("cannot connect to {path}"))?;
        return Ok(Box::new(Stream(stream)));
    }
    if let Some(path) = place.strip_prefix("device:") {
        let file = File::options().read(true).write(true).open(path);
        return Ok(Box::new(Stream(file.with_context(|| format!("cannot open {path}"))?)));
    }
    bail!("`{place}` is no TPM: use idc:N, unix:PATH or device:PATH")
}

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

/// A command, a byte of it that is another one each time, and how often a window runs it.
struct Timed {
    name: &'static str,
    bytes: Vec<u8>,
    changing: Option<usize>,
    count: u32,
}

fn checked(tpm: &mut dyn Tpm, command: &[u8]) -> Result<Vec<u8>> {
    let mut answer = tpm.run(command)?;
    while answer_code(&answer) == Some(RETRY) {
        answer = tpm.run(command)?;
    }
    ensure!(answer_code(&answer) == Some(0), "the TPM answers {answer:02x?} to {command:02x?}");
    Ok(answer)
}

/// A TPM with what the commands need: two keys and an index.
struct Prepared<'a> {
    tpm: &'a mut dyn Tpm,
    handles: [[u8; 4]; 2],
}

impl<'a> Prepared<'a> {
    fn new(tpm: &'a mut dyn Tpm) -> Result<Prepared<'a>> {
        // 64 bytes, written and read by owner and authorisation.
        let public = [&INDEX[..], &[0, 0x0b, 0x02, 0x06, 0x00, 0x06, 0, 0, 0, 64]].concat();
        let define = [&[0, 0, 0, public.len() as u8][..], &public].concat();
        checked(tpm, &with_password(0x12a, &OWNER, &define))?;
        let ecc = create_primary(&[0, 0x18, 0, 0x0b, 0, 3, 0, 0x10, 0, 0, 0, 0], 0x23);
        let rsa = create_primary(&[0, 0x14, 0, 0x0b, 8, 0, 0, 0, 0, 0, 0, 0], 1);
        let mut key = |command: &[u8]| -> Result<[u8; 4]> {
            let answer = checked(tpm, command)?;
            answer.get(10..14).and_then(|bytes| bytes.try_into().ok()).context("a short answer")
        };
        let handles = [key(&ecc)?, key(&rsa)?];
        Ok(Prepared { tpm, handles })
    }

    /// Leaves nothing behind.
    fn clean(self) -> Result<()> {
        for handle in self.handles {
            checked(self.tpm, &plain(0x165, &handle))?;
        }
        checked(self.tpm, &with_password(0x122, &[OWNER, INDEX].concat(), &[])).map(drop)
    }

    fn commands(&self) -> [Timed; 5] {
        let extend = [&[0, 0, 0, 1, 0, 0x0b][..], &[0x11; 32]].concat();
        let write = [&[0, 64][..], &[0x22; 64], &[0, 0]].concat();
        let quote = |handle: [u8; 4]| {
            with_password(0x158, &handle, &[0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 1])
        };
        let timed = |name, bytes, count| Timed { name, bytes, changing: None, count };
        let mut write = timed("NV_Write 64", with_password(0x137, &[OWNER, INDEX].concat(), &write), 40);
        // The first byte of the data, behind header, handles, password and length: what is there already is not
        // written again.
        write.changing = Some(10 + 8 + 13 + 2);
        [
            timed("GetRandom 16", plain(0x17b, &[0, 16]), 400),
            timed("PCR_Extend", with_password(0x182, &[0, 0, 0, 16], &extend), 400),
            write,
            timed("Quote P-256", quote(self.handles[0]), 40),
            timed("Quote RSA-2048", quote(self.handles[1]), 10),
        ]
    }

    /// Microseconds a command, in one window.
    fn window(&mut self, command: &mut Timed, share: u32) -> Result<f64> {
        let count = (command.count / share).max(2);
        let begin = Instant::now();
        for _ in 0..count {
            if let Some(byte) = command.changing.and_then(|place| command.bytes.get_mut(place)) {
                *byte = byte.wrapping_add(1);
            }
            checked(self.tpm, &command.bytes)?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e6 / f64::from(count))
    }
}

/// What one command takes: microseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The command.
    pub what: &'static str,
    /// Median of the first TPM's windows, and the least.
    pub ours: f64,
    /// The least.
    pub ours_least: f64,
    /// Median of the other's.
    pub theirs: f64,
    /// The least.
    pub theirs_least: f64,
    /// Median of the ratios of windows that followed each other.
    pub ratio: f64,
    /// All windows, of the first TPM and of the other.
    pub windows: [Vec<f64>; 2],
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Measures two TPMs. A window has a `share`-th of the usual number of commands, for slow machines.
///
/// # Errors
/// A TPM does not work.
pub fn compare(ours: &mut dyn Tpm, theirs: &mut dyn Tpm, windows: usize, share: u32) -> Result<Vec<Row>> {
    let (mut ours, mut theirs) = (Prepared::new(ours)?, Prepared::new(theirs)?);
    let mut rows = Vec::new();
    for (mut a, mut b) in ours.commands().into_iter().zip(theirs.commands()) {
        let (mut times_a, mut times_b) = (Vec::new(), Vec::new());
        // The first window of each warms up.
        for round in 0..=windows {
            let (time_a, time_b) = (ours.window(&mut a, share)?, theirs.window(&mut b, share)?);
            if round > 0 {
                times_a.push(time_a);
                times_b.push(time_b);
            }
        }
        let least = |times: &[f64]| times.iter().copied().fold(f64::INFINITY, f64::min);
        rows.push(Row {
            what: a.name,
            ours_least: least(&times_a),
            theirs_least: least(&times_b),
            ratio: median(times_a.iter().zip(&times_b).map(|(a, b)| a / b).collect()),
            ours: median(times_a.clone()),
            theirs: median(times_b.clone()),
            windows: [times_a, times_b],
        });
    }
    ours.clean()?;
    theirs.clean()?;
    Ok(rows)
}

/// Rows for people.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!("{:16} {:>12} {:>12} {:>8}\n", "us, median", "ours", "theirs", "ratio");
    for row in rows {
        text.push_str(&format!("{:16} {:12.1} {:12.1} {:8.2}\n", row.what, row.ours, row.theirs, row.ratio));
    }
    text
}
