//! Channels in tokio's event loop, and the traits of embedded systems.
//!
//! `cargo test -p casemate-idc --features tokio,embedded-io-async --test asynchronous`
#![cfg(not(loom))]

mod common;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use common::{A, B, duplex, noise, world};
use idc::tokio::{AsyncChannel, AsyncReader, AsyncWriter};
use idc::{CloseReason, Config, Error, Spin};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

fn small() -> Config {
    Config::default().with_pages(1).with_max_message(1 << 20).with_spin(Spin::Never)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("no hang") })
}

/// Both to their end, in turns, in one task.
async fn both<T, U>(one: impl Future<Output = T>, two: impl Future<Output = U>) -> (T, U) {
    let (mut one, mut two) = (Box::pin(one), Box::pin(two));
    let (mut first, mut second) = (None, None);
    poll_fn(move |cx| {
        if first.is_none()
            && let Poll::Ready(value) = one.as_mut().poll(cx)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = two.as_mut().poll(cx)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(one), Some(two)) => Poll::Ready((one, two)),
            others => {
                (first, second) = others;
                Poll::Pending
            }
        }
    })
    .await
}

#[test]
fn messages_of_all_sizes_in_one_thread() {
    for config in [small(), small().with_pool(4), Config::paper(128)] {
        let world = world();
        let (writer, gref) = world.a.create(B, &config).unwrap();
        let reader = world.b.connect(A, gref).unwrap();
        run(async {
            let (mut writer, mut reader) =
                (AsyncWriter::new(writer).unwrap(), AsyncReader::new(reader).unwrap());
            let lengths = [0, 1, 8, 500, 1016, 1017, 5000, 100_000, 3, 300_001];
            let sending = async {
                for (seed, len) in lengths.into_iter().enumerate() {
                    writer.send(&noise(len, seed as u64)).await.unwrap();
                }
                writer.finish().unwrap();
            };
            let receiving = async {
                for (seed, len) in lengths.into_iter().enumerate() {
                    assert!(reader.recv().await.unwrap() == Some(noise(len, seed as u64)), "{len} bytes");
                }
                assert_eq!(reader.recv().await, Ok(None));
            };
            both(sending, receiving).await;
        });
    }
}

#[test]
fn both_directions_at_once() {
    let world = world();
    let (ours, theirs) = duplex(&world, &small(), &small());
    run(async {
        let play = async |channel| {
            let (mut writer, mut reader) = AsyncChannel::new(channel).unwrap().split();
            let sending = async {
                for seed in 0..500 {
                    writer.send(&noise(seed as usize * 3, seed)).await.unwrap();
                }
            };
            let receiving = async {
                for seed in 0..500 {
                    assert!(reader.recv().await.unwrap() == Some(noise(seed as usize * 3, seed)));
                }
            };
            both(sending, receiving).await;
            (writer, reader)
        };
        both(play(ours), play(theirs)).await;
    });
    // As one value: two sides that send before they read do not wait for each other.
    let (ours, theirs) = duplex(&world, &small(), &small());
    run(async {
        let play = async |channel| {
            let mut channel = AsyncChannel::new(channel).unwrap();
            for round in 0..50 {
                for _ in 0..7 {
                    channel.send(&noise(400, round)).await.unwrap();
                }
                for _ in 0..7 {
                    assert!(channel.recv().await.unwrap() == Some(noise(400, round)));
                }
            }
            channel
        };
        both(play(ours), play(theirs)).await;
    });
}

#[test]
fn a_future_that_is_dropped_does_no_harm() {
    let world = world();
    let (writer, gref) = world.a.create(B, &small()).unwrap();
    let reader = world.b.connect(A, gref).unwrap();
    run(async {
        let (mut writer, mut reader) = (AsyncWriter::new(writer).unwrap(), AsyncReader::new(reader).unwrap());
        let near = Duration::from_millis(20);
        assert!(tokio::time::timeout(near, reader.recv()).await.is_err());
        // It begins to arrive, and is given up.
        let long = noise(100_000, 1);
        assert!(tokio::time::timeout(near, writer.send(&long)).await.is_err());
        let ((), message) = both(async { writer.send(b"next").await.unwrap() }, reader.recv()).await;
        assert_eq!(message.unwrap().as_deref(), Some(&b"next"[..]));
    });
}

#[test]
fn the_end_of_a_peer_wakes_a_task() {
    let world = world();
    let (ours, theirs) = duplex(&world, &small(), &small());
    run(async {
        let mut ours = AsyncChannel::new(ours).unwrap();
        let closing = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(theirs);
        };
        let (result, ()) = both(ours.recv(), closing).await;
        assert_eq!(result, Err(Error::PeerClosed { peer: B, reason: CloseReason::Dropped }));
    });
    // Without a word, as a domain that is destroyed.
    let evil = common::evil_writer(&world, 1, |_| ());
    let reader = world.b.connect(A, evil.gref).unwrap();
    run(async {
        let mut reader = AsyncReader::new(reader).unwrap();
        let dying = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(evil);
        };
        let (result, ()) = both(reader.recv(), dying).await;
        assert_eq!(result, Err(Error::PeerDied { peer: A }));
    });
}

#[test]
fn streams_of_bytes() {
    let world = world();
    let (writer, gref) = world.a.create(B, &small()).unwrap();
    let reader = world.b.connect(A, gref).unwrap();
    let data = noise(50_000, 4);
    run(async {
        let (mut writer, mut reader) = (AsyncWriter::new(writer).unwrap(), AsyncReader::new(reader).unwrap());
        let sending = async {
            let mut rest = &data[..];
            while !rest.is_empty() {
                let part = &rest[..rest.len().min(3000)];
                let len = poll_fn(|cx| Pin::new(&mut writer).poll_write(cx, part)).await.unwrap();
                rest = &rest[len..];
            }
            poll_fn(|cx| Pin::new(&mut writer).poll_flush(cx)).await.unwrap();
            poll_fn(|cx| Pin::new(&mut writer).poll_shutdown(cx)).await.unwrap();
        };
        let receiving = async {
            let (mut all, mut piece) = (Vec::new(), [0; 777]);
            loop {
                let mut buf = ReadBuf::new(&mut piece);
                poll_fn(|cx| Pin::new(&mut reader).poll_read(cx, &mut buf)).await.unwrap();
                if buf.filled().is_empty() {
                    break all;
                }
                all.extend_from_slice(buf.filled());
            }
        };
        let ((), all) = both(sending, receiving).await;
        assert!(all == data);
    });
}

#[test]
fn traits_of_embedded_systems() {
    let world = world();
    let (mut ours, mut theirs) = duplex(&world, &small(), &Config::default());
    {
        use embedded_io::{Read, Write};
        let (mut write, _) = ours.streams();
        let (_, mut read) = theirs.streams();
        write.write_all(b"blocking").unwrap();
        write.flush().unwrap();
        let mut buf = [0; 8];
        read.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"blocking");
    }
    run(async {
        use embedded_io_async::{Read, Write};
        let (mut write, _) = ours.streams();
        let (_, mut read) = theirs.streams();
        write.write_all(b"and async").await.unwrap();
        write.flush().await.unwrap();
        let mut buf = [0; 9];
        read.read_exact(&mut buf).await.unwrap();
        assert_eq!(&buf, b"and async");
    });
    drop(theirs);
    use embedded_io::Error as _;
    let error = embedded_io::Read::read(&mut ours.streams().1, &mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), embedded_io::ErrorKind::ConnectionReset);
}
