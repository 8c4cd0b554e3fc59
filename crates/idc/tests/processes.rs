//! Two real processes. The second one is this program again, told by its environment which part to play.
#![cfg(not(loom))]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::noise;
use idc::{
    Channel, CloseReason, Config, Deadline, DomId, Error, GrantRef, HostedConfig, Idc, ListenConfig,
    Listener, Violation,
};

const OTHER: DomId = DomId(501);
const US: DomId = DomId(502);

/// The other process; killed with the test.
struct Other {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Other {
    fn start(part: &str, directory: &Path) -> Other {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["the_other_process", "--exact", "--nocapture", "--test-threads=1"])
            .env("IDC_TEST_PART", part)
            .env("IDC_TEST_DIRECTORY", directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Other { child, lines }
    }

    /// Waits for a line that starts with a word, and returns the rest of it.
    fn says(&mut self, word: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the other process ended before `{word}`");
            // The test harness writes the name of the test without a line end.
            if let Some((_, rest)) = line.split_once(word) {
                return rest.trim().to_owned();
            }
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until it has ended as it should.
    fn ends(mut self) {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(domid: DomId, directory: &Path) -> Idc {
    Idc::hosted(HostedConfig::new(domid).directory(directory)).unwrap()
}

fn dial(idc: &Idc, config: &Config) -> Channel {
    Channel::dial(idc, OTHER, "test", config, idc.deadline(Duration::from_secs(60))).unwrap()
}

/// The parts that the other process plays.
#[test]
fn the_other_process() {
    let Ok(part) = std::env::var("IDC_TEST_PART") else { return };
    let directory = std::env::var_os("IDC_TEST_DIRECTORY").expect("a directory");
    let idc = open(OTHER, Path::new(&directory));
    let mut listener = Listener::bind(&idc, "test", ListenConfig::default()).unwrap();
    println!("ready");
    match part.as_str() {
        "echo" => {
            let mut channel = listener.accept().unwrap();
            while let Some(message) = channel.recv().unwrap() {
                channel.send(&message).unwrap();
            }
            channel.finish().unwrap();
            let (sent, received) = channel.stats();
            println!("stats {} {}", received.messages, sent.messages);
        }
        "hash" => {
            // A slow reader, so that the writer has to wait for room.
            let mut channel = listener.accept().unwrap();
            let mut sum = 0u64;
            let mut count = 0u64;
            while let Some(message) = channel.recv().unwrap() {
                sum = message.iter().fold(sum, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
                count += 1;
                if count.is_multiple_of(1000) {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            channel.send(&sum.to_le_bytes()).unwrap();
            channel.finish().unwrap();
        }
        "accept and wait" => {
            let channel = listener.accept().unwrap();
            println!("accepted");
            thread::sleep(Duration::from_secs(600));
            drop(channel);
        }
        "write some and wait" => {
            let mut channel = listener.accept().unwrap();
            for number in 0..10u64 {
                channel.send(&number.to_le_bytes()).unwrap();
            }
            println!("written");
            thread::sleep(Duration::from_secs(600));
        }
        "finish and exit" => {
            let mut channel = listener.accept().unwrap();
            assert!(channel.recv().unwrap().is_some());
            for number in 0..10u64 {
                channel.send(&number.to_le_bytes()).unwrap();
            }
            channel.finish().unwrap();
        }
        "do not accept" => thread::sleep(Duration::from_secs(600)),
        "write one way" => {
            let (mut writer, gref) = idc.create(US, &Config::default().with_pages(2)).unwrap();
            println!("gref {gref}");
            for number in 0..50_000u64 {
                writer.send(&number.to_le_bytes()).unwrap();
            }
            writer.finish().unwrap();
            writer.wait_drained_by(Deadline::NEVER).unwrap();
            println!("drained");
        }
        part => panic!("{part} is no part"),
    }
}

#[test]
fn messages_go_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let mut other = Other::start("echo", directory.path());
    let us = open(US, directory.path());
    let mut channel = dial(&us, &Config::default());
    let lengths = (0..300).chain([4096, 16_376, 16_377, 100_000, 3_000_000]);
    let mut count = 0;
    for (seed, len) in lengths.enumerate() {
        let message = noise(len, seed as u64);
        channel.send(&message).unwrap();
        assert!(channel.recv().unwrap() == Some(message), "a message of {len} bytes");
        count += 1;
    }
    channel.finish().unwrap();
    assert_eq!(channel.recv(), Ok(None));
    assert_eq!(other.says("stats"), format!("{count} {count}"));
    other.ends();
    assert_eq!(us.counters().all_violations(), 0);
}

#[test]
fn a_stream_through_a_small_ring_arrives_whole() {
    let directory = tempfile::tempdir().unwrap();
    let other = Other::start("hash", directory.path());
    let us = open(US, directory.path());
    let mut channel = dial(&us, &Config::default().with_pages(1));
    let mut sum = 0u64;
    for number in 0..40_000u64 {
        let message = noise((number * 7919 % 1500) as usize, number);
        sum = message.iter().fold(sum, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte));
        channel.send(&message).unwrap();
    }
    channel.finish().unwrap();
    assert_eq!(channel.recv().unwrap().as_deref(), Some(&sum.to_le_bytes()[..]));
    let (sent, _) = channel.stats();
    assert!(sent.parks + sent.spins > 0, "the writer had to wait: {sent:?}");
    other.ends();
}

#[test]
fn one_way_with_a_grant_reference_alone() {
    let directory = tempfile::tempdir().unwrap();
    let us = open(US, directory.path());
    let mut other = Other::start("write one way", directory.path());
    let gref = GrantRef(other.says("gref").parse().unwrap());
    let mut reader = us.connect(OTHER, gref).unwrap();
    for number in 0..50_000u64 {
        assert_eq!(reader.recv().unwrap().as_deref(), Some(&number.to_le_bytes()[..]));
    }
    assert_eq!(reader.recv(), Ok(None));
    other.says("drained");
    other.ends();
}

/// A blocked call ends soon after the other process was killed.
fn killed(part: &str, word: &str, blocked: impl FnOnce(Channel) -> Error + Send + 'static) {
    let directory = tempfile::tempdir().unwrap();
    let mut other = Other::start(part, directory.path());
    let us = open(US, directory.path());
    let channel = dial(&us, &Config::default().with_pages(1));
    other.says(word);
    let waiting = thread::spawn(move || (blocked(channel), Instant::now()));
    // So that it is asleep; if it is not yet, the test is only easier.
    thread::sleep(Duration::from_millis(150));
    let death = Instant::now();
    other.kill();
    let (error, noticed) = waiting.join().unwrap();
    assert_eq!(error, Error::PeerDied { peer: OTHER });
    // The design says a tenth of a second; a loaded machine gets some more.
    let time = noticed.saturating_duration_since(death);
    assert!(time < Duration::from_millis(1000), "noticed after {time:?}");
    assert_eq!(us.counters().peers_died(), 1);
}

#[test]
fn a_killed_writer_ends_a_read() {
    killed("accept and wait", "accepted", |mut channel| channel.recv().unwrap_err());
}

#[test]
fn a_killed_reader_ends_a_write() {
    killed("accept and wait", "accepted", |mut channel| {
        loop {
            if let Err(error) = channel.send(&[0; 300]) {
                break error;
            }
        }
    });
}

#[test]
fn what_was_written_before_death_is_read() {
    killed("write some and wait", "written", |mut channel| {
        thread::sleep(Duration::from_millis(400));
        for number in 0..10u64 {
            assert_eq!(channel.recv().unwrap().as_deref(), Some(&number.to_le_bytes()[..]));
        }
        channel.recv().unwrap_err()
    });
}

#[test]
fn a_process_that_has_finished_may_go() {
    let directory = tempfile::tempdir().unwrap();
    let other = Other::start("finish and exit", directory.path());
    let us = open(US, directory.path());
    let mut channel = dial(&us, &Config::default());
    channel.send(b"go").unwrap();
    other.ends();
    for number in 0..10u64 {
        assert_eq!(channel.recv().unwrap().as_deref(), Some(&number.to_le_bytes()[..]));
    }
    assert_eq!(channel.recv(), Ok(None), "it had said everything");
    let gone = channel.send(b"are you there?").unwrap_err();
    assert_eq!(gone, Error::PeerClosed { peer: OTHER, reason: CloseReason::Dropped });
}

#[test]
fn a_peer_that_never_comes() {
    let directory = tempfile::tempdir().unwrap();
    let us = open(US, directory.path());
    let limit = Duration::from_millis(200);
    let start = Instant::now();
    let config = Config::default();
    // No process.
    let absent = Channel::dial(&us, OTHER, "test", &config, us.deadline(limit)).unwrap_err();
    assert_eq!(absent, Error::PeerAbsent { peer: OTHER });
    // A process that does not accept.
    let mut other = Other::start("do not accept", directory.path());
    other.says("ready");
    let ignored = Channel::dial(&us, OTHER, "test", &config, us.deadline(limit)).unwrap_err();
    assert_eq!(ignored, Error::PeerNotConnected { peer: OTHER });
    // A writer whose reader does not connect.
    let (mut writer, _) = us.create(OTHER, &config.with_pages(1)).unwrap();
    let deadline = us.deadline(limit);
    assert_eq!(writer.wait_connected_by(deadline), Err(Error::PeerNotConnected { peer: OTHER }));
    let full = loop {
        if let Err(error) = writer.send_by(&[0; 1000], deadline) {
            break error;
        }
    };
    assert_eq!(full, Error::PeerNotConnected { peer: OTHER });
    assert!(start.elapsed() >= 2 * limit);
    assert_eq!(us.counters().violations(Violation::Nonce), 0);
}

#[test]
fn an_id_is_free_again_after_death() {
    let directory = tempfile::tempdir().unwrap();
    let us = open(US, directory.path());
    for _ in 0..3 {
        let mut other = Other::start("accept and wait", directory.path());
        let channel = dial(&us, &Config::default());
        other.says("accepted");
        other.kill();
        drop(channel);
    }
}
