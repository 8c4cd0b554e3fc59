//! A debugger on one domain, by way of QEMU's gdb stub.
//!
//! The stub knows processors and the machine, not domains. This proxy stands between it and gdb and shows gdb one
//! domain: a breakpoint that something else in the machine runs into (a program of dom0 at the same address) is
//! stepped over, memory is read through the domain's page tables ([`walk`]), and an instruction that enters Xen
//! is stepped as one. When gdb has stopped the domain, the whole machine stands still, so no time limit of another
//! domain passes and nothing is printed. When the domain ends, gdb is told its exit status.
//!
//! Only with an emulated processor: it compares every instruction's address, wherever it runs. Why it is done like
//! this: `docs/decisions/0005-debugging-through-qemu.md`.

mod packet;
mod stub;
mod walk;

use std::{
    io::{self, BufReader},
    os::unix::net::UnixStream,
    sync::mpsc::{self, Sender},
    thread,
};

use self::{
    packet::Item,
    stub::{Cpu, Stub},
    walk::Roots,
};
use crate::{
    Domain, Error,
    proto::{End, Mode, Reason},
};

/// Code segment of a PV kernel, and of programs in a 64-bit PV Linux: both run in the same ring, Linux loads another one.
const PV_KERNEL_CS: u64 = 0xe033;
const LINUX_USER_CS: u64 = 0x33;

/// Longest instruction of the processor.
const MAX_INSTRUCTION: u64 = 15;

/// Longest read that is done for gdb at once; it may ask for less than it gets.
const MAX_READ: u64 = 0x700;

/// What is to be debugged.
#[derive(Clone, Debug)]
pub struct Target {
    /// Kind of virtual machine.
    pub mode: Mode,
    /// Address of the domain's first instruction in this mode.
    pub entry: u64,
    /// Addresses of the image: first, and first behind.
    pub range: (u64, u64),
    /// Where the domain goes on after it has called Xen.
    pub returns: Vec<u64>,
}

/// What the proxy waits for.
enum Event {
    Gdb(Item),
    GdbGone,
    Qemu(Vec<u8>),
    QemuGone,
    Ended(End),
    Failed(Error),
}

/// Why the proxy cannot go on.
enum Trouble {
    Io(io::Error),
    Qemu(String),
    Bed(Error),
    /// gdb hung up.
    Gone,
}

impl Trouble {
    fn qemu(what: &str) -> Self {
        Self::Qemu(what.to_owned())
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Bed(error) => error,
            Trouble::Io(source) => Self::Io { doing: "debugging".to_owned(), source },
            Trouble::Qemu(what) => Self::Job(format!("QEMU's gdb stub answers {what}")),
            Trouble::Gone => Self::Job("gdb hung up".to_owned()),
        }
    }
}

/// Tells a [`Debugger`] what happens outside. Clones are the same.
#[derive(Clone)]
pub struct Notifier {
    to: Sender<Event>,
}

impl Notifier {
    /// The domain has ended.
    pub fn ended(&self, end: &End) {
        // Nobody listens when gdb has gone.
        let _ = self.to.send(Event::Ended(end.clone()));
    }

    /// Debugging has to end.
    pub fn quit(&self) {
        let _ = self.to.send(Event::GdbGone);
    }
}

/// A domain that stands at its first instruction, or later. It goes on when this is dropped.
pub struct Debugger {
    stub: Stub,
    to: Sender<Event>,
    target: Target,
    roots: Roots,
    /// Where the domain was seen last.
    cpu: Cpu,
    /// All breakpoints and watchpoints, as in gdb's packets, without the `Z`.
    set: Vec<String>,
    ended: Option<End>,
}

impl Debugger {
    /// Takes hold of a domain that was created paused, lets it go, and stops it at its first instruction.
    ///
    /// # Errors
    /// When this test bed has no debugger ([`crate::Config::debugger`]); failures of the test bed.
    pub fn new(domain: &Domain, target: Target) -> Result<Self, Error> {
        let nested = match target.mode {
            Mode::Pv => None,
            Mode::Pvh => Some(nested_root(domain)?),
        };
        let stream = domain.bed().debug_socket()?;
        let (to, events) = mpsc::channel();
        let stub = Stub::new(stream, to.clone(), events)?;
        let (cpu, entry) = (stub.cpus[0], target.entry);
        let roots = Roots { domain: None, nested };
        let mut this = Self { stub, to, target, roots, cpu, set: Vec::new(), ended: None };
        let entry = this.add(vec![entry])?;
        // In a thread, because dom0 may stand still before `xl` has ended.
        let (bed, id, failed) = (domain.bed().clone(), domain.id(), this.to.clone());
        thread::spawn(move || {
            let error = match bed.shell(&format!("xl unpause {id}"), None) {
                Ok(output) if output.status == 0 => return,
                Ok(output) => Error::Job(String::from_utf8_lossy(&output.stderr).into_owned()),
                Err(error) => error,
            };
            let _ = failed.send(Event::Failed(error));
        });
        this.run(&mut |_| Ok(()))?;
        this.remove(&entry)?;
        Ok(this)
    }

    /// For those who watch the domain.
    pub fn notifier(&self) -> Notifier {
        Notifier { to: self.to.clone() }
    }

    /// Serves gdb until it hangs up, the domain has ended, or [`Notifier::quit`].
    ///
    /// # Errors
    /// Failures of the test bed.
    pub fn serve(mut self, gdb: UnixStream) -> Result<(), Error> {
        let out = gdb.try_clone().map_err(Trouble::from)?;
        let mut input = BufReader::new(gdb);
        let to = self.to.clone();
        thread::spawn(move || {
            while let Ok(Some(item)) = packet::read(&mut input) {
                if to.send(Event::Gdb(item)).is_err() {
                    return;
                }
            }
            let _ = to.send(Event::GdbGone);
        });
        let result = self.answer(&out);
        let _ = out.shutdown(std::net::Shutdown::Both);
        match result {
            // gdb may hang up at any time.
            Ok(()) | Err(Trouble::Gone | Trouble::Io(_)) => Ok(()),
            Err(trouble) => Err(trouble.into()),
        }
    }

    fn answer(&mut self, mut out: &UnixStream) -> Result<(), Trouble> {
        loop {
            match self.stub.next()? {
                Event::Gdb(Item::Packet(body)) => {
                    io::Write::write_all(&mut out, b"+")?;
                    let body = String::from_utf8_lossy(&body).into_owned();
                    let Some(reply) = self.perform(&body, out)? else { return Ok(()) };
                    packet::write(&mut out, &reply)?;
                }
                Event::GdbGone => return Ok(()),
                Event::Ended(end) => self.ended = Some(end),
                Event::Failed(error) => return Err(Trouble::Bed(error)),
                // The machine stands still already.
                Event::Gdb(Item::Interrupt) | Event::Qemu(_) | Event::QemuGone => {}
            }
        }
    }

    /// Does what gdb asks for; `None` when it says good-bye. An empty answer says "not supported".
    fn perform(&mut self, body: &str, out: &UnixStream) -> Result<Option<Vec<u8>>, Trouble> {
        let mut say = |text: &str| {
            let body = format!("O{}", packet::hex(text.as_bytes()));
            Ok(packet::write(&mut &*out, body.as_bytes())?)
        };
        let (first, rest) = body.split_at(body.char_indices().nth(1).map_or(body.len(), |(at, _)| at));
        Ok(Some(match first {
            "?" => b"T05thread:01;".to_vec(),
            "g" | "G" | "p" | "P" => self.stub.request(body)?,
            "m" => match area(rest) {
                Some((address, length)) => {
                    let bytes = self.stub.read(self.roots, address, length.min(MAX_READ))?;
                    if bytes.is_empty() { b"E14".to_vec() } else { packet::hex(&bytes).into_bytes() }
                }
                None => b"E22".to_vec(),
            },
            "M" => {
                let parts =
                    rest.split_once(':').and_then(|(a, b)| Some((area(a)?, packet::bytes(b.as_bytes())?)));
                match parts {
                    Some(((address, length), bytes)) if bytes.len() as u64 == length => {
                        if self.stub.write(self.roots, address, &bytes)? {
                            b"OK".to_vec()
                        } else {
                            b"E14".to_vec()
                        }
                    }
                    _ => b"E22".to_vec(),
                }
            }
            "Z" | "z" => {
                let answer = self.stub.request(body)?;
                if answer == b"OK" {
                    self.set.retain(|s| s != rest);
                    if first == "Z" {
                        self.set.push(rest.to_owned());
                    }
                }
                answer
            }
            "c" | "C" => self.run(&mut say)?,
            "s" | "S" => self.step(&mut say)?,
            "k" | "D" => return Ok(None),
            "H" | "T" => b"OK".to_vec(),
            "q" if rest.starts_with("Supported") => b"PacketSize=1000;qXfer:features:read+".to_vec(),
            "q" if rest.starts_with("Xfer:features:read:") => self.stub.request(body)?,
            "q" => match rest.split(':').next().unwrap_or_default() {
                "fThreadInfo" => b"m01".to_vec(),
                "sThreadInfo" => b"l".to_vec(),
                "C" => b"QC01".to_vec(),
                // gdb may kill it.
                "Attached" => b"0".to_vec(),
                _ => Vec::new(),
            },
            "v" if rest.starts_with("Kill") => return Ok(None),
            _ => Vec::new(),
        }))
    }

    /// Lets the domain run until it stops or ends; the answer for gdb.
    fn run(&mut self, say: &mut dyn FnMut(&str) -> Result<(), Trouble>) -> Result<Vec<u8>, Trouble> {
        if let Some(end) = &self.ended {
            return Ok(end_reply(end));
        }
        let mut interrupts = 0;
        let mut wake_points = None;
        self.stub.resume()?;
        let reply = loop {
            match self.stub.next()? {
                Event::Qemu(stop) => {
                    let stopped = stopped_cpu(&stop).ok_or_else(|| Trouble::qemu("no processor"))?;
                    let mut found = self.is_in_domain(stopped)?;
                    if interrupts > 0 {
                        for cpu in self.stub.cpus.clone() {
                            found = found || self.is_in_domain(cpu)?;
                        }
                        if found || interrupts > 1 {
                            self.stub.select(self.cpu)?;
                            break b"T02thread:01;".to_vec();
                        }
                        if wake_points.is_none() {
                            say(
                                "The domain waits for an event and is on no processor; it stops when it wakes up. Ctrl-C \
                                 again to stop the machine, wherever it is.\n",
                            )?;
                            wake_points = Some(self.add(self.target.returns.clone())?);
                        }
                    } else if found {
                        break stop_reply(&stop);
                    } else {
                        self.step_over(stopped)?;
                    }
                    self.stub.resume()?;
                }
                Event::Gdb(Item::Interrupt) => {
                    interrupts += 1;
                    self.stub.interrupt()?;
                }
                Event::Ended(end) => {
                    let reply = end_reply(&end);
                    self.ended = Some(end);
                    // The machine runs, and nobody is going to ask for more.
                    return Ok(reply);
                }
                Event::GdbGone => return Err(Trouble::Gone),
                Event::Failed(error) => return Err(Trouble::Bed(error)),
                Event::Gdb(Item::Packet(_)) | Event::QemuGone => {}
            }
        };
        self.remove(&wake_points.unwrap_or_default())?;
        Ok(reply)
    }

    /// One instruction of the domain. One that enters Xen counts as one.
    fn step(&mut self, say: &mut dyn FnMut(&str) -> Result<(), Trouble>) -> Result<Vec<u8>, Trouble> {
        if let Some(end) = &self.ended {
            return Ok(end_reply(end));
        }
        let before = self.stub.state(self.cpu)?.rip;
        let stop = self.stub.step(self.cpu)?;
        if self.is_in_domain(self.cpu)? {
            return Ok(stop_reply(&stop));
        }
        // Xen goes on behind the instruction, or with the instruction itself once more.
        let near = self.add((before..=before.saturating_add(MAX_INSTRUCTION)).collect())?;
        let reply = self.run(say)?;
        if self.ended.is_none() {
            self.remove(&near)?;
        }
        Ok(reply)
    }

    /// Sets breakpoints of our own, where there is none yet; those are returned.
    fn add(&mut self, mut addresses: Vec<u64>) -> Result<Vec<u64>, Trouble> {
        let there = |s: &String| s.split_once(',').and_then(|(_, at)| area(at)).map(|(at, _)| at);
        addresses.retain(|at| !self.set.iter().any(|s| there(s) == Some(*at)));
        for at in &addresses {
            self.stub.breakpoint(true, *at)?;
            self.set.push(format!("1,{at:x},1"));
        }
        Ok(addresses)
    }

    /// Removes breakpoints of our own.
    fn remove(&mut self, addresses: &[u64]) -> Result<(), Trouble> {
        for at in addresses {
            self.stub.breakpoint(false, *at)?;
            self.set.retain(|s| *s != format!("1,{at:x},1"));
        }
        Ok(())
    }

    /// Gets a processor that is not the domain's past a breakpoint.
    fn step_over(&mut self, cpu: Cpu) -> Result<(), Trouble> {
        let set = self.set.clone();
        for one in &set {
            self.stub.ok(&format!("z{one}"))?;
        }
        self.stub.step(cpu)?;
        for one in &set {
            self.stub.ok(&format!("Z{one}"))?;
        }
        Ok(())
    }

    /// Does this processor run the domain? Then it is the one whose registers are shown.
    fn is_in_domain(&mut self, cpu: Cpu) -> Result<bool, Trouble> {
        let state = self.stub.state(cpu)?;
        let (first, behind) = self.target.range;
        let segment = match self.target.mode {
            Mode::Pv => state.cs == PV_KERNEL_CS,
            Mode::Pvh => state.cs != PV_KERNEL_CS && state.cs != LINUX_USER_CS,
        };
        let inside = segment && (first..behind).contains(&state.rip);
        if inside {
            self.cpu = cpu;
            self.roots.domain = state.cr3;
        }
        Ok(inside)
    }
}

/// Root of the nested page tables of a PVH domain, which only Xen knows: in what it logs about its virtual machines.
fn nested_root(domain: &Domain) -> Result<u64, Error> {
    let output = domain.bed().shell("xl debug-keys v && xl dmesg", None)?;
    let log = String::from_utf8_lossy(&output.stdout);
    find_root(&log, domain.id()).ok_or_else(|| {
        Error::Job(format!("Xen logged no nested page tables of domain {} at `xl debug-keys v`", domain.id()))
    })
}

fn find_root(log: &str, domid: u16) -> Option<u64> {
    let (_, about) = log.rsplit_once(&format!(">>> Domain {domid} <<<"))?;
    let about = about.split(">>> Domain").next().unwrap_or(about);
    let (_, value) = about.split_once("H_CR3 = 0x")?;
    packet::number(value.split(|c: char| !c.is_ascii_hexdigit()).next()?.as_bytes())
}

/// `ADDRESS,LENGTH`.
fn area(text: &str) -> Option<(u64, u64)> {
    let (address, length) = text.split_once(',')?;
    Some((packet::number(address.as_bytes())?, packet::number(length.as_bytes())?))
}

/// The processor that a stop is about.
fn stopped_cpu(stop: &[u8]) -> Option<Cpu> {
    let text = std::str::from_utf8(stop).ok()?;
    let (_, id) = text.strip_prefix('T')?.split_once("thread:")?;
    packet::number(id.split(';').next()?.as_bytes())
}

/// A stop as gdb is told of it: of the only thread that it knows.
fn stop_reply(stop: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(stop);
    let watch = text.split(';').find(|part| part.contains("watch:")).map(|w| format!("{w};"));
    format!("T05thread:01;{}", watch.unwrap_or_default()).into_bytes()
}

/// How gdb is told of the end: exit status, or a signal (SIGABRT for a crash, SIGKILL from outside).
fn end_reply(end: &End) -> Vec<u8> {
    match (end.reason, end.status) {
        (Reason::PowerOff, status) => format!("W{:02x}", status.unwrap_or(0)),
        (Reason::Destroyed, _) => "X09".to_owned(),
        _ => "X06".to_owned(),
    }
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nested_root_is_that_of_the_domain() {
        let log = "(XEN) >>> Domain 1 <<<\n(XEN) H_CR3 = 0x0000000000001000 CleanBits = 0\n(XEN) >>> Domain 2 <<<\n\
                   (XEN) CR3 = 0x5\n(XEN) H_CR3 = 0x000000007af93000 CleanBits = 0\n(XEN) >>> Domain 12 <<<\n";
        assert_eq!(find_root(log, 2), Some(0x7af9_3000));
        assert_eq!(find_root(log, 1), Some(0x1000));
        assert_eq!(find_root(log, 12), None);
        assert_eq!(find_root(log, 3), None);
    }

    #[test]
    fn stops_and_ends() {
        assert_eq!(stopped_cpu(b"T05thread:02;"), Some(2));
        assert_eq!(stopped_cpu(b"W00"), None);
        assert_eq!(stop_reply(b"T05thread:02;"), b"T05thread:01;");
        assert_eq!(stop_reply(b"T05thread:02;watch:1040;"), b"T05thread:01;watch:1040;");
        let end = |reason, status| end_reply(&End { reason, status, xen_log: Vec::new() });
        assert_eq!(end(Reason::PowerOff, Some(42)), b"W2a");
        assert_eq!(end(Reason::Crash, None), b"X06");
        assert_eq!(area("10,ff"), Some((0x10, 0xff)));
        assert_eq!(area("10"), None);
    }
}
