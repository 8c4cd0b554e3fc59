//! The xenstore codec: what it writes, what it refuses to write, and what it makes of a hostile xenstored.

use proptest::prelude::*;
use xen_abi::xenstore::{
    Access, Decoder, HEADER_LEN, Header, Item, MsgType, PathError, Perm, ProtocolError, RequestError,
    XENSTORE_ABS_PATH_MAX, XENSTORE_PAYLOAD_MAX, XENSTORE_REL_PATH_MAX, check_path, check_watch_path, reply,
    request,
};
use xen_abi::{DomId, errno};

// ---- paths -------------------------------------------------------------------------------------------------

#[test]
fn paths() {
    for good in ["/", "/local/domain/0", "data/x", "a", "/a-b_c/1@2", "control/shutdown"] {
        assert_eq!(check_path(good), Ok(()), "{good}");
    }
    for (bad, why) in [
        ("", PathError::Empty),
        ("/a/", PathError::TrailingSlash),
        ("a/", PathError::TrailingSlash),
        ("//", PathError::DoubleSlash { at: 1 }),
        ("/a//b", PathError::DoubleSlash { at: 3 }),
        ("/a b", PathError::BadByte { at: 2 }),
        ("/a\0b", PathError::BadByte { at: 2 }),
        ("/a/../b", PathError::BadByte { at: 3 }),
        ("/é", PathError::BadByte { at: 1 }),
        ("@releaseDomain", PathError::Special),
    ] {
        assert_eq!(check_path(bad), Err(why), "{bad:?}");
    }
    assert_eq!(check_watch_path("@releaseDomain"), Ok(()));
    assert_eq!(check_watch_path("@a b"), Err(PathError::BadByte { at: 2 }));
}

#[test]
fn path_lengths() {
    for (prefix, limit) in [("/", XENSTORE_ABS_PATH_MAX), ("a", XENSTORE_REL_PATH_MAX)] {
        let longest = format!("{prefix}{}", "x".repeat(limit - 1));
        assert_eq!(check_path(&longest), Ok(()));
        assert_eq!(check_path(&format!("{longest}x")), Err(PathError::TooLong { len: limit + 1, limit }));
    }
}

proptest! {
    #[test]
    fn paths_follow_the_specification(path in "[a-zA-Z0-9/_@-]{0,20}|[ -~é\0]{0,20}") {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-/_@".contains(c);
        let good = !path.is_empty()
            && path.chars().all(allowed)
            && !path.contains("//")
            && (path == "/" || !path.ends_with('/'));
        prop_assert_eq!(check_watch_path(&path).is_ok(), good);
        prop_assert_eq!(check_path(&path).is_ok(), good && !path.starts_with('@'));
    }
}

// ---- headers -----------------------------------------------------------------------------------------------

#[test]
fn header_on_the_wire() {
    let header = Header { kind: MsgType::Write, req_id: 0x0102_0304, tx_id: 5, len: 0x1000 };
    let bytes = header.encode().unwrap();
    assert_eq!(bytes, [11, 0, 0, 0, 4, 3, 2, 1, 5, 0, 0, 0, 0, 0x10, 0, 0]);
    assert_eq!(Header::decode(&bytes), Ok(header));
}

#[test]
fn headers_that_would_end_the_connection_are_not_made() {
    let header = Header { kind: MsgType::Write, req_id: 1, tx_id: 0, len: 4097 };
    assert_eq!(header.encode(), Err(RequestError::TooLong { len: 4097 }));
    for kind in [MsgType::WatchEvent, MsgType::Error] {
        assert_eq!(Header { kind, len: 0, ..header }.encode(), Err(RequestError::NotARequest));
    }
}

#[test]
fn impossible_headers() {
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(&20u32.to_le_bytes());
    assert_eq!(Header::decode(&bytes), Err(ProtocolError::UnknownType(20)), "XS_RESTRICT is gone");
    bytes[..4].copy_from_slice(&0xffffu32.to_le_bytes());
    assert_eq!(Header::decode(&bytes), Err(ProtocolError::UnknownType(0xffff)));
    bytes[..4].copy_from_slice(&2u32.to_le_bytes());
    bytes[12..].copy_from_slice(&4097u32.to_le_bytes());
    assert_eq!(Header::decode(&bytes), Err(ProtocolError::TooLong(4097)));
    bytes[12..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Header::decode(&bytes), Err(ProtocolError::TooLong(u32::MAX)));
}

// ---- the decoder -------------------------------------------------------------------------------------------

/// A message as it arrives; xenstored may send types that `Header::encode` refuses.
fn message() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let body = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => prop::collection::vec(any::<u8>(), XENSTORE_PAYLOAD_MAX - 2..=XENSTORE_PAYLOAD_MAX),
    ];
    (prop::sample::select(MsgType::ALL.to_vec()), any::<u32>(), any::<u32>(), body).prop_map(
        |(kind, req_id, tx_id, body)| (Header { kind, req_id, tx_id, len: body.len() as u32 }, body),
    )
}

fn wire(messages: &[(Header, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, body) in messages {
        for word in [header.kind.number(), header.req_id, header.tx_id, header.len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(body);
    }
    bytes
}

/// Feeds the input in pieces of the given lengths (then the rest) and puts the messages together.
fn decode(
    decoder: &mut Decoder,
    mut input: &[u8],
    pieces: &[usize],
) -> (Vec<(Header, Vec<u8>)>, Option<ProtocolError>) {
    let (mut messages, mut current) = (Vec::new(), None);
    let mut pieces = pieces.iter().copied();
    while !input.is_empty() {
        let count = pieces.next().unwrap_or(usize::MAX).min(input.len());
        let (mut piece, rest) = input.split_at(count);
        input = rest;
        loop {
            match decoder.next(&mut piece) {
                Ok(Some(Item::Header(header))) => {
                    assert!(current.replace((header, Vec::new())).is_none(), "a header inside a message");
                }
                Ok(Some(Item::Body(bytes))) => {
                    assert!(!bytes.is_empty());
                    let (header, body) = current.as_mut().expect("a body without a header");
                    body.extend_from_slice(bytes);
                    assert!(body.len() <= header.len as usize, "more body than announced");
                }
                Ok(Some(Item::End)) => messages.push(current.take().expect("an end without a header")),
                Ok(None) => break,
                Err(error) => return (messages, Some(error)),
            }
        }
        assert!(piece.is_empty(), "the decoder left bytes behind");
    }
    (messages, None)
}

proptest! {
    #[test]
    fn messages_survive_any_fragmentation(
        messages in prop::collection::vec(message(), 0..5),
        pieces in prop::collection::vec(1usize..60, 0..80),
    ) {
        let mut decoder = Decoder::new();
        let (decoded, error) = decode(&mut decoder, &wire(&messages), &pieces);
        prop_assert_eq!(error, None);
        prop_assert!(decoder.is_idle());
        prop_assert_eq!(decoded, messages);
    }

    #[test]
    fn reading_just_what_is_wanted_works(messages in prop::collection::vec(message(), 1..4)) {
        let bytes = wire(&messages);
        let mut input = &bytes[..];
        let mut decoder = Decoder::new();
        let mut ends = 0;
        while ends < messages.len() {
            let (mut part, rest) = input.split_at(decoder.wanted());
            input = rest;
            prop_assert!(part.len() <= XENSTORE_PAYLOAD_MAX);
            if decoder.next(&mut part).unwrap() == Some(Item::End) {
                ends += 1;
            }
            prop_assert!(part.is_empty());
        }
        prop_assert!(input.is_empty() && decoder.is_idle());
    }

    #[test]
    fn any_bytes_end_soon(
        bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => 0u8..24, 1 => any::<u8>()], 0..600),
        pieces in prop::collection::vec(1usize..60, 0..60),
    ) {
        let mut decoder = Decoder::new();
        let (decoded, error) = decode(&mut decoder, &bytes, &pieces);
        prop_assert!(decoded.len() <= bytes.len() / HEADER_LEN);
        if let Some(error) = error {
            let mut more = &wire(&[(Header { kind: MsgType::Read, req_id: 0, tx_id: 0, len: 0 }, vec![])])[..];
            prop_assert_eq!(decoder.next(&mut more), Err(error), "an error lasts");
            prop_assert_eq!(decoder.wanted(), 0);
        }
    }
}

// ---- requests ----------------------------------------------------------------------------------------------

#[test]
fn request_bodies() {
    let mut buf = [0xee; XENSTORE_PAYLOAD_MAX];
    let check = |len: Result<usize, RequestError>, buf: &[u8], expected: &[u8]| {
        assert_eq!(&buf[..len.unwrap()], expected);
        assert_eq!(buf[expected.len()], 0xee, "wrote behind the body");
    };
    macro_rules! body {
        ($call:expr, $expected:expr) => {{
            buf.fill(0xee);
            let len = $call;
            check(len, &buf, $expected);
        }};
    }
    body!(request::path(&mut buf, "data/x"), b"data/x\0");
    body!(request::write(&mut buf, "data/x", b"a\0b"), b"data/x\0a\0b");
    body!(request::write(&mut buf, "data/x", b""), b"data/x\0");
    body!(request::watch(&mut buf, "@releaseDomain", "7"), b"@releaseDomain\x007\0");
    body!(request::watch(&mut buf, "control/shutdown", ""), b"control/shutdown\0\0");
    let perms = [
        Perm { domid: DomId(7), access: Access::None },
        Perm { domid: DomId(0), access: Access::Read },
        Perm { domid: DomId(65535), access: Access::Both },
        Perm { domid: DomId(10), access: Access::Write },
    ];
    body!(request::set_perms(&mut buf, "data", &perms), b"data\0n7\0r0\0b65535\0w10\0");
    body!(request::domid(&mut buf, DomId(0)), b"0\0");
    body!(request::directory_part(&mut buf, "/", u32::MAX), b"/\x004294967295\0");
    assert_eq!(request::transaction_end(true), b"T\0");
    assert_eq!(request::transaction_end(false), b"F\0");
    assert_eq!(request::EMPTY, b"\0");
}

#[test]
fn requests_that_cannot_be_sent() {
    let mut buf = [0; 2 * XENSTORE_PAYLOAD_MAX];
    assert_eq!(request::path(&mut buf, "a b"), Err(RequestError::Path(PathError::BadByte { at: 1 })));
    assert_eq!(request::path(&mut buf, "@releaseDomain"), Err(RequestError::Path(PathError::Special)));
    assert_eq!(request::watch(&mut buf, "a", "b\0c"), Err(RequestError::Token));
    assert_eq!(request::set_perms(&mut buf, "a", &[]), Err(RequestError::NoPermissions));
    let value = [0; XENSTORE_PAYLOAD_MAX];
    assert_eq!(request::write(&mut buf, "a", &value[..4094]), Ok(4096));
    assert_eq!(request::write(&mut buf, "a", &value[..4095]), Err(RequestError::TooLong { len: 4097 }));
}

proptest! {
    #[test]
    fn a_buffer_just_large_enough_is_large_enough(
        path in "/[a-z/]{0,5}[a-z]", value in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        prop_assume!(!path.contains("//"));
        let Err(RequestError::Buffer { need }) = request::write(&mut [], &path, &value) else {
            return Err(TestCaseError::fail("an empty buffer was enough"));
        };
        let mut buf = vec![0; need];
        prop_assert_eq!(
            request::write(&mut buf[..need - 1], &path, &value), Err(RequestError::Buffer { need })
        );
        prop_assert_eq!(request::write(&mut buf, &path, &value), Ok(need));
        prop_assert_eq!(buf, [path.as_bytes(), b"\0", &value].concat());
    }

    #[test]
    fn permissions_come_back(list in prop::collection::vec((any::<u16>(), 0usize..4), 1..20)) {
        let kinds = [Access::None, Access::Read, Access::Write, Access::Both];
        let list: Vec<Perm> =
            list.into_iter().map(|(id, kind)| Perm { domid: DomId(id), access: kinds[kind] }).collect();
        let mut buf = [0; XENSTORE_PAYLOAD_MAX];
        let len = request::set_perms(&mut buf, "p", &list).unwrap();
        let parsed: Vec<Perm> = reply::perms(&buf[2..len]).unwrap().collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(parsed, list);
    }
}

// ---- replies -----------------------------------------------------------------------------------------------

#[test]
fn errors() {
    for (number, name) in reply::ERRORS {
        assert_eq!(reply::error_name(number), Some(name));
        assert_eq!(reply::error_number(format!("{name}\0").as_bytes()), Ok(number));
        assert_eq!(errno::name(-number), Some(name));
    }
    assert_eq!(reply::error_number(b"EQUOTA\0"), Ok(errno::ENOSPC));
    assert_eq!(reply::error_number(b"EDOM\0"), Err(ProtocolError::UnknownError));
    assert_eq!(reply::error_number(b"ENOENT"), Err(ProtocolError::Termination));
    assert_eq!(reply::error_number(b"ENOENT\0\0"), Err(ProtocolError::Termination));
    assert_eq!(reply::error_number(b""), Err(ProtocolError::Termination));
    assert_eq!(reply::error_number(b"\0"), Err(ProtocolError::UnknownError));
    assert_eq!(reply::error_number(b"enoent\0"), Err(ProtocolError::UnknownError));
    assert_eq!(reply::error_number(b"E\xff\0"), Err(ProtocolError::NotText));
    assert_eq!(reply::error_name(errno::EDOM), None);
}

#[test]
fn error_numbers_have_names() {
    assert!(errno::ALL.is_sorted_by(|a, b| a.0 < b.0));
    assert_eq!(errno::name(errno::EAGAIN), Some("EAGAIN"));
    assert_eq!(errno::name(-38), Some("ENOSYS"));
    assert_eq!(errno::name(0), None);
    assert_eq!(errno::name(i32::MIN), None);
    assert_eq!(errno::number("EPERM"), Some(1));
}

#[test]
fn simple_answers() {
    assert_eq!(reply::ok(b"OK\0"), Ok(()));
    for bad in [&b"OK"[..], b"", b"ok\0", b"OK\0\0"] {
        assert_eq!(reply::ok(bad), Err(ProtocolError::BadAnswer));
    }
    assert_eq!((reply::boolean(b"T\0"), reply::boolean(b"F\0")), (Ok(true), Ok(false)));
    assert_eq!(reply::boolean(b"T"), Err(ProtocolError::BadAnswer));
    assert_eq!(reply::domain_path(b"/local/domain/3\0"), Ok("/local/domain/3"));
    assert_eq!(reply::domain_path(b"/a\0/b\0"), Err(ProtocolError::Termination));
}

#[test]
fn transaction_ids() {
    assert_eq!(reply::transaction_id(b"1\0"), Ok(1));
    assert_eq!(reply::transaction_id(b"4294967295\0"), Ok(u32::MAX));
    for bad in
        [&b"0\0"[..], b"4294967296\0", b"+1\0", b"-1\0", b" 1\0", b"\0", b"1x\0", b"99999999999999999999\0"]
    {
        assert_eq!(reply::transaction_id(bad), Err(ProtocolError::BadNumber), "{bad:?}");
    }
    assert_eq!(reply::transaction_id(b"1"), Err(ProtocolError::Termination));
}

#[test]
fn lists() {
    let list = |body| reply::directory(body).map(|names| names.collect::<Vec<_>>());
    assert_eq!(list(b""), Ok(vec![]));
    assert_eq!(list(b"a\0bc\0"), Ok(vec!["a", "bc"]));
    assert_eq!(list(b"\0a\0"), Ok(vec!["", "a"]));
    assert_eq!(list(b"a\0b"), Err(ProtocolError::Termination));
    assert_eq!(list(b"\xff\0"), Err(ProtocolError::NotText));

    let (generation, mut names) = reply::directory_part(b"12\0a\0b\0").unwrap();
    assert_eq!((generation, names.next(), names.next(), names.next()), ("12", Some("a"), Some("b"), None));
    assert_eq!(reply::directory_part(b"").err(), Some(ProtocolError::Termination));
}

#[test]
fn watch_events() {
    let parse = reply::WatchEvent::parse;
    assert_eq!(parse(b"a/b\0tok\0"), Ok(reply::WatchEvent { path: "a/b", token: "tok" }));
    assert_eq!(parse(b"a\0t\0depth\0").map(|event| event.token), Ok("t"));
    for bad in [&b""[..], b"a\0", b"a", b"a\0t"] {
        assert_eq!(parse(bad), Err(ProtocolError::Termination), "{bad:?}");
    }
}

#[test]
fn bad_permissions() {
    for bad in ["", "r", "x1", "r65536", "r+1", "r-1", "R1", "r1 "] {
        let body = format!("n0\0{bad}\0");
        let found: Vec<_> = reply::perms(body.as_bytes()).unwrap().collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], Err(ProtocolError::BadPermission), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_reply_can_do_harm(body in prop::collection::vec(
        prop_oneof![2 => Just(0u8), 2 => b'0'..=b'9', 2 => b'a'..=b'z', 1 => any::<u8>()], 0..60,
    )) {
        let limit = body.len();
        if let Ok(names) = reply::directory(&body) {
            prop_assert_eq!(names.clone().map(|name| name.len() + 1).sum::<usize>(), limit);
            prop_assert!(names.into_iter().all(|name| !name.contains('\0')));
        }
        if let Ok(perms) = reply::perms(&body) {
            prop_assert!(perms.count() <= limit);
        }
        if let Ok(event) = reply::WatchEvent::parse(&body) {
            prop_assert!(event.path.len() + event.token.len() + 2 <= limit);
        }
        let _ = (reply::ok(&body), reply::boolean(&body), reply::error_number(&body));
        let _ = (reply::transaction_id(&body), reply::domain_path(&body));
        let _ = reply::directory_part(&body).map(|(_, names)| names.count());
    }
}
