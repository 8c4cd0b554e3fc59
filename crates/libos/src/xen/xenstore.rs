//! Xenstore over its shared ring: one request at a time, watch events on the side.
//!
//! Sources: `xen/io/xs_wire.h` and the codec in `xen_abi::xenstore`. Xenstored is trusted to run the machine,
//! but not to be right: impossible indices or headers end the connection with `EIO`, and an answer never
//! overruns its buffer.

use crate::arch::cell::Global;
use crate::mm::raw::Shared;
use crate::sched::{self, Wait};
use crate::xen::{clock, evtchn};
use libos_sys::{NEVER, errno};
use xen_abi::xenstore::{self as xs, HEADER_LEN, Header, MsgType};

/// Bytes of watch events that are kept, each with a length of two bytes in front.
const EVENT_BYTES: usize = 2048;

struct Store {
    ring: Shared,
    port: u32,
    /// Our own indices; the copies in the ring are output only.
    req_prod: u32,
    rsp_cons: u32,
    /// A thread is in the middle of a message.
    busy: bool,
    broken: bool,
    next_id: u32,
    events: [u8; EVENT_BYTES],
    event_len: usize,
    /// Events were dropped since the last look.
    lost: bool,
}

static STORE: Global<Store> = Global::new(Store {
    ring: Shared::none(),
    port: 0,
    req_prod: 0,
    rsp_cons: 0,
    busy: false,
    broken: false,
    next_id: 0,
    events: [0; EVENT_BYTES],
    event_len: 0,
    lost: false,
});

/// What threads wait for while another one holds the connection.
fn busy_key() -> usize {
    &raw const STORE as usize
}

/// Tells where the ring is. Called once by boot.
pub fn init(ring: Shared, port: u32) {
    let broken = !evtchn::open(port);
    // The toolstack may have used the connection before us.
    let (req_prod, rsp_cons) = (ring.load32(xs::REQ_PROD_OFFSET), ring.load32(xs::RSP_CONS_OFFSET));
    STORE.with(|s| {
        (s.ring, s.port, s.broken, s.req_prod, s.rsp_cons) = (ring, port, broken, req_prod, rsp_cons);
    });
}

/// The connection, held by one thread.
struct Connection {
    ring: Shared,
    port: u32,
}

/// The connection can no longer be used.
struct Broken;

impl Connection {
    /// Waits until no other thread is in the middle of a message.
    fn hold() -> Result<Self, Broken> {
        while STORE.with(|s| s.busy) {
            sched::block(Wait::Word(busy_key()), NEVER);
        }
        STORE.with(|s| {
            if s.broken || !s.ring.is_some() {
                return Err(Broken);
            }
            s.busy = true;
            Ok(Self { ring: s.ring, port: s.port })
        })
    }

    fn wait(&self) -> Result<(), Broken> {
        if evtchn::wait(&[self.port], NEVER) < 0 { Err(self.broke()) } else { Ok(()) }
    }

    fn broke(&self) -> Broken {
        STORE.with(|s| s.broken = true);
        Broken
    }

    fn put(&self, bytes: &[u8]) -> Result<(), Broken> {
        for byte in bytes {
            let prod = STORE.with(|s| s.req_prod);
            while xs::REQ.free(prod, self.ring.load32(xs::REQ_CONS_OFFSET)).map_err(|_| self.broke())? == 0 {
                evtchn::notify(self.port);
                self.wait()?;
            }
            self.ring.store8(xs::REQ_OFFSET + xs::REQ.mask(prod), *byte);
            self.ring.store32(xs::REQ_PROD_OFFSET, prod.wrapping_add(1));
            STORE.with(|s| s.req_prod = prod.wrapping_add(1));
        }
        Ok(())
    }

    fn available(&self) -> Result<bool, Broken> {
        let cons = STORE.with(|s| s.rsp_cons);
        Ok(xs::RSP.used(self.ring.load32(xs::RSP_PROD_OFFSET), cons).map_err(|_| self.broke())? > 0)
    }

    fn byte(&self) -> Result<u8, Broken> {
        while !self.available()? {
            self.wait()?;
        }
        let cons = STORE.with(|s| s.rsp_cons);
        let byte = self.ring.load8(xs::RSP_OFFSET + xs::RSP.mask(cons));
        self.ring.store32(xs::RSP_CONS_OFFSET, cons.wrapping_add(1));
        STORE.with(|s| s.rsp_cons = cons.wrapping_add(1));
        // Xenstored may wait for room.
        if cons.wrapping_add(1).is_multiple_of(xs::XENSTORE_RING_SIZE / 2) {
            evtchn::notify(self.port);
        }
        Ok(byte)
    }

    /// Reads one message: watch events into the store of events, the rest of a reply's body to `reply` as far
    /// as it fits. The header.
    fn receive(&self, reply: &mut [u8]) -> Result<Header, Broken> {
        let mut bytes = [0; HEADER_LEN];
        for byte in &mut bytes {
            *byte = self.byte()?;
        }
        let header = Header::decode(&bytes).map_err(|_| self.broke())?;
        let len = header.len as usize;
        if header.kind == MsgType::WatchEvent {
            STORE.with(|s| s.make_room(len));
        }
        for i in 0..len {
            let byte = self.byte()?;
            if header.kind == MsgType::WatchEvent {
                STORE.with(|s| s.push_event_byte(len, i, byte));
            } else if let Some(place) = reply.get_mut(i) {
                *place = byte;
            }
        }
        evtchn::notify(self.port);
        if header.kind == MsgType::WatchEvent {
            evtchn::nudge(self.port);
        }
        Ok(header)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        STORE.with(|s| s.busy = false);
        sched::wake(busy_key(), 1);
    }
}

impl Store {
    /// Drops the oldest events until one of `len` bytes fits; one that never fits is dropped itself.
    fn make_room(&mut self, len: usize) {
        while self.event_len > 0 && self.event_len + 2 + len > EVENT_BYTES {
            self.drop_oldest();
            self.lost = true;
        }
        if 2 + len > EVENT_BYTES {
            self.lost = true;
        }
    }

    fn push_event_byte(&mut self, len: usize, at: usize, byte: u8) {
        if 2 + len > EVENT_BYTES {
            return;
        }
        let mut push = |b: u8| {
            self.events[self.event_len] = b;
            self.event_len += 1;
        };
        if at == 0 {
            (len as u16).to_le_bytes().into_iter().for_each(&mut push);
        }
        push(byte);
    }

    fn oldest(&self) -> usize {
        u16::from_le_bytes([self.events[0], self.events[1]]).into()
    }

    fn drop_oldest(&mut self) {
        let end = 2 + self.oldest();
        self.events.copy_within(end..self.event_len, 0);
        self.event_len -= end;
    }
}

/// Sends a request and waits for the answer: its length, or a negative `errno`.
pub fn request(kind: u32, tx: u32, body: &[u8], reply: &mut [u8]) -> isize {
    let Some(kind) = MsgType::from_number(kind) else { return -errno::EINVAL as isize };
    let id = STORE.with(|s| {
        s.next_id = s.next_id.wrapping_add(1).max(1);
        s.next_id
    });
    let header = Header { kind, req_id: id, tx_id: tx, len: body.len() as u32 };
    let Ok(header) = header.encode() else { return -errno::EINVAL as isize };
    let Ok(connection) = Connection::hold() else { return -errno::EIO as isize };
    let exchange = || -> Result<(Header, [u8; 16]), Broken> {
        connection.put(&header)?;
        connection.put(body)?;
        evtchn::notify(connection.port);
        loop {
            // The name of an error has to be read even where the caller wants no answer.
            let mut head = [0; 16];
            let header = connection.receive(if reply.len() < 16 { &mut head } else { &mut *reply })?;
            if header.kind == MsgType::WatchEvent {
                continue;
            }
            if header.req_id != id {
                // Nobody asked for this: one request is under way at a time.
                return Err(connection.broke());
            }
            let kept = reply.len().min(16);
            if reply.len() < 16 {
                reply.copy_from_slice(&head[..kept]);
            } else {
                head.copy_from_slice(&reply[..16]);
            }
            return Ok((header, head));
        }
    };
    let mut exchange = exchange;
    match exchange() {
        Err(Broken) => -errno::EIO as isize,
        Ok((header, head)) if header.kind == MsgType::Error => {
            let body = head.get(..header.len as usize).unwrap_or(&head);
            -xs::reply::error_number(body).unwrap_or(errno::EIO) as isize
        }
        Ok((header, _)) if header.len as usize > reply.len() => -errno::ERANGE as isize,
        Ok((header, _)) => header.len as isize,
    }
}

/// The oldest watch event that is kept, copied to `buffer`: its length or a negative `errno`.
fn take_event(buffer: &mut [u8]) -> Option<isize> {
    STORE.with(|s| {
        if core::mem::take(&mut s.lost) {
            return Some(-errno::EIO as isize);
        }
        if s.event_len == 0 {
            return None;
        }
        let len = s.oldest();
        let fits = buffer.get_mut(..len).map(|b| b.copy_from_slice(&s.events[2..2 + len]));
        s.drop_oldest();
        Some(if fits.is_some() { len as isize } else { -errno::ERANGE as isize })
    })
}

/// Takes the next watch event; its length, or a negative `errno`.
pub fn event(buffer: &mut [u8], deadline: u64) -> isize {
    loop {
        let port = {
            let Ok(connection) = Connection::hold() else { return -errno::EIO as isize };
            // Only now: whoever held the connection before us may have kept an event for us.
            if let Some(result) = take_event(buffer) {
                return result;
            }
            match connection.available() {
                Err(Broken) => return -errno::EIO as isize,
                Ok(true) => {
                    if connection.receive(&mut []).is_err() {
                        return -errno::EIO as isize;
                    }
                    continue;
                }
                Ok(false) => connection.port,
            }
        };
        if clock::monotonic() >= deadline {
            return -errno::ETIMEDOUT as isize;
        }
        evtchn::wait(&[port], deadline);
    }
}
