//! The cases, each with a half for the client and one for the server.

use alloc::{format, vec, vec::Vec};
use core::time::Duration;

use idc::platform::Platform;
use idc::{Channel, CloseReason, Config, Error, GrantRef, Reader, Writer};

use crate::{Outcome, Side, say};

/// Names of the cases, in the order in which they run.
pub const CASES: [&str; 10] = [
    "sizes",
    "one-way-out",
    "one-way-in",
    "batch",
    "loans-and-peek",
    "streams",
    "half-close",
    "renew",
    "peer-closes",
    "turnover",
];

/// Short enough to wait for in vain.
const SHORT: Duration = Duration::from_millis(20);

/// Bytes of the stream in each direction, more than the ring holds.
const STREAM: usize = 50_000;

/// Channels of the largest size, one behind the other.
const TURNS: u8 = 8;

/// Messages of a batch.
const BATCH: u8 = 20;

pub(crate) fn client<P: Platform>(case: usize, side: &mut Side<'_, P>) -> Outcome {
    match case {
        0 => sizes_client(side),
        1 => write_only(side),
        2 => read_only(side),
        3 => batch_client(side),
        4 => loans_client(side),
        5 => streams_client(side),
        6 => half_close_client(side),
        7 => renew_writer(side),
        8 => peer_closes_client(side),
        _ => turnover_client(side),
    }
}

pub(crate) fn server<P: Platform>(case: usize, side: &mut Side<'_, P>) -> Outcome {
    match case {
        0 => sizes_server(side),
        1 => read_only(side),
        2 => write_only(side),
        3 => batch_server(side),
        4 => loans_server(side),
        5 => streams_server(side),
        6 => half_close_server(side),
        7 => renew_reader(side),
        8 => drop_channel(side),
        _ => turnover_server(side),
    }
}

fn ensure(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// Bytes that depend on their place and on the seed, so that neither shifted nor stale ones pass.
fn pattern(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
}

fn geometries() -> [Config; 7] {
    let config = Config::default();
    [
        config.with_pages(1),
        config,
        config.with_pages(256),
        config.with_pages(2).with_pool(4),
        Config::paper(8),
        Config::paper(32),
        Config::paper(128),
    ]
}

/// Sizes around each edge: empty, words, where inline ends, pages, larger than a small ring.
fn sizes(max_inline: usize) -> Vec<usize> {
    let mut sizes = vec![0, 1, 7, 8, 9, 31, 127, 511, 4095, 4096, 4097, 65_535, 65_536, 70_001];
    sizes.extend([max_inline.saturating_sub(1), max_inline, max_inline + 1]);
    sizes.retain(|len| *len <= 300_000);
    sizes
}

fn sizes_client<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    for (number, config) in geometries().iter().enumerate() {
        let mut channel = side.dial(config)?;
        let sizes = sizes(channel.max_inline());
        let mut bytes = 0;
        for len in &sizes {
            let message = pattern(*len, number as u8);
            let deadline = side.deadline();
            say("send", channel.send_by(&message, deadline))?;
            let echo = say("recv", channel.recv_by(deadline))?;
            if echo.as_ref() != Some(&message) {
                let got = echo.map(|echo| echo.len());
                return Err(format!("{config:?}: {len} bytes came back as {got:?}, or others"));
            }
            bytes += *len as u64;
        }
        // What both ends counted adds up.
        let (sent, received) = channel.stats();
        let count = sizes.len() as u64;
        ensure((sent.messages, sent.bytes) == (count, bytes), "the writer has counted wrongly")?;
        ensure((received.messages, received.bytes) == (count, bytes), "the reader has counted wrongly")?;
        say("finish", channel.finish())?;
        ensure(say("the end", channel.recv_by(side.deadline()))?.is_none(), "more than was sent")?;
        let theirs = (side.hear_number()?, side.hear_number()?);
        ensure(theirs == (count, bytes), "the two sides have counted differently")?;
    }
    Ok(())
}

fn sizes_server<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    for _ in geometries() {
        let mut channel = side.accept()?;
        while let Some(message) = say("recv", channel.recv_by(side.deadline()))? {
            say("send", channel.send_by(&message, side.deadline()))?;
        }
        say("finish", channel.finish())?;
        let (_, received) = channel.stats();
        side.tell_number(received.messages)?;
        side.tell_number(received.bytes)?;
    }
    Ok(())
}

/// Create: nothing but the grant reference goes to the other side, and nothing comes back through the ring.
fn create<P: Platform>(side: &mut Side<'_, P>) -> Outcome<Writer<P>> {
    let (writer, gref) =
        say("create", side.idc.create_by(side.peer, &Config::default().with_pages(1), side.deadline()))?;
    side.tell_number(u64::from(gref.0))?;
    Ok(writer)
}

/// Connect, with what `create` has said.
fn connect<P: Platform>(side: &mut Side<'_, P>) -> Outcome<Reader<P>> {
    let gref = GrantRef(u32::try_from(side.hear_number()?).map_err(|_| "this is no grant reference")?);
    say("connect", side.idc.connect(side.peer, gref))
}

fn write_only<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut writer = create(side)?;
    for number in 0..100 {
        say("send", writer.send_by(&pattern(usize::from(number) * 13, number), side.deadline()))?;
    }
    say("finish", writer.finish())?;
    say("drain", writer.wait_drained_by(side.deadline()))?;
    ensure(writer.send(b"more") == Err(Error::Finished), "a message went out after the end mark")
}

fn read_only<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut reader = connect(side)?;
    for number in 0..100 {
        let message = say("recv", reader.recv_by(side.deadline()))?;
        ensure(message == Some(pattern(usize::from(number) * 13, number)), "another message came")?;
    }
    ensure(say("the end", reader.recv_by(side.deadline()))?.is_none(), "more than was sent")
}

fn batch_client<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut channel = side.dial(&Config::default().with_pages(1))?;
    let messages: Vec<_> = (0..BATCH).map(|number| pattern(number.into(), number)).collect();
    let parts: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let deadline = side.deadline();
    say("batch", channel.writer().send_batch_by(&parts, deadline))?;
    let writer = channel.writer();
    writer.cork();
    for part in &parts {
        say("corked send", writer.send_by(part, deadline))?;
    }
    say("flush", writer.flush())?;
    say("uncork", writer.uncork())?;
    // The server reads none of these before it is told to: the ring gets full.
    say("the server's half", channel.recv_by(deadline))?;
    let fill = pattern(100, 0);
    let mut count = 0;
    let full = loop {
        match channel.try_send(&fill) {
            Ok(()) if count < 1000 => count += 1,
            other => break other,
        }
    };
    ensure(full == Err(Error::WouldBlock), "a full ring takes more")?;
    let late = channel.send_by(&fill, side.idc.deadline(SHORT));
    ensure(late == Err(Error::TimedOut), "there is no time-out at a full ring")?;
    side.tell_number(count)?;
    say("finish", channel.finish())
}

fn batch_server<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut channel = side.accept()?;
    for number in (0..BATCH).chain(0..BATCH) {
        let message = say("recv", channel.recv_by(side.deadline()))?;
        ensure(message == Some(pattern(number.into(), number)), "another message came")?;
    }
    say("send", channel.send(b"all there"))?;
    let count = side.hear_number()?;
    for _ in 0..count {
        let message = say("recv", channel.recv_by(side.deadline()))?;
        ensure(message == Some(pattern(100, 0)), "another message came")?;
    }
    // The one that timed out has not been sent.
    ensure(say("the end", channel.recv_by(side.deadline()))?.is_none(), "more than was sent")
}

fn loans_client<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut channel = side.dial(&Config::default().with_pages(1))?;
    ensure(channel.try_recv() == Err(Error::WouldBlock), "something came by itself")?;
    let early = channel.recv_by(side.idc.deadline(SHORT));
    ensure(early == Err(Error::TimedOut), "there is no time-out at an empty ring")?;
    let message = pattern(300, 7);
    let (one, two) = message.split_at(33);
    let deadline = side.deadline();
    let mut loan = say("reserve", channel.writer().reserve_by(300, deadline))?;
    say("append", loan.append(one))?;
    say("append", loan.append(two))?;
    say("commit", loan.commit())?;
    // One that is given up is not sent.
    let _ = say("reserve", channel.writer().reserve_by(10, deadline))?;
    say("send", channel.send_by(b"last", deadline))?;
    say("finish", channel.finish())?;
    ensure(say("the end", channel.recv_by(deadline))?.is_none(), "more than was sent")
}

fn loans_server<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut channel = side.accept()?;
    let message = pattern(300, 7);
    let deadline = side.deadline();
    let peeked = say("peek", channel.peek_by(deadline))?;
    ensure(peeked == Some(message.as_slice()), "another message came")?;
    ensure(say("length", channel.peek_len())? == Some(300), "another length")?;
    let mut small = [0; 299];
    let refused = channel.recv_into(&mut small);
    ensure(refused == Err(Error::BufferTooSmall { needed: 300, len: 299 }), "a small buffer is no error")?;
    ensure(say("recv", channel.recv_by(deadline))? == Some(message), "what was peeked is gone")?;
    let last = say("recv", channel.recv_by(deadline))?;
    ensure(last.as_deref() == Some(&b"last"[..]), "a loan that was given up came")?;
    ensure(say("the end", channel.recv_by(deadline))?.is_none(), "more than was sent")?;
    say("finish", channel.finish())
}

fn write_stream<P: Platform>(side: &Side<'_, P>, writer: &mut Writer<P>, seed: u8) -> Outcome {
    let bytes = pattern(STREAM, seed);
    let mut stream = writer.stream();
    stream.set_timeout(Some(side.limit));
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let len = say("write", stream.write_some(rest))?;
        rest = rest.get(len..).ok_or("more was written than there is")?;
    }
    say("finish", stream.finish())
}

fn read_stream<P: Platform>(side: &Side<'_, P>, reader: &mut Reader<P>, seed: u8) -> Outcome {
    let mut stream = reader.stream();
    stream.set_timeout(Some(side.limit));
    let (mut bytes, mut buf) = (Vec::new(), [0; 777]);
    loop {
        match say("read", stream.read_some(&mut buf))? {
            0 => break,
            len => bytes.extend_from_slice(buf.get(..len).ok_or("more was read than fits")?),
        }
    }
    ensure(bytes == pattern(STREAM, seed), "another stream came")
}

fn streams_client<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    // Its halves are split, and used on their own.
    let (mut writer, mut reader) = side.dial(&Config::default().with_pages(1))?.split();
    write_stream(side, &mut writer, 1)?;
    read_stream(side, &mut reader, 2)
}

fn streams_server<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let (mut writer, mut reader) = side.accept()?.split();
    read_stream(side, &mut reader, 1)?;
    write_stream(side, &mut writer, 2)
}

fn half_close_client<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut channel = side.dial(&Config::default())?;
    say("send", channel.send(b"a question"))?;
    say("finish", channel.finish())?;
    ensure(channel.send(b"more") == Err(Error::Finished), "a message went out after the end mark")?;
    for number in 0..10 {
        let message = say("recv", channel.recv_by(side.deadline()))?;
        ensure(message == Some(pattern(100, number)), "another message came")?;
    }
    ensure(say("the end", channel.recv_by(side.deadline()))?.is_none(), "more than was sent")
}

fn half_close_server<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut channel: Channel<P> = side.accept()?;
    let question = say("recv", channel.recv_by(side.deadline()))?;
    ensure(question.as_deref() == Some(&b"a question"[..]), "another message came")?;
    ensure(say("the end", channel.recv_by(side.deadline()))?.is_none(), "more than was sent")?;
    for number in 0..10 {
        say("send", channel.send(&pattern(100, number)))?;
    }
    say("finish", channel.finish())
    // Dropped with messages in it: the client still gets them.
}

fn renew_writer<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut writer = create(side)?;
    let gref = writer.grant_ref();
    for epoch in 0..3 {
        if epoch > 0 {
            side.hear_number()?;
            say("renew", writer.renew_by(side.deadline()))?;
            ensure(writer.grant_ref() == gref, "another grant reference")?;
            side.tell_number(u64::from(gref.0))?;
        }
        ensure(writer.epoch() == epoch, "another epoch")?;
        say("send", writer.send_by(&pattern(50, epoch as u8), side.deadline()))?;
        say("finish", writer.finish())?;
        say("drain", writer.wait_drained_by(side.deadline()))?;
    }
    Ok(())
}

fn renew_reader<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    for epoch in 0..3 {
        if epoch > 0 {
            side.tell_number(epoch)?;
        }
        let mut reader = connect(side)?;
        let message = say("recv", reader.recv_by(side.deadline()))?;
        ensure(message == Some(pattern(50, epoch as u8)), "another message came")?;
        ensure(say("the end", reader.recv_by(side.deadline()))?.is_none(), "more than was sent")?;
    }
    Ok(())
}

fn drop_channel<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut channel = side.accept()?;
    // The client may not even have seen that it was accepted.
    say("send", channel.send(b"before"))
}

fn peer_closes_client<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    let mut channel = side.dial(&Config::default())?;
    let before = say("recv", channel.recv_by(side.deadline()))?;
    ensure(before.as_deref() == Some(&b"before"[..]), "what was sent before the end is lost")?;
    let end = channel.recv_by(side.deadline());
    let closed = Error::PeerClosed { peer: side.peer, reason: CloseReason::Dropped };
    ensure(end == Err(closed), "a peer that drops its end is no error")
}

/// Large channels in quick succession: who opens the next one is ahead of who unmaps the last one.
fn turnover_client<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    for number in 0..TURNS {
        let mut channel = side.dial(&Config::default().with_pages(256).with_pool(64))?;
        say("send", channel.send_by(&pattern(100_000, number), side.deadline()))?;
        let echo = say("recv", channel.recv_by(side.deadline()))?;
        ensure(echo == Some(pattern(100_000, number)), "another message came")?;
    }
    Ok(())
}

fn turnover_server<P: Platform>(side: &mut Side<'_, P>) -> Outcome {
    for _ in 0..TURNS {
        let mut channel = side.accept()?;
        let message = say("recv", channel.recv_by(side.deadline()))?.ok_or("nothing was sent")?;
        say("send", channel.send_by(&message, side.deadline()))?;
        // The client has closed, and so tried to take its pages back, before this side lets go of them.
        let closed = Error::PeerClosed { peer: side.peer, reason: CloseReason::Dropped };
        ensure(channel.recv_by(side.deadline()) == Err(closed), "a peer that drops its end is no error")?;
    }
    Ok(())
}
