//! The program itself against a hosted service: what it prints, and its exit status.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use digest_service::{NAME, Served, listen_config, serve};
use idc::{DomId, HostedConfig, Idc, Listener};
use sha2::{Digest, Sha256};

fn start_service(directory: &Path) {
    let idc = Idc::hosted(HostedConfig::new(DomId(7)).directory(directory)).unwrap();
    let mut listener = Listener::bind(&idc, NAME, listen_config()).unwrap();
    thread::spawn(move || {
        loop {
            let mut channel = listener.accept().unwrap();
            thread::spawn(move || serve(&mut channel, &mut Served::default()));
        }
    });
}

fn client(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_digest-client"));
    command.arg("--hosted").arg(directory).args(args);
    command
}

fn run(directory: &Path, args: &[&str]) -> Output {
    client(directory, args).output().unwrap()
}

fn hex(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing on the standard output, a message with this in it, exit status 1.
fn fails(directory: &Path, args: &[&str], message: &str) {
    let output = run(directory, args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(output.stdout.is_empty());
    assert!(stderr.starts_with("digest-client: ") && stderr.contains(message), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn prints_what_sha256sum_prints() {
    let directory = tempfile::tempdir().unwrap();
    start_service(directory.path());
    let data: Vec<u8> = (0..3_000_001u32).map(|number| (number >> 3) as u8).collect();
    for len in [0, 1, 16_376, 16_377, data.len()] {
        let file = directory.path().join("data");
        std::fs::write(&file, &data[..len]).unwrap();
        let name = file.to_str().unwrap();
        let output = run(directory.path(), &["--domid", "7", name]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}  {name}\n", hex(&data[..len])));
    }
}

#[test]
fn prints_json() {
    let directory = tempfile::tempdir().unwrap();
    start_service(directory.path());
    let mut child = client(directory.path(), &["--domid", "7", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let data = vec![3; 100_000];
    child.stdin.take().unwrap().write_all(&data).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["digest"], hex(&data));
    assert_eq!(object["file"], "-");
    assert_eq!(object["bytes"], 100_000);
    for name in ["seconds", "bytes_per_second", "connect_seconds", "first_answer_seconds"] {
        assert!(object[name].as_f64().is_some_and(|number| number > 0.0), "{name}: {object}");
    }
    for name in ["messages_sent", "events_sent", "events_received", "sleeps"] {
        assert!(object[name].is_u64(), "{name}: {object}");
    }
}

#[test]
fn says_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    start_service(directory.path());
    let file = directory.path().join("data");
    std::fs::write(&file, b"data").unwrap();
    let file = file.to_str().unwrap();
    let here = directory.path();
    fails(here, &["--domid", "7", "/no/such/file"], "cannot open /no/such/file");
    fails(here, &["--domid", "7", here.to_str().unwrap()], "is a directory");
    fails(here, &["--domid", "8", "--wait", "0.1", file], "domain 8 does not exist");
    fails(
        here,
        &["--domid", "7", "--wait", "0.1", "--service", "other", file],
        "does not offer the service `other`",
    );
    fails(here, &["--domid", "7", "--service", "No", file], "is not the name of a service");
    for args in
        [&["--domid", "40000", file][..], &["--domid", "7", "--wait", "-1", file], &[file], &["--domid", "7"]]
    {
        let output = run(here, args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn notices_a_service_that_goes() {
    let directory = tempfile::tempdir().unwrap();
    let idc = Idc::hosted(HostedConfig::new(DomId(7)).directory(directory.path())).unwrap();
    let mut listener = Listener::bind(&idc, NAME, listen_config()).unwrap();
    let mut child = client(directory.path(), &["--domid", "7", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let channel = listener.accept().unwrap();
    drop(channel);
    // The client reads its input to the end before it would look for the answer; it must not wait for that.
    let mut input = child.stdin.take().unwrap();
    while input.write_all(&[0; 4096]).is_ok() {}
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("domain 7 closed the channel"), "{stderr}");
}
