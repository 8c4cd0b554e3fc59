//! References: what the machine can do at best, without a protocol.
//!
//! `copy` goes through shared pages in blocks that are handed over by one word each; it spins and trusts. `eventfd`
//! wakes the other process and carries nothing.

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use anyhow::Context;
use idc::{
    DomId, EvtchnPort, GrantRef, HostedConfig,
    platform::{Access, Event, Platform, hosted::Hosted},
    setup::PAGE_SIZE,
    shm::Memory,
};

use super::{Transport, Waiting, halves};

const FIRST: DomId = DomId(1);
const SECOND: DomId = DomId(2);
/// Bytes in flight, unless two messages need more.
const WINDOW: usize = 256 << 10;

type Pages = <Hosted as Platform>::Memory;
type Port = <Hosted as Platform>::Event;

/// One direction: a page with the writer's count at 0 and the reader's at 64, and blocks.
struct Lane {
    pages: Pages,
    count: u64,
    seen: u64,
}

impl Lane {
    fn slots(&self, len: usize) -> (u64, usize) {
        let span = len.next_multiple_of(64).max(64);
        (((self.pages.size() - PAGE_SIZE) / span) as u64, span)
    }

    fn offset(&self, span: usize, slots: u64) -> usize {
        PAGE_SIZE + (self.count % slots) as usize * span
    }

    fn wait(&mut self, word: usize, done: impl Fn(u64) -> bool) {
        while !done(self.seen) {
            std::hint::spin_loop();
            self.seen = self.pages.load(word, Ordering::Acquire);
        }
    }

    fn send(&mut self, message: &[u8]) {
        let (slots, span) = self.slots(message.len());
        let count = self.count;
        self.wait(64, |taken| count - taken < slots);
        self.pages.write(self.offset(span, slots), message);
        self.count += 1;
        self.pages.store(0, self.count, Ordering::Release);
    }

    fn recv(&mut self, buf: &mut [u8]) {
        let (slots, span) = self.slots(buf.len());
        let count = self.count;
        self.wait(0, |sent| sent > count);
        self.pages.read(self.offset(span, slots), buf);
        self.count += 1;
        self.pages.store(64, self.count, Ordering::Release);
    }
}

/// Two lanes.
struct Lanes {
    out: Lane,
    back: Lane,
    _platform: Hosted,
}

impl Transport for Lanes {
    fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.out.send(message);
        Ok(())
    }

    fn recv(&mut self, buf: &mut [u8]) -> anyhow::Result<()> {
        self.back.recv(buf);
        Ok(())
    }
}

/// Pages of the first process.
pub struct Offer {
    lanes: Lanes,
    text: String,
}

fn platform(domid: DomId, directory: &Path) -> anyhow::Result<Hosted> {
    Ok(Hosted::new(HostedConfig::new(domid).directory(directory))?)
}

impl Offer {
    /// Makes both lanes.
    pub fn new(directory: &Path, longest: usize) -> anyhow::Result<Offer> {
        let directory = directory.join("copy");
        let platform = platform(FIRST, &directory)?;
        let pages = 1 + WINDOW.max(2 * longest.next_multiple_of(64)).div_ceil(PAGE_SIZE);
        let lane = || -> anyhow::Result<_> {
            let granted = platform.grant(SECOND, pages, Access::ReadWrite)?;
            let first = granted.refs.first().context("a page")?.0;
            Ok((Lane { pages: granted.memory, count: 0, seen: 0 }, first))
        };
        let ((out, there), (back, here)) = (lane()?, lane()?);
        let text = format!("{}|{pages},{there},{here}", directory.display());
        Ok(Offer { lanes: Lanes { out, back, _platform: platform }, text })
    }
}

impl Waiting for Offer {
    fn address(&self) -> String {
        self.text.clone()
    }

    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>> {
        Ok(Box::new(self.lanes))
    }
}

/// The other ends of the lanes.
pub fn join(address: &str) -> anyhow::Result<impl Transport + use<>> {
    let (directory, numbers) = halves(address)?;
    let numbers: Vec<u32> = numbers.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let [pages, there, here] = numbers[..] else { anyhow::bail!("three numbers") };
    let platform = platform(SECOND, Path::new(directory))?;
    let lane = |first: u32| -> anyhow::Result<_> {
        let refs: Vec<_> = (first..first + pages).map(GrantRef).collect();
        Ok(Lane { pages: platform.map(FIRST, &refs, Access::ReadWrite)?, count: 0, seen: 0 })
    };
    Ok(Lanes { out: lane(here)?, back: lane(there)?, _platform: platform.clone() })
}

/// A port that waits for the second process.
pub struct EventOffer {
    port: Port,
    text: String,
    platform: Hosted,
}

impl EventOffer {
    /// Makes it.
    pub fn new(directory: &Path) -> anyhow::Result<EventOffer> {
        let directory = directory.join("eventfd");
        let platform = platform(FIRST, &directory)?;
        let port = platform.alloc_unbound(SECOND)?;
        let text = format!("{}|{}", directory.display(), port.port().0);
        Ok(EventOffer { port, text, platform })
    }
}

impl Waiting for EventOffer {
    fn address(&self) -> String {
        self.text.clone()
    }

    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>> {
        Ok(Box::new(Events { port: self.port, platform: self.platform }))
    }
}

/// The other end of the port.
pub fn join_event(address: &str) -> anyhow::Result<impl Transport + use<>> {
    let (directory, port) = halves(address)?;
    let platform = platform(SECOND, Path::new(directory))?;
    let port = platform.bind_interdomain(FIRST, EvtchnPort(port.parse()?))?;
    Ok(Events { port, platform })
}

struct Events {
    port: Port,
    platform: Hosted,
}

impl Transport for Events {
    fn send(&mut self, _: &[u8]) -> anyhow::Result<()> {
        Ok(self.port.notify()?)
    }

    fn recv(&mut self, _: &mut [u8]) -> anyhow::Result<()> {
        let limit = Duration::from_secs(20).as_nanos() as u64;
        let deadline = self.platform.now() + limit;
        while !self.port.wait(deadline)? {
            anyhow::ensure!(self.platform.now() < deadline, "the other process is gone");
        }
        Ok(())
    }
}
