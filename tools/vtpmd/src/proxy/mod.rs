//! The paper's path (its figure 9): a daemon in dom0 that forwards TPM commands over IDC, behind sockets that programs
//! for software TPMs know.
//!
//! | protocol | spoken by | module |
//! |---|---|---|
//! | swtpm | `swtpm:` of tpm2-tools, swtpm's own tools | [`swtpm`] |
//! | Microsoft's simulator | `mssim:` of tpm2-tools | [`mssim`] |
//!
//! Both have a socket for commands and one for control: two TCP ports of the loopback interface, one behind the other,
//! or two Unix sockets, the second with `.ctrl` behind its name. Whoever can connect to the sockets has the TPM with
//! the highest locality that the proxy was given.

pub mod mssim;
pub mod swtpm;

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail};
use vtpm::command::{Family, answer, code, failure};
use vtpm::frame::{Kind, Status};

use crate::client::{Client, Reply};

/// Open connections that one socket has at most.
const CONNECTIONS: usize = 32;

/// A TPM behind IDC, as the protocols need it.
pub struct Tpm {
    data: Mutex<Client>,
    /// For cancelling, while `data` waits for its answer.
    control: Mutex<Client>,
    /// Number of the command that is under way; 0 for none.
    running: AtomicU32,
    locality: AtomicU8,
    locality_max: u8,
    family: Family,
    /// Both sides of the protocol have the simulator's power switch.
    powered: AtomicBool,
}

impl fmt::Debug for Tpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tpm").field("family", &self.family).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A client whose request was interrupted makes a new channel.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tpm {
    /// A TPM behind two clients of one vTPM domain.
    ///
    /// # Errors
    /// The vTPM is not there.
    pub fn new(mut data: Client, control: Client, locality_max: u8) -> Result<Tpm> {
        let info = data.info()?;
        let value = info.iter().find(|(key, _)| key == "family").map(|(_, value)| value.as_str());
        let family = crate::registry::family(value.unwrap_or_default())?;
        Ok(Tpm {
            data: Mutex::new(data),
            control: Mutex::new(control),
            running: AtomicU32::new(0),
            locality: AtomicU8::new(0),
            locality_max,
            family,
            powered: AtomicBool::new(true),
        })
    }

    /// Runs a command at the locality that was set last, and returns the answer. A TPM that cannot be reached answers
    /// like one that has failed.
    pub fn command(&self, bytes: &[u8]) -> Vec<u8> {
        self.command_at(self.locality.load(Ordering::Relaxed), bytes)
    }

    /// Runs a command at a locality.
    pub fn command_at(&self, locality: u8, bytes: &[u8]) -> Vec<u8> {
        if locality > self.locality_max {
            return answer(self.family, code::LOCALITY);
        }
        let mut data = lock(&self.data);
        self.running.store(data.next_sequence(), Ordering::SeqCst);
        let reply = data.request(Kind::Command, locality, bytes);
        self.running.store(0, Ordering::SeqCst);
        match reply {
            Ok(Reply { status: Status::Ok, contents }) => contents,
            Ok(Reply { status: Status::Locality, .. }) => answer(self.family, code::LOCALITY),
            Ok(Reply { status, .. }) => {
                eprintln!("vtpmd: the vTPM did not run a command: {status}");
                failure(self.family)
            }
            Err(error) => {
                eprintln!("vtpmd: a command was lost: {error:#}");
                failure(self.family)
            }
        }
    }

    /// Cancels the command that is under way.
    pub fn cancel(&self) -> bool {
        let number = self.running.load(Ordering::SeqCst);
        number == 0 || lock(&self.control).demand(Kind::Cancel, &number.to_le_bytes()).is_ok()
    }

    /// Resets the TPM.
    pub fn reset(&self) -> bool {
        self.simple(Kind::Reset)
    }

    fn simple(&self, kind: Kind) -> bool {
        let result = lock(&self.data).demand(kind, &[]);
        if let Err(error) = &result {
            eprintln!("vtpmd: {kind:?}: {error:#}");
        }
        result.is_ok()
    }

    /// Sets the locality of the commands that follow; whether it may be used.
    pub fn set_locality(&self, locality: u8) -> bool {
        let good = locality <= self.locality_max;
        if good {
            self.locality.store(locality, Ordering::Relaxed);
        }
        good
    }

    /// Power on or off, as the simulator knows it; off and on again is a reset.
    pub fn power(&self, on: bool) -> bool {
        let before = self.powered.swap(on, Ordering::SeqCst);
        before || !on || self.reset()
    }
}

/// Which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// swtpm's
    Swtpm,
    /// Microsoft's simulator's
    Mssim,
}

/// Where the sockets are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Ports N and N+1 of the loopback interface.
    Tcp(u16),
    /// This path, and the same with `.ctrl` behind it.
    Unix(PathBuf),
}

impl std::str::FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Place> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                bail!("`unix:` wants a path");
            }
            return Ok(Place::Unix(path.into()));
        }
        match text.strip_prefix("tcp:").and_then(|port| port.parse().ok()) {
            Some(port @ 0..=65534) => Ok(Place::Tcp(port)),
            _ => bail!("`{text}` is no place: use tcp:PORT (on the loopback interface) or unix:PATH"),
        }
    }
}

/// A connection of either kind.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A TCP connection that acknowledges at once: clients send a request in pieces, and wait for the acknowledgement of the
/// first one before they send the second, which the system would delay by 40 ms.
struct Quick(TcpStream);

impl Read for Quick {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // The system forgets it again and again. Without it, it is only slower.
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.0, true);
        self.0.read(buf)
    }
}

impl Write for Quick {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// A listening socket of either kind.
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Socket {
    fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Socket::Tcp(listener) => {
                let (stream, _): (TcpStream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                Box::new(Quick(stream))
            }
            Socket::Unix(listener) => Box::<UnixStream>::new(listener.accept()?.0),
        })
    }
}

fn unix(path: &Path) -> Result<Socket> {
    // What an earlier proxy left behind; anything but a socket stays, and binding fails.
    if fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
        let _ = fs::remove_file(path);
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("cannot listen at {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .context("cannot close the socket to others")?;
    Ok(Socket::Unix(listener))
}

fn tcp(port: u16) -> Result<TcpListener> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))
}

/// The sockets of a proxy.
pub struct Sockets {
    command: Socket,
    control: Socket,
    place: Place,
}

impl Sockets {
    /// Listens. With port 0 the system chooses two ports in a row.
    ///
    /// # Errors
    /// The place is taken.
    pub fn listen(place: &Place) -> Result<Sockets> {
        match place {
            Place::Unix(path) => {
                let mut control = path.clone().into_os_string();
                control.push(".ctrl");
                Ok(Sockets { command: unix(path)?, control: unix(control.as_ref())?, place: place.clone() })
            }
            Place::Tcp(wanted) => {
                // The port behind a free one may be taken.
                for _ in 0..100 {
                    let command = tcp(*wanted)?;
                    let port = command.local_addr()?.port();
                    let control = if port == u16::MAX { None } else { tcp(port + 1).ok() };
                    if let Some(control) = control {
                        let place = Place::Tcp(port);
                        return Ok(Sockets {
                            command: Socket::Tcp(command),
                            control: Socket::Tcp(control),
                            place,
                        });
                    }
                    if *wanted != 0 {
                        bail!("port {} is taken", wanted + 1);
                    }
                }
                bail!("there are no two free ports in a row")
            }
        }
    }

    /// Where they are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Serves connections for ever.
    pub fn run(self, protocol: Protocol, tpm: &Arc<Tpm>) {
        let (command, control): (Handler, Handler) = match protocol {
            Protocol::Swtpm => (swtpm::commands, swtpm::control),
            Protocol::Mssim => (mssim::commands, mssim::platform),
        };
        thread::scope(|scope| {
            scope.spawn(|| accept(&self.control, control, tpm));
            accept(&self.command, command, tpm);
        });
    }
}

type Handler = fn(&mut dyn Stream, &Tpm) -> io::Result<()>;

fn accept(socket: &Socket, handler: Handler, tpm: &Arc<Tpm>) {
    let open = Arc::new(());
    loop {
        let stream = match socket.accept() {
            Ok(stream) => stream,
            Err(error) => {
                eprintln!("vtpmd: a connection failed: {error}");
                // Out of files, most likely: others have to end first.
                thread::yield_now();
                continue;
            }
        };
        if Arc::strong_count(&open) > CONNECTIONS {
            continue;
        }
        let (tpm, ticket, mut stream) = (Arc::clone(tpm), Arc::clone(&open), stream);
        let result = thread::Builder::new().spawn(move || {
            match handler(&mut *stream, &tpm) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => eprintln!("vtpmd: {error}"),
                // The other side is gone, as it may be.
                _ => {}
            }
            drop(ticket);
        });
        if let Err(error) = result {
            eprintln!("vtpmd: a connection was turned away: no thread ({error})");
        }
    }
}

/// Reads exactly so many bytes; `None` at an end before the first.
fn read<const N: usize>(stream: &mut dyn Stream) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    let mut len = 0;
    while len < N {
        match stream.read(&mut bytes[len..]) {
            Ok(0) if len == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => len += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(bytes))
}

/// Reads a big-endian number that must be there.
fn number(stream: &mut dyn Stream) -> io::Result<u32> {
    let bytes = read(stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(u32::from_be_bytes(bytes))
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}
