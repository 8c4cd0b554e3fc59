//! Where a vchan's server leaves its grant reference and port: two nodes below a path in xenstore.

use alloc::format;
use alloc::string::{String, ToString};

use super::{Config, Server, Vchan};
use crate::endpoint::Idc;
use crate::error::{Error, Result, Violation};
use crate::name::{Store, introduced, publish, read, refused, remove};
use crate::platform::Platform;
use crate::shm::Fields;
use crate::wait::Deadline;
use crate::{DomId, EvtchnPort, GrantRef};

/// A client that waits for its server asks so often whether the domain still exists (nanoseconds).
const ALIVE_SLICE: u64 = 250_000_000;

/// A platform with xenstore.
pub trait HasStore: Platform {
    /// Its connection.
    type Store: Store;

    /// Connects.
    ///
    /// # Errors
    /// The system's.
    fn store(&self) -> Result<Self::Store>;
}

#[cfg(casemate)]
impl HasStore for crate::platform::libos::LibOs {
    type Store = crate::platform::libos::store::LibStore;

    fn store(&self) -> Result<Self::Store> {
        Ok(crate::platform::libos::store::LibStore::new())
    }
}

#[cfg(all(feature = "std", not(casemate)))]
impl HasStore for crate::platform::Native {
    type Store = crate::platform::linux::store::XenStore;

    fn store(&self) -> Result<Self::Store> {
        match self {
            Self::Linux(_) => crate::platform::linux::store::XenStore::open(),
            Self::Hosted(_) => Err(Error::NoPlatform(
                "hosted processes have no xenstore: pass the vchan's grant reference and port on by hand",
            )),
        }
    }
}

/// Nodes that were written; they are removed when this is dropped.
pub(super) struct Published<P> {
    /// What removes them; the platform's store is opened anew for it.
    unpublish: fn(&P, &str),
    platform: P,
    path: String,
}

impl<P> core::fmt::Debug for Published<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Published").field(&self.path).finish()
    }
}

impl<P> Drop for Published<P> {
    fn drop(&mut self) {
        (self.unpublish)(&self.platform, &self.path);
    }
}

fn ring_node(path: &str) -> String {
    format!("{path}/ring-ref")
}

fn port_node(path: &str) -> String {
    format!("{path}/event-channel")
}

fn unpublish<P: HasStore>(platform: &P, path: &str) {
    if let Ok(mut store) = platform.store() {
        remove(&mut store, &ring_node(path));
        remove(&mut store, &port_node(path));
    }
}

/// Lets `peer` read the two numbers. The port comes last: a client that sees it finds the other one.
fn publish_both(
    store: &mut impl Store,
    path: &str,
    peer: DomId,
    gref: GrantRef,
    port: EvtchnPort,
) -> Result<()> {
    publish(store, &ring_node(path), gref.to_string().as_bytes(), Some(peer))?;
    publish(store, &port_node(path), port.to_string().as_bytes(), Some(peer))
}

/// The two numbers, when both are there.
fn look_up(store: &mut impl Store, path: &str) -> Result<Option<(GrantRef, EvtchnPort)>, NameError> {
    let mut number = |node: String| match read(store, &node) {
        Ok(Some(value)) => str::from_utf8(&value)
            .ok()
            .and_then(|text| text.parse::<u32>().ok())
            .map(Some)
            .ok_or(NameError::Nonsense),
        Ok(None) => Ok(None),
        Err(error) => Err(NameError::Store(error)),
    };
    let (port, gref) = (number(port_node(path))?, number(ring_node(path))?);
    Ok(gref.zip(port).map(|(gref, port)| (GrantRef(gref), EvtchnPort(port))))
}

enum NameError {
    Nonsense,
    Store(Error),
}

impl<P: HasStore> Server<P>
where
    P::Memory: Fields,
{
    /// Makes a vchan for `peer` and leaves its grant reference and port below `path` in xenstore: an absolute path,
    /// or one below this domain's home, where a domU may write to `data/...` only. The nodes are removed when the
    /// client has come, or when this is dropped.
    ///
    /// # Errors
    /// As for [`Server::new`]; or the system's.
    pub fn bind(idc: &Idc<P>, peer: DomId, path: &str, config: &Config) -> Result<Server<P>> {
        let mut server = Server::new(idc, peer, config)?;
        let platform = idc.platform.clone();
        let name = Published { unpublish: unpublish::<P>, platform, path: path.to_string() };
        let mut store = idc.platform.store()?;
        publish_both(&mut store, path, peer, server.grant_ref(), server.port())?;
        server._name = Some(name);
        Ok(server)
    }
}

impl<P: HasStore> Vchan<P>
where
    P::Memory: Fields,
{
    /// Becomes the client of the server of `peer` that leaves its grant reference and port below `path`; waits for
    /// it to appear. The path is absolute, such as `/local/domain/5/data/vchan/shout`.
    ///
    /// # Errors
    /// [`Error::PeerAbsent`]; [`Error::PeerNotConnected`] when the deadline passes before the server is there;
    /// as for [`Vchan::attach`].
    pub fn connect(idc: &Idc<P>, peer: DomId, path: &str, deadline: Deadline) -> Result<Vchan<P>> {
        let mut store = idc.platform.store()?;
        store.watch(&port_node(path)).map_err(|error| refused("watching xenstore", error))?;
        loop {
            match look_up(&mut store, path) {
                Ok(Some((gref, port))) => return Vchan::attach(idc, peer, gref, port),
                Ok(None) => {}
                Err(NameError::Store(error)) => return Err(error),
                Err(NameError::Nonsense) => {
                    idc.counters.violation(Violation::VchanName);
                    return Err(nonsense_of(peer));
                }
            }
            if introduced(&mut store, peer)? == Some(false) {
                return Err(Error::PeerAbsent { peer });
            }
            let now = store.now();
            if now >= deadline.0 {
                return Err(Error::PeerNotConnected { peer });
            }
            store.changed(now.saturating_add(ALIVE_SLICE).min(deadline.0))?;
        }
    }
}

/// What a peer did that left nonsense in xenstore.
fn nonsense_of(peer: DomId) -> Error {
    Error::PeerMisbehaved { peer, reason: Violation::VchanName }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use xen_abi::errno;
    use xen_abi::xenstore::MsgType;

    use super::*;
    use crate::name::StoreError;

    /// Enough of xenstore.
    #[derive(Default)]
    struct Fake(BTreeMap<String, Vec<u8>>);

    impl Store for Fake {
        fn now(&self) -> u64 {
            0
        }
        fn domid(&mut self) -> Result<DomId> {
            Ok(DomId(3))
        }
        fn request(&mut self, kind: MsgType, body: &[u8]) -> Result<Vec<u8>, StoreError> {
            let (path, rest) = body.split_at(body.iter().position(|b| *b == 0).unwrap_or(body.len()));
            let path = String::from_utf8(path.to_vec()).unwrap();
            match kind {
                MsgType::Read => self.0.get(&path).cloned().ok_or(StoreError::Refused(errno::ENOENT)),
                MsgType::Write => {
                    self.0.insert(path, rest[1..].to_vec());
                    Ok(Vec::new())
                }
                MsgType::SetPerms => {
                    assert_eq!(&rest[1..], b"n3\0r9\0", "the peer, and nobody else, may read");
                    Ok(Vec::new())
                }
                _ => Err(StoreError::Refused(errno::EACCES)),
            }
        }
        fn watch(&mut self, _: &str) -> Result<(), StoreError> {
            Ok(())
        }
        fn changed(&mut self, _: u64) -> Result<Option<String>> {
            Ok(None)
        }
    }

    #[test]
    fn what_is_published_is_found_and_nonsense_is_not_believed() {
        let mut store = Fake::default();
        assert!(matches!(look_up(&mut store, "data/v"), Ok(None)));
        publish_both(&mut store, "data/v", DomId(9), GrantRef(700), EvtchnPort(12)).unwrap();
        assert!(matches!(look_up(&mut store, "data/v"), Ok(Some((GrantRef(700), EvtchnPort(12))))));
        for nonsense in ["", "x", "-1", "4294967296", "7 7", "\u{fffd}"] {
            store.0.insert("data/v/ring-ref".to_string(), nonsense.as_bytes().to_vec());
            assert!(matches!(look_up(&mut store, "data/v"), Err(NameError::Nonsense)), "{nonsense:?}");
            let Error::PeerMisbehaved { peer, reason } = nonsense_of(DomId(9)) else {
                panic!("{nonsense:?}")
            };
            assert_eq!((peer, reason), (DomId(9), Violation::VchanName));
        }
        store.0.remove("data/v/ring-ref");
        assert!(matches!(look_up(&mut store, "data/v"), Ok(None)), "half of it is not enough");
    }
}
