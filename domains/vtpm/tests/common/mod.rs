//! A machine in a directory: manager and vTPM domain as processes, clients in the test.
//!
//! The manager runs in a process of its own, so that it can be killed: this test program, started again with
//! [`ROLE`] set, see [`role`].
#![allow(dead_code, reason = "each test program uses its part")]

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use idc::{DomId, HostedConfig, Idc};
use vtpm::frame::{Kind, Status};
use vtpm::{Family, Uuid};
use vtpmd::client::Client;
use vtpmd::manager::Manager;
use vtpmd::registry::{Binding, Registry};

/// The directory of the machine whose manager a process is to be.
pub const ROLE: &str = "CASEMATE_TEST_MANAGER";

pub const VTPM: u16 = 10;
pub const GUEST: u16 = 20;
pub const SECOND_GUEST: u16 = 21;
pub const STRANGER: u16 = 30;

/// Long enough for everything on a busy machine; nothing waits so long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What the test `role` of each test program does: plays the manager if it is asked to.
pub fn role() {
    let Some(dir) = std::env::var_os(ROLE).map(PathBuf::from) else { return };
    let machine = Paths(dir);
    let registry = machine.registry();
    let master = registry.master(None).unwrap();
    let idc = machine.idc(0);
    Manager::new(registry, master, DomId(0)).unwrap().run(&idc).unwrap();
}

#[derive(Clone, Debug)]
pub struct Paths(pub PathBuf);

impl Paths {
    pub fn registry(&self) -> Registry {
        Registry::open(&self.0.join("state"), &self.0.join("run")).unwrap()
    }

    /// Starts a manager.
    pub fn manager(&self) -> Process {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "role", "--nocapture"]).env(ROLE, &self.0);
        let mut manager = Process::start(&mut command);
        manager.expect("the manager is ready");
        manager
    }

    /// Starts a vTPM process without waiting for it.
    pub fn vtpm(&self, domid: u16) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_casemate-vtpm"));
        command.arg(format!("domid={domid}"));
        command.arg(format!("directory={}", self.0.join("idc").display()));
        command.arg(format!("patience={}", PATIENCE.as_secs()));
        Process::start(&mut command)
    }

    pub fn idc(&self, domid: u16) -> Idc {
        Idc::hosted(HostedConfig::new(DomId(domid)).directory(self.0.join("idc"))).unwrap()
    }
}

/// A process whose lines are collected; killed when it is dropped.
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    pub seen: Vec<String>,
}

impl Process {
    fn start(command: &mut Command) -> Process {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test may not be listening any more.
                let _ = send.send(line);
            }
        });
        Process { child, lines, seen: Vec::new() }
    }

    /// Waits for a line that contains a text; the process must not end before.
    pub fn expect(&mut self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("no line with `{text}`, only {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// All lines until it ends, and whether it ended well.
    pub fn wait(mut self) -> (bool, Vec<String>) {
        let good = self.child.wait().unwrap().success();
        self.seen.extend(self.lines.iter());
        (good, std::mem::take(&mut self.seen))
    }

    pub fn kill(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

pub struct Machine {
    pub paths: Paths,
    pub uuid: Uuid,
    pub manager: Option<Process>,
    _dir: tempfile::TempDir,
}

impl Machine {
    /// A machine with a manager and an instance.
    pub fn new(family: Family) -> Machine {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths(dir.path().to_owned());
        let registry = paths.registry();
        let master = registry.master(None).unwrap();
        let uuid = registry.create(&master, "tested", family).unwrap().id().unwrap();
        let mut machine = Machine { paths, uuid, manager: None, _dir: dir };
        machine.start_manager();
        machine
    }

    pub fn start_manager(&mut self) {
        self.manager = None;
        self.manager = Some(self.paths.manager());
    }

    pub fn bind(&self, domid: u16, guests: &[u16], fresh: bool) {
        let binding = Binding { domid, guests: guests.to_vec(), fresh, ours: false };
        self.paths.registry().bind(&self.uuid, &binding).unwrap();
    }

    /// Starts a vTPM process without waiting for it.
    pub fn spawn(&self, domid: u16) -> Process {
        self.paths.vtpm(domid)
    }

    /// Starts the instance together with its guest.
    pub fn start(&self) -> Process {
        self.bind(VTPM, &[GUEST], true);
        let mut vtpm = self.spawn(VTPM);
        vtpm.expect("vtpm: ready");
        vtpm
    }

    pub fn client(&self, domid: u16) -> Client {
        Client::new(&self.paths.idc(domid), DomId(VTPM), PATIENCE)
    }

    /// Files of the instance, by their names.
    pub fn slots(&self) -> PathBuf {
        self.paths.0.join("state/instances").join(self.uuid.to_string())
    }
}

/// Runs a TPM command; the answer after its header.
pub fn run(client: &mut Client, command: &[u8]) -> Result<Vec<u8>, u32> {
    let reply = client.request(Kind::Command, 0, command).unwrap();
    assert_eq!(reply.status, Status::Ok);
    match vtpm::command::answer_code(&reply.contents) {
        Some(0) => Ok(reply.contents[10..].to_vec()),
        code => Err(code.unwrap()),
    }
}

/// The owner with an empty password.
const OWNER: [u8; 4] = [0x40, 0, 0, 1];
const PASSWORD: [u8; 13] = [0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0];
const INDEX: [u8; 4] = [0x01, 0x50, 0, 0];

fn with_sessions(code: u32, handles: &[u8], parameters: &[u8]) -> Vec<u8> {
    let len = 10 + handles.len() + PASSWORD.len() + parameters.len();
    let head = [&[0x80, 2][..], &(len as u32).to_be_bytes(), &code.to_be_bytes()].concat();
    [&head, handles, &PASSWORD, parameters].concat()
}

/// `TPM2_NV_DefineSpace` of a counter.
pub fn define_counter() -> Vec<u8> {
    // Name algorithm SHA-256; counter, may be written and read by owner and authorisation, no lockout; 8 bytes.
    let public = [&INDEX[..], &[0, 0x0b], &[0x02, 0x06, 0x00, 0x16], &[0, 0], &[0, 8]].concat();
    with_sessions(0x12a, &OWNER, &[&[0, 0, 0, public.len() as u8][..], &public].concat())
}

/// `TPM2_NV_Increment` of it.
pub fn increment() -> Vec<u8> {
    with_sessions(0x134, &[OWNER, INDEX].concat(), &[])
}

/// `TPM2_NV_Read` of it.
pub fn read_counter(client: &mut Client) -> u64 {
    let answer = run(client, &with_sessions(0x14e, &[OWNER, INDEX].concat(), &[0, 8, 0, 0])).unwrap();
    u64::from_be_bytes(answer[6..14].try_into().unwrap())
}

/// `TPM2_PCR_Read` of one PCR in the SHA-256 bank.
pub fn read_pcr(client: &mut Client, pcr: u8) -> Vec<u8> {
    let mut select = [0; 3];
    select[usize::from(pcr / 8)] = 1 << (pcr % 8);
    let head = [0x80, 1, 0, 0, 0, 20, 0, 0, 1, 0x7e, 0, 0, 0, 1, 0, 0x0b, 3];
    let answer = run(client, &[&head[..], &select].concat()).unwrap();
    answer[answer.len() - 32..].to_vec()
}

/// `TPM2_GetRandom` of 16 bytes.
pub const GET_RANDOM: [u8; 12] = [0x80, 1, 0, 0, 0, 12, 0, 0, 1, 0x7b, 0, 16];
