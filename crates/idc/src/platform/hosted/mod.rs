//! Two plain Linux processes (or threads) in the place of two domains, for debugging and for tests.
//!
//! A hosted "domain" has an id that its program chooses and a directory that it shares with its peers. A thread
//! plays Xen for the peers: through the socket `<directory>/<domid>.sock` it hands out the memory files behind
//! grants, the event descriptors behind ports, and takes calls to services. Everything above [`Platform`] is the
//! same code as between domains.
//!
//! Grants keep their meaning: a peer gets a file that is open for reading only where it may only read, and the
//! files are sealed against shrinking, so that no peer can make an access fault. Identities do not: a process
//! says itself which domain it is. The directory is open to one user only, and inside one user's processes this
//! is no security boundary.
//!
//! A process that dies hangs up on its peers, and each of them notices at once.

use core::time::Duration;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::string::String;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::vec::Vec;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, inotify};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};

use self::server::{File, Port, Queue, Registry, hung_up};
use self::wire::{Request, recv_reply, send_request};
use crate::error::{Error, Result};
use crate::name::ServiceName;
use crate::platform::mapping::{self, Mapping, Run};
use crate::platform::{Acceptor, Access, Call, Dial, Event, Granted, Offer, Platform, PortStatus};
use crate::setup::PAGE_SIZE;
use crate::shm::Pages;
use crate::{DomId, EvtchnPort, GrantRef};

mod server;
mod wire;

/// Ids from here on are tried for a process that does not choose one.
const FIRST_FREE: u16 = 1000;

/// Identity of a hosted "domain".
#[derive(Clone, Debug, Default)]
pub struct HostedConfig {
    domid: Option<DomId>,
    directory: Option<PathBuf>,
}

impl HostedConfig {
    /// A process with this id; a service needs one, so that clients find it.
    pub fn new(domid: DomId) -> HostedConfig {
        HostedConfig { domid: Some(domid), directory: None }
    }

    /// A process with some free id from 1,000 on.
    pub fn any() -> HostedConfig {
        HostedConfig::default()
    }

    /// The directory where its peers are. Without this it is `casemate-idc` below `$XDG_RUNTIME_DIR`, or a
    /// directory of the user's below the one for temporary files.
    #[must_use]
    pub fn directory(self, directory: impl Into<PathBuf>) -> HostedConfig {
        HostedConfig { directory: Some(directory.into()), ..self }
    }
}

fn default_directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if !directory.is_empty() => Path::new(&directory).join("casemate-idc"),
        _ => {
            let user = rustix::process::getuid().as_raw();
            std::env::temp_dir().join(std::format!("casemate-idc-{user}"))
        }
    }
}

fn system(call: &'static str, hint: &'static str) -> impl FnOnce(Errno) -> Error {
    move |error| match error {
        Errno::NOMEM => Error::OutOfMemory("shared pages"),
        Errno::MFILE | Errno::NFILE => Error::System {
            call,
            errno: error.raw_os_error(),
            hint: "too many files are open; raise the limit with `ulimit -n`",
        },
        error => Error::System { call, errno: error.raw_os_error(), hint },
    }
}

const DIRECTORY_HINT: &str = "the directory for hosted channels must exist and belong to this user";

/// The hosted platform.
#[derive(Clone, Debug)]
pub struct Hosted(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    domid: DomId,
    directory: PathBuf,
    registry: Arc<Registry>,
    stop: Arc<OwnedFd>,
    thread: Option<thread::JoinHandle<()>>,
    /// Held while this process has the id.
    _lock: OwnedFd,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = fs::remove_file(socket_path(&self.directory, self.domid));
        // The descriptor takes one event, so neither this nor the thread's end can fail.
        let _ = rustix::io::write(&*self.stop, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn socket_path(directory: &Path, domid: DomId) -> PathBuf {
    directory.join(std::format!("{domid}.sock"))
}

fn address(path: &Path) -> Result<SocketAddrUnix> {
    SocketAddrUnix::new(path)
        .map_err(system("naming a Unix socket", "the directory's path is too long; use a shorter one"))
}

fn unix_socket() -> Result<OwnedFd> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(system("socket", "Unix sockets are needed"))
}

/// Takes an id; it is free again when the descriptor is closed, however the process ends.
fn lock_domid(directory: &Path, domid: DomId) -> Result<Option<OwnedFd>> {
    let path = directory.join(std::format!("{domid}.lock"));
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(system("making a lock file", DIRECTORY_HINT))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(system("flock", DIRECTORY_HINT)(error)),
    }
}

impl Hosted {
    /// Takes the id and starts to serve peers.
    ///
    /// # Errors
    /// [`Error::BadConfig`] when another process has the id, or the system's.
    pub fn new(config: HostedConfig) -> Result<Hosted> {
        let directory = config.directory.unwrap_or_else(default_directory);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|error| {
            Error::System {
                call: "making the directory for hosted channels",
                errno: error.raw_os_error().unwrap_or(0),
                hint: DIRECTORY_HINT,
            }
        })?;
        // Somebody else's directory would let him play every domain.
        let owner = rustix::fs::stat(&directory).map_err(system("stat", DIRECTORY_HINT))?.st_uid;
        if owner != rustix::process::getuid().as_raw() {
            return Err(Error::BadConfig("the directory for hosted channels belongs to another user"));
        }
        let mut candidates = match config.domid {
            Some(domid) => domid.0..=domid.0,
            None => FIRST_FREE..=xen_abi::DOMID_FIRST_RESERVED.0 - 1,
        };
        let (domid, lock) = loop {
            let taken = Error::BadConfig("another process has this hosted domain id; choose another one");
            let domid = DomId(candidates.next().ok_or(taken)?);
            if let Some(lock) = lock_domid(&directory, domid)? {
                break (domid, lock);
            }
        };
        let listener = listen(&directory, domid)?;
        let stop = Arc::new(new_eventfd()?);
        let registry = Arc::new(Registry::new());
        let thread = {
            let (registry, stop) = (Arc::clone(&registry), Arc::clone(&stop));
            let builder = thread::Builder::new().name(String::from("idc-hosted"));
            builder.spawn(move || server::run(&registry, &listener, &stop)).map_err(|error| {
                Error::System {
                    call: "starting a thread",
                    errno: error.raw_os_error().unwrap_or(0),
                    hint: "too many processes are running",
                }
            })?
        };
        Ok(Hosted(Arc::new(Inner { domid, directory, registry, stop, thread: Some(thread), _lock: lock })))
    }

    /// Connects to a peer and asks it for something.
    fn ask(&self, peer: DomId, request: &Request) -> Result<OwnedFd, Errno> {
        let socket = unix_socket().map_err(|_| Errno::MFILE)?;
        let address = address(&socket_path(&self.0.directory, peer)).map_err(|_| Errno::NAMETOOLONG)?;
        rustix::net::connect(&socket, &address)?;
        send_request(&socket, self.0.domid, request)?;
        Ok(socket)
    }
}

/// The socket appears under its name when it takes connections, not before.
fn listen(directory: &Path, domid: DomId) -> Result<OwnedFd> {
    let path = socket_path(directory, domid);
    let draft = directory.join(std::format!("{domid}.new"));
    let _ = fs::remove_file(&draft);
    let socket = unix_socket()?;
    rustix::net::bind(&socket, &address(&draft)?).map_err(system("bind", DIRECTORY_HINT))?;
    rustix::net::listen(&socket, 128).map_err(system("listen", DIRECTORY_HINT))?;
    rustix::fs::rename(&draft, &path).map_err(system("rename", DIRECTORY_HINT))?;
    Ok(socket)
}

fn new_eventfd() -> Result<OwnedFd> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(system("eventfd", "eventfd is needed"))
}

fn memory_file(len: u64) -> Result<File, Errno> {
    let file = rustix::fs::memfd_create(c"idc", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, len)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let path = std::format!("/proc/self/fd/{}", file.as_raw_fd());
    let read_only = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(File { read_only, read_write: file })
}

/// Whether the file can be mapped up to this page without a fault, now and later.
fn is_safe(file: &OwnedFd, pages: usize) -> bool {
    let sealed = rustix::fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
    let size = rustix::fs::fstat(file).map_or(0, |stat| u64::try_from(stat.st_size).unwrap_or(0));
    sealed && size / PAGE_SIZE as u64 >= pages as u64
}

/// Grants that end when this is dropped, after the mapping of the pages.
#[derive(Debug)]
pub struct Grants(Option<(Arc<Registry>, Vec<GrantRef>)>);

impl Drop for Grants {
    fn drop(&mut self) {
        if let Some((registry, refs)) = &self.0 {
            registry.withdraw(refs);
        }
    }
}

/// A port and its number.
#[derive(Debug)]
pub struct HostedEvent {
    number: EvtchnPort,
    port: Arc<Port>,
    registry: Option<Arc<Registry>>,
}

impl Drop for HostedEvent {
    fn drop(&mut self) {
        if let Some(registry) = &self.registry {
            registry.close_port(self.number);
        }
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Time until a deadline, for `poll`; `None` for ever.
pub(super) fn timespec_until(deadline: u64, now: u64) -> Option<Timespec> {
    let left = deadline.saturating_sub(now);
    (deadline != u64::MAX)
        .then_some(Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 })
}

impl Event for HostedEvent {
    fn port(&self) -> EvtchnPort {
        self.number
    }

    fn notify(&self) -> Result<()> {
        match rustix::io::write(&self.port.theirs, &1u64.to_ne_bytes()) {
            // The counter is full: the peer has more events than it will ever look at.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(system("writing to an eventfd", "this is a bug")(error)),
        }
    }

    fn wait(&self, deadline: u64) -> Result<bool> {
        self.wait_since(self.port.gate.ticket(), deadline)
    }

    fn reset(&self) {
        self.port.unbind();
    }

    fn ticket(&self) -> u64 {
        self.port.gate.ticket()
    }

    fn wait_since(&self, ticket: u64, deadline: u64) -> Result<bool> {
        let left = || Duration::from_nanos(deadline.saturating_sub(now()));
        self.port.gate.wait(ticket, left, || self.poll(deadline))
    }

    fn status(&self) -> Result<PortStatus> {
        Ok(match self.port.link() {
            Some(link) if !hung_up(&link) => PortStatus::Bound,
            _ => PortStatus::Unbound,
        })
    }
}

impl HostedEvent {
    fn poll(&self, deadline: u64) -> Result<bool> {
        let link = self.port.link();
        let mut fds: Vec<_> = core::iter::once((self.port.ours.as_fd(), PollFlags::IN))
            .chain(link.as_ref().map(|link| (link.as_fd(), PollFlags::RDHUP)))
            .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
            .collect();
        match poll(&mut fds, timespec_until(deadline, now()).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(system("poll", "this is a bug")(error)),
        }
        // Not blocking: what counts is whether there was an event.
        Ok(rustix::io::read(&self.port.ours, &mut [0; 8]).is_ok())
    }
}

/// Readable while there is an event, or when the peer has hung up.
impl AsFd for HostedEvent {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.port.both.as_fd()
    }
}

/// A name that is being served.
#[derive(Debug)]
pub struct HostedAcceptor {
    service: ServiceName,
    queue: Arc<Queue>,
    registry: Arc<Registry>,
}

impl Acceptor for HostedAcceptor {
    fn next(&mut self, deadline: u64) -> Result<Option<Offer>> {
        let left = (deadline != u64::MAX).then(|| Duration::from_nanos(deadline.saturating_sub(now())));
        Ok(self.queue.next(left))
    }
}

impl Drop for HostedAcceptor {
    fn drop(&mut self) {
        self.registry.stop_serving(self.service);
    }
}

/// An offer: it stands as long as the connection.
#[derive(Debug)]
pub struct HostedCall {
    _connection: OwnedFd,
}

impl Call for HostedCall {
    fn remind(&mut self) -> Result<()> {
        // Nothing is lost here.
        Ok(())
    }
}

impl Platform for Hosted {
    type Memory = Pages<Mapping, Grants>;
    type Event = HostedEvent;
    type Acceptor = HostedAcceptor;
    type Call = HostedCall;

    fn domid(&self) -> Result<DomId> {
        Ok(self.0.domid)
    }

    fn grant(&self, peer: DomId, pages: usize, access: Access) -> Result<Granted<Pages<Mapping, Grants>>> {
        let failed = || system("making shared memory", "memfd_create and /proc are needed");
        let file = memory_file((pages * PAGE_SIZE) as u64).map_err(failed())?;
        let run = Run { file: file.read_write.as_fd(), offset: 0, count: pages };
        let memory = mapping::map(&run, Access::ReadWrite).map_err(failed())?;
        let registry = Arc::clone(&self.0.registry);
        let refs = registry.grant(peer, file, pages, access);
        let grants = Grants(Some((registry, refs.clone())));
        Ok(Granted { memory: memory.map_extra(|()| grants), refs })
    }

    fn map(&self, peer: DomId, refs: &[GrantRef], access: Access) -> Result<Pages<Mapping, Grants>> {
        let mut files: Vec<(OwnedFd, usize, usize)> = Vec::new();
        let mut rest = refs;
        while let Some(&gref) = rest.first() {
            let bad = Error::BadGrant { peer, gref };
            let request = Request::Map { gref, write: access == Access::ReadWrite };
            let answer = self.ask(peer, &request).and_then(|socket| recv_reply(&socket));
            let (reply, mut fds) = answer.map_err(|error| match error {
                Errno::MFILE | Errno::NFILE => system("socket", "")(error),
                _ => Error::PeerDied { peer },
            })?;
            let file = fds.pop().filter(|_| reply.errno == 0).ok_or(bad)?;
            // So many of the following references are wanted from the same file.
            let in_row = |(index, next): &(usize, &GrantRef)| next.0 as usize == gref.0 as usize + index;
            let count = rest.iter().enumerate().take_while(in_row).count().min(reply.count as usize);
            let page = reply.page as usize;
            if count == 0 || !is_safe(&file, page.saturating_add(count)) {
                return Err(bad);
            }
            files.push((file, page, count));
            rest = rest.get(count..).unwrap_or(&[]);
        }
        let runs: Vec<_> = files
            .iter()
            .map(|(file, page, count)| Run {
                file: file.as_fd(),
                offset: (page * PAGE_SIZE) as u64,
                count: *count,
            })
            .collect();
        let memory = mapping::map_all(&runs, access).map_err(system("mmap", "this is a bug"))?;
        Ok(memory.map_extra(|()| Grants(None)))
    }

    fn announce_death(&self, _: &Pages<Mapping, Grants>, _: usize, _: &HostedEvent) -> Result<()> {
        // The connection that belongs to the port hangs up.
        Ok(())
    }

    fn alloc_unbound(&self, peer: DomId) -> Result<HostedEvent> {
        let port = Port::new(peer, new_eventfd()?, new_eventfd()?)
            .map_err(system("making an epoll descriptor", "this is a bug"))?;
        let registry = Arc::clone(&self.0.registry);
        let (number, port) = registry.open_port(port);
        Ok(HostedEvent { number, port, registry: Some(registry) })
    }

    fn bind_interdomain(&self, peer: DomId, port: EvtchnPort) -> Result<HostedEvent> {
        let gone = Error::PeerDied { peer };
        let socket = self.ask(peer, &Request::Bind { port }).map_err(|_| gone)?;
        let (reply, fds) = recv_reply(&socket).map_err(|_| gone)?;
        let Ok([ours, theirs]) = <[OwnedFd; 2]>::try_from(fds) else { return Err(gone) };
        if reply.errno != 0 {
            return Err(gone);
        }
        let port = Port::new(peer, ours, theirs)
            .and_then(|port| port.bind(socket).map(|_| port))
            .map_err(system("making an epoll descriptor", "this is a bug"))?;
        // The number has no meaning on this side: nobody binds to it.
        Ok(HostedEvent { number: EvtchnPort(0), port: Arc::new(port), registry: None })
    }

    fn now(&self) -> u64 {
        now()
    }

    fn sleep_until(&self, deadline: u64) {
        thread::sleep(Duration::from_nanos(deadline.saturating_sub(now())));
    }

    fn relax(&self) {
        // Linux takes care of the others; giving the processor away could cost a whole time slice.
        core::hint::spin_loop();
    }

    fn nonce(&self) -> u64 {
        super::native::random()
    }

    fn can_spin(&self) -> bool {
        has_processors()
    }

    fn serve(&self, service: ServiceName) -> Result<HostedAcceptor> {
        let registry = Arc::clone(&self.0.registry);
        let queue = registry.serve(service).ok_or(Error::NameTaken(service))?;
        Ok(HostedAcceptor { service, queue, registry })
    }

    /// A process may appear at any time, so this waits for the domain too.
    fn call(&self, dial: Dial, deadline: u64) -> Result<HostedCall> {
        let Dial { peer, service, gref, id } = dial;
        // First the watch, then the look.
        let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
            .and_then(|watch| {
                inotify::add_watch(&watch, &self.0.directory, inotify::WatchFlags::MOVED_TO).map(|_| watch)
            })
            .map_err(system("inotify", DIRECTORY_HINT))?;
        loop {
            let connection = match self.ask(peer, &Request::Call { service, gref, id }) {
                Ok(connection) => connection,
                Err(Errno::NOENT | Errno::CONNREFUSED | Errno::PIPE | Errno::CONNRESET) => {
                    if !wait_readable(&watch, deadline)? {
                        return Err(Error::PeerAbsent { peer });
                    }
                    while rustix::io::read(&watch, &mut [0; 1024]).is_ok_and(|len| len > 0) {}
                    continue;
                }
                Err(error) => return Err(system("connecting to a hosted domain", DIRECTORY_HINT)(error)),
            };
            if !wait_readable(&connection, deadline)? {
                return Err(Error::NoSuchService { peer, service });
            }
            match recv_reply(&connection) {
                Ok((reply, _)) if reply.errno == 0 => return Ok(HostedCall { _connection: connection }),
                Ok(_) => {
                    return Err(Error::PeerClosed { peer, reason: crate::error::CloseReason::Refused });
                }
                // It ended; perhaps another process takes its place before the deadline.
                Err(_) => {}
            }
        }
    }
}

/// Whether something can be read before the deadline.
fn wait_readable(fd: &OwnedFd, deadline: u64) -> Result<bool> {
    loop {
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        match poll(&mut fds, timespec_until(deadline, now()).as_ref()) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(system("poll", "this is a bug")(error)),
        }
    }
}

/// Whether this machine has more than one processor. Not whether this process may use more than one: the peer
/// runs on another one all the more if this one is bound to its own.
fn has_processors() -> bool {
    static MORE: OnceLock<bool> = OnceLock::new();
    *MORE.get_or_init(|| match std::fs::read_to_string("/sys/devices/system/cpu/online") {
        // "0", or a list such as "0-3" or "0,2".
        Ok(list) => list.contains(['-', ',']),
        Err(_) => std::thread::available_parallelism().is_ok_and(|count| count.get() > 1),
    })
}
