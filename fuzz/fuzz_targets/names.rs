//! Offers that come through xenstore: paths and values are what other domains like.
#![no_main]

use std::collections::VecDeque;

use idc::{
    DomId, Error, ServiceName,
    name::{Store, StoreError, XenAcceptor, XenCall},
    platform::{Acceptor, Call, Dial},
};
use libfuzzer_sys::fuzz_target;
use xen_abi::xenstore::MsgType;

/// A xenstored whose answers are parts of the input.
struct Answers(VecDeque<Vec<u8>>, u64);

impl Answers {
    fn next(&mut self) -> Option<Vec<u8>> {
        self.1 += 1_000_000;
        self.0.pop_front()
    }
}

impl Store for Answers {
    fn now(&self) -> u64 {
        self.1
    }

    fn domid(&mut self) -> idc::Result<DomId> {
        Ok(DomId(5))
    }

    fn request(&mut self, kind: MsgType, _: &[u8]) -> Result<Vec<u8>, StoreError> {
        if matches!(kind, MsgType::Write | MsgType::SetPerms | MsgType::Rm) {
            return Ok(b"OK\0".to_vec());
        }
        match self.next() {
            Some(answer) if answer.first() == Some(&b'!') => Err(StoreError::Refused(answer.len() as i32)),
            Some(answer) => Ok(answer),
            None => Err(StoreError::Refused(2)),
        }
    }

    fn watch(&mut self, _: &str) -> Result<(), StoreError> {
        Ok(())
    }

    fn changed(&mut self, deadline: u64) -> idc::Result<Option<String>> {
        if deadline <= self.1 {
            return Ok(None);
        }
        // Most paths have the beginning that an offer has.
        Ok(self.next().map(|path| {
            let text = String::from_utf8_lossy(&path).into_owned();
            match text.strip_prefix('+') {
                Some(rest) => format!("/local/domain/{rest}"),
                None => format!("/local/domain/7/data/idc-dial/5-echo-{text}"),
            }
        }))
    }
}

fuzz_target!(|data: &[u8]| {
    let parts = || data.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let service = ServiceName::new("echo").expect("a name");
    let mut acceptor = XenAcceptor::new(Answers(parts(), 1), service).expect("nothing fails");
    while let Ok(Some(offer)) = acceptor.next(u64::MAX) {
        assert!(offer.peer.0 < u16::MAX || offer.id != u64::MAX || offer.gref.0 > 0);
    }
    let dial = Dial { peer: DomId(7), service, gref: idc::GrantRef(9), id: 3 };
    match XenCall::new(Answers(parts(), 1), dial, 1_000_000_000) {
        Ok(mut call) => drop(call.remind()),
        Err(error) => assert!(!matches!(error, Error::BadConfig(_)), "{error}"),
    }
    if let Ok(text) = str::from_utf8(data) {
        match ServiceName::new(text) {
            Ok(name) => assert!(name.as_str() == text && text.len() <= 32 && !text.contains(['/', '\0'])),
            Err(error) => drop(error.to_string()),
        }
    }
});
