//! What xenstored sends, in pieces of any size: messages, replies and watch events.
#![no_main]

use libfuzzer_sys::fuzz_target;
use xen_abi::xenstore::{Decoder, Item, XENSTORE_PAYLOAD_MAX, check_path, check_watch_path, reply};

fuzz_target!(|data: &[u8]| {
    let Some((cut, stream)) = data.split_first() else { return };
    let mut decoder = Decoder::new();
    let mut body = Vec::new();
    'stream: for mut piece in stream.chunks(usize::from(*cut).max(1)) {
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(Item::Header(header))) => {
                    assert!(header.len as usize <= XENSTORE_PAYLOAD_MAX);
                    body.clear();
                }
                Ok(Some(Item::Body(bytes))) => body.extend_from_slice(bytes),
                Ok(Some(Item::End)) => {
                    assert!(body.len() <= XENSTORE_PAYLOAD_MAX);
                    look(&body);
                }
                Ok(None) => break,
                // It stays so.
                Err(error) => {
                    assert_eq!(decoder.next(&mut piece).err(), Some(error));
                    break 'stream;
                }
            }
        }
        assert!(piece.is_empty());
    }
    look(stream);
});

fn look(body: &[u8]) {
    let _ = (reply::error_number(body), reply::ok(body), reply::boolean(body), reply::transaction_id(body));
    let _ = reply::domain_path(body);
    if let Ok(names) = reply::directory(body) {
        assert!(names.map(str::len).sum::<usize>() <= body.len());
    }
    if let Ok((_, names)) = reply::directory_part(body) {
        assert!(names.count() <= body.len());
    }
    if let Ok(perms) = reply::perms(body) {
        assert!(perms.count() <= body.len());
    }
    if let Ok(event) = reply::WatchEvent::parse(body) {
        assert!(event.path.len() + event.token.len() <= body.len());
    }
    if let Ok(text) = str::from_utf8(body) {
        let _ = (check_path(text), check_watch_path(text));
    }
}
