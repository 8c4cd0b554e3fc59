//! Named services through xenstore.
//!
//! Xenstore is used to find each other and for nothing else. An unprivileged domain may write below `data` of
//! its own home only, and others read there what it lets them read; that is enough:
//!
//! | node | written by | readable by | value |
//! |---|---|---|---|
//! | `/local/domain/S/data/idc/NAME/listening` | service S | everybody | `IDC2` |
//! | `/local/domain/C/data/idc-dial/S-NAME-ID` | client C | S | grant reference of the client's setup page |
//! | `/local/domain/D/data/idc/alive` | every domain that uses channels | everybody | `IDC2` |
//!
//! The service watches `/local/domain`. Xenstored tells it only of nodes that it may read: its own, and the
//! offers that clients have opened to it. (A service in dom0 sees everything and picks out the offers.) The path
//! of an offer names the client, and only that domain (or dom0) can have written there; on top of that, the
//! grant reference is of use only if that very domain granted it to the service. So the client's id is attested
//! by Xen, clients cannot touch each other's offers, and any number of them can be under way at once: the `ID`
//! keeps those of one domain apart. The client removes its node when it is connected or gives up.
//!
//! The node `alive` stays for as long as the domain: it goes when the tool stack removes the domain's home. That
//! is how a domain finds out that another one was destroyed if it may neither ask for the state of its own
//! ports (Linux in a domU) nor for the existence of domains (everybody but dom0).
//!
//! Nothing here is a transaction. A transaction of one domain fails when others write at the same time, which
//! is what breaks libxenvchan's setup at some ten concurrent channels; single writes are atomic as they are.
//!
//! An event can be lost (the service's kernel keeps only a few, and a hostile domain can make many): a client
//! that is not answered makes its offer again, which makes a new event.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use xen_abi::xenstore::{Access as Perms, MsgType, Perm, XENSTORE_PAYLOAD_MAX, reply, request};
use xen_abi::{errno, xenstore::RequestError};

use crate::error::{Error, Result};
use crate::platform::{Acceptor, Call, Dial, Offer};
use crate::{DomId, GrantRef};

/// Value of the node that says that a service is there.
const PROTOCOL: &[u8] = b"IDC2";
/// While a client waits for a service, it asks so often whether the domain still exists (nanoseconds): the
/// end of a domain triggers no watch that an unprivileged domain may set.
const ALIVE_SLICE: u64 = 250_000_000;

/// Name of a service: 1 to 32 of `a`-`z`, `0`-`9` and `-`, not starting with `-`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ServiceName {
    bytes: [u8; 32],
    len: u8,
}

impl ServiceName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn new(name: &str) -> Result<ServiceName> {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let text = ServiceName::excerpt(name);
        if name.len() > 32 || name.is_empty() || name.starts_with('-') || !name.bytes().all(good) {
            return Err(Error::BadName(text));
        }
        Ok(text)
    }

    /// The beginning of a text, to show in an error that it is not a name.
    fn excerpt(text: &str) -> ServiceName {
        let len = (0..=text.len().min(32)).rev().find(|len| text.is_char_boundary(*len)).unwrap_or(0);
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().zip(text.bytes().take(len)) {
            *to = from;
        }
        ServiceName { bytes, len: len as u8 }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        // `excerpt` cuts between characters.
        self.bytes.get(..self.len.into()).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Why xenstored did not do what it was asked to do.
#[derive(Debug)]
pub enum StoreError {
    /// It refused, with a (positive) error number.
    Refused(i32),
    /// It could not be reached, or does not speak the protocol.
    Broken(Error),
}

/// A connection to xenstored. Watches belong to the connection and end with it.
pub trait Store {
    /// Nanoseconds of the platform's clock.
    fn now(&self) -> u64;

    /// Id of this domain.
    ///
    /// # Errors
    /// The system's.
    fn domid(&mut self) -> Result<DomId>;

    /// Sends a request and waits for the body of the reply.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn request(&mut self, kind: MsgType, body: &[u8]) -> Result<Vec<u8>, StoreError>;

    /// Sets a watch.
    ///
    /// # Errors
    /// See [`StoreError`].
    fn watch(&mut self, path: &str) -> Result<(), StoreError>;

    /// Path of the next node that changed below a watch; an empty path when events were lost; `None` when the
    /// deadline has passed.
    ///
    /// # Errors
    /// The system's.
    fn changed(&mut self, deadline: u64) -> Result<Option<String>>;
}

pub(crate) fn refused(call: &'static str, error: StoreError) -> Error {
    match error {
        StoreError::Broken(error) => error,
        StoreError::Refused(errno::ENOSPC) => Error::System {
            call,
            errno: errno::ENOSPC,
            hint: "this domain's quota in xenstore is used up; remove nodes, or raise it in xenstored",
        },
        StoreError::Refused(errno) => {
            Error::System { call, errno, hint: "xenstored refused it; look at the permissions of the node" }
        }
    }
}

/// A body that the codec refused: our own paths are always good, so this names a bug.
fn bad_body(_: RequestError) -> StoreError {
    StoreError::Broken(Error::BadConfig("a xenstore path is not valid"))
}

fn ask(
    store: &mut impl Store,
    kind: MsgType,
    make: impl FnOnce(&mut [u8]) -> Result<usize, RequestError>,
) -> Result<Vec<u8>, StoreError> {
    let mut body = vec![0; XENSTORE_PAYLOAD_MAX];
    let len = make(&mut body).map_err(bad_body)?;
    body.truncate(len);
    store.request(kind, &body)
}

/// Writes a node and says who may read it: `reader`, or everybody.
pub(crate) fn publish(store: &mut impl Store, path: &str, value: &[u8], reader: Option<DomId>) -> Result<()> {
    let owner = store.domid()?;
    let perms = match reader {
        None => vec![Perm { domid: owner, access: Perms::Read }],
        Some(reader) => {
            vec![Perm { domid: owner, access: Perms::None }, Perm { domid: reader, access: Perms::Read }]
        }
    };
    ask(store, MsgType::Write, |body| request::write(body, path, value))
        .and_then(|_| ask(store, MsgType::SetPerms, |body| request::set_perms(body, path, &perms)))
        .map_err(|error| refused("writing to xenstore", error))?;
    Ok(())
}

pub(crate) fn remove(store: &mut impl Store, path: &str) {
    // A node that is gone or cannot be removed now does no harm: it names a grant that ends with the channel.
    let _ = ask(store, MsgType::Rm, |body| request::path(body, path));
}

/// The value, or `None` when the node is not there or not readable (which xenstored does not tell apart).
pub(crate) fn read(store: &mut impl Store, path: &str) -> Result<Option<Vec<u8>>> {
    match ask(store, MsgType::Read, |body| request::path(body, path)) {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Refused(errno::ENOENT | errno::EACCES)) => Ok(None),
        Err(error) => Err(refused("reading from xenstore", error)),
    }
}

fn service_dir(service: ServiceName, domid: DomId) -> String {
    format!("/local/domain/{domid}/data/idc/{service}")
}

fn alive_path(domid: DomId) -> String {
    format!("/local/domain/{domid}/data/idc/alive")
}

/// Says that this domain uses channels; others learn from the node's end that the domain has ended.
///
/// # Errors
/// The system's.
pub fn show_alive(store: &mut impl Store) -> Result<()> {
    let path = alive_path(store.domid()?);
    publish(store, &path, PROTOCOL, None)
}

/// Whether another domain says so.
///
/// # Errors
/// The system's.
pub fn shows_alive(store: &mut impl Store, peer: DomId) -> Result<bool> {
    Ok(read(store, &alive_path(peer))?.is_some())
}

fn offer_path(dial: &Dial, client: DomId) -> String {
    let Dial { peer, service, id, .. } = dial;
    format!("/local/domain/{client}/data/idc-dial/{peer}-{service}-{id:016x}")
}

/// The client and the number in the path of an offer to `service` of `domid`; `None` for any other path.
fn parse_offer(path: &str, domid: DomId, service: ServiceName) -> Option<(DomId, u64)> {
    let (client, rest) = path.strip_prefix("/local/domain/")?.split_once('/')?;
    let offer = rest.strip_prefix("data/idc-dial/")?;
    let id = offer.strip_prefix(&format!("{domid}-{service}-"))?;
    let number: u16 = client.parse().ok()?;
    // One spelling only, so that one offer has one name.
    if number.to_string() != client
        || id.len() != 16
        || !id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        return None;
    }
    Some((DomId(number), u64::from_str_radix(id, 16).ok()?))
}

/// Serves a name through xenstore.
#[derive(Debug)]
pub struct XenAcceptor<S: Store> {
    store: S,
    service: ServiceName,
    domid: DomId,
}

impl<S: Store> XenAcceptor<S> {
    /// Publishes the name.
    ///
    /// # Errors
    /// The system's.
    pub fn new(mut store: S, service: ServiceName) -> Result<XenAcceptor<S>> {
        let domid = store.domid()?;
        // First the watch: a client makes its offer as soon as it sees the node.
        store.watch("/local/domain").map_err(|error| refused("watching xenstore", error))?;
        let node = format!("{}/listening", service_dir(service, domid));
        publish(&mut store, &node, PROTOCOL, None)?;
        Ok(XenAcceptor { store, service, domid })
    }
}

impl<S: Store> Acceptor for XenAcceptor<S> {
    fn next(&mut self, deadline: u64) -> Result<Option<Offer>> {
        loop {
            let Some(path) = self.store.changed(deadline)? else { return Ok(None) };
            let Some((peer, id)) = parse_offer(&path, self.domid, self.service) else { continue };
            // What is there is the client's word: a number, or nothing that we could use.
            let Some(value) = read(&mut self.store, &path)? else { continue };
            let gref = str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
            if let Some(gref) = gref {
                return Ok(Some(Offer { peer, gref: GrantRef(gref), id }));
            }
        }
    }
}

impl<S: Store> Drop for XenAcceptor<S> {
    fn drop(&mut self) {
        remove(&mut self.store, &service_dir(self.service, self.domid));
    }
}

/// An offer through xenstore.
#[derive(Debug)]
pub struct XenCall<S: Store> {
    store: S,
    path: String,
    dial: Dial,
}

impl<S: Store> XenCall<S> {
    /// Waits for the service, then makes the offer.
    ///
    /// # Errors
    /// [`Error::PeerAbsent`], [`Error::NoSuchService`] or the system's.
    pub fn new(mut store: S, dial: Dial, deadline: u64) -> Result<XenCall<S>> {
        let node = format!("{}/listening", service_dir(dial.service, dial.peer));
        let mut watched = false;
        // Each request takes a turn of two domains, and programs dial a thousand times: the watch is for a service that is
        // not there yet.
        loop {
            match read(&mut store, &node)? {
                Some(value) if value == PROTOCOL => break,
                Some(_) => {
                    let what = "its service speaks another protocol";
                    return Err(Error::Incompatible { peer: dial.peer, what });
                }
                None if !core::mem::replace(&mut watched, true) => {
                    store.watch(&node).map_err(|error| refused("watching xenstore", error))?;
                    continue;
                }
                None => {}
            }
            if introduced(&mut store, dial.peer)? == Some(false) {
                return Err(Error::PeerAbsent { peer: dial.peer });
            }
            let now = store.now();
            if now >= deadline {
                return Err(Error::NoSuchService { peer: dial.peer, service: dial.service });
            }
            store.changed(now.saturating_add(ALIVE_SLICE).min(deadline))?;
        }
        let path = offer_path(&dial, store.domid()?);
        let mut call = XenCall { store, path, dial };
        call.offer()?;
        Ok(call)
    }

    fn offer(&mut self) -> Result<()> {
        let value = self.dial.gref.to_string();
        publish(&mut self.store, &self.path, value.as_bytes(), Some(self.dial.peer))
    }
}

impl<S: Store> Call for XenCall<S> {
    fn remind(&mut self) -> Result<()> {
        if introduced(&mut self.store, self.dial.peer)? == Some(false) {
            return Err(Error::PeerDied { peer: self.dial.peer });
        }
        self.offer()
    }
}

impl<S: Store> Drop for XenCall<S> {
    fn drop(&mut self) {
        remove(&mut self.store, &self.path);
    }
}

/// Whether the domain exists; `None` when this domain may not ask, which only dom0 may.
///
/// # Errors
/// The system's.
pub fn introduced(store: &mut impl Store, peer: DomId) -> Result<Option<bool>> {
    match ask(store, MsgType::IsDomainIntroduced, |body| request::domid(body, peer)) {
        Ok(body) => Ok(reply::boolean(&body).ok()),
        Err(StoreError::Refused(_)) => Ok(None),
        Err(error) => Err(refused("asking xenstore for a domain", error)),
    }
}
