//! The service between hosted processes: answers, and clients that do not behave.
#![cfg(not(casemate))]

use std::thread;
use std::time::Duration;

use digest_service::{DIGEST_LEN, MESSAGE_MAX, NAME, Served, listen_config, serve};
use idc::{Channel, Config, DomId, Error, HostedConfig, Idc, Listener};
use sha2::{Digest, Sha256};

const SERVICE: DomId = DomId(10);

/// A service that takes clients until its thread ends with the test, and reports how each ended.
fn start(directory: &std::path::Path) -> std::sync::mpsc::Receiver<(Served, Result<(), Error>)> {
    let idc = Idc::hosted(HostedConfig::new(SERVICE).directory(directory)).unwrap();
    let mut listener = Listener::bind(&idc, NAME, listen_config()).unwrap();
    let (reports, ends) = std::sync::mpsc::channel();
    thread::spawn(move || {
        loop {
            let mut channel = listener.accept().unwrap();
            let reports = reports.clone();
            thread::spawn(move || {
                let mut served = Served::default();
                let result = serve(&mut channel, &mut served);
                // The test may have ended.
                let _ = reports.send((served, result));
            });
        }
    });
    ends
}

fn client(directory: &std::path::Path) -> Idc {
    Idc::hosted(HostedConfig::any().directory(directory)).unwrap()
}

fn dial(idc: &Idc) -> Channel {
    let deadline = idc.deadline(Duration::from_secs(60));
    Channel::dial(idc, SERVICE, NAME, &Config::default(), deadline).unwrap()
}

fn sha256(data: &[u8]) -> Vec<u8> {
    Sha256::digest(data).to_vec()
}

#[test]
fn known_answers() {
    let directory = tempfile::tempdir().unwrap();
    let ends = start(directory.path());
    let idc = client(directory.path());
    // FIPS 180-4, and the empty stream.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for (pieces, expected) in [(&[&b"a"[..], b"bc"][..], abc), (&[b"abc"], abc), (&[], empty)] {
        let mut channel = dial(&idc);
        pieces.iter().for_each(|piece| channel.send(piece).unwrap());
        channel.finish().unwrap();
        let digest = channel.recv().unwrap().expect("an answer");
        assert_eq!(digest.len(), DIGEST_LEN);
        assert_eq!(digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
        assert_eq!(channel.recv(), Ok(None));
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        assert_eq!(ends.recv().unwrap(), (Served { streams: 1, bytes }, Ok(())));
    }
}

#[test]
fn several_streams_on_one_channel() {
    let directory = tempfile::tempdir().unwrap();
    let ends = start(directory.path());
    let idc = client(directory.path());
    let mut channel = dial(&idc);
    let mut bytes = 0;
    for len in [1, 0, 100_000, MESSAGE_MAX] {
        let data = vec![len as u8; len];
        for piece in data.chunks(MESSAGE_MAX) {
            channel.send(piece).unwrap();
        }
        channel.send(&[]).unwrap();
        assert_eq!(channel.recv().unwrap(), Some(sha256(&data)), "{len} bytes");
        bytes += len as u64;
    }
    // Nothing since the last answer: nothing more to answer.
    channel.finish().unwrap();
    assert_eq!(channel.recv(), Ok(None));
    assert_eq!(ends.recv().unwrap(), (Served { streams: 4, bytes }, Ok(())));
}

#[test]
fn clients_at_once_do_not_mix() {
    let directory = tempfile::tempdir().unwrap();
    let _ends = start(directory.path());
    let clients: Vec<_> = (0..6u8)
        .map(|number| {
            let idc = client(directory.path());
            thread::spawn(move || {
                let data = vec![number; 300_000 + usize::from(number)];
                let mut channel = dial(&idc);
                data.chunks(7000).for_each(|piece| channel.send(piece).unwrap());
                channel.finish().unwrap();
                assert_eq!(channel.recv().unwrap(), Some(sha256(&data)));
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
}

#[test]
fn bad_clients_do_not_take_the_service_down() {
    let directory = tempfile::tempdir().unwrap();
    let ends = start(directory.path());
    let idc = client(directory.path());
    // One that goes in the middle of a stream.
    let mut channel = dial(&idc);
    channel.send(b"half").unwrap();
    drop(channel);
    let (served, result) = ends.recv().unwrap();
    assert_eq!(served, Served { streams: 0, bytes: 4 });
    assert!(matches!(result, Err(Error::PeerClosed { .. })), "{result:?}");
    // One that says too much: refused on its own side, before anything is sent.
    let mut channel = dial(&idc);
    let max = MESSAGE_MAX as u64;
    assert_eq!(channel.send(&vec![0; MESSAGE_MAX + 1]), Err(Error::MessageTooLarge { len: max + 1, max }));
    channel.finish().unwrap();
    assert_eq!(channel.recv().unwrap(), Some(sha256(b"")));
    // One that never reads: 200 answers do not fit into the service's page.
    let mut silent = dial(&idc);
    (0..200).for_each(|_| silent.send(&[]).unwrap());
    // Others are served meanwhile.
    let mut channel = dial(&idc);
    channel.send(b"x").unwrap();
    channel.finish().unwrap();
    assert_eq!(channel.recv().unwrap(), Some(sha256(b"x")));
    // And it can be late.
    for _ in 0..200 {
        assert_eq!(silent.recv().unwrap(), Some(sha256(b"")));
    }
}
