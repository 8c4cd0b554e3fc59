//! The rendezvous through xenstore against a model of xenstored with its permissions: who sees what, and that
//! nobody is in another one's way.
#![cfg(not(loom))]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use idc::name::{ServiceName, Store, StoreError, XenAcceptor, XenCall, introduced, show_alive, shows_alive};
use idc::platform::{Acceptor, Call, Dial, Offer};
use idc::{DomId, Error, GrantRef};
use xen_abi::errno;
use xen_abi::xenstore::MsgType;

/// Permissions of a node: owner, what others may do, exceptions.
#[derive(Clone, Debug)]
struct Node {
    value: Vec<u8>,
    owner: u16,
    others: u8,
    listed: Vec<(u16, u8)>,
}

impl Node {
    fn readable(&self, domid: u16) -> bool {
        let mut listed = self.listed.iter().filter(|(who, _)| *who == domid);
        domid == 0
            || domid == self.owner
            || matches!(listed.next().map_or(self.others, |(_, what)| *what), b'r' | b'b')
    }
}

#[derive(Debug, Default)]
struct Tree {
    nodes: BTreeMap<String, Node>,
    /// Connection, path.
    watches: Vec<(usize, String)>,
    queues: Vec<(u16, VecDeque<String>)>,
    domains: Vec<u16>,
    /// Every request, for the test that none is a transaction.
    kinds: Vec<MsgType>,
    time: u64,
}

impl Tree {
    /// Permissions that a new node gets: those of its closest ancestor, with the creator as owner.
    fn inherited(&self, path: &str, domid: u16) -> Option<Node> {
        let mut parent = path;
        while let Some((above, _)) = parent.rsplit_once('/') {
            if let Some(node) = self.nodes.get(above) {
                // Writing below a node needs the right to write there; only owners have it in this model.
                let may = domid == 0 || node.owner == domid;
                return may.then(|| Node { value: Vec::new(), owner: domid, ..node.clone() });
            }
            parent = above;
        }
        None
    }

    fn fire(&mut self, path: &str, before: Option<Node>) {
        let after = self.nodes.get(path).cloned();
        for (connection, watched) in &self.watches {
            let (domid, queue) = &mut self.queues[*connection];
            let below = path == watched || path.starts_with(&format!("{watched}/"));
            let seen = [&before, &after].into_iter().flatten().any(|node| node.readable(*domid));
            if below && seen {
                queue.push_back(path.to_owned());
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Xenstored(Arc<Mutex<Tree>>);

impl Xenstored {
    /// Domains with the homes that libxl makes: only `data` belongs to the domain.
    fn new(domains: &[u16]) -> Xenstored {
        let mut tree = Tree::default();
        for domid in domains {
            let node = |owner| Node { value: Vec::new(), owner, others: b'n', listed: Vec::new() };
            let home = Node { listed: vec![(*domid, b'r')], ..node(0) };
            tree.nodes.insert(format!("/local/domain/{domid}"), home);
            tree.nodes.insert(format!("/local/domain/{domid}/data"), node(*domid));
        }
        tree.domains = domains.to_vec();
        Xenstored(Arc::new(Mutex::new(tree)))
    }

    fn connect(&self, domid: u16) -> Connection {
        let mut tree = self.0.lock().unwrap();
        tree.queues.push((domid, VecDeque::new()));
        Connection { store: self.clone(), domid, index: tree.queues.len() - 1 }
    }

    fn paths(&self) -> Vec<String> {
        let tree = self.0.lock().unwrap();
        tree.nodes.keys().filter(|path| path.contains("/data/")).cloned().collect()
    }

    fn destroy(&self, domid: u16) {
        let mut tree = self.0.lock().unwrap();
        let home = format!("/local/domain/{domid}");
        tree.nodes.retain(|path, _| !path.starts_with(&home));
        tree.domains.retain(|known| *known != domid);
    }
}

#[derive(Debug)]
struct Connection {
    store: Xenstored,
    domid: u16,
    index: usize,
}

fn strings(body: &[u8]) -> Vec<&str> {
    str::from_utf8(body).unwrap().trim_end_matches('\0').split('\0').collect()
}

impl Store for Connection {
    fn now(&self) -> u64 {
        self.store.0.lock().unwrap().time
    }

    fn domid(&mut self) -> Result<DomId, Error> {
        Ok(DomId(self.domid))
    }

    fn request(&mut self, kind: MsgType, body: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut tree = self.store.0.lock().unwrap();
        tree.kinds.push(kind);
        let refuse = |errno| Err(StoreError::Refused(errno));
        let at = body.iter().position(|byte| *byte == 0).expect("a path that ends");
        let path = str::from_utf8(&body[..at]).unwrap().to_owned();
        let rest = &body[at + 1..];
        let before = tree.nodes.get(&path).cloned();
        match kind {
            MsgType::Read => match before {
                Some(node) if node.readable(self.domid) => Ok(node.value),
                // An unprivileged domain does not learn which of the two it is.
                _ => refuse(if self.domid == 0 { errno::ENOENT } else { errno::EACCES }),
            },
            MsgType::Write => {
                // Nodes on the way are made too.
                for (end, _) in path.match_indices('/').skip(1) {
                    if !tree.nodes.contains_key(&path[..end])
                        && let Some(node) = tree.inherited(&path[..end], self.domid)
                    {
                        tree.nodes.insert(path[..end].to_owned(), node);
                    }
                }
                let node = match &before {
                    Some(node) if self.domid == 0 || node.owner == self.domid => node.clone(),
                    Some(_) => return refuse(errno::EACCES),
                    None => match tree.inherited(&path, self.domid) {
                        Some(node) => node,
                        None => return refuse(errno::EACCES),
                    },
                };
                tree.nodes.insert(path.clone(), Node { value: rest.to_vec(), ..node });
                tree.fire(&path, before);
                Ok(b"OK\0".to_vec())
            }
            MsgType::SetPerms => {
                let Some(node) = tree.nodes.get_mut(&path) else { return refuse(errno::ENOENT) };
                if self.domid != 0 && node.owner != self.domid {
                    return refuse(errno::EACCES);
                }
                let mut perms = strings(rest)
                    .into_iter()
                    .map(|text| (text[1..].parse::<u16>().unwrap(), text.as_bytes()[0]));
                (node.owner, node.others) = perms.next().expect("an owner");
                node.listed = perms.collect();
                tree.fire(&path, before);
                Ok(b"OK\0".to_vec())
            }
            MsgType::Rm => match before {
                None => refuse(errno::ENOENT),
                Some(node) if self.domid != 0 && node.owner != self.domid => refuse(errno::EACCES),
                Some(_) => {
                    let below = format!("{path}/");
                    tree.nodes.retain(|known, _| *known != path && !known.starts_with(&below));
                    tree.fire(&path, before);
                    Ok(b"OK\0".to_vec())
                }
            },
            MsgType::IsDomainIntroduced if self.domid == 0 => {
                let known = tree.domains.contains(&path.parse().unwrap());
                Ok(if known { b"T\0".to_vec() } else { b"F\0".to_vec() })
            }
            MsgType::IsDomainIntroduced => refuse(errno::EACCES),
            kind => panic!("{kind:?} is not needed for a rendezvous"),
        }
    }

    fn watch(&mut self, path: &str) -> Result<(), StoreError> {
        let mut tree = self.store.0.lock().unwrap();
        tree.watches.push((self.index, path.to_owned()));
        // Xenstored fires each watch once when it is set.
        tree.queues[self.index].1.push_back(path.to_owned());
        Ok(())
    }

    fn changed(&mut self, deadline: u64) -> Result<Option<String>, Error> {
        let mut tree = self.store.0.lock().unwrap();
        if let Some(path) = tree.queues[self.index].1.pop_front() {
            return Ok(Some(path));
        }
        // Nothing else happens in this model: time passes.
        tree.time = tree.time.max(deadline);
        Ok(None)
    }
}

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

fn dial(peer: u16, service: &str, gref: u32, id: u64) -> Dial {
    Dial { peer: DomId(peer), service: name(service), gref: GrantRef(gref), id }
}

fn offer(peer: u16, gref: u32, id: u64) -> Option<Offer> {
    Some(Offer { peer: DomId(peer), gref: GrantRef(gref), id })
}

/// All offers that are there.
fn offers(acceptor: &mut XenAcceptor<Connection>) -> Vec<Offer> {
    std::iter::from_fn(|| acceptor.next(0).unwrap()).collect()
}

#[test]
fn a_client_in_dom0_and_one_in_a_domu_find_the_service() {
    let store = Xenstored::new(&[0, 5, 6]);
    let mut acceptor = XenAcceptor::new(store.connect(5), name("digest")).unwrap();
    assert_eq!(offers(&mut acceptor), []);
    for client in [0, 6] {
        let call = XenCall::new(store.connect(client), dial(5, "digest", 77, 0xabc), 1_000).unwrap();
        let found = offers(&mut acceptor);
        assert_eq!(found.first().copied(), offer(client, 77, 0xabc), "client {client}");
        drop(call);
        assert_eq!(offers(&mut acceptor), [], "an offer that was taken back");
    }
    drop(acceptor);
    let left = store.paths();
    assert!(left.iter().all(|path| path.ends_with("/data/idc") || path.ends_with("idc-dial")), "{left:?}");
}

#[test]
fn many_clients_at_once_keep_apart() {
    let store = Xenstored::new(&[0, 5, 6, 7]);
    let mut acceptor = XenAcceptor::new(store.connect(5), name("echo")).unwrap();
    let mut calls = Vec::new();
    for number in 0..30u32 {
        let client = [0, 6, 7][number as usize % 3];
        let dial = dial(5, "echo", 100 + number, number.into());
        calls.push((client, XenCall::new(store.connect(client), dial, 1_000).unwrap()));
    }
    let mut found = offers(&mut acceptor);
    found.sort_by_key(|offer| offer.id);
    found.dedup();
    assert_eq!(found.len(), 30);
    for (offer, number) in found.iter().zip(0..) {
        assert_eq!(offer.gref, GrantRef(100 + number));
        assert_eq!(offer.peer, DomId([0, 6, 7][number as usize % 3]));
    }
    // An offer may be made again, and is then found again.
    calls[4].1.remind().unwrap();
    assert_eq!(offers(&mut acceptor).first().copied(), offer(6, 104, 4));
    assert!(!store.0.lock().unwrap().kinds.iter().any(|kind| matches!(kind, MsgType::TransactionStart)));
}

#[test]
fn an_offer_is_for_one_service_of_one_domain() {
    let store = Xenstored::new(&[0, 5, 6, 7]);
    let mut echo = XenAcceptor::new(store.connect(5), name("echo")).unwrap();
    let mut echo_1 = XenAcceptor::new(store.connect(5), name("echo-1")).unwrap();
    let mut other = XenAcceptor::new(store.connect(6), name("echo")).unwrap();
    let _call = XenCall::new(store.connect(7), dial(5, "echo-1", 9, 1), 1_000).unwrap();
    assert_eq!(offers(&mut echo), []);
    assert_eq!(offers(&mut other), []);
    assert_eq!(offers(&mut echo_1).first().copied(), offer(7, 9, 1));
}

#[test]
fn a_domain_cannot_make_offers_for_another_nor_see_them() {
    let store = Xenstored::new(&[0, 5, 6, 7]);
    let mut acceptor = XenAcceptor::new(store.connect(5), name("digest")).unwrap();
    let call = XenCall::new(store.connect(6), dial(5, "digest", 9, 1), 1_000).unwrap();
    let mut evil = store.connect(7);
    for path in store.paths().iter().filter(|path| path.contains("dial")) {
        let body = [path.as_bytes(), b"\0"].concat();
        assert!(matches!(evil.request(MsgType::Read, &body), Err(StoreError::Refused(errno::EACCES))));
        assert!(matches!(evil.request(MsgType::Rm, &body), Err(StoreError::Refused(errno::EACCES))));
        let body = [path.as_bytes(), b"\0", b"666"].concat();
        assert!(matches!(evil.request(MsgType::Write, &body), Err(StoreError::Refused(errno::EACCES))));
    }
    let forged = b"/local/domain/6/data/idc-dial/5-digest-0000000000000002\x00667";
    assert!(matches!(evil.request(MsgType::Write, forged), Err(StoreError::Refused(errno::EACCES))));
    assert_eq!(offers(&mut acceptor).first().copied(), offer(6, 9, 1));
    drop(call);
}

#[test]
fn strange_offers_are_passed_over() {
    let store = Xenstored::new(&[0, 5, 6]);
    let mut acceptor = XenAcceptor::new(store.connect(5), name("digest")).unwrap();
    offers(&mut acceptor);
    let mut evil = store.connect(6);
    let good = "5-digest-00000000000000ff";
    for (node, value) in [
        (good, &b""[..]),
        (good, b"-1"),
        (good, b"4294967296"),
        (good, b"\xff\xfe"),
        (good, b"12 "),
        ("5-digest-ff", b"12"),
        ("5-digest-00000000000000fF", b"12"),
        ("5-digest-00000000000000ff0", b"12"),
        ("5-digest--0000000000000ff", b"12"),
        ("5-diges-00000000000000ff", b"12"),
        ("05-digest-00000000000000ff", b"12"),
        ("5-digest-00000000000000ff/deeper", b"12"),
    ] {
        let path = format!("/local/domain/6/data/idc-dial/{node}");
        let body = [path.as_bytes(), b"\0", value].concat();
        evil.request(MsgType::Write, &body).unwrap();
        let body = [path.as_bytes(), b"\0n6\0r5\0"].concat();
        evil.request(MsgType::SetPerms, &body).unwrap();
        assert_eq!(offers(&mut acceptor), [], "{node} {value:?}");
    }
    let path = format!("/local/domain/6/data/idc-dial/{good}");
    evil.request(MsgType::Write, &[path.as_bytes(), b"\0", b"12"].concat()).unwrap();
    assert_eq!(offers(&mut acceptor), [offer(6, 12, 0xff).unwrap()]);
}

#[test]
fn a_service_that_is_not_there() {
    let store = Xenstored::new(&[0, 5, 6]);
    let deadline = 2_000_000_000;
    let result = XenCall::new(store.connect(0), dial(5, "digest", 9, 1), deadline);
    assert_eq!(result.unwrap_err(), Error::NoSuchService { peer: DomId(5), service: name("digest") });
    assert_eq!(store.connect(0).now(), deadline, "it waited until then");
    // Only dom0 can tell that a domain is not there, and does at once.
    let store = Xenstored::new(&[0, 5, 6]);
    let result = XenCall::new(store.connect(0), dial(9, "digest", 9, 1), deadline);
    assert_eq!(result.unwrap_err(), Error::PeerAbsent { peer: DomId(9) });
    assert_eq!(store.connect(0).now(), 0);
    let result = XenCall::new(store.connect(6), dial(9, "digest", 9, 1), deadline);
    assert_eq!(result.unwrap_err(), Error::NoSuchService { peer: DomId(9), service: name("digest") });
    // A service of another protocol.
    let mut other = store.connect(5);
    other.request(MsgType::Write, b"/local/domain/5/data/idc/digest/listening\0IDC3").unwrap();
    let result = XenCall::new(store.connect(0), dial(5, "digest", 9, 1), deadline);
    assert!(matches!(result.unwrap_err(), Error::Incompatible { peer: DomId(5), .. }));
}

#[test]
fn the_end_of_a_domain_is_seen_by_its_node() {
    let store = Xenstored::new(&[0, 5, 6]);
    let mut watcher = store.connect(6);
    assert!(!shows_alive(&mut watcher, DomId(5)).unwrap());
    show_alive(&mut store.connect(5)).unwrap();
    assert!(shows_alive(&mut watcher, DomId(5)).unwrap());
    assert_eq!(introduced(&mut watcher, DomId(5)).unwrap(), None);
    // A service that comes and goes does not take the node with it.
    drop(XenAcceptor::new(store.connect(5), name("digest")).unwrap());
    assert!(shows_alive(&mut watcher, DomId(5)).unwrap());
    let mut dom0 = store.connect(0);
    assert_eq!(introduced(&mut dom0, DomId(5)).unwrap(), Some(true));
    store.destroy(5);
    assert!(!shows_alive(&mut watcher, DomId(5)).unwrap());
    assert_eq!(introduced(&mut dom0, DomId(5)).unwrap(), Some(false));
}
