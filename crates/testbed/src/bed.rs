//! The test bed: one Xen with its dom0, booted or native, and what can be done with it.

use std::{
    fs::File,
    io::Read,
    os::{
        fd::AsRawFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc::RecvTimeoutError,
    },
    time::{Duration, Instant},
};

use crate::{
    Error, Limits,
    domain::Copies,
    host, image, kvm,
    link::{Failure, Link, Patience},
    proto::{self, Hello, Job, Outcome, Stream},
    qemu::{Engine, GDB_SOCKET, Qemu},
    rundir::RunDir,
};

/// Bytes of a file sent at once.
const PIECE: usize = 1 << 20;

/// Nominal time after which a silent dom0 is asked whether it lives.
const QUIET: Duration = Duration::from_secs(30);

/// Longer than anybody debugs.
const FOREVER: Duration = Duration::from_secs(1 << 30);

/// Nominal time for dom0 to end by itself.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// Whether QEMU may use KVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// KVM where Xen was seen to work under it, else emulation.
    Auto,
    /// Emulation.
    Tcg,
    /// KVM without asking.
    Kvm,
}

/// What a test bed is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Folder for built images and for the logs of runs.
    pub cache: PathBuf,
    /// The agent: a static program of this machine's architecture.
    pub agent: PathBuf,
    /// Memory of the machine in MiB.
    pub memory_mib: u32,
    /// Memory of dom0 in MiB.
    pub dom0_memory_mib: u32,
    /// Processors of the machine, two at least: HVM and PVH domains do not run on the first one (see
    /// `docs/decisions/0014-first-processor.md`).
    pub cpus: u32,
    /// Whether QEMU may use KVM.
    pub accel: Accel,
    /// More parameters for Xen.
    pub xen_args: Vec<String>,
    /// More parameters for dom0's kernel.
    pub kernel_args: Vec<String>,
    /// More kernel modules for dom0.
    pub modules: Vec<String>,
    /// Prepare for [`crate::gdb`]: QEMU emulates and listens for a debugger, and dom0 may be silent for as long as the
    /// debugger keeps the machine stopped.
    pub debugger: bool,
}

impl Config {
    /// A machine with three processors and 2 GiB, 512 MiB of them for dom0.
    pub fn new(cache: impl Into<PathBuf>, agent: impl Into<PathBuf>) -> Self {
        Self {
            cache: cache.into(),
            agent: agent.into(),
            memory_mib: 2048,
            dom0_memory_mib: 512,
            cpus: 3,
            accel: Accel::Auto,
            xen_args: Vec::new(),
            kernel_args: Vec::new(),
            modules: Vec::new(),
            debugger: false,
        }
    }
}

/// How far the boot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A file to boot is being built.
    Building(&'static str),
    /// QEMU runs.
    Booting,
    /// dom0 takes jobs.
    Ready,
}

/// Result of a program in dom0.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status, or 128 plus the number of the signal that ended it.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

/// A running Xen with an agent in dom0. Clones share it; when the last one is dropped, it ends.
#[derive(Clone)]
pub struct TestBed {
    shared: Arc<Shared>,
}

struct Shared {
    link: Link,
    machine: Machine,
    hello: Hello,
    boot_time: Duration,
    limits: Limits,
    /// Time after which a silent dom0 is asked whether it lives.
    quiet: Duration,
    numbers: AtomicU32,
    copies: Copies,
    config: Config,
}

/// What the agent runs on.
enum Machine {
    /// A QEMU of our own. QEMU comes first: it must be gone before its folder.
    Booted { qemu: Qemu, dir: Mutex<RunDir> },
    /// This very machine.
    Native { agent: Mutex<Child> },
}

/// One request, with what is seldom said.
pub(crate) struct Call<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) limit: Option<Duration>,
    pub(crate) what: &'a str,
    /// The Linux guest that does it; dom0 if none.
    pub(crate) guest: Option<u16>,
}

impl Default for Call<'_> {
    fn default() -> Self {
        Self { body: &[], limit: None, what: "the job", guest: None }
    }
}

impl TestBed {
    /// A test bed on this machine's own Xen if it is a dom0, else in QEMU.
    ///
    /// # Errors
    /// See [`TestBed::boot`] and [`TestBed::native`].
    pub fn open(config: &Config, progress: &dyn Fn(Progress)) -> Result<Self, Error> {
        if host::is_dom0() { Self::native(config, progress) } else { Self::boot(config, progress) }
    }

    /// Boots Xen and dom0 in QEMU.
    ///
    /// # Errors
    /// When something is not installed, or does not come up: with the last lines of the console.
    pub fn boot(config: &Config, progress: &dyn Fn(Progress)) -> Result<Self, Error> {
        let images = image::build(&config.cache, &config.agent, &config.modules, progress)?;
        let mut dir = RunDir::new(&config.cache.join("run"))?;
        dir.link(&images)?;
        let engine = match config.accel {
            _ if config.debugger => Engine::Tcg,
            Accel::Kvm => Engine::Kvm,
            Accel::Auto if kvm::state(&config.cache) == kvm::Kvm::Works => Engine::Kvm,
            Accel::Tcg | Accel::Auto => Engine::Tcg,
        };
        progress(Progress::Booting);
        let began = Instant::now();
        let (qemu, socket) = Qemu::start(config, &dir, engine)?;
        let output = socket.try_clone().map_err(Error::io("cannot use the socket of", dir.path()))?;
        let (link, greeted) = Link::new(socket, output);
        let limit = Limits::boot();
        let hello = match greeted.recv_timeout(limit) {
            Ok(hello) => hello,
            Err(error) => {
                let why = match error {
                    RecvTimeoutError::Timeout => {
                        format!(
                            "dom0 was not there after {:.0} s (CASEMATE_BOOT_LIMIT sets another limit, in seconds)",
                            limit.as_secs_f64()
                        )
                    }
                    RecvTimeoutError::Disconnected => end_of(&qemu, Duration::from_secs(10)),
                };
                dir.keep();
                return Err(Error::Boot { why, console: dir.console_tail() });
            }
        };
        let machine = Machine::Booted { qemu, dir: Mutex::new(dir) };
        Self::greet(link, machine, hello, (began.elapsed(), config), progress)
    }

    /// Starts the agent on this machine, which has to be a dom0.
    ///
    /// # Errors
    /// When the agent cannot be started.
    pub fn native(config: &Config, progress: &dyn Fn(Progress)) -> Result<Self, Error> {
        progress(Progress::Booting);
        let began = Instant::now();
        let mut child = Command::new(&config.agent)
            .arg("--serve")
            // Not in the terminal's foreground group: it has to survive Ctrl-C to destroy its domains.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Error::io("cannot start", &config.agent))?;
        let (Some(input), Some(output)) = (child.stdout.take(), child.stdin.take()) else {
            return Err(Error::Protocol("nothing".to_owned()));
        };
        let (link, greeted) = Link::new(input, output);
        let hello = greeted.recv_timeout(Limits::boot()).map_err(|_| Error::Boot {
            why: "the agent ended before it was ready (it needs root)".to_owned(),
            console: Vec::new(),
        })?;
        let machine = Machine::Native { agent: Mutex::new(child) };
        Self::greet(link, machine, hello, (began.elapsed(), config), progress)
    }

    fn greet(
        link: Link,
        machine: Machine,
        hello: Hello,
        (boot_time, config): (Duration, &Config),
        progress: &dyn Fn(Progress),
    ) -> Result<Self, Error> {
        if hello.version != proto::VERSION {
            return Err(Error::Protocol(format!("protocol version {}", hello.version)));
        }
        progress(Progress::Ready);
        let limits = Limits::from_boot(boot_time);
        let debugger = config.debugger && matches!(machine, Machine::Booted { .. });
        let quiet = if debugger { FOREVER } else { limits.scale(QUIET) };
        let (numbers, copies) = (AtomicU32::new(0), Copies::default());
        let config = config.clone();
        Ok(Self {
            shared: Arc::new(Shared {
                link,
                machine,
                hello,
                boot_time,
                limits,
                quiet,
                numbers,
                copies,
                config,
            }),
        })
    }

    /// Time from QEMU's start until dom0 took jobs.
    pub fn boot_time(&self) -> Duration {
        self.shared.boot_time
    }

    /// Time limits for this machine.
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// Facts about dom0.
    pub fn hello(&self) -> &Hello {
        &self.shared.hello
    }

    /// A connection with QEMU's gdb stub.
    pub(crate) fn debug_socket(&self) -> Result<UnixStream, Error> {
        let Machine::Booted { dir, .. } = &self.shared.machine else {
            return Err(Error::Job(
                "a domain on this machine's own Xen cannot be debugged: that needs the emulated machine of the test bed"
                    .to_owned(),
            ));
        };
        let dir = dir.lock().unwrap_or_else(PoisonError::into_inner);
        let doing = Error::io("cannot reach the debugger of QEMU in", dir.path());
        // By way of an open folder, because the name of a socket has to be short.
        let connected = File::open(dir.path()).and_then(|folder| {
            UnixStream::connect(format!("/proc/self/fd/{}/{GDB_SOCKET}", folder.as_raw_fd()))
        });
        connected.map_err(doing)
    }

    /// What the test bed was made of.
    pub(crate) fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Is dom0 one that was booted in QEMU?
    pub(crate) fn is_booted(&self) -> bool {
        matches!(self.shared.machine, Machine::Booted { .. })
    }

    /// A number that was not returned before.
    pub(crate) fn next_number(&self) -> u32 {
        self.shared.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Sends a request and waits for its end.
    pub(crate) fn call(
        &self,
        job: Job,
        call: Call<'_>,
        output: impl FnMut(Stream, &[u8]),
    ) -> Result<(Outcome, Vec<u8>), Error> {
        let patience = Patience { limit: call.limit, quiet: self.shared.quiet };
        let mut number = None;
        let job = match call.guest {
            Some(domid) => Job::InGuest { domid, job: Box::new(job) },
            None => job,
        };
        let result = self.shared.link.call(job, call.body, patience, |id| number = Some(id), output);
        result.map_err(|failure| match failure {
            Failure::Job(why) => Error::Job(why),
            Failure::Late(limit) => {
                if let Some(id) = number {
                    let _ = self.shared.link.call(Job::Kill { id }, &[], patience, |_| (), |_, _| ());
                }
                Error::TimeLimit { what: call.what.to_owned(), limit }
            }
            Failure::Hangs(limit) => Error::Dom0Hangs { limit, console: self.shared.machine.console_tail() },
            Failure::Closed => self.shared.machine.why_closed(),
        })
    }

    /// Runs a program in dom0; `output` gets what it prints, as it comes. Returns its status.
    ///
    /// # Errors
    /// When it cannot be started; [`Error::TimeLimit`] (it is killed then); failures of the test bed.
    pub fn run(
        &self,
        argv: &[&str],
        input: &[u8],
        limit: Option<Duration>,
        output: impl FnMut(Stream, &[u8]),
    ) -> Result<i32, Error> {
        self.run_in(None, argv, input, limit, output)
    }

    /// As [`TestBed::run`], in a Linux guest or in dom0.
    pub(crate) fn run_in(
        &self,
        guest: Option<u16>,
        argv: &[&str],
        input: &[u8],
        limit: Option<Duration>,
        output: impl FnMut(Stream, &[u8]),
    ) -> Result<i32, Error> {
        let job = Job::Run { argv: argv.iter().map(ToString::to_string).collect(), cwd: None };
        let what = argv.first().copied().unwrap_or_default();
        match self.call(job, Call { body: input, limit, what, guest }, output)?.0 {
            Outcome::Exit(status) => Ok(status),
            other => Err(Error::Protocol(format!("{other:?}"))),
        }
    }

    /// Runs a shell command in dom0 and collects its output.
    ///
    /// # Errors
    /// See [`TestBed::run`].
    pub fn shell(&self, command: &str, limit: Option<Duration>) -> Result<Output, Error> {
        self.shell_in(None, command, limit)
    }

    /// As [`TestBed::shell`], in a Linux guest or in dom0.
    pub(crate) fn shell_in(
        &self,
        guest: Option<u16>,
        command: &str,
        limit: Option<Duration>,
    ) -> Result<Output, Error> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status =
            self.run_in(guest, &["/bin/sh", "-c", command], &[], limit, |stream, piece| match stream {
                Stream::Stderr => stderr.extend_from_slice(piece),
                _ => stdout.extend_from_slice(piece),
            })?;
        Ok(Output { status, stdout, stderr })
    }

    /// Xen's log.
    ///
    /// # Errors
    /// Failures of the test bed.
    pub fn xen_log(&self) -> Result<String, Error> {
        let (_, body) = self.call(Job::XenLog, Call::default(), |_, _| ())?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Makes a file of this machine usable in dom0 and returns its path there. A file that was brought
    /// before and has not changed is not copied again.
    ///
    /// # Errors
    /// When it cannot be read or stored; failures of the test bed.
    pub fn put(&self, file: &Path) -> Result<String, Error> {
        let file = std::fs::canonicalize(file).map_err(Error::io("cannot open", file))?;
        let meta = file.metadata().map_err(Error::io("cannot open", &file))?;
        if matches!(self.shared.machine, Machine::Native { .. }) {
            return Ok(file.to_string_lossy().into_owned());
        }
        let key = (file.clone(), meta.len(), meta.modified().ok());
        self.shared.copies.get(key, || {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let path = format!("{}/{}/{name}", self.shared.hello.scratch, self.next_number());
            self.push(&file, &path)?;
            Ok(path)
        })
    }

    /// Takes a file out of dom0 that [`TestBed::put`] or [`TestBed::start_domain`] has brought there. dom0 keeps them in
    /// memory, which has no room for hundreds of images. One that is not there is fine.
    ///
    /// # Errors
    /// Failures of the test bed.
    pub fn take_back(&self, file: &Path) -> Result<(), Error> {
        let file = std::fs::canonicalize(file).map_err(Error::io("cannot open", file))?;
        match self.shared.copies.forget(&file) {
            Some(path) if matches!(self.shared.machine, Machine::Booted { .. }) => {
                self.run(&["rm", "-f", &path], &[], None, |_, _| ()).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Makes the uncompressed kernel of Linux guests usable in dom0 and returns its path there. It comes through the
    /// shared folder, which is much faster than the connection, into memory, where `xl` reads it faster still.
    pub(crate) fn put_kernel(&self, kernel: &Path) -> Result<String, Error> {
        let Machine::Booted { dir, .. } = &self.shared.machine else { return self.put(kernel) };
        let meta = kernel.metadata().map_err(Error::io("cannot open", kernel))?;
        let key = (kernel.to_owned(), meta.len(), meta.modified().ok());
        self.shared.copies.get(key, || {
            dir.lock().unwrap_or_else(PoisonError::into_inner).share(kernel, "vmlinux")?;
            let path = format!("{}/vmlinux", self.shared.hello.scratch);
            let output = self.shell(&format!("cp /host/vmlinux {path}"), None)?;
            match output.status {
                0 => Ok(path),
                _ => Err(Error::Job(String::from_utf8_lossy(&output.stderr).into_owned())),
            }
        })
    }

    /// Copies a file into dom0, with its permission bits.
    ///
    /// # Errors
    /// When it cannot be read or stored; failures of the test bed.
    pub fn push(&self, file: &Path, path: &str) -> Result<(), Error> {
        self.push_in(None, file, path)
    }

    /// As [`TestBed::push`], in a Linux guest or in dom0.
    pub(crate) fn push_in(&self, guest: Option<u16>, file: &Path, path: &str) -> Result<(), Error> {
        use std::os::unix::fs::PermissionsExt;
        let mut source = File::open(file).map_err(Error::io("cannot open", file))?;
        let meta = source.metadata().map_err(Error::io("cannot read", file))?;
        let mode = meta.permissions().mode() & 0o7777;
        let (mut piece, mut offset) = (vec![0; PIECE], 0u64);
        loop {
            let length = source.read(&mut piece).map_err(Error::io("cannot read", file))?;
            // An empty file has to come into being, too.
            if length > 0 || offset == 0 {
                let job = Job::Push { path: path.to_owned(), mode, offset };
                self.call(job, Call { body: &piece[..length], guest, ..Call::default() }, |_, _| ())?;
            }
            if length == 0 {
                return Ok(());
            }
            offset += length as u64;
        }
    }

    /// Content of a file in dom0.
    ///
    /// # Errors
    /// When it cannot be read; failures of the test bed.
    pub fn fetch(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.fetch_in(None, path)
    }

    /// As [`TestBed::fetch`], in a Linux guest or in dom0.
    pub(crate) fn fetch_in(&self, guest: Option<u16>, path: &str) -> Result<Vec<u8>, Error> {
        let mut content = Vec::new();
        let job = Job::Fetch { path: path.to_owned() };
        let call = Call { guest, ..Call::default() };
        self.call(job, call, |_, piece| content.extend_from_slice(piece))?;
        Ok(content)
    }

    /// Destroys the domains that are left and ends dom0 in good order.
    ///
    /// # Errors
    /// When it did not end in good order; it is gone nevertheless.
    pub fn shutdown(self) -> Result<(), Error> {
        let limit = self.shared.limits.scale(SHUTDOWN);
        let call = Call { limit: Some(limit), what: "the shutdown of dom0", ..Call::default() };
        // The machine may end before its last answer has left it; then its exit status is the answer.
        let lost = match self.call(Job::Shutdown, call, |_, _| ()) {
            Ok(_) => None,
            Err(error @ Error::Dom0Gone { .. }) => Some(error),
            Err(error) => return Err(error),
        };
        match &self.shared.machine {
            Machine::Booted { qemu, .. } => match qemu.wait(limit) {
                Some(status) if status.code() == Some(proto::QEMU_CLEAN) => Ok(()),
                Some(_) => Err(lost.unwrap_or_else(|| self.shared.machine.why_closed())),
                None => Err(Error::TimeLimit { what: "the shutdown of dom0".to_owned(), limit }),
            },
            Machine::Native { agent } => {
                let mut agent = agent.lock().unwrap_or_else(PoisonError::into_inner);
                agent.wait().map(drop).map_err(Error::io("waiting for", Path::new("the agent")))
            }
        }
    }
}

impl Machine {
    fn console_tail(&self) -> Vec<String> {
        match self {
            Self::Booted { dir, .. } => {
                let mut dir = dir.lock().unwrap_or_else(PoisonError::into_inner);
                dir.keep();
                dir.console_tail()
            }
            Self::Native { .. } => Vec::new(),
        }
    }

    /// The connection has ended: says why.
    fn why_closed(&self) -> Error {
        let why = match self {
            Self::Booted { qemu, .. } => end_of(qemu, Duration::from_secs(10)),
            Self::Native { .. } => "the agent ended".to_owned(),
        };
        Error::Dom0Gone { why, console: self.console_tail() }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Self::Native { agent } = self {
            // Its standard input is closed by now or soon, at which it destroys its domains and ends.
            let agent = agent.get_mut().unwrap_or_else(PoisonError::into_inner);
            let _ = agent.wait();
        }
    }
}

/// How QEMU ended, in words.
fn end_of(qemu: &Qemu, limit: Duration) -> String {
    match qemu.wait(limit) {
        None => "the agent hung up, but QEMU still runs".to_owned(),
        Some(status) => match status.code() {
            Some(proto::QEMU_CLEAN) => "dom0 shut down".to_owned(),
            Some(proto::QEMU_FAILED) => "dom0 could not be set up, or its agent died".to_owned(),
            Some(0) => "dom0 or Xen crashed and the machine reset".to_owned(),
            _ => format!("QEMU ended with {status}"),
        },
    }
}
