//! The service as a Linux process of its own (`casemate run --hosted casemate-echo -- 10 --once`), and a client.
#![cfg(not(casemate))]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use echo_service::NAME;
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
    let mut command = Command::new(env!("CARGO_BIN_EXE_casemate-echo"));
    // Where hosted domains meet unless they are told otherwise.
    command.args(["10", "--once"]).env("XDG_RUNTIME_DIR", directory.path()).stdout(Stdio::piped());
    let mut service = Process(command.spawn().unwrap());
    let mut output = BufReader::new(service.0.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "echo: ready\n");
    let idc = Idc::hosted(HostedConfig::any().directory(directory.path().join("casemate-idc"))).unwrap();
    let deadline = idc.deadline(Duration::from_secs(60));
    let mut channel = Channel::dial(&idc, DomId(10), NAME, &Config::default(), deadline).unwrap();
    for len in [0, 1, 5000, 100_000] {
        let message = vec![len as u8; len];
        channel.send(&message).unwrap();
        assert!(channel.recv().unwrap() == Some(message), "{len} bytes");
    }
    channel.finish().unwrap();
    assert_eq!(channel.recv(), Ok(None));
    assert!(service.0.wait().unwrap().success());
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("4 messages, 105001 bytes"), "{rest}");
}

#[test]
fn without_a_number_it_says_what_it_wants() {
    let output = Command::new(env!("CARGO_BIN_EXE_casemate-echo")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("DOMID"));
}
