//! The protocol between the test bed and its agent in dom0.
//!
//! One byte stream in each direction (a virtio-serial port, or the standard streams of an agent on the
//! same machine) carries frames: two little-endian 32-bit lengths, a JSON head of the first length and raw
//! bytes of the second. The host sends [`Request`]s; the agent answers with [`Event`]s that name the
//! request, any number of [`Event::Output`] and then exactly one [`Event::Done`]. Requests run
//! side by side, so events of different requests interleave.
//!
//! Both ends are built from one source tree; [`VERSION`] only guards against a stale agent.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Version of the protocol, in [`Hello::version`].
pub const VERSION: u32 = 2;

/// Longest JSON head that is accepted, in bytes.
pub const MAX_HEAD: u32 = 1 << 20;

/// Longest body that is accepted, in bytes. Senders cut files and console output into smaller pieces.
pub const MAX_BODY: u32 = 16 << 20;

/// Status with which QEMU's `isa-debug-exit` device ends after the agent wrote `EXIT_CLEAN`.
pub const QEMU_CLEAN: i32 = ((EXIT_CLEAN as i32) << 1) | 1;

/// Status with which QEMU ends after the agent wrote `EXIT_FAILED`.
pub const QEMU_FAILED: i32 = ((EXIT_FAILED as i32) << 1) | 1;

/// Value written to [`EXIT_PORT`] to end the machine in good order.
pub const EXIT_CLEAN: u8 = 0x10;

/// Value written to [`EXIT_PORT`] when dom0 could not be set up or the agent died.
pub const EXIT_FAILED: u8 = 0x11;

/// I/O port of the `isa-debug-exit` device.
pub const EXIT_PORT: u16 = 0xf4;

/// IDC services of the agent in a Linux guest: for frames with requests and for frames with events.
pub const GUEST_REQUESTS: &str = "agent-requests";
/// See [`GUEST_REQUESTS`].
pub const GUEST_EVENTS: &str = "agent-events";

/// A request of the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the host, unique in one connection.
    pub id: u32,
    /// What to do.
    pub job: Job,
}

/// Kind of virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Para-virtualised: page tables through hypercalls.
    Pv,
    /// Hardware virtualisation without emulated devices.
    Pvh,
}

impl Mode {
    /// Both.
    pub const ALL: [Mode; 2] = [Mode::Pv, Mode::Pvh];

    /// The name that `xl` uses for the type of the domain.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Pv => "pv",
            Mode::Pvh => "pvh",
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A domain to create.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DomainSpec {
    /// Name of the domain; unique among the domains of the machine.
    pub name: String,
    /// Path of the image in dom0.
    pub image: String,
    /// Kind of virtual machine.
    pub mode: Mode,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Command line of the domain.
    pub cmdline: String,
    /// More lines for the domain's configuration file (`xl.cfg(5)`).
    pub extra: Vec<String>,
    /// Leave it paused.
    #[serde(default)]
    pub paused: bool,
}

/// Something for the agent to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Job {
    /// Answer at once: shows that dom0 lives.
    Ping,
    /// Run a program; the body is its standard input. Ends with [`Outcome::Exit`].
    Run {
        /// Program and arguments.
        argv: Vec<String>,
        /// Working directory.
        cwd: Option<String>,
    },
    /// Kill the program that request `id` runs.
    Kill {
        /// The request to end.
        id: u32,
    },
    /// Create a domain and let it run. Ends with [`Outcome::Started`].
    StartDomain(DomainSpec),
    /// Send the domain's console as [`Stream::Console`] from its first byte, wait until the domain ends.
    /// Ends with [`Outcome::Ended`]; the domain stays until [`Job::DestroyDomain`].
    WaitDomain {
        /// The domain, started by this agent.
        domid: u16,
    },
    /// Give the body to the domain's console as input.
    Input {
        /// The domain, started by this agent.
        domid: u16,
    },
    /// Destroy a domain; one that is gone already is not an error.
    DestroyDomain {
        /// The domain.
        domid: u16,
    },
    /// Ends with [`Outcome::State`].
    DomainState {
        /// The domain.
        domid: u16,
    },
    /// Everything the domain has printed so far, as the body of [`Outcome::Done`].
    ReadConsole {
        /// The domain, started by this agent.
        domid: u16,
    },
    /// Xen's own log (`xl dmesg`), as the body of [`Outcome::Done`].
    XenLog,
    /// Write the body to a file, after cutting the file to `offset` bytes.
    Push {
        /// Path in dom0; missing folders are created.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Where the body goes.
        offset: u64,
    },
    /// Send a file as [`Stream::File`].
    Fetch {
        /// Path in dom0.
        path: String,
    },
    /// Wait until the agent in a Linux guest is there and connect with it.
    ConnectGuest {
        /// The guest, started by this agent.
        domid: u16,
    },
    /// Have the agent in a Linux guest do something. Output and outcome are those of the inner job.
    InGuest {
        /// The guest, connected before.
        domid: u16,
        /// What to do there: programs and files.
        job: Box<Job>,
    },
    /// Destroy every domain that this agent started and end.
    Shutdown,
}

/// What the agent tells the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Event {
    /// The first frame of a connection.
    Hello(Hello),
    /// The body is a piece of output of request `id`.
    Output {
        /// The request.
        id: u32,
        /// Which stream.
        stream: Stream,
    },
    /// Request `id` is finished.
    Done {
        /// The request.
        id: u32,
        /// What came of it; an error is text for a person.
        result: Result<Outcome, String>,
    },
}

/// Facts about dom0, sent once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the agent.
    pub version: u32,
    /// Xen's version, such as `4.17.5`.
    pub xen: String,
    /// Xen's capabilities (`/sys/hypervisor/properties/capabilities`).
    pub capabilities: String,
    /// dom0's kernel release.
    pub kernel: String,
    /// Folder in dom0 for files of the test bed, on a fast file system.
    pub scratch: String,
}

/// Which output a piece belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// Standard output of a program.
    Stdout,
    /// Standard error of a program.
    Stderr,
    /// Console of a domain.
    Console,
    /// Content of a file.
    File,
}

/// Result of a request that succeeded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing more to say, apart from the body.
    Done,
    /// A program ended: its exit status, or 128 plus the signal that ended it.
    Exit(i32),
    /// A domain was created.
    Started {
        /// Its id.
        domid: u16,
        /// Time that `xl create` took, in nanoseconds.
        create_ns: u64,
        /// dom0's monotonic clock when `xl create` was started, in nanoseconds.
        began_ns: u64,
    },
    /// A domain ended.
    Ended(End),
    /// State of a domain.
    State(DomainState),
}

/// How a domain ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub reason: Reason,
    /// What the domain wrote to `data/exit-status` below its xenstore home.
    pub status: Option<u8>,
    /// Lines of Xen's log about this domain, unless it powered off or was destroyed.
    pub xen_log: Vec<String>,
}

/// Reason for which a domain stopped (`SHUTDOWN_*` in `xen/sched.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// It powered itself off.
    PowerOff,
    /// It asked for a reboot.
    Reboot,
    /// It was suspended.
    Suspend,
    /// It crashed: by its own word or because Xen ended it.
    Crash,
    /// Its watchdog fired.
    Watchdog,
    /// It was destroyed from outside.
    Destroyed,
    /// Another reason code.
    Other(u32),
}

/// State of a domain, from `xl list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DomainState {
    /// State flags of `xl list`, such as `-b----`.
    pub flags: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// CPU time used, in seconds (resolution 0.1 s).
    pub cpu_seconds: f64,
    /// Reason of the shutdown, if it has ended.
    pub reason: Option<Reason>,
}

/// Writes one frame and flushes.
///
/// # Errors
/// Those of the writer; `InvalidInput` when head or body exceed their limits.
pub fn write_frame<T: Serialize>(out: &mut impl Write, head: &T, body: &[u8]) -> io::Result<()> {
    let head = serde_json::to_vec(head)?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "frame too long");
    let head_len = u32::try_from(head.len()).ok().filter(|n| *n <= MAX_HEAD).ok_or_else(too_long)?;
    let body_len = u32::try_from(body.len()).ok().filter(|n| *n <= MAX_BODY).ok_or_else(too_long)?;
    let mut frame = Vec::with_capacity(8 + head.len() + body.len());
    frame.extend_from_slice(&head_len.to_le_bytes());
    frame.extend_from_slice(&body_len.to_le_bytes());
    frame.extend_from_slice(&head);
    frame.extend_from_slice(body);
    out.write_all(&frame)?;
    out.flush()
}

/// Reads one frame; `None` when the stream ends between frames.
///
/// # Errors
/// Those of the reader; `UnexpectedEof` inside a frame; `InvalidData` when the frame makes no sense.
pub fn read_frame<T: DeserializeOwned>(input: &mut impl Read) -> io::Result<Option<(T, Vec<u8>)>> {
    let mut lengths = [0u8; 8];
    if !read_or_end(input, &mut lengths)? {
        return Ok(None);
    }
    let [h0, h1, h2, h3, b0, b1, b2, b3] = lengths;
    let head_len = u32::from_le_bytes([h0, h1, h2, h3]);
    let body_len = u32::from_le_bytes([b0, b1, b2, b3]);
    if head_len > MAX_HEAD || body_len > MAX_BODY {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame length out of range"));
    }
    let mut head = vec![0; head_len as usize];
    input.read_exact(&mut head)?;
    let mut body = vec![0; body_len as usize];
    input.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&head)?, body)))
}

/// Like `read_exact`, but `false` when the stream ends before the first byte.
fn read_or_end(input: &mut impl Read, buf: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < buf.len() {
        match input.read(&mut buf[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_way() {
        let mut wire = Vec::new();
        let request = Request { id: 7, job: Job::WaitDomain { domid: 3 } };
        write_frame(&mut wire, &request, b"body").unwrap();
        write_frame(&mut wire, &request, b"").unwrap();
        let mut input = wire.as_slice();
        let (head, body) = read_frame::<Request>(&mut input).unwrap().unwrap();
        assert_eq!((head.id, body.as_slice()), (7, b"body".as_slice()));
        assert!(matches!(head.job, Job::WaitDomain { domid: 3 }));
        assert!(read_frame::<Request>(&mut input).unwrap().is_some());
        assert!(read_frame::<Request>(&mut input).unwrap().is_none());
    }

    #[test]
    fn a_cut_or_absurd_frame_is_an_error() {
        let mut wire = Vec::new();
        write_frame(&mut wire, &Request { id: 1, job: Job::Ping }, b"x").unwrap();
        for cut in 1..wire.len() {
            assert!(read_frame::<Request>(&mut &wire[..cut]).is_err(), "cut at {cut}");
        }
        wire[3] = 0xff;
        assert_eq!(
            read_frame::<Request>(&mut wire.as_slice()).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}
