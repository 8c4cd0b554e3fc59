//! A platform for IDC on which the peer does what the input of a fuzz target says.
//!
//! Each time the honest side loads a shared word that the peer may write, the next byte of the input says whether the
//! peer stores something there first, and what: any word, or one that an honest peer could store in its place. So it
//! rewrites every shared word at every moment. Events, the clock and the peer's death come out of the input too. When it
//! is used up, the peer is gone and every deadline passes, so that each run ends.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fmt,
    rc::Rc,
    sync::atomic::Ordering,
};

use idc::{
    DomId, EvtchnPort, GrantRef, ServiceName,
    platform::{Acceptor, Access, Call, Dial, Event, Granted, Offer, Platform, PortStatus},
    record::{Kind, Record},
    setup::PAGE_SIZE,
    shm::{Fields, Memory},
};

/// The domain that is hostile.
pub const PEER: DomId = DomId(7);

/// More loads than an honest side makes for an input; a run with more of them hangs.
const MOST_STEPS: u64 = 5_000_000;

/// The input, and what both sides share.
#[derive(Clone)]
pub struct World(Rc<Inner>);

struct Inner {
    input: RefCell<Vec<u8>>,
    /// How much of it is used up.
    at: Cell<usize>,
    time: Cell<u64>,
    steps: Cell<u64>,
    /// Grant references that were given out.
    grants: Cell<u32>,
    bytes: Cell<usize>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl World {
    /// A peer that does this.
    pub fn new(input: &[u8]) -> World {
        World(Rc::new(Inner {
            input: RefCell::new(input.to_vec()),
            at: Cell::new(0),
            time: Cell::new(1),
            steps: Cell::new(0),
            grants: Cell::new(8),
            bytes: Cell::new(0),
        }))
    }

    /// The next byte; `None` at the end.
    pub fn byte(&self) -> Option<u8> {
        let steps = self.0.steps.get() + 1;
        assert!(steps < MOST_STEPS, "the honest side goes on and on");
        self.0.steps.set(steps);
        let byte = self.0.input.borrow().get(self.0.at.get()).copied();
        self.0.at.set(self.0.at.get() + 1);
        byte
    }

    /// The next word; zero at the end.
    pub fn word(&self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte().unwrap_or(0)))
    }

    /// The next page, for a setup page.
    pub fn bytes(&self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte().unwrap_or(0)).collect()
    }

    /// Whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.0.at.get() >= self.0.input.borrow().len()
    }

    fn pass(&self, time: u64) {
        self.0.time.set(self.0.time.get() + time);
    }
}

/// Shared pages. Only words that were touched exist.
pub struct Pages {
    world: World,
    words: RefCell<BTreeMap<usize, u64>>,
    size: usize,
    /// Whether the peer can write here.
    theirs: bool,
}

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pages")
    }
}

impl Pages {
    fn new(world: &World, pages: usize, theirs: bool) -> Pages {
        Pages { world: world.clone(), words: RefCell::default(), size: pages * PAGE_SIZE, theirs }
    }

    fn check(&self, offset: usize, len: usize, align: usize) {
        assert!(offset.is_multiple_of(align) && offset + len <= self.size, "an access outside");
    }

    /// What the peer stores at the last moment.
    fn meddle(&self, offset: usize) {
        if !self.theirs {
            return;
        }
        let word = |old: u64| match self.world.byte() {
            None | Some(0..0x80) => None,
            Some(0x80) => Some(0),
            Some(0x81) => Some(u64::MAX),
            Some(0x82) => Some(self.world.word()),
            Some(0x83) => Some(old.wrapping_add(8)),
            Some(0x84) => Some(old.wrapping_sub(8)),
            Some(0x85) => Some(old ^ 1 << (self.world.byte().unwrap_or(0) % 64)),
            Some(0x86) => Some(old.wrapping_add(self.world.byte().unwrap_or(0).into())),
            // A header, which is what most loads look for.
            Some(0x90..0xd0) => {
                let (kind, len) = (self.world.byte().unwrap_or(0), self.world.byte().unwrap_or(0));
                let kinds = [Kind::Data, Kind::Data, Kind::Filler, Kind::First, Kind::Fragment, Kind::Abort];
                let kind = kinds[usize::from(kind & 0x3f) % kinds.len()];
                let len = usize::from(len) << (self.world.byte().unwrap_or(0) % 10);
                Some(Record { kind, len, pooled: kind == Kind::Data && len % 5 == 1 }.encode())
            }
            Some(other) => Some(u64::from(other & 0x1f)),
        };
        let mut words = self.words.borrow_mut();
        let old = words.get(&offset).copied().unwrap_or(0);
        if let Some(new) = word(old) {
            words.insert(offset, new);
        }
    }
}

impl Memory for Pages {
    fn size(&self) -> usize {
        self.size
    }

    fn load(&self, offset: usize, _: Ordering) -> u64 {
        self.check(offset, 8, 8);
        self.meddle(offset);
        self.words.borrow().get(&offset).copied().unwrap_or(0)
    }

    fn store(&self, offset: usize, word: u64, _: Ordering) {
        self.check(offset, 8, 8);
        self.words.borrow_mut().insert(offset, word);
    }

    /// Contents need not be rewritten: nobody looks at them but to copy them.
    fn read(&self, offset: usize, buf: &mut [u8]) {
        self.check(offset, buf.len().next_multiple_of(8), 8);
        let words = self.words.borrow();
        for (at, part) in buf.chunks_mut(8).enumerate() {
            let word = words.get(&(offset + at * 8)).copied().unwrap_or(0).to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len().next_multiple_of(8), 8);
        let mut words = self.words.borrow_mut();
        // The first words of a long message stand for all of them, so that it costs no more than a short one.
        let most = if bytes.len() == PAGE_SIZE { PAGE_SIZE } else { 16 };
        for (at, part) in bytes.chunks(8).take(most).enumerate() {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            match u64::from_le_bytes(word) {
                0 => words.remove(&(offset + at * 8)),
                word => words.insert(offset + at * 8, word),
            };
        }
    }
}

impl Fields for Pages {
    fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        self.check(offset, 4, 4);
        (self.load(offset & !7, order) >> (offset % 8 * 8)) as u32
    }

    fn store_u32(&self, offset: usize, value: u32, _: Ordering) {
        self.check(offset, 4, 4);
        let mut words = self.words.borrow_mut();
        let word = words.entry(offset & !7).or_default();
        let shift = offset % 8 * 8;
        *word = *word & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
    }

    fn load_u8(&self, offset: usize, order: Ordering) -> u8 {
        self.check(offset, 1, 1);
        (self.load(offset & !7, order) >> (offset % 8 * 8)) as u8
    }

    fn store_u8(&self, offset: usize, value: u8, _: Ordering) {
        self.check(offset, 1, 1);
        let mut words = self.words.borrow_mut();
        let word = words.entry(offset & !7).or_default();
        let shift = offset % 8 * 8;
        *word = *word & !(0xff << shift) | u64::from(value) << shift;
    }

    fn fetch_or_u8(&self, offset: usize, bits: u8) -> u8 {
        let old = self.load_u8(offset, Ordering::SeqCst);
        self.store_u8(offset, old | bits, Ordering::SeqCst);
        old
    }

    fn fetch_and_u8(&self, offset: usize, bits: u8) -> u8 {
        let old = self.load_u8(offset, Ordering::SeqCst);
        self.store_u8(offset, old & bits, Ordering::SeqCst);
        old
    }
}

/// A port.
#[derive(Debug)]
pub struct Port(World);

impl Event for Port {
    fn port(&self) -> EvtchnPort {
        EvtchnPort(9)
    }

    fn notify(&self) -> idc::Result<()> {
        Ok(())
    }

    fn wait(&self, deadline: u64) -> idc::Result<bool> {
        match self.0.byte() {
            Some(byte) if byte & 3 != 0 => {
                self.0.pass(u64::from(byte));
                Ok(byte & 1 != 0)
            }
            Some(_) | None => {
                self.0.pass(deadline.saturating_sub(self.0.0.time.get()).min(1 << 40));
                Ok(false)
            }
        }
    }

    fn status(&self) -> idc::Result<PortStatus> {
        Ok(match self.0.byte() {
            Some(0..0xf0) => PortStatus::Bound,
            Some(_) | None => PortStatus::Unbound,
        })
    }
}

/// There are no names here.
#[derive(Debug)]
pub struct NoNames;

impl Acceptor for NoNames {
    fn next(&mut self, _: u64) -> idc::Result<Option<Offer>> {
        Ok(None)
    }
}

impl Call for NoNames {
    fn remind(&mut self) -> idc::Result<()> {
        Ok(())
    }
}

impl Platform for World {
    type Memory = Pages;
    type Event = Port;
    type Acceptor = NoNames;
    type Call = NoNames;

    fn domid(&self) -> idc::Result<DomId> {
        Ok(DomId(1))
    }

    fn grant(&self, _: DomId, pages: usize, access: Access) -> idc::Result<Granted<Pages>> {
        let first = self.0.grants.get();
        self.0.grants.set(first + pages as u32);
        let refs = (first..).take(pages).map(GrantRef).collect();
        Ok(Granted { memory: Pages::new(self, pages, access == Access::ReadWrite), refs })
    }

    fn map(&self, peer: DomId, refs: &[GrantRef], _: Access) -> idc::Result<Pages> {
        let bytes = self.0.bytes.get() + refs.len() * PAGE_SIZE;
        assert!(refs.len() <= 514 && bytes < 4 << 20, "more pages are mapped than the limits allow");
        self.0.bytes.set(bytes);
        match self.byte() {
            Some(0xff) => Err(idc::Error::BadGrant { peer, gref: refs[0] }),
            _ => Ok(Pages::new(self, refs.len(), true)),
        }
    }

    fn announce_death(&self, _: &Pages, _: usize, _: &Port) -> idc::Result<()> {
        Ok(())
    }

    fn alloc_unbound(&self, _: DomId) -> idc::Result<Port> {
        Ok(Port(self.clone()))
    }

    fn bind_interdomain(&self, _: DomId, _: EvtchnPort) -> idc::Result<Port> {
        Ok(Port(self.clone()))
    }

    fn now(&self) -> u64 {
        self.pass(1 + if self.is_over() { 1 << 32 } else { 0 });
        self.0.time.get()
    }

    fn sleep_until(&self, deadline: u64) {
        self.pass(deadline.saturating_sub(self.0.time.get()).min(1 << 40));
    }

    fn relax(&self) {}

    fn nonce(&self) -> u64 {
        77
    }

    fn can_spin(&self) -> bool {
        self.byte().is_some_and(|byte| byte & 1 == 0)
    }

    fn serve(&self, _: ServiceName) -> idc::Result<NoNames> {
        Ok(NoNames)
    }

    fn call(&self, _: Dial, _: u64) -> idc::Result<NoNames> {
        Ok(NoNames)
    }
}

/// What an honest side may be told about its peer. Anything else would be a fault of its own.
pub fn is_the_peers(error: &idc::Error) -> bool {
    use idc::Error::*;
    matches!(
        error,
        PeerMisbehaved { .. }
            | Incompatible { .. }
            | PeerClosed { .. }
            | PeerDied { .. }
            | PeerNotConnected { .. }
            | AlreadyConnected { .. }
            | BadGrant { .. }
            | TimedOut
            | WouldBlock
            | MessageTooLarge { .. }
            | BufferTooSmall { .. }
            | Finished
    )
}

/// A world in which the first page that is mapped is this one.
#[derive(Clone, Debug)]
pub struct WithSetup {
    world: World,
    page: Rc<Vec<u8>>,
}

impl WithSetup {
    /// A world with that setup page.
    pub fn new(world: &World, page: [u8; PAGE_SIZE]) -> WithSetup {
        WithSetup { world: world.clone(), page: Rc::new(page.to_vec()) }
    }
}

impl Platform for WithSetup {
    type Memory = Pages;
    type Event = Port;
    type Acceptor = NoNames;
    type Call = NoNames;

    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> idc::Result<Pages> {
        let pages = self.world.map(peer, refs, access)?;
        if let [GrantRef(8)] = refs {
            for (at, word) in self.page.chunks_exact(8).enumerate() {
                let word = word.try_into().map(u64::from_le_bytes).unwrap_or(0);
                if word != 0 {
                    pages.store(at * 8, word, Ordering::Relaxed);
                }
            }
        }
        Ok(pages)
    }

    fn domid(&self) -> idc::Result<DomId> {
        self.world.domid()
    }

    fn grant(&self, peer: DomId, pages: usize, access: Access) -> idc::Result<Granted<Pages>> {
        self.world.grant(peer, pages, access)
    }

    fn announce_death(&self, memory: &Pages, offset: usize, event: &Port) -> idc::Result<()> {
        self.world.announce_death(memory, offset, event)
    }

    fn alloc_unbound(&self, peer: DomId) -> idc::Result<Port> {
        self.world.alloc_unbound(peer)
    }

    fn bind_interdomain(&self, peer: DomId, port: EvtchnPort) -> idc::Result<Port> {
        self.world.bind_interdomain(peer, port)
    }

    fn now(&self) -> u64 {
        self.world.now()
    }

    fn sleep_until(&self, deadline: u64) {
        self.world.sleep_until(deadline);
    }

    fn relax(&self) {}

    fn nonce(&self) -> u64 {
        self.world.nonce()
    }

    fn can_spin(&self) -> bool {
        self.world.can_spin()
    }

    fn serve(&self, service: ServiceName) -> idc::Result<NoNames> {
        self.world.serve(service)
    }

    fn call(&self, dial: Dial, deadline: u64) -> idc::Result<NoNames> {
        self.world.call(dial, deadline)
    }
}
