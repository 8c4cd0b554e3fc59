//! The service as a Linux process of its own (`casemate run --hosted casemate-digest -- 10 --once`), and a client.
#![cfg(not(casemate))]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use digest_service::{DIGEST_LEN, NAME};
use idc::{Channel, Config, DomId, HostedConfig, Idc};

/// Killed at the end of a test, however it ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_serves() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_casemate-digest"));
    // Where hosted domains meet unless they are told otherwise.
    command.args(["10", "--once"]).env("XDG_RUNTIME_DIR", directory.path()).stdout(Stdio::piped());
    let mut service = Process(command.spawn().unwrap());
    let mut output = BufReader::new(service.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "digest: ready\n");
    let idc = Idc::hosted(HostedConfig::any().directory(directory.path().join("casemate-idc"))).unwrap();
    let deadline = idc.deadline(Duration::from_secs(60));
    let mut channel = Channel::dial(&idc, DomId(10), NAME, &Config::default(), deadline).unwrap();
    // An empty message ends a stream.
    for message in [&b"ab"[..], b"c", b""] {
        channel.send(message).unwrap();
    }
    let digest = channel.recv().unwrap().unwrap();
    assert_eq!(digest.len(), DIGEST_LEN);
    // The example of FIPS 180-4.
    assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
    channel.finish().unwrap();
    assert_eq!(channel.recv(), Ok(None));
    assert!(service.0.wait().unwrap().success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("1 streams, 3 bytes"), "{rest}");
}

#[test]
fn without_a_number_it_says_what_it_wants() {
    let output = Command::new(env!("CARGO_BIN_EXE_casemate-digest")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("DOMID"));
}
