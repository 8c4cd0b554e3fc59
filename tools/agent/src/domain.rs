//! The domains that this agent started: creation, end, destruction.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};

use testbed::proto::{DomainSpec, DomainState, End, Reason};

use xenstore::Xenstore;

use crate::{console::Console, xl};

/// A domain that this agent started.
struct Domain {
    console: Arc<Console>,
    input: mpsc::Sender<Vec<u8>>,
    end: Arc<OnceLock<End>>,
}

/// All domains of this agent.
pub struct Domains {
    state: Mutex<State>,
    /// Signalled when a creation has ended.
    created: Condvar,
    /// Folder for configuration files.
    scratch: String,
    /// Told when a domain has ended.
    on_end: Arc<dyn Fn(u16) + Send + Sync>,
}

#[derive(Default)]
struct State {
    known: HashMap<u16, Domain>,
    /// Creations under way; the domains may exist already without being known.
    starting: usize,
    /// No more domains are to be created.
    closed: bool,
}

impl Domains {
    /// None yet. `on_end` is told of each that has ended.
    pub fn new(scratch: &str, on_end: impl Fn(u16) + Send + Sync + 'static) -> Self {
        let (state, created) = (Mutex::default(), Condvar::new());
        Self { state, created, scratch: scratch.to_owned(), on_end: Arc::new(on_end) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a domain and begins to follow its console and its life.
    ///
    /// # Errors
    /// What `xl` says.
    pub fn start(&self, spec: &DomainSpec) -> Result<(u16, Duration), String> {
        if !Path::new(&spec.image).is_file() {
            return Err(format!("there is no image {} in dom0", spec.image));
        }
        {
            let mut state = self.lock();
            if state.closed {
                return Err("the agent is about to end".to_owned());
            }
            state.starting += 1;
        }
        let config = format!("{}/{}.cfg", self.scratch, spec.name.replace('/', "_"));
        let created = xl::create(spec, &config);
        let _ = fs::remove_file(&config);
        let result = created.map(|(domid, took)| (domid, took, follow(domid, Arc::clone(&self.on_end))));
        let mut state = self.lock();
        state.starting -= 1;
        self.created.notify_all();
        let (domid, took, domain) = result?;
        state.known.insert(domid, domain);
        Ok((domid, took))
    }

    /// Streams the console until the domain has ended, and says how it ended.
    ///
    /// # Errors
    /// When the domain was not started here.
    pub fn wait(&self, domid: u16, sink: impl Fn(&[u8])) -> Result<End, String> {
        let (console, end) = {
            let state = self.lock();
            let domain = find(&state.known, domid)?;
            (Arc::clone(&domain.console), Arc::clone(&domain.end))
        };
        console.stream(sink);
        end.get().cloned().ok_or_else(|| "the console closed before the domain ended".to_owned())
    }

    /// How a domain has ended, if it has.
    ///
    /// # Errors
    /// When the domain was not started here.
    pub fn end(&self, domid: u16) -> Result<Option<End>, String> {
        Ok(find(&self.lock().known, domid)?.end.get().cloned())
    }

    /// Types into the domain's console.
    ///
    /// # Errors
    /// When the domain was not started here.
    pub fn input(&self, domid: u16, bytes: Vec<u8>) -> Result<(), String> {
        // A console that is gone already swallows input, as a real one would.
        let _ = find(&self.lock().known, domid)?.input.send(bytes);
        Ok(())
    }

    /// What the domain has printed so far.
    ///
    /// # Errors
    /// When the domain was not started here.
    pub fn console(&self, domid: u16) -> Result<Vec<u8>, String> {
        Ok(find(&self.lock().known, domid)?.console.snapshot())
    }

    /// Destroys a domain and forgets it.
    ///
    /// # Errors
    /// What `xl` says.
    pub fn destroy(&self, domid: u16) -> Result<(), String> {
        xl::destroy(domid)?;
        self.lock().known.remove(&domid);
        Ok(())
    }

    /// Destroys every domain that is still there, also one that is being created now; there will be no more.
    pub fn destroy_all(&self) {
        let mut state = self.lock();
        state.closed = true;
        while state.starting > 0 {
            state = self.created.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        for domid in state.known.keys() {
            if let Err(e) = xl::destroy(*domid) {
                eprintln!("casemate-agent: domain {domid}: {e}");
            }
        }
    }
}

/// Begins to follow the console and the life of a domain.
fn follow(domid: u16, on_end: Arc<dyn Fn(u16) + Send + Sync>) -> Domain {
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
        on_end(domid);
        watched.close();
    });
    Domain { console, input, end }
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
    let mut store = Xenstore::open()?;
    store.watch("@releaseDomain")?;
    loop {
        // The first event comes at once, so a domain that has ended already is seen.
        store.next_event()?;
        let reason = match xl::state(domid).map_err(io::Error::other)? {
            None => Reason::Destroyed,
            Some(DomainState { reason: Some(reason), .. }) => reason,
            Some(_) => continue,
        };
        let status = store.text(&format!("/local/domain/{domid}/data/exit-status"))?;
        let status = status.and_then(|s| s.trim().parse().ok());
        // A domain of ours ends by powering off; Xen's log says why it ended otherwise. A reboot, for one, is what
        // a triple fault looks like.
        let xen_log = match reason {
            Reason::PowerOff | Reason::Destroyed => Vec::new(),
            _ => xl::log().map_or_else(
                |e| vec![format!("Xen's log cannot be read: {e}")],
                |log| xl::log_about(&String::from_utf8_lossy(&log), domid),
            ),
        };
        return Ok(End { reason, status, xen_log });
    }
}
