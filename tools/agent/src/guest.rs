//! The agents of Linux guests: the line between them and the agent in dom0, both ends of it.
//!
//! The protocol is the test bed's own ([`testbed::proto`]), over two IDC channels, since a channel is for one
//! thread: one carries frames with requests to the guest, the other frames with events back. The guest offers
//! both as services; dom0 dials. The end of the guest closes the channels, which ends what dom0 waits for.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use idc::{Channel, Config, Deadline, DomId, Error, Idc, ListenConfig, Listener};
use testbed::{
    link::{Failure, Link, Patience},
    proto::{GUEST_EVENTS, GUEST_REQUESTS, Job, Outcome, Stream},
};

/// Pages of the ring in the direction of the frames, and in the other, which is not used.
const PAGES: usize = 16;
const NO_PAGES: usize = 1;

/// Longest message of a channel; longer frames are cut.
const MESSAGE_MAX: usize = 64 << 10;

/// So often somebody who waits for a guest to come up asks whether it has ended instead.
const SLICE: Duration = Duration::from_secs(1);

/// The guests that were connected with.
#[derive(Default)]
pub struct Guests {
    links: Mutex<HashMap<u16, Arc<Link>>>,
}

impl Guests {
    fn links(&self) -> MutexGuard<'_, HashMap<u16, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the agent of a guest is there. `over` says when there is no sense in waiting on.
    ///
    /// # Errors
    /// Why it is not, in words.
    pub fn connect(&self, domid: u16, over: impl Fn() -> Option<String>) -> Result<(), String> {
        // An offer must not be given up while the guest may be answering it: it would wait at a channel that nobody is
        // at any more. So this waits for as long as the domain exists, which dom0 is told, and others look at the time.
        let (done, waiting) = mpsc::channel();
        thread::spawn(move || {
            let dialled = Idc::open().and_then(|idc| {
                let dial = |service, pages| {
                    let config = Config::default().with_pages(pages).with_max_message(MESSAGE_MAX);
                    Channel::dial(&idc, DomId(domid), service, &config, Deadline::NEVER)
                };
                Ok((dial(GUEST_REQUESTS, PAGES)?, dial(GUEST_EVENTS, NO_PAGES)?))
            });
            // Nobody waits when the guest has ended in another way.
            let _ = done.send(dialled);
        });
        let (requests, events) = loop {
            match waiting.recv_timeout(SLICE) {
                Ok(dialled) => break dialled.map_err(|error| error.to_string())?,
                Err(RecvTimeoutError::Timeout) => over().map_or(Ok(()), Err)?,
                Err(RecvTimeoutError::Disconnected) => return Err("the agent panicked".to_owned()),
            }
        };
        let (link, greeted) = Link::new(Incoming::new(events), Outgoing(requests));
        greeted.recv().map_err(|_| "the agent in the guest ended before it was ready".to_owned())?;
        self.links().insert(domid, Arc::new(link));
        // It may have ended between the greeting and the line before.
        match over() {
            None => Ok(()),
            Some(why) => {
                self.forget(domid);
                Err(why)
            }
        }
    }

    fn link(&self, domid: u16) -> Result<Arc<Link>, String> {
        let link = self.links().get(&domid).cloned();
        link.ok_or_else(|| format!("domain {domid} is not a Linux guest, or it has ended"))
    }

    /// Has the agent of a guest do something, and waits for its end. `started` learns the number by which it can be
    /// killed.
    ///
    /// # Errors
    /// What that agent says, or that the guest has ended.
    pub fn call(
        &self,
        domid: u16,
        job: Job,
        body: &[u8],
        started: impl FnOnce(u32),
        output: impl FnMut(Stream, &[u8]),
    ) -> Result<(Outcome, Vec<u8>), String> {
        // The host limits the time; it knows what is being done.
        let patience = Patience { limit: None, quiet: Duration::MAX };
        self.link(domid)?.call(job, body, patience, started, output).map_err(|failure| match failure {
            Failure::Job(why) => why,
            Failure::Closed | Failure::Late(_) | Failure::Hangs(_) => {
                format!("the Linux guest in domain {domid} ended meanwhile")
            }
        })
    }

    /// Kills what a call has the guest do; does not wait for it.
    pub fn kill(&self, domid: u16, id: u32) {
        // A guest that has ended has nothing left to kill.
        let _ = self.link(domid).map(|link| link.post(Job::Kill { id }));
    }

    /// Ends every call to a guest that has ended. One that was destroyed is noticed by the channel; one that has
    /// crashed and stays would not be.
    pub fn forget(&self, domid: u16) {
        if let Some(link) = self.links().remove(&domid) {
            link.close();
        }
    }
}

/// In a guest: waits for dom0 to connect; returns where requests come from and where events go.
///
/// # Errors
/// Those of IDC.
pub fn accept() -> Result<(impl Read + Send + 'static, impl Write + Send + 'static), Error> {
    let idc = Idc::open()?;
    let listen = |service, pages| {
        let channel = Config::default().with_pages(pages).with_max_message(MESSAGE_MAX);
        Listener::bind(&idc, service, ListenConfig { channel, ..ListenConfig::default() })
    };
    let mut requests = listen(GUEST_REQUESTS, NO_PAGES)?;
    let mut events = listen(GUEST_EVENTS, PAGES)?;
    let requests = from_dom0(&mut requests)?;
    let events = from_dom0(&mut events)?;
    Ok((Incoming::new(requests), Outgoing(events)))
}

/// The next client that is dom0; others have no business here.
fn from_dom0(listener: &mut Listener) -> Result<Channel, Error> {
    loop {
        let channel = listener.accept()?;
        if channel.peer() == DomId(0) {
            return Ok(channel);
        }
    }
}

/// The bytes that come through a channel.
struct Incoming {
    channel: Channel,
    message: Vec<u8>,
    at: usize,
}

impl Incoming {
    fn new(channel: Channel) -> Self {
        Self { channel, message: Vec::new(), at: 0 }
    }
}

impl Read for Incoming {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.message.len() {
            match self.channel.recv()? {
                Some(message) => (self.message, self.at) = (message, 0),
                None => return Ok(0),
            }
        }
        let rest = &self.message[self.at..];
        let length = rest.len().min(buf.len());
        buf[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        Ok(length)
    }
}

/// Sends bytes through a channel.
struct Outgoing(Channel);

impl Write for Outgoing {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let piece = &buf[..buf.len().min(MESSAGE_MAX)];
        if !piece.is_empty() {
            self.0.send(piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
