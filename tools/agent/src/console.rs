//! The console of one domain: everything it printed, and a way to type.
//!
//! xenconsoled copies the domain's console ring to a pseudo-terminal; a thread here reads it into a
//! [`Console`], where any number of requests can follow it. xenconsoled keeps what nobody reads yet
//! (1 MiB), so nothing is lost before that thread has found the terminal.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::termios::{self, OptionalActions};

use xenstore::Xenstore;

/// Bytes that are kept of one domain's console; when there is more, the oldest go.
const KEEP: usize = 4 << 20;

/// Samples that must find xenconsoled asleep, and the time between them.
const QUIET_SAMPLES: u32 = 4;
const QUIET_STEP: Duration = Duration::from_millis(2);

/// What a domain printed.
#[derive(Default)]
pub struct Console {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    kept: Vec<u8>,
    /// Bytes dropped before `kept`.
    dropped: u64,
    /// Nothing more will come.
    closed: bool,
}

impl Console {
    /// Follows the console of a domain from now on; input for the domain goes into the sender.
    pub fn follow(domid: u16) -> (Arc<Self>, mpsc::Sender<Vec<u8>>) {
        let console = Arc::new(Self::default());
        let (input, typed) = mpsc::channel::<Vec<u8>>();
        let reader = Arc::clone(&console);
        thread::spawn(move || {
            if let Err(e) = reader.pump(domid, typed) {
                reader.append(format!("[casemate-agent: console lost: {e}]\n").as_bytes());
            }
        });
        (console, input)
    }

    fn pump(&self, domid: u16, typed: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
        let mut tty = open_terminal(domid)?;
        let mut keyboard = tty.try_clone()?;
        thread::spawn(move || {
            for bytes in typed {
                if keyboard.write_all(&bytes).is_err() {
                    return;
                }
            }
        });
        let mut piece = [0; 4096];
        loop {
            match tty.read(&mut piece) {
                // End of file or EIO: xenconsoled closed its side because the domain is gone.
                Ok(0) | Err(_) => return Ok(()),
                Ok(n) => self.append(&piece[..n]),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.kept.extend_from_slice(bytes);
        if state.kept.len() > 2 * KEEP {
            let surplus = state.kept.len() - KEEP;
            state.kept.drain(..surplus);
            state.dropped += surplus as u64;
        }
        self.changed.notify_all();
    }

    /// Marks the end: followers get what is there and then stop.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Everything that is kept.
    pub fn snapshot(&self) -> Vec<u8> {
        self.lock().kept.clone()
    }

    /// Bytes seen so far.
    fn total(&self) -> u64 {
        let state = self.lock();
        state.dropped + state.kept.len() as u64
    }

    /// Gives everything from the first byte to `sink`, as it comes, until [`Console::close`].
    pub fn stream(&self, sink: impl Fn(&[u8])) {
        let mut at = 0u64;
        loop {
            let piece = {
                let mut state = self.lock();
                loop {
                    let start = at.max(state.dropped);
                    let offset = usize::try_from(start - state.dropped).unwrap_or(usize::MAX);
                    if let Some(fresh) = state.kept.get(offset..).filter(|f| !f.is_empty()) {
                        at = start + fresh.len() as u64;
                        break fresh.to_vec();
                    }
                    if state.closed {
                        return;
                    }
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            };
            for part in piece.chunks(32 * 1024) {
                sink(part);
            }
        }
    }

    /// Waits until what the domain printed before it stopped has arrived.
    ///
    /// The domain's last event was delivered before it stopped, so xenconsoled is awake or has been; once
    /// it sleeps again and nothing new arrives, the ring is empty. There is no better sign: xenconsoled
    /// does not acknowledge.
    pub fn settle(&self) {
        let daemon = xenconsoled();
        let mut quiet = 0;
        let mut last = None;
        while quiet < QUIET_SAMPLES {
            let now = (self.total(), daemon.as_deref().and_then(sleeping_since));
            let asleep = daemon.is_none() || now.1.is_some();
            quiet = if asleep && last.as_ref() == Some(&now) { quiet + 1 } else { 0 };
            last = Some(now);
            thread::sleep(QUIET_STEP);
        }
    }
}

/// Opens the terminal that xenconsoled made for a domain, as soon as it is there.
fn open_terminal(domid: u16) -> io::Result<File> {
    let path = format!("/local/domain/{domid}/console/tty");
    let mut store = Xenstore::open()?;
    store.watch(&path)?;
    let terminal = loop {
        match store.text(&path)? {
            Some(name) if !name.is_empty() => break name,
            _ => store.next_event()?,
        }
    };
    let tty = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NOCTTY.bits().cast_signed())
        .open(terminal)?;
    let mut attributes = termios::tcgetattr(&tty)?;
    attributes.make_raw();
    termios::tcsetattr(&tty, OptionalActions::Now, &attributes)?;
    Ok(tty)
}

/// Folder of xenconsoled in `/proc`.
fn xenconsoled() -> Option<String> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let dir = entry.path();
        let name = fs::read_to_string(dir.join("comm")).ok()?;
        (name.trim() == "xenconsoled").then(|| dir.to_string_lossy().into_owned())
    })
}

/// Number of times a sleeping process has gone to sleep; `None` while it is awake.
fn sleeping_since(process: &str) -> Option<String> {
    let status = fs::read_to_string(format!("{process}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
    field("State:")?.starts_with('S').then(|| field("voluntary_ctxt_switches:").map(str::to_owned))?
}
