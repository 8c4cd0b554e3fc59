//! tpm2-tools against the vTPM through the proxy, and against swtpm: the same script gives the same results.

mod common;

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use common::{GUEST, Machine, PATIENCE, VTPM};
use idc::DomId;
use vtpm::Family;
use vtpmd::client::Client;
use vtpmd::proxy::{Place, Protocol, Sockets, Tpm};

#[test]
fn role() {
    common::role();
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tpm2-tools.sh");

fn script(tcti: &str, dir: &Path) -> String {
    let output = Command::new("sh")
        .arg(SCRIPT)
        .arg(dir)
        .env("TPM2TOOLS_TCTI", tcti)
        .env("TSS2_LOG", "all+error")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

struct Swtpm(Child);

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two free ports in a row.
fn free_ports() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

fn swtpm(dir: &Path) -> (Swtpm, String) {
    let port = free_ports();
    let child = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--tpmstate", &format!("dir={}", dir.display())])
        .args([
            "--server",
            &format!("type=tcp,port={port}"),
            "--ctrl",
            &format!("type=tcp,port={}", port + 1),
        ])
        .stdout(Stdio::null())
        .spawn()
        .expect("swtpm is needed: `casemate setup` installs it");
    let swtpm = Swtpm(child);
    // It takes connections as soon as it listens; until then they are refused.
    let begin = std::time::Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port + 1)).is_err() {
        assert!(begin.elapsed() < PATIENCE, "swtpm does not listen");
        thread::yield_now();
    }
    (swtpm, format!("swtpm:host=127.0.0.1,port={port}"))
}

fn proxy(machine: &Machine, protocol: Protocol) -> String {
    let idc = machine.paths.idc(GUEST);
    let client = || Client::new(&idc, DomId(VTPM), PATIENCE);
    let tpm = Tpm::new(client(), client(), 0).unwrap();
    let sockets = Sockets::listen(&Place::Tcp(0)).unwrap();
    let Place::Tcp(port) = *sockets.place() else { unreachable!("asked for TCP") };
    thread::spawn(move || sockets.run(protocol, &Arc::new(tpm)));
    let name = if protocol == Protocol::Swtpm { "swtpm" } else { "mssim" };
    format!("{name}:host=127.0.0.1,port={port}")
}

fn compare(protocol: Protocol) {
    let dir = tempfile::tempdir().unwrap();
    let [state, ours, theirs] = ["state", "ours", "theirs"].map(|name| dir.path().join(name));
    [&state, &ours, &theirs].into_iter().for_each(|dir| fs::create_dir(dir).unwrap());
    let (_swtpm, oracle) = swtpm(&state);
    let expected = script(&oracle, &theirs);
    // What the oracle itself must say, or the comparison says nothing.
    for step in ["checkquote-ecc256-rsa2048: ok", "unseal-again: ok", "activatecredential: ok", "clear: ok"] {
        assert!(expected.contains(step), "swtpm does not: {step}\n{expected}");
    }
    for bad in ["FAILED", "SUCCEEDED", "IS NOT", "TWICE", "TAKEN"] {
        assert!(!expected.contains(bad), "swtpm:\n{expected}");
    }
    let machine = Machine::new(Family::Tpm20);
    let _vtpm = machine.start();
    let tcti = proxy(&machine, protocol);
    let actual = script(&tcti, &ours);
    for (line, (ours, swtpm)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(ours, swtpm, "line {line}");
    }
    assert_eq!(actual.lines().count(), expected.lines().count());
}

#[test]
fn the_same_as_swtpm_through_swtpms_protocol() {
    compare(Protocol::Swtpm);
}

#[test]
fn the_same_as_swtpm_through_the_simulators_protocol() {
    compare(Protocol::Mssim);
}
