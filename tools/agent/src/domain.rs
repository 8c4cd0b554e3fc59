//! The domains that this agent started: creation, end, destruction.

use std::{
    collections::HashMap,
    fs,
    io::{self},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};

use testbed::proto::{DomainSpec, DomainState, End, Reason};

use crate::{console::Console, xenstore::Xenstore, xl};

/// A domain that this agent started.
struct Domain {
    console: Arc<Console>,
    input: mpsc::Sender<Vec<u8>>,
    end: Arc<OnceLock<End>>,
}

/// All domains of this agent.
pub struct Domains {
    known: Mutex<HashMap<u16, Domain>>,
    /// Folder for configuration files.
    scratch: String,
}

impl Domains {
    /// None yet.
    pub fn new(scratch: &str) -> Self {
        Self { known: Mutex::default(), scratch: scratch.to_owned() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u16, Domain>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a domain and begins to follow its console and its life.
    ///
    /// # Errors
    /// What `xl` says.
    pub fn start(&self, spec: &DomainSpec) -> Result<(u16, Duration), String> {
        if !Path::new(&spec.image).is_file() {
            return Err(format!("there is no image {} in dom0", spec.image));
        }
        let config = format!("{}/{}.cfg", self.scratch, spec.name.replace('/', "_"));
        let (domid, took) = xl::create(spec, &config)?;
        let _ = fs::remove_file(&config);
        let (console, input) = Console::follow(domid);
        let end = Arc::new(OnceLock::new());
        let (watched, ended) = (Arc::clone(&console), Arc::clone(&end));
        thread::spawn(move || {
            let end = await_end(domid).unwrap_or_else(|e| End {
                reason: Reason::Destroyed,
                status: None,
                xen_log: vec![format!("the end of the domain could not be watched: {e}")],
            });
            if end.reason != Reason::Destroyed {
                watched.settle();
            }
            let _ = ended.set(end);
            watched.close();
        });
        self.known().insert(domid, Domain { console, input, end });
        Ok((domid, took))
    }

    /// Streams the console until the domain has ended, and says how it ended.
    ///
    /// # Errors
    /// When the domain was not started here.
    pub fn wait(&self, domid: u16, sink: impl Fn(&[u8])) -> Result<End, String> {
        let (console, end) = {
            let known = self.known();
            let domain = find(&known, domid)?;
            (Arc::clone(&domain.console), Arc::clone(&domain.end))
        };
        console.stream(sink);
        end.get().cloned().ok_or_else(|| "the console closed before the domain ended".to_owned())
    }

    /// Types into the domain's console.
    ///
    /// # Errors
    /// When the domain was not started here.
    pub fn input(&self, domid: u16, bytes: Vec<u8>) -> Result<(), String> {
        // A console that is gone already swallows input, as a real one would.
        let _ = find(&self.known(), domid)?.input.send(bytes);
        Ok(())
    }

    /// What the domain has printed so far.
    ///
    /// # Errors
    /// When the domain was not started here.
    pub fn console(&self, domid: u16) -> Result<Vec<u8>, String> {
        Ok(find(&self.known(), domid)?.console.snapshot())
    }

    /// Destroys a domain. Its console stays readable until the agent ends.
    ///
    /// # Errors
    /// What `xl` says.
    pub fn destroy(&self, domid: u16) -> Result<(), String> {
        xl::destroy(domid)
    }

    /// Destroys every domain that is still there.
    pub fn destroy_all(&self) {
        let ids: Vec<u16> = self.known().keys().copied().collect();
        for domid in ids {
            if let Err(e) = xl::destroy(domid) {
                eprintln!("casemate-agent: domain {domid}: {e}");
            }
        }
    }
}

/// State of any domain.
///
/// # Errors
/// What `xl` says, or that there is no such domain.
pub fn state(domid: u16) -> Result<DomainState, String> {
    xl::state(domid)?.ok_or_else(|| format!("there is no domain {domid}"))
}

fn find(known: &HashMap<u16, Domain>, domid: u16) -> Result<&Domain, String> {
    known.get(&domid).ok_or_else(|| format!("domain {domid} was not started by this agent"))
}

/// Waits until a domain has stopped or is gone.
fn await_end(domid: u16) -> io::Result<End> {
    let mut store = Xenstore::connect()?;
    store.watch("@releaseDomain")?;
    loop {
        // The first event comes at once, so a domain that has ended already is seen.
        store.next_event()?;
        let reason = match xl::state(domid).map_err(io::Error::other)? {
            None => Reason::Destroyed,
            Some(DomainState { reason: Some(reason), .. }) => reason,
            Some(_) => continue,
        };
        let status = store.read(&format!("/local/domain/{domid}/data/exit-status"))?;
        let status = status.and_then(|s| s.trim().parse().ok());
        let xen_log = match (reason, xl::log()) {
            (Reason::Crash | Reason::Watchdog, Ok(log)) => {
                xl::log_about(&String::from_utf8_lossy(&log), domid)
            }
            (Reason::Crash | Reason::Watchdog, Err(e)) => vec![format!("Xen's log cannot be read: {e}")],
            _ => Vec::new(),
        };
        return Ok(End { reason, status, xen_log });
    }
}
