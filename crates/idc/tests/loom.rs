//! All interleavings of two ends that go to sleep and wake each other, on the real channel code.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p casemate-idc --release --test loom`
//!
//! Nothing is left out; that takes less than half a minute. `LOOM_MAX_PREEMPTIONS=3` is a quick look.
//!
//! The platform of these tests has pages whose control words and first data words are loom's atomics, and events
//! without a timeout: a lost wake-up is a deadlock, which loom reports. Two tests take the fence away from one side
//! and must fail that way; so the others would find such a fault.
#![cfg(loom)]

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

use idc::platform::{Acceptor, Access, Call, Dial, Event, Granted, Offer, Platform, PortStatus};
use idc::setup::PAGE_SIZE;
use idc::shm::Memory;
use idc::{Config, DomId, EvtchnPort, GrantRef, Idc, Reader, ServiceName, Spin, Writer};
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::sync::{Condvar, Mutex as LoomMutex};
use loom::thread;

const WRITER: DomId = DomId(1);
const READER: DomId = DomId(2);

/// A page. Only the first words are modelled: all control words that are written while both sides run, and the
/// first records. The others are written while one side runs, or hold payload that nobody looks at.
struct Page {
    modelled: Vec<AtomicU64>,
    plain: Mutex<Vec<u64>>,
}

/// Words modelled in each page: up to the count of consumed pool pages.
const MODELLED: usize = 10;

impl Page {
    fn new() -> Page {
        Page {
            modelled: (0..MODELLED).map(|_| AtomicU64::new(0)).collect(),
            plain: Mutex::new(vec![0; PAGE_SIZE / 8]),
        }
    }
}

struct Pages {
    pages: Vec<Arc<Page>>,
    fences: bool,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages")
    }
}

impl Memory for Pages {
    fn size(&self) -> usize {
        self.pages.len() * PAGE_SIZE
    }

    fn load(&self, offset: usize, order: Ordering) -> u64 {
        let page = &self.pages[offset / PAGE_SIZE];
        let word = offset % PAGE_SIZE / 8;
        match page.modelled.get(word) {
            Some(atomic) => atomic.load(order),
            None => page.plain.lock().unwrap()[word],
        }
    }

    fn store(&self, offset: usize, value: u64, order: Ordering) {
        let page = &self.pages[offset / PAGE_SIZE];
        let word = offset % PAGE_SIZE / 8;
        match page.modelled.get(word) {
            Some(atomic) => atomic.store(value, order),
            None => page.plain.lock().unwrap()[word] = value,
        }
    }

    fn fence(&self) {
        if self.fences {
            fence(Ordering::SeqCst);
        }
    }
}

#[derive(Default)]
struct Side {
    pending: LoomMutex<bool>,
    arrived: Condvar,
}

struct Port {
    ours: Arc<Side>,
    theirs: Arc<Side>,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Port")
    }
}

impl Event for Port {
    fn port(&self) -> EvtchnPort {
        EvtchnPort(1)
    }

    fn notify(&self) -> idc::Result<()> {
        *self.theirs.pending.lock().unwrap() = true;
        self.theirs.arrived.notify_one();
        Ok(())
    }

    /// There is no deadline: what is not woken sleeps for ever.
    fn wait(&self, _: u64) -> idc::Result<bool> {
        let mut pending = self.ours.pending.lock().unwrap();
        while !*pending {
            pending = self.ours.arrived.wait(pending).unwrap();
        }
        *pending = false;
        Ok(true)
    }

    fn status(&self) -> idc::Result<PortStatus> {
        Ok(PortStatus::Bound)
    }
}

/// What both sides share: grants in the order in which they were made, and one event channel.
#[derive(Default)]
struct World {
    pages: Vec<Arc<Page>>,
    sides: Option<[Arc<Side>; 2]>,
}

#[derive(Clone)]
struct Model {
    world: Arc<Mutex<World>>,
    fences: bool,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Model")
    }
}

#[derive(Debug)]
struct NoNames;

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

const FIRST: usize = 8;

impl Platform for Model {
    type Memory = Pages;
    type Event = Port;
    type Acceptor = NoNames;
    type Call = NoNames;

    fn domid(&self) -> idc::Result<DomId> {
        Ok(WRITER)
    }

    fn grant(&self, _: DomId, count: usize, _: Access) -> idc::Result<Granted<Pages>> {
        let mut world = self.world.lock().unwrap();
        let start = world.pages.len();
        world.pages.extend((0..count).map(|_| Arc::new(Page::new())));
        let refs = (start..start + count).map(|index| GrantRef((FIRST + index) as u32)).collect();
        let memory = Pages { pages: world.pages[start..].to_vec(), fences: self.fences };
        Ok(Granted { memory, refs })
    }

    fn map(&self, _: DomId, refs: &[GrantRef], _: Access) -> idc::Result<Pages> {
        let world = self.world.lock().unwrap();
        let pages = refs.iter().map(|gref| world.pages[gref.0 as usize - FIRST].clone()).collect();
        Ok(Pages { pages, fences: self.fences })
    }

    fn announce_death(&self, _: &Pages, _: usize, _: &Port) -> idc::Result<()> {
        Ok(())
    }

    fn alloc_unbound(&self, _: DomId) -> idc::Result<Port> {
        let sides = [Arc::new(Side::default()), Arc::new(Side::default())];
        let [ours, theirs] = sides.clone();
        self.world.lock().unwrap().sides = Some(sides);
        Ok(Port { ours, theirs })
    }

    fn bind_interdomain(&self, _: DomId, _: EvtchnPort) -> idc::Result<Port> {
        let [theirs, ours] = self.world.lock().unwrap().sides.clone().expect("an unbound port");
        Ok(Port { ours, theirs })
    }

    /// Time stands still, so nobody looks whether the other side still lives.
    fn now(&self) -> u64 {
        0
    }

    fn sleep_until(&self, _: u64) {
        thread::yield_now();
    }

    fn relax(&self) {
        thread::yield_now();
    }

    fn nonce(&self) -> u64 {
        5
    }

    fn can_spin(&self) -> bool {
        false
    }

    fn serve(&self, _: ServiceName) -> idc::Result<NoNames> {
        Ok(NoNames)
    }

    fn call(&self, _: Dial, _: u64) -> idc::Result<NoNames> {
        Ok(NoNames)
    }
}

/// An end of a channel that is not closed properly when a test fails: that would use loom after its end.
struct Kept<T>(Option<T>);

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

impl<T> DerefMut for Kept<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap()
    }
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::mem::forget(self.0.take());
        }
    }
}

/// Two connected ends; `[writer, reader]` says which side has its fences.
fn ends(fences: [bool; 2]) -> (Kept<Writer<Model>>, Kept<Reader<Model>>) {
    ends_with_pool(fences, 0)
}

fn ends_with_pool(fences: [bool; 2], pool: usize) -> (Kept<Writer<Model>>, Kept<Reader<Model>>) {
    let world = Arc::new(Mutex::new(World::default()));
    let [a, b] = fences.map(|fences| Idc::with_platform(Model { world: world.clone(), fences }));
    let config = Config::default().with_pages(1).with_pool(pool).with_spin(Spin::Never);
    let (writer, gref) = a.create(READER, &config).unwrap();
    let reader = b.connect_with(WRITER, gref, &config).unwrap();
    (Kept(Some(writer)), Kept(Some(reader)))
}

fn explore(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.check(body);
}

/// One end sends, the other one sleeps and is woken for each message and for the end.
fn a_reader_that_sleeps(fences: [bool; 2], messages: usize) {
    explore(move || {
        let (mut writer, mut reader) = ends(fences);
        let sender = thread::spawn(move || {
            for _ in 0..messages {
                writer.send(&[]).unwrap();
            }
            // Without an end mark, which would wake the reader in any case.
            writer
        });
        for _ in 0..messages {
            assert_eq!(reader.recv().unwrap(), Some(vec![]));
        }
        drop(reader);
        drop(sender.join().unwrap());
    });
}

/// The ring is full; one end waits for room, the other one makes some.
fn a_writer_that_sleeps(fences: [bool; 2]) {
    explore(move || {
        let (mut writer, mut reader) = ends(fences);
        let mut sent = 0;
        while writer.try_send(&[0; 1016]).is_ok() {
            sent += 1;
        }
        assert_eq!(sent, 3);
        let sender = thread::spawn(move || {
            writer.send(&[0; 1016]).unwrap();
            writer
        });
        for _ in 0..sent {
            assert!(reader.recv().unwrap().is_some());
        }
        // It publishes what it has consumed before it sleeps, and is woken by the last message.
        assert!(reader.recv().unwrap().is_some());
        drop(reader);
        drop(sender.join().unwrap());
    });
}

/// The pool is full; there is room in the ring.
fn a_writer_that_sleeps_for_the_pool(fences: [bool; 2]) {
    explore(move || {
        let (mut writer, mut reader) = ends_with_pool(fences, 1);
        writer.send(&[0; 2000]).unwrap();
        assert!(writer.try_send(&[0; 2000]).is_err());
        let sender = thread::spawn(move || {
            writer.send(&[0; 2000]).unwrap();
            writer
        });
        assert!(reader.recv().unwrap().is_some());
        assert!(reader.recv().unwrap().is_some());
        drop(reader);
        drop(sender.join().unwrap());
    });
}

/// A message in two pieces: the reader takes the first one after it has armed, and must not sleep on that.
#[test]
fn no_wake_up_between_two_pieces_is_lost() {
    explore(|| {
        let (mut writer, mut reader) = ends([true, true]);
        assert_eq!(writer.is_connected(), Ok(true));
        let sender = thread::spawn(move || {
            writer.send(&[0; 1500]).unwrap();
            writer
        });
        assert!(reader.recv().unwrap().is_some());
        drop(reader);
        drop(sender.join().unwrap());
    });
}

#[test]
fn no_wake_up_for_the_pool_is_lost() {
    a_writer_that_sleeps_for_the_pool([true, true]);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_readers_fence_room_in_the_pool_is_not_noticed() {
    a_writer_that_sleeps_for_the_pool([true, false]);
}

#[test]
fn no_wake_up_of_a_reader_is_lost() {
    a_reader_that_sleeps([true, true], 1);
    a_reader_that_sleeps([true, true], 2);
}

#[test]
fn no_wake_up_of_a_writer_is_lost() {
    a_writer_that_sleeps([true, true]);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_writers_fence_a_wake_up_is_lost() {
    a_reader_that_sleeps([false, true], 1);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_readers_fence_a_wake_up_is_lost() {
    a_reader_that_sleeps([true, false], 1);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_writers_fence_room_is_not_noticed() {
    a_writer_that_sleeps([false, true]);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_readers_fence_room_is_not_noticed() {
    a_writer_that_sleeps([true, false]);
}

#[test]
fn the_end_of_the_stream_comes_last() {
    explore(|| {
        let (mut writer, mut reader) = ends([true, true]);
        let sender = thread::spawn(move || {
            writer.send(&[]).unwrap();
            writer.finish().unwrap();
            writer
        });
        assert_eq!(reader.recv().unwrap(), Some(vec![]));
        assert_eq!(reader.recv().unwrap(), None);
        drop(reader);
        drop(sender.join().unwrap());
    });
}

#[test]
fn a_reader_that_goes_away_ends_a_wait_for_room() {
    explore(|| {
        let (mut writer, reader) = ends([true, true]);
        while writer.try_send(&[0; 1016]).is_ok() {}
        let sender = thread::spawn(move || {
            let error = writer.send(&[0; 1016]).unwrap_err();
            assert!(matches!(error, idc::Error::PeerClosed { .. }), "{error}");
        });
        drop(reader);
        sender.join().unwrap();
    });
}

#[test]
fn connecting_ends_a_wait_for_the_reader() {
    explore(|| {
        let world = Arc::new(Mutex::new(World::default()));
        let idc = Idc::with_platform(Model { world, fences: true });
        let config = Config { spin: Spin::Never, ..Config::default().with_pages(1) };
        let (writer, gref) = idc.create(READER, &config).unwrap();
        let mut writer = Kept(Some(writer));
        let reader = thread::spawn(move || Kept(Some(idc.connect_with(WRITER, gref, &config).unwrap())));
        writer.wait_connected_by(idc::Deadline::NEVER).unwrap();
        drop(reader.join().unwrap());
    });
}
