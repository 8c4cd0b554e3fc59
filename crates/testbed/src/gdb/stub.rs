//! QEMU's stub, as far as it is needed: registers, memory by machine address, breakpoints, running and stepping.

use std::{
    collections::VecDeque,
    io::BufReader,
    os::unix::net::UnixStream,
    sync::mpsc::{Receiver, Sender},
    thread,
};

use super::{
    Event, Trouble,
    packet::{self, Item},
    walk::Roots,
};

/// Numbers of registers in QEMU's description of the processor (`i386-64bit.xml`).
const RIP: u8 = 0x10;
const CS: u8 = 0x12;
const CR0: u8 = 0x1b;
const CR3: u8 = 0x1d;

/// Paging is on.
const CR0_PG: u64 = 1 << 31;

/// Most bytes of memory in one request: as digits they fit into QEMU's packets of 4 KiB.
const PIECE: u64 = 1024;

const PAGE: u64 = 4096;

/// A processor, as QEMU numbers it in the protocol.
pub type Cpu = u64;

/// What a processor does.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub rip: u64,
    pub cs: u64,
    pub cr3: Option<u64>,
}

/// The connection. The machine goes on when this is dropped.
pub struct Stub {
    out: UnixStream,
    events: Receiver<Event>,
    /// Events that came while an answer was waited for.
    later: VecDeque<Event>,
    /// The machine runs. Then QEMU takes any byte for a wish to stop, and forgets it.
    running: bool,
    /// Processors of the machine.
    pub cpus: Vec<Cpu>,
}

impl Stub {
    /// Connects; the machine stops.
    ///
    /// # Errors
    /// When QEMU does not answer as it should.
    pub fn new(stream: UnixStream, to: Sender<Event>, events: Receiver<Event>) -> Result<Self, Trouble> {
        let mut input = BufReader::new(stream.try_clone()?);
        thread::spawn(move || {
            while let Ok(Some(item)) = packet::read(&mut input) {
                if let Item::Packet(body) = item
                    && to.send(Event::Qemu(body)).is_err()
                {
                    return;
                }
            }
            let _ = to.send(Event::QemuGone);
        });
        let mut this = Self { out: stream, events, later: VecDeque::new(), running: false, cpus: Vec::new() };
        // QEMU may report first that the machine has stopped.
        let mut answer = this.request("qSupported:xmlRegisters=i386")?;
        while !answer.starts_with(b"PacketSize=") {
            answer = match this.next()? {
                Event::Qemu(answer) => answer,
                _ => continue,
            };
        }
        // QEMU answers for single registers only to those who have read the description.
        this.request("qXfer:features:read:target.xml:0,400")?;
        // The list comes in parts, and ends with `l`.
        let mut list = this.request("qfThreadInfo")?;
        while let Some(ids) = list.strip_prefix(b"m") {
            this.cpus.extend(ids.split(|b| *b == b',').filter_map(packet::number));
            list = this.request("qsThreadInfo")?;
        }
        if this.cpus.is_empty() {
            return Err(Trouble::qemu(&format!("{} and no processors", String::from_utf8_lossy(&list))));
        }
        this.ok("Qqemu.PhyMemMode:1")?;
        Ok(this)
    }

    /// The next event.
    pub fn next(&mut self) -> Result<Event, Trouble> {
        let event = match self.later.pop_front() {
            Some(event) => event,
            None => self.receive()?,
        };
        if matches!(event, Event::QemuGone) { Err(Trouble::qemu("it ended")) } else { Ok(event) }
    }

    fn receive(&mut self) -> Result<Event, Trouble> {
        let event = self.events.recv().map_err(|_| Trouble::qemu("it ended"))?;
        if matches!(event, Event::Qemu(_)) {
            self.running = false;
            std::io::Write::write_all(&mut self.out, b"+")?;
        }
        Ok(event)
    }

    /// Sends a request and waits for the answer.
    pub fn request(&mut self, body: &str) -> Result<Vec<u8>, Trouble> {
        packet::write(&mut self.out, body.as_bytes())?;
        loop {
            match self.receive()? {
                Event::Qemu(answer) => return Ok(answer),
                Event::QemuGone => return Err(Trouble::qemu("it ended")),
                other => self.later.push_back(other),
            }
        }
    }

    /// Sends a request that has to succeed.
    pub fn ok(&mut self, body: &str) -> Result<(), Trouble> {
        match self.request(body)?.as_slice() {
            b"OK" => Ok(()),
            other => Err(Trouble::qemu(&format!("{} to {body}", String::from_utf8_lossy(other)))),
        }
    }

    /// Sets or removes a breakpoint. QEMU compares addresses of instructions and changes no memory.
    pub fn breakpoint(&mut self, set: bool, address: u64) -> Result<(), Trouble> {
        self.ok(&format!("{}1,{address:x},1", if set { 'Z' } else { 'z' }))
    }

    /// Lets the machine run; a stop comes as an event.
    pub fn resume(&mut self) -> Result<(), Trouble> {
        self.running = true;
        Ok(packet::write(&mut self.out, b"vCont;c")?)
    }

    /// Asks the running machine to stop; that comes as an event.
    pub fn interrupt(&mut self) -> Result<(), Trouble> {
        Ok(std::io::Write::write_all(&mut self.out, &[3])?)
    }

    /// One instruction of one processor, while the others stand still.
    pub fn step(&mut self, cpu: Cpu) -> Result<Vec<u8>, Trouble> {
        self.request(&format!("vCont;s:{cpu:x}"))
    }

    /// Requests about registers mean this processor from now on.
    pub fn select(&mut self, cpu: Cpu) -> Result<(), Trouble> {
        self.ok(&format!("Hg{cpu:x}"))
    }

    /// What a processor does; selects it.
    pub fn state(&mut self, cpu: Cpu) -> Result<State, Trouble> {
        self.select(cpu)?;
        let (rip, cs) = (self.register(RIP)?, self.register(CS)?);
        let paging = self.register(CR0)? & CR0_PG != 0;
        let cr3 = self.register(CR3)?;
        Ok(State { rip, cs, cr3: paging.then_some(cr3) })
    }

    fn register(&mut self, number: u8) -> Result<u64, Trouble> {
        let answer = self.request(&format!("p{number:x}"))?;
        let bytes = packet::bytes(&answer).filter(|b| (1..=8).contains(&b.len()));
        let bytes = bytes.ok_or_else(|| Trouble::qemu("no registers"))?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn release(&mut self) -> Result<(), Trouble> {
        if self.running {
            self.interrupt()?;
            while self.running {
                if matches!(self.receive()?, Event::QemuGone) {
                    return Ok(());
                }
            }
        }
        self.request("D").map(drop)
    }

    /// Reads the domain's memory; as much as is mapped from `address` on.
    pub fn read(&mut self, roots: Roots, address: u64, length: u64) -> Result<Vec<u8>, Trouble> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            let at = address.wrapping_add(bytes.len() as u64);
            let piece = (length - bytes.len() as u64).min(PIECE).min(PAGE - at % PAGE);
            let Some(machine) = self.machine(roots, at)? else { break };
            bytes.extend(self.read_machine(machine, piece)?);
        }
        Ok(bytes)
    }

    /// Writes the domain's memory; `false` when some of it is not mapped.
    pub fn write(&mut self, roots: Roots, address: u64, bytes: &[u8]) -> Result<bool, Trouble> {
        let (mut at, mut left) = (address, bytes);
        while !left.is_empty() {
            let room = usize::try_from((PAGE - at % PAGE).min(PIECE)).unwrap_or(1);
            let (piece, rest) = left.split_at(left.len().min(room));
            let Some(machine) = self.machine(roots, at)? else { return Ok(false) };
            self.ok(&format!("M{machine:x},{:x}:{}", piece.len(), packet::hex(piece)))?;
            (at, left) = (at.wrapping_add(piece.len() as u64), rest);
        }
        Ok(true)
    }

    fn machine(&mut self, roots: Roots, address: u64) -> Result<Option<u64>, Trouble> {
        roots.machine(address, &mut |at| {
            let word = self.read_machine(at, 8)?;
            Ok(word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        })
    }

    fn read_machine(&mut self, address: u64, length: u64) -> Result<Vec<u8>, Trouble> {
        let answer = self.request(&format!("m{address:x},{length:x}"))?;
        let bytes = packet::bytes(&answer).filter(|b| b.len() as u64 == length);
        bytes.ok_or_else(|| Trouble::qemu("no memory"))
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // Removes all breakpoints and lets the machine run; QEMU would not when the connection just ends. When
        // QEMU is gone there is nothing to let run.
        let _ = self.release();
        let _ = self.out.shutdown(std::net::Shutdown::Both);
    }
}
