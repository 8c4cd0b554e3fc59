//! The loop that takes jobs and answers.
//!
//! Short jobs run in the loop itself, so they keep their order (pieces of a pushed file, keystrokes);
//! each of the others gets a thread.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    process::Pid,
    time::{ClockId, clock_gettime},
};
use testbed::proto::{Event, Hello, Job, Outcome, Request, Stream, VERSION, read_frame, write_frame};

use crate::{domain, domain::Domains, guest::Guests, program, xl};

/// Bytes of a file sent at once.
const PIECE: usize = 256 * 1024;

/// Lines of its console that are told when a guest has ended under a job.
const LAST_WORDS: usize = 20;

/// Where the agent runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a dom0 that the test bed booted and that ends with the agent.
    Booted,
    /// On a machine that is a dom0 itself: domains must not stay behind.
    Native,
    /// In a Linux guest, which ends with the agent.
    Guest,
}

struct Agent<W> {
    out: Mutex<W>,
    domains: Domains,
    guests: Arc<Guests>,
    programs: Mutex<HashMap<u32, Program>>,
}

/// A program of a request. It is known before it is started, so that it can be killed at any time.
#[derive(Clone, Copy)]
enum Program {
    /// Not started yet.
    Coming,
    /// Runs as this process group.
    Running(Pid),
    /// Is done in this guest under this number.
    InGuest(u16, u32),
    /// To be killed as soon as it is started.
    Doomed,
}

/// Result of a job and its body.
type Answer = Result<(Outcome, Vec<u8>), String>;

/// Serves until the other side hangs up or says `Shutdown`.
///
/// # Errors
/// Those of the connection.
pub fn serve(mut input: impl Read, output: impl Write + Send + 'static, place: Place) -> io::Result<()> {
    let scratch = scratch(place)?;
    let guests = Arc::new(Guests::default());
    let ended = Arc::clone(&guests);
    let agent = Arc::new(Agent {
        out: Mutex::new(output),
        domains: Domains::new(&scratch, move |domid| ended.forget(domid)),
        guests,
        programs: Mutex::default(),
    });
    agent.send(&Event::Hello(hello(scratch.clone())), &[]);
    let result = agent.take_jobs(&mut input);
    if place == Place::Native {
        agent.domains.destroy_all();
        fs::remove_dir_all(&scratch)?;
    }
    result
}

impl<W: Write + Send + 'static> Agent<W> {
    fn take_jobs(self: &Arc<Self>, input: &mut impl Read) -> io::Result<()> {
        while let Some((Request { id, job }, body)) = read_frame::<Request>(input)? {
            match job {
                Job::Shutdown => {
                    self.domains.destroy_all();
                    self.answer(id, Ok((Outcome::Done, Vec::new())));
                    return Ok(());
                }
                Job::Ping | Job::Kill { .. } | Job::Input { .. } | Job::Push { .. } => {
                    let answer = self.perform(id, job, body);
                    self.answer(id, answer);
                }
                slow => {
                    if matches!(slow, Job::Run { .. } | Job::ConnectGuest { .. } | Job::InGuest { .. }) {
                        self.programs().insert(id, Program::Coming);
                    }
                    let agent = Arc::clone(self);
                    thread::Builder::new().name(format!("job {id}")).spawn(move || {
                        let answer = catch_unwind(AssertUnwindSafe(|| agent.perform(id, slow, body)));
                        agent.answer(id, answer.unwrap_or_else(|_| Err("the agent panicked".to_owned())));
                    })?;
                }
            }
        }
        Ok(())
    }

    fn perform(&self, id: u32, job: Job, body: Vec<u8>) -> Answer {
        let outcome = match job {
            Job::Ping | Job::Shutdown => Outcome::Done,
            Job::Run { argv, cwd } => Outcome::Exit(self.run_program(id, &argv, cwd.as_deref(), body)?),
            Job::Kill { id } => {
                self.kill(id).map_err(|e| e.to_string())?;
                Outcome::Done
            }
            Job::StartDomain(spec) => {
                let began_ns = monotonic_ns();
                let (domid, took) = self.domains.start(&spec)?;
                Outcome::Started { domid, create_ns: nanoseconds(took), began_ns }
            }
            Job::WaitDomain { domid } => {
                Outcome::Ended(self.domains.wait(domid, |piece| self.output(id, Stream::Console, piece))?)
            }
            Job::Input { domid } => {
                self.domains.input(domid, body)?;
                Outcome::Done
            }
            Job::DestroyDomain { domid } => {
                self.domains.destroy(domid)?;
                Outcome::Done
            }
            Job::DomainState { domid } => Outcome::State(domain::state(domid)?),
            Job::ReadConsole { domid } => return Ok((Outcome::Done, self.domains.console(domid)?)),
            Job::ConnectGuest { domid } => {
                self.connect_guest(id, domid)?;
                Outcome::Done
            }
            Job::InGuest { domid, job } => return self.in_guest(id, domid, *job, &body),
            Job::XenLog => return Ok((Outcome::Done, xl::log()?)),
            Job::Push { path, mode, offset } => {
                push(&path, mode, offset, &body).map_err(|e| format!("{path}: {e}"))?;
                Outcome::Done
            }
            Job::Fetch { path } => {
                self.fetch(id, &path).map_err(|e| format!("{path}: {e}"))?;
                Outcome::Done
            }
        };
        Ok((outcome, Vec::new()))
    }

    fn run_program(
        &self,
        id: u32,
        argv: &[String],
        cwd: Option<&str>,
        input: Vec<u8>,
    ) -> Result<i32, String> {
        let started = |group| {
            let before = self.programs().insert(id, Program::Running(group));
            if matches!(before, Some(Program::Doomed)) {
                // It has just been started and is ours to wait for: the group exists.
                let _ = program::kill(group);
            }
        };
        let status = program::run(argv, cwd, input, started, |stream, piece| self.output(id, stream, piece));
        self.programs().remove(&id);
        status
    }

    /// Waits for the agent of a guest until it is there, the guest has ended, or the request is killed.
    fn connect_guest(&self, id: u32, domid: u16) -> Result<(), String> {
        let over = || match self.domains.end(domid) {
            Ok(None) if matches!(self.programs().get(&id), Some(Program::Doomed)) => {
                Some("nobody waits for it any more".to_owned())
            }
            Ok(None) => None,
            Ok(Some(end)) => Some(format!("the domain ended: {end:?}")),
            Err(why) => Some(why),
        };
        let result = self.guests.connect(domid, over);
        self.programs().remove(&id);
        result
    }

    /// Passes a request on to the agent of a guest, and what it answers back.
    fn in_guest(&self, id: u32, domid: u16, job: Job, body: &[u8]) -> Answer {
        let started = |number| {
            let before = self.programs().insert(id, Program::InGuest(domid, number));
            if matches!(before, Some(Program::Doomed)) {
                self.guests.kill(domid, number);
            }
        };
        let answer =
            self.guests.call(domid, job, body, started, |stream, piece| self.output(id, stream, piece));
        self.programs().remove(&id);
        answer.map_err(|why| match self.domains.end(domid) {
            Ok(Some(end)) => {
                format!("{why} ({end:?}); last lines of its console:\n{}", self.last_words(domid))
            }
            _ => why,
        })
    }

    /// The last lines that a domain printed.
    fn last_words(&self, domid: u16) -> String {
        let console = self.domains.console(domid).unwrap_or_default();
        let text = String::from_utf8_lossy(&console);
        let lines: Vec<_> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
        lines[lines.len().saturating_sub(LAST_WORDS)..].join("\n")
    }

    /// Kills the program of a request; one that has ended is fine.
    fn kill(&self, id: u32) -> io::Result<()> {
        let mut programs = self.programs();
        match programs.get_mut(&id) {
            Some(Program::Running(group)) => program::kill(*group),
            Some(Program::InGuest(domid, number)) => {
                self.guests.kill(*domid, *number);
                Ok(())
            }
            Some(waiting) => {
                *waiting = Program::Doomed;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn fetch(&self, id: u32, path: &str) -> io::Result<()> {
        let mut file = fs::File::open(path)?;
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(()),
                n => self.output(id, Stream::File, &piece[..n]),
            }
        }
    }

    fn programs(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Program>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn output(&self, id: u32, stream: Stream, piece: &[u8]) {
        self.send(&Event::Output { id, stream }, piece);
    }

    fn answer(&self, id: u32, answer: Answer) {
        let (result, body) = match answer {
            Ok((outcome, body)) => (Ok(outcome), body),
            Err(e) => (Err(e), Vec::new()),
        };
        self.send(&Event::Done { id, result }, &body);
    }

    fn send(&self, event: &Event, body: &[u8]) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        // When the host is gone, the read loop sees it and ends the agent.
        let _ = write_frame(&mut *out, event, body);
    }
}

/// Writes one piece of a pushed file.
fn push(path: &str, mode: u32, offset: u64, body: &[u8]) -> io::Result<()> {
    if let Some(dir) = Path::new(path).parent() {
        fs::create_dir_all(dir)?;
    }
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(mode).open(path)?;
    file.set_len(offset)?;
    file.seek(SeekFrom::End(0))?;
    file.write_all(body)
}

/// A folder for files of this agent.
fn scratch(place: Place) -> io::Result<String> {
    let path = match place {
        Place::Booted | Place::Guest => "/tmp/casemate".to_owned(),
        Place::Native => format!("/run/casemate-agent-{}", std::process::id()),
    };
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn hello(scratch: String) -> Hello {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let version = |part: &str| read(&format!("/sys/hypervisor/version/{part}"));
    Hello {
        version: VERSION,
        xen: format!("{}.{}{}", version("major"), version("minor"), version("extra")),
        capabilities: read("/sys/hypervisor/properties/capabilities"),
        kernel: read("/proc/sys/kernel/osrelease"),
        scratch,
    }
}

fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    nanoseconds(Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0)))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
