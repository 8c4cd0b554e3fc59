//! Xenstore through the library OS kernel, for several threads.
//!
//! The kernel has one queue of watch events for the whole domain. Whoever waits takes events from there for
//! everybody: one thread at a time waits in the kernel, sorts what it gets by token, and wakes the others.
//! Tokens of this crate start with `idc-`; events with other tokens are not ours and are dropped, so another
//! user of watches in the same domain must not wait in the kernel at the same time.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use xen_abi::xenstore::{MsgType, reply, request};

use super::sys;
use crate::DomId;
use crate::error::{Error, Result};
use crate::name::{Store, StoreError};

/// Events that are kept for one connection; older ones are dropped for newer ones.
const KEPT: usize = 64;

static NEXT: AtomicU32 = AtomicU32::new(1);
/// Changes when events have been sorted.
static SORTED: AtomicU32 = AtomicU32::new(0);
static MAIL: sys::Shared<Mail> = sys::Shared::new(Mail { waiting: false, boxes: Vec::new() });

struct Mail {
    /// A thread waits in the kernel.
    waiting: bool,
    boxes: Vec<(String, VecDeque<String>)>,
}

impl Mail {
    fn paths(&mut self, token: &str) -> Option<&mut VecDeque<String>> {
        self.boxes.iter_mut().find(|(known, _)| known == token).map(|(_, paths)| paths)
    }

    fn deliver(&mut self, token: &str, path: &str) {
        if let Some(paths) = self.paths(token) {
            if paths.len() == KEPT {
                paths.pop_front();
            }
            paths.push_back(path.to_string());
        }
    }
}

/// A connection to xenstored: in truth all share the domain's, and have tokens of their own.
#[derive(Debug)]
pub struct LibStore {
    token: String,
    watched: Vec<String>,
}

impl LibStore {
    pub(crate) fn new() -> LibStore {
        let token = format!("idc-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        MAIL.with(|mail| mail.boxes.push((token.clone(), VecDeque::new())));
        LibStore { token, watched: Vec::new() }
    }

    fn watch_body(&self, path: &str) -> Vec<u8> {
        let mut body = vec![0; path.len() + self.token.len() + 2];
        let len = request::watch(&mut body, path, &self.token).unwrap_or(0);
        body.truncate(len);
        body
    }
}

impl Drop for LibStore {
    fn drop(&mut self) {
        for path in &self.watched {
            // If it fails, the events that still come have no receiver.
            let _ = sys::xenstore_request(MsgType::Unwatch.number(), &self.watch_body(path));
        }
        MAIL.with(|mail| mail.boxes.retain(|(token, _)| *token != self.token));
    }
}

impl Store for LibStore {
    fn now(&self) -> u64 {
        sys::now()
    }

    fn domid(&mut self) -> Result<DomId> {
        Ok(sys::domid())
    }

    fn request(&mut self, kind: MsgType, body: &[u8]) -> Result<Vec<u8>, StoreError> {
        sys::xenstore_request(kind.number(), body).map_err(StoreError::Refused)
    }

    fn watch(&mut self, path: &str) -> Result<(), StoreError> {
        let body = self.watch_body(path);
        self.request(MsgType::Watch, &body)?;
        self.watched.push(path.to_string());
        Ok(())
    }

    fn changed(&mut self, deadline: u64) -> Result<Option<String>> {
        loop {
            let found = MAIL.with(|mail| {
                let path = mail.paths(&self.token).and_then(VecDeque::pop_front);
                (path, SORTED.load(Ordering::Acquire), core::mem::replace(&mut mail.waiting, true))
            });
            match found {
                (Some(path), _, waiting) => {
                    MAIL.with(|mail| mail.waiting = waiting);
                    return Ok(Some(path));
                }
                (None, sorted, true) => {
                    if !sys::wait(&SORTED, sorted, deadline) {
                        return Ok(None);
                    }
                }
                (None, _, false) => {
                    let event = sys::xenstore_event(deadline);
                    MAIL.with(|mail| {
                        mail.waiting = false;
                        match &event {
                            Ok(Some(body)) => {
                                if let Ok(event) = reply::WatchEvent::parse(body) {
                                    mail.deliver(event.token, event.path);
                                }
                            }
                            Ok(None) => {}
                            // Events were lost: everybody has to look, and clients make their offers again.
                            Err(_) => {
                                mail.boxes.iter_mut().for_each(|(_, paths)| paths.push_back(String::new()))
                            }
                        }
                    });
                    sys::wake(&SORTED);
                    match event {
                        Ok(None) => return Ok(None),
                        Ok(Some(_)) => {}
                        // Events were lost; or the connection is broken, which a request finds out.
                        Err(errno) => {
                            let asked = sys::xenstore_request(MsgType::Read.number(), b"domid\0");
                            if asked == Err(libos_sys::errno::EIO) {
                                let hint = "the kernel has lost its connection to xenstored";
                                return Err(Error::System { call: "waiting for xenstore", errno, hint });
                            }
                        }
                    }
                }
            }
        }
    }
}
