//! The part of a hosted "domain" that plays Xen for its peers: a thread that hands out what was granted to
//! them. It never waits for a single peer, so one that is slow or silent does not hold up the others.

use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::vec::Vec;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::wire::{Reply, Request, recv_request, send_reply};
use crate::name::ServiceName;
use crate::platform::gate::Gate;
use crate::platform::{Access, Offer};
use crate::{DomId, EvtchnPort, GrantRef};

/// Connections that have not said yet what they want.
const MAX_SILENT: usize = 256;

/// A memory file, opened twice.
#[derive(Debug)]
pub(super) struct File {
    pub(super) read_only: OwnedFd,
    pub(super) read_write: OwnedFd,
}

#[derive(Debug)]
struct Grant {
    peer: DomId,
    access: Access,
    file: Arc<File>,
    page: u32,
}

/// A port of this side.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) peer: DomId,
    /// Events for us.
    pub(super) ours: OwnedFd,
    /// Events for the peer.
    pub(super) theirs: OwnedFd,
    /// Connection to the process that has bound to it; hangs up when that one dies.
    link: Mutex<Option<Arc<OwnedFd>>>,
    /// An epoll descriptor for `ours` and `link`.
    pub(super) both: OwnedFd,
    /// For several threads that wait.
    pub(super) gate: Gate,
}

impl Port {
    pub(super) fn new(peer: DomId, ours: OwnedFd, theirs: OwnedFd) -> Result<Port, Errno> {
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&both, &ours, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Port { peer, ours, theirs, link: Mutex::default(), both, gate: Gate::default() })
    }

    pub(super) fn link(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.link).clone()
    }

    /// Forgets a connection that has ended.
    pub(super) fn unbind(&self) {
        let mut bound = lock(&self.link);
        if bound.as_ref().is_some_and(|link| hung_up(link))
            && let Some(old) = bound.take()
        {
            // It is in there, so this cannot fail.
            let _ = epoll::delete(&self.both, &*old);
        }
    }

    /// Notes the connection to a process that binds: whether none is bound already. As in Xen, the port is free
    /// again when that one is gone.
    pub(super) fn bind(&self, link: OwnedFd) -> Result<bool, Errno> {
        let mut bound = lock(&self.link);
        if bound.as_ref().is_some_and(|link| !hung_up(link)) {
            return Ok(false);
        }
        epoll::add(&self.both, &link, epoll::EventData::new_u64(1), epoll::EventFlags::RDHUP)?;
        // Closing the old one takes it out of the epoll descriptor, when nobody polls it any more.
        if let Some(old) = bound.replace(Arc::new(link)) {
            epoll::delete(&self.both, &*old)?;
        }
        Ok(true)
    }
}

/// A client that has called, and its connection.
#[derive(Debug)]
struct Caller {
    offer: Offer,
    connection: OwnedFd,
}

/// Clients of one service.
#[derive(Debug, Default)]
pub(super) struct Queue {
    callers: Mutex<VecDeque<Caller>>,
    arrived: Condvar,
}

impl Queue {
    /// The next offer of a client that is still there.
    pub(super) fn next(&self, timeout: Option<Duration>) -> Option<Offer> {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut callers = lock(&self.callers);
        loop {
            while let Some(caller) = callers.pop_front() {
                if !hung_up(&caller.connection) {
                    return Some(caller.offer);
                }
            }
            callers = match end {
                None => self.arrived.wait(callers).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
                    let waited = self.arrived.wait_timeout(callers, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn push(&self, caller: Caller) {
        if send_reply(&caller.connection, Reply::default(), &[]).is_ok() {
            lock(&self.callers).push_back(caller);
            self.arrived.notify_one();
        }
    }
}

/// What this side has granted, allocated and serves.
#[derive(Debug, Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    next: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    grants: HashMap<u32, Grant>,
    ports: HashMap<u32, Arc<Port>>,
    services: HashMap<ServiceName, Arc<Queue>>,
    /// Clients of services that are not there yet.
    early: Vec<(ServiceName, Caller)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The data is valid after every statement that could panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    pub(super) fn new() -> Registry {
        Registry { state: Mutex::default(), next: AtomicU32::new(crate::setup::FIRST_GRANT) }
    }

    /// Numbers that have not been used, `count` in a row.
    fn numbers(&self, count: u32) -> u32 {
        self.next.fetch_add(count, Ordering::Relaxed)
    }

    pub(super) fn grant(&self, peer: DomId, file: File, pages: usize, access: Access) -> Vec<GrantRef> {
        let file = Arc::new(file);
        let first = self.numbers(pages as u32);
        let mut state = lock(&self.state);
        (0..pages as u32)
            .map(|page| {
                let grant = Grant { peer, access, file: Arc::clone(&file), page };
                state.grants.insert(first + page, grant);
                GrantRef(first + page)
            })
            .collect()
    }

    pub(super) fn withdraw(&self, refs: &[GrantRef]) {
        let mut state = lock(&self.state);
        for gref in refs {
            state.grants.remove(&gref.0);
        }
    }

    pub(super) fn open_port(&self, port: Port) -> (EvtchnPort, Arc<Port>) {
        let number = self.numbers(1);
        let port = Arc::new(port);
        lock(&self.state).ports.insert(number, Arc::clone(&port));
        (EvtchnPort(number), port)
    }

    pub(super) fn close_port(&self, port: EvtchnPort) {
        lock(&self.state).ports.remove(&port.0);
    }

    /// `None` when the name is taken.
    pub(super) fn serve(&self, service: ServiceName) -> Option<Arc<Queue>> {
        let mut state = lock(&self.state);
        if state.services.contains_key(&service) {
            return None;
        }
        let queue = Arc::new(Queue::default());
        state.services.insert(service, Arc::clone(&queue));
        let (now, later) =
            core::mem::take(&mut state.early).into_iter().partition(|(name, _)| *name == service);
        state.early = later;
        for (_, caller) in now {
            queue.push(caller);
        }
        Some(queue)
    }

    pub(super) fn stop_serving(&self, service: ServiceName) {
        lock(&self.state).services.remove(&service);
    }

    /// Answers a request; `None` when the connection is to be kept, in other hands.
    fn answer(&self, from: DomId, request: Request, connection: OwnedFd) {
        let mut state = lock(&self.state);
        let refuse = |connection: &OwnedFd, errno: Errno| {
            let reply = Reply { errno: errno.raw_os_error().unsigned_abs(), ..Reply::default() };
            // A peer that has gone does not miss it.
            let _ = send_reply(connection, reply, &[]);
        };
        match request {
            Request::Map { gref, write } => {
                let Some(grant) = state.grants.get(&gref.0).filter(|grant| grant.peer == from) else {
                    return refuse(&connection, Errno::NOENT);
                };
                if write && grant.access == Access::ReadOnly {
                    return refuse(&connection, Errno::ACCESS);
                }
                let fits = |index: &u32| {
                    let next = state.grants.get(&(gref.0 + index));
                    next.is_some_and(|next| {
                        Arc::ptr_eq(&next.file, &grant.file)
                            && next.page == grant.page + index
                            && next.peer == from
                    })
                };
                let count = (0..=u16::MAX.into()).take_while(fits).count() as u32;
                let file = if write { &grant.file.read_write } else { &grant.file.read_only };
                let _ = send_reply(&connection, Reply { errno: 0, page: grant.page, count }, &[file.as_fd()]);
            }
            Request::Bind { port } => {
                let Some(port) = state.ports.get(&port.0).filter(|port| port.peer == from) else {
                    return refuse(&connection, Errno::NOENT);
                };
                let port = Arc::clone(port);
                let Ok(link) = connection.try_clone() else { return };
                if !port.bind(link).unwrap_or(false) {
                    return refuse(&connection, Errno::BUSY);
                }
                let _ = send_reply(&connection, Reply::default(), &[port.theirs.as_fd(), port.ours.as_fd()]);
            }
            Request::Call { service, gref, id } => {
                let caller = Caller { offer: Offer { peer: from, gref, id }, connection };
                match state.services.get(&service) {
                    Some(queue) => queue.push(caller),
                    None if state.early.len() < MAX_SILENT => state.early.push((service, caller)),
                    None => {
                        state.early.retain(|(_, caller)| !hung_up(&caller.connection));
                        refuse(&caller.connection, Errno::BUSY);
                    }
                }
            }
        }
    }
}

/// Whether the other end of a connection has been closed.
pub(super) fn hung_up(connection: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(connection, PollFlags::RDHUP)];
    let found = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    found.is_ok()
        && fds.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::RDHUP | PollFlags::ERR))
}

/// Serves peers until something comes in on `stop`.
pub(super) fn run(registry: &Registry, listener: &OwnedFd, stop: &OwnedFd) {
    let mut silent: VecDeque<OwnedFd> = VecDeque::new();
    loop {
        let mut fds: Vec<_> = [listener, stop]
            .into_iter()
            .chain(&silent)
            .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
            .collect();
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        let [connected, stopped, spoke @ ..] = ready.as_slice() else { return };
        if *stopped {
            return;
        }
        let mut spoke = spoke.iter().copied();
        let (speaking, rest): (Vec<_>, Vec<_>) =
            silent.drain(..).map(|fd| (spoke.next().unwrap_or(false), fd)).partition(|(spoke, _)| *spoke);
        silent.extend(rest.into_iter().map(|(_, fd)| fd));
        for (_, connection) in speaking {
            if let Some((from, request)) = recv_request(&connection) {
                registry.answer(from, request, connection);
            }
        }
        if *connected && let Ok(connection) = accept_with(listener, SocketFlags::CLOEXEC) {
            if silent.len() == MAX_SILENT {
                silent.pop_front();
            }
            silent.push_back(connection);
        }
    }
}
