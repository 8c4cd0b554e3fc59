//! Two hosted "domains" for tests. Not every test uses everything.
#![allow(dead_code, reason = "each test program uses a part")]

use std::time::Duration;

use idc::platform::hosted::Hosted;
use idc::platform::{Access, Platform};
use idc::record::{Kind, Record};
use idc::setup::{PAGE_SIZE, Setup, control, features};
use idc::shm::Memory;
use idc::{Channel, Config, Deadline, DomId, GrantRef, HostedConfig, Idc};

pub const A: DomId = DomId(11);
pub const B: DomId = DomId(22);

/// Longest message that the honest side of the hostile tests takes.
pub const MAX_MESSAGE: usize = 10_000;

/// That side's configuration.
pub fn honest() -> Config {
    Config::default().with_pages(1).with_max_message(MAX_MESSAGE)
}

/// The header of a record.
pub fn header(kind: Kind, len: usize) -> u64 {
    Record::new(kind, len).encode()
}

/// A directory and two domains in it.
pub struct World {
    pub a: Idc<Hosted>,
    pub b: Idc<Hosted>,
    /// The platforms below them, for a peer that does not keep to the protocol.
    pub raw_a: Hosted,
    pub raw_b: Hosted,
    pub directory: tempfile::TempDir,
}

pub fn world() -> World {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let open =
        |domid| Hosted::new(HostedConfig::new(domid).directory(directory.path())).expect("the id is free");
    let (raw_a, raw_b) = (open(A), open(B));
    World {
        a: Idc::with_platform(raw_a.clone()),
        b: Idc::with_platform(raw_b.clone()),
        raw_a,
        raw_b,
        directory,
    }
}

/// Far enough away for a loaded machine, near enough for a test that would hang.
pub fn soon<P: Platform>(idc: &Idc<P>) -> Deadline {
    idc.deadline(Duration::from_secs(60))
}

/// A duplex channel from A to B.
pub fn duplex(world: &World, a: &Config, b: &Config) -> (Channel<Hosted>, Channel<Hosted>) {
    let pending = world.a.offer(B, a).expect("an offer");
    let theirs = world.b.answer(A, pending.grant_ref(), b).expect("an answer");
    let ours = pending.complete_by(soon(&world.a)).expect("a channel");
    (ours, theirs)
}

/// Bytes that depend on the seed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

type Pages = <Hosted as Platform>::Memory;
type Port = <Hosted as Platform>::Event;

/// The pages of a ring as a writer that may be hostile has them: everything can be stored anywhere.
pub struct EvilWriter {
    /// Setup page, writer's control page, data, pool.
    pub own: Pages,
    /// Reader's control page. The writer allocated it, so it can write there too.
    pub reader: Pages,
    pub gref: GrantRef,
    pub setup: Setup,
    pub port: Port,
}

pub const CONTROL: usize = PAGE_SIZE;
pub const DATA: usize = 2 * PAGE_SIZE;

/// Makes a ring like an honest writer in A would make for B; `spoil` may change its setup page.
pub fn evil_writer(world: &World, pages: usize, spoil: impl FnOnce(&mut Setup)) -> EvilWriter {
    evil_pool_writer(world, pages, 0, spoil)
}

/// The same with pool pages.
pub fn evil_pool_writer(
    world: &World,
    pages: usize,
    pool: usize,
    spoil: impl FnOnce(&mut Setup),
) -> EvilWriter {
    let port = world.raw_a.alloc_unbound(B).expect("a port");
    let own = world.raw_a.grant(B, pages + 2 + pool, Access::ReadOnly).expect("pages");
    let reader = world.raw_a.grant(B, 1, Access::ReadWrite).expect("a page");
    let mut setup = Setup {
        features: 0,
        epoch: 0,
        nonce: 77,
        port: Some(idc::platform::Event::port(&port)),
        writer_ref: own.refs[1],
        reader_ref: reader.refs[0],
        slots: 0,
        data_refs: own.refs[2..2 + pages].to_vec(),
        pool_refs: own.refs[2 + pages..].to_vec(),
    };
    spoil(&mut setup);
    own.memory.write(0, &setup.encode());
    own.memory.store(CONTROL + control::STATE, 1, std::sync::atomic::Ordering::SeqCst);
    own.memory.store(CONTROL + control::ALIVE, 1, std::sync::atomic::Ordering::SeqCst);
    EvilWriter { own: own.memory, reader: reader.memory, gref: own.refs[0], setup, port }
}

impl EvilWriter {
    /// Stores a word and sends an event.
    pub fn store(&self, offset: usize, word: u64) {
        self.own.store(offset, word, std::sync::atomic::Ordering::SeqCst);
        idc::platform::Event::notify(&self.port).expect("an event");
    }
}

/// The pages of a ring as a reader that may be hostile has them.
pub struct EvilReader {
    pub writer: Pages,
    pub own: Pages,
    pub setup: Setup,
    pub port: Port,
}

/// Connects in B to a ring of A as an honest reader would, up to the point where it tells the writer.
pub fn evil_reader(world: &World, gref: GrantRef) -> EvilReader {
    let mut copy = Box::new([0; PAGE_SIZE]);
    let page = world.raw_b.map(A, &[gref], Access::ReadOnly).expect("the setup page");
    page.read(0, copy.as_mut_slice());
    let setup = Setup::decode(&copy).expect("an honest setup page");
    let port = world.raw_b.bind_interdomain(A, setup.port.expect("a port")).expect("binding");
    let mut refs = vec![setup.writer_ref];
    refs.extend(&setup.data_refs);
    let writer = world.raw_b.map(A, &refs, Access::ReadOnly).expect("the data");
    let own = world.raw_b.map(A, &[setup.reader_ref], Access::ReadWrite).expect("the control page");
    EvilReader { writer, own, setup, port }
}

impl EvilReader {
    /// Stores a word and sends an event.
    pub fn store(&self, offset: usize, word: u64) {
        self.own.store(offset, word, std::sync::atomic::Ordering::SeqCst);
        idc::platform::Event::notify(&self.port).expect("an event");
    }

    /// Tells the writer that it is there, as an honest reader does.
    pub fn open(&self, max_message: u64) {
        self.store(control::ALIVE, 1);
        self.store(control::MAX_MESSAGE, max_message);
        self.store(control::NONCE, self.setup.nonce);
        self.store(control::STATE, 1);
    }
}

/// Known features, for tests of unknown ones.
pub const KNOWN_FEATURES: u64 = features::KNOWN;
