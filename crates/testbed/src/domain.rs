//! Domains on the test bed.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    Error, TestBed,
    bed::Call,
    proto::{DomainSpec, DomainState, End, Job, Mode, Outcome},
};

/// A domain to run.
#[derive(Clone, Debug)]
pub struct DomainConfig {
    /// The image, on this machine.
    pub image: PathBuf,
    /// Kind of virtual machine.
    pub mode: Mode,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Command line; [`command_line`] makes one from words.
    pub cmdline: String,
    /// More lines for its configuration file (`xl.cfg(5)`).
    pub extra: Vec<String>,
    /// Create it, but do not let it run; see [`crate::gdb`].
    pub paused: bool,
    /// Time that it may take to its end; `None` for no limit. Scale it with [`TestBed::limits`].
    pub limit: Option<Duration>,
}

impl DomainConfig {
    /// A domain with 32 MiB of memory, an empty command line and no time limit.
    pub fn new(image: impl Into<PathBuf>, mode: Mode) -> Self {
        let (cmdline, extra) = (String::new(), Vec::new());
        Self { image: image.into(), mode, memory_mib: 32, cmdline, extra, paused: false, limit: None }
    }
}

/// Words as a command line that a domain takes apart into the same words: separated by spaces, in double quotes
/// where a word is empty or contains white space.
///
/// # Errors
/// The first word that cannot be passed: one with a double quote or a line break.
pub fn command_line(words: &[String]) -> Result<String, String> {
    let quoted = words.iter().map(|word| {
        if word.contains(['"', '\n', '\r', '\0']) {
            return Err(format!(
                "{word:?} cannot be passed to a domain: it contains a double quote or a line break"
            ));
        }
        let quotes = word.is_empty() || word.contains(char::is_whitespace);
        Ok(if quotes { format!("\"{word}\"") } else { word.clone() })
    });
    Ok(quoted.collect::<Result<Vec<_>, _>>()?.join(" "))
}

/// How a domain ran.
#[derive(Clone, Debug)]
pub struct DomainReport {
    /// How it ended.
    pub end: End,
    /// What it printed.
    pub console: Vec<u8>,
}

/// A domain that was started; destroyed when dropped.
pub struct Domain {
    bed: TestBed,
    domid: u16,
    /// Time that `xl create` took.
    create: Duration,
    /// dom0's monotonic clock just before `xl create`, in nanoseconds.
    began_ns: u64,
    limit: Option<Duration>,
    destroyed: Mutex<bool>,
}

impl Domain {
    /// Its id.
    pub fn id(&self) -> u16 {
        self.domid
    }

    /// The test bed that it runs on.
    pub(crate) fn bed(&self) -> &TestBed {
        &self.bed
    }

    /// Time that `xl create` took.
    pub fn create_time(&self) -> Duration {
        self.create
    }

    /// dom0's monotonic clock just before `xl create`, in nanoseconds: to be compared with other times
    /// taken in dom0.
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// Waits until it has ended; `console` gets what it prints, from its first byte on.
    ///
    /// # Errors
    /// [`Error::TimeLimit`] when its time is over (the domain is destroyed then); failures of the test bed.
    pub fn wait(&self, mut console: impl FnMut(&[u8])) -> Result<End, Error> {
        let call = Call { limit: self.limit, what: &format!("domain {}", self.domid), ..Call::default() };
        let job = Job::WaitDomain { domid: self.domid };
        match self.bed.call(job, call, |_, piece| console(piece)) {
            Ok((Outcome::Ended(end), _)) => Ok(end),
            Ok((other, _)) => Err(Error::Protocol(format!("{other:?}"))),
            Err(error) => {
                if matches!(error, Error::TimeLimit { .. }) {
                    let _ = self.destroy();
                }
                Err(error)
            }
        }
    }

    /// Types into its console.
    ///
    /// # Errors
    /// Failures of the test bed.
    pub fn input(&self, bytes: &[u8]) -> Result<(), Error> {
        let call = Call { body: bytes, ..Call::default() };
        self.bed.call(Job::Input { domid: self.domid }, call, |_, _| ()).map(drop)
    }

    /// What it has printed so far.
    ///
    /// # Errors
    /// Failures of the test bed.
    pub fn console(&self) -> Result<Vec<u8>, Error> {
        let job = Job::ReadConsole { domid: self.domid };
        self.bed.call(job, Call::default(), |_, _| ()).map(|(_, body)| body)
    }

    /// Its state now.
    ///
    /// # Errors
    /// Failures of the test bed, or that it is gone.
    pub fn state(&self) -> Result<DomainState, Error> {
        match self.bed.call(Job::DomainState { domid: self.domid }, Call::default(), |_, _| ())?.0 {
            Outcome::State(state) => Ok(state),
            other => Err(Error::Protocol(format!("{other:?}"))),
        }
    }

    /// Destroys it now; once is enough.
    ///
    /// # Errors
    /// Failures of the test bed.
    pub fn destroy(&self) -> Result<(), Error> {
        let mut destroyed = self.destroyed.lock().unwrap_or_else(PoisonError::into_inner);
        if !*destroyed {
            self.bed.call(Job::DestroyDomain { domid: self.domid }, Call::default(), |_, _| ())?;
            *destroyed = true;
        }
        Ok(())
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // When dom0 is gone, so is the domain.
        let _ = self.destroy();
    }
}

impl TestBed {
    /// Creates a domain and lets it run.
    ///
    /// # Errors
    /// What `xl` says; failures of the test bed.
    pub fn start_domain(&self, config: &DomainConfig) -> Result<Domain, Error> {
        let image = self.put(&config.image)?;
        let stem = config.image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let stem: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        self.start_domain_as(format!("{}-{stem}-{}", config.mode, self.next_number()), image, config)
    }

    /// As [`TestBed::start_domain`], with a name and an image that is in dom0 already.
    pub(crate) fn start_domain_as(
        &self,
        name: String,
        image: String,
        config: &DomainConfig,
    ) -> Result<Domain, Error> {
        let spec = DomainSpec {
            name,
            image,
            mode: config.mode,
            memory_mib: config.memory_mib,
            cmdline: config.cmdline.clone(),
            extra: config.extra.clone(),
            paused: config.paused,
        };
        match self.call(Job::StartDomain(spec), Call::default(), |_, _| ())?.0 {
            Outcome::Started { domid, create_ns, began_ns } => Ok(Domain {
                bed: self.clone(),
                domid,
                create: Duration::from_nanos(create_ns),
                began_ns,
                limit: config.limit,
                destroyed: Mutex::new(false),
            }),
            other => Err(Error::Protocol(format!("{other:?}"))),
        }
    }

    /// Runs a domain to its end and destroys it; `console` gets what it prints, as it comes.
    ///
    /// # Errors
    /// What `xl` says; [`Error::TimeLimit`]; failures of the test bed.
    pub fn run_domain(
        &self,
        config: &DomainConfig,
        mut console: impl FnMut(&[u8]),
    ) -> Result<DomainReport, Error> {
        let domain = self.start_domain(config)?;
        let mut printed = Vec::new();
        let end = domain.wait(|piece| {
            printed.extend_from_slice(piece);
            console(piece);
        })?;
        domain.destroy()?;
        Ok(DomainReport { end, console: printed })
    }
}

/// Files that were brought into dom0 already, by path, size and time on this machine.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    known: Mutex<HashMap<CopyKey, Copy>>,
    changed: Condvar,
}

/// Path, size and modification time.
pub(crate) type CopyKey = (PathBuf, u64, Option<std::time::SystemTime>);

/// State of a copy.
#[derive(Clone, Debug)]
enum Copy {
    Underway,
    There(Arc<str>),
}

impl Copies {
    /// The path of a copy in dom0; `bring` makes it when it is not there. Two callers with the same file
    /// share one copy.
    pub(crate) fn get(
        &self,
        key: CopyKey,
        bring: impl FnOnce() -> Result<String, Error>,
    ) -> Result<String, Error> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match known.get(&key) {
                Some(Copy::There(path)) => return Ok(path.to_string()),
                Some(Copy::Underway) => {
                    known = self.changed.wait(known).unwrap_or_else(PoisonError::into_inner);
                }
                None => break,
            }
        }
        known.insert(key.clone(), Copy::Underway);
        drop(known);
        let result = bring();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &result {
            Ok(path) => known.insert(key, Copy::There(path.as_str().into())),
            Err(_) => known.remove(&key),
        };
        self.changed.notify_all();
        result
    }

    /// Forgets the copy of a file; its path, if there was one.
    pub(crate) fn forget(&self, file: &Path) -> Option<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = known.iter().find(|(key, copy)| key.0 == file && matches!(copy, Copy::There(_)))?.0.clone();
        match known.remove(&key) {
            Some(Copy::There(path)) => Some(path.to_string()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_with_spaces_are_quoted() {
        let line = |words: &[&str]| command_line(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(line(&["one", "two words", "", "3"]).unwrap(), r#"one "two words" "" 3"#);
        assert_eq!(line(&[]).unwrap(), "");
        assert!(line(&["a\"b"]).is_err() && line(&["a\nb"]).is_err());
    }
}
