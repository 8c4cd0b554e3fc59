//! What the tests of Linux guests use: two guests, the peers in them and in dom0, and ways to run them.

use std::{
    cell::RefCell,
    path::PathBuf,
    sync::mpsc::{self, Receiver},
    thread::{self, Scope, ScopedJoinHandle},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use testbed::{
    Domain, DomainConfig, Error, GuestFiles, LinuxConfig, LinuxGuest, Output, TestBed, proto::Mode,
};

use super::super::conformance;
use crate::image::finish::Image;

/// Lines of a guest's console that a failure quotes.
const CONSOLE_LINES: usize = 60;

/// Nominal time limit of one step.
const LIMIT: Duration = Duration::from_secs(60);

/// Name of the peer's service in a test.
pub const SERVED: &str = "served";

/// What the tests use.
pub struct Bench<'a> {
    pub bed: &'a TestBed,
    pub mode: Mode,
    pub images: &'a [Image],
    pub one: LinuxGuest,
    pub two: LinuxGuest,
    /// The peers, in dom0; in the guests they are `/bin/probe` and `/bin/crowd`.
    pub probe: String,
    pub crowd: String,
    /// The conformance suite; in the guests `/bin/conformance`.
    pub conformance: String,
    /// What measures deaths; in the guests `/bin/death`.
    pub death: String,
    pub vchan_peer: String,
    /// Of guests that a test has for itself.
    pub config: LinuxConfig,
    pub full: bool,
}

impl<'a> Bench<'a> {
    pub fn new(
        bed: &'a TestBed,
        mode: Mode,
        images: &'a [Image],
        [probe, crowd, vchan, vchan_peer, conformance, death]: &[PathBuf; 6],
        full: bool,
    ) -> anyhow::Result<Self> {
        let mut config = LinuxConfig::new(mode);
        config.files = GuestFiles::default()
            .file(probe, "/bin/probe")
            .file(crowd, "/bin/crowd")
            .file(vchan, "/bin/vchan")
            .file(vchan_peer, "/bin/vchan-peer")
            .file(conformance, "/bin/conformance")
            .file(death, "/bin/death")
            .program("/usr/bin/xenstore-read");
        let mut networked = config.clone();
        networked.network = true;
        let (probe, crowd, vchan_peer) = (bed.put(probe)?, bed.put(crowd)?, bed.put(vchan_peer)?);
        let (conformance, death) = (bed.put(conformance)?, bed.put(death)?);
        let (one, two) = thread::scope(|scope| {
            let two = scope.spawn(|| bed.start_linux(&config));
            (bed.start_linux(&networked), two.join())
        });
        let two = two.unwrap_or_else(|_| Err(Error::Job("panicked".to_owned())))?;
        Ok(Self {
            bed,
            mode,
            images,
            one: one?,
            two,
            probe,
            crowd,
            conformance,
            death,
            vchan_peer,
            config,
            full,
        })
    }

    /// Time limit of one step; what `--full` does more of takes longer.
    pub fn limit(&self) -> Duration {
        self.bed.limits().scale(LIMIT) * if self.full { 20 } else { 1 }
    }

    /// Runs a script in dom0. It has to end with status 0.
    pub fn dom0(&self, script: &str) -> anyhow::Result<String> {
        self.dom0_within(script, 2 * self.limit())
    }

    fn dom0_within(&self, script: &str, limit: Duration) -> anyhow::Result<String> {
        let script = format!("P={} C={} D={}\n{script}", self.probe, self.crowd, self.death);
        succeed("dom0", self.bed.shell(&script, Some(limit))?)
    }

    /// Runs a script in a guest. It has to end with status 0.
    pub fn linux(&self, guest: &LinuxGuest, script: &str) -> anyhow::Result<String> {
        self.linux_within(guest, script, 2 * self.limit())
    }

    fn linux_within(&self, guest: &LinuxGuest, script: &str, limit: Duration) -> anyhow::Result<String> {
        let script = format!("P=/bin/probe C=/bin/crowd\n{script}");
        let output = guest.shell(&script, Some(limit)).map_err(|error| {
            // A kernel that has crashed says why there.
            let console = guest.domain().console().unwrap_or_default();
            let console = String::from_utf8_lossy(&console).into_owned();
            let lines: Vec<&str> = console.lines().collect();
            let tail = lines[lines.len().saturating_sub(CONSOLE_LINES)..].join("\n");
            anyhow::Error::new(error).context(format!("last lines of the guest's console:\n{tail}\n"))
        })?;
        succeed(&format!("domain {}", guest.id()), output)
    }

    /// Runs a script in a guest, or in dom0.
    pub fn anywhere(&self, place: Option<&LinuxGuest>, script: &str) -> anyhow::Result<String> {
        match place {
            Some(guest) => self.linux(guest, script),
            None => self.dom0(script),
        }
    }

    /// Does something while the peer's echo service runs in a guest, or in dom0.
    pub fn with_server<T>(
        &self,
        place: Option<&LinuxGuest>,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let server = format!("$P serve {SERVED} > /tmp/server.log 2>&1 & echo $!");
        let pid = self.anywhere(place, &server)?;
        let result = work();
        let log = self.anywhere(place, &format!("kill {pid}; tail -n 5 /tmp/server.log"))?;
        result.with_context(|| format!("last lines of the server's log:\n{log}"))
    }

    /// Starts a role of the conformance suite in a guest, or in dom0.
    pub fn start_role(&self, place: Option<&LinuxGuest>, role: &str) -> anyhow::Result<()> {
        let program = if place.is_some() { "/bin/conformance" } else { self.conformance.as_str() };
        let seconds = conformance::step(self.bed).as_secs();
        let start = format!(
            "rm -f /tmp/suite; {program} {role} {seconds} > /tmp/suite 2>&1 & echo $! > /tmp/suite.pid"
        );
        self.anywhere(place, &start).map(drop)
    }

    /// Waits for the end of the role, which has to be a good one.
    pub fn end_role(&self, place: Option<&LinuxGuest>) -> anyhow::Result<()> {
        let wait = "while kill -0 $(cat /tmp/suite.pid) 2> /dev/null; do usleep 50000; done; cat /tmp/suite";
        // As many steps as for the same role in a domain.
        let limit = 4 * conformance::step(self.bed);
        let said = match place {
            Some(guest) => self.linux_within(guest, wait, limit),
            None => self.dom0_within(wait, limit),
        };
        let said = said.map_err(|error| {
            let so_far = self.anywhere(place, "kill -9 $(cat /tmp/suite.pid); cat /tmp/suite");
            error.context(format!("domain {} said so far:\n{}", domid(place), so_far.unwrap_or_default()))
        })?;
        ensure!(said.contains(conformance::PASSED), "domain {}:\n{said}", domid(place));
        Ok(())
    }

    /// The conformance suite between a server and a client.
    pub fn check_pair(&self, server: Option<&LinuxGuest>, client: Option<&LinuxGuest>) -> anyhow::Result<()> {
        self.start_role(server, "serve")?;
        self.start_role(client, &format!("check {}", domid(server)))?;
        conformance::both(self.end_role(client), self.end_role(server))
    }

    /// The same with a service domain in one of the roles.
    pub fn check_service_pair(&self, guest: &LinuxGuest, serves: bool) -> anyhow::Result<()> {
        let image = conformance::image(self.images)?;
        let start = |role: &str| conformance::start(self.bed, image, self.mode, role);
        let domain = if serves {
            let domain = start("serve")?;
            self.start_role(Some(guest), &format!("check {}", domain.id()))?;
            domain
        } else {
            self.start_role(Some(guest), "serve")?;
            start(&format!("check {}", guest.id()))?
        };
        conformance::both(self.end_role(Some(guest)), conformance::end(&domain))
    }

    /// Starts the second peer in a guest, or in dom0.
    pub fn stream<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        place: Option<&LinuxGuest>,
        args: &[&str],
    ) -> Streaming<'scope> {
        let program = if place.is_some() { "/bin/crowd" } else { self.crowd.as_str() };
        let command = format!("ulimit -n 4096; exec {program} {}", args.join(" "));
        let (said, says) = mpsc::channel();
        let (bed, guest, limit) = (self.bed.clone(), place.cloned(), Some(4 * self.limit()));
        let thread = scope.spawn(move || {
            let argv = ["/bin/sh", "-c", &command];
            let output = |_, piece: &[u8]| drop(said.send(piece.to_vec()));
            match guest {
                Some(guest) => guest.run(&argv, &[], limit, output),
                None => bed.run(&argv, &[], limit, output),
            }
        });
        Streaming { thread, says, said: RefCell::default(), limit: 2 * self.limit() }
    }

    /// Lets a Linux hand out and open what a thousand channels need.
    pub fn raise_limits(&self, place: Option<&LinuxGuest>) -> anyhow::Result<()> {
        self.anywhere(place, "echo 16384 > /sys/module/xen_gntalloc/parameters/limit").map(drop)
    }

    /// What Xen says about the guests and some domains: grants that are mapped, and event channels.
    pub fn in_use(&self, domains: &[&Domain]) -> anyhow::Result<(usize, Vec<usize>)> {
        let log = self.dom0("xl debug-keys g && xl dmesg")?;
        let (_, grants) = log.rsplit_once("gnttab_usage_print_all [").context("Xen printed no grants")?;
        let mapped = grants.lines().filter(|l| l.trim_start_matches("(XEN) ").starts_with("[0x")).count();
        let ids = [0, self.one.id(), self.two.id()].into_iter().chain(domains.iter().map(|d| d.id()));
        let ports = ids.map(|id| Ok(self.dom0(&format!("lsevtchn {id}"))?.lines().count()));
        Ok((mapped, ports.collect::<anyhow::Result<_>>()?))
    }

    /// Memory that programs in dom0 and in the first guest could still get, in KiB.
    pub fn available(&self) -> anyhow::Result<(u64, u64)> {
        let ask = "sync; echo 3 > /proc/sys/vm/drop_caches; awk '/^MemAvailable/ { print $2 }' /proc/meminfo";
        let number = |text: String| text.trim().parse().with_context(|| format!("no number: {text}"));
        Ok((number(self.dom0(ask)?)?, number(self.linux(&self.one, ask)?)?))
    }

    /// A service domain.
    pub fn service(&self, name: &str) -> anyhow::Result<Domain> {
        let image = self.images.iter().find(|i| i.name == name);
        let image = image.with_context(|| format!("there is no image {name}"))?;
        let mut config = DomainConfig::new(&image.path, self.mode);
        config.memory_mib = 16;
        Ok(self.bed.start_domain(&config)?)
    }
}

/// The second peer at work.
pub struct Streaming<'scope> {
    thread: ScopedJoinHandle<'scope, Result<i32, Error>>,
    says: Receiver<Vec<u8>>,
    said: RefCell<String>,
    limit: Duration,
}

impl Streaming<'_> {
    /// Waits until it has said something.
    pub fn wait_for(&self, what: &str) -> anyhow::Result<()> {
        let mut said = self.said.borrow_mut();
        while !said.contains(what) {
            match self.says.recv_timeout(self.limit) {
                Ok(piece) => said.push_str(&String::from_utf8_lossy(&piece)),
                Err(_) => bail!("waited in vain for {what:?}; it said {said:?}"),
            }
        }
        Ok(())
    }

    /// Its exit status and everything that it said.
    pub fn end(self) -> anyhow::Result<(i32, String)> {
        let status = self.thread.join().unwrap_or_else(|_| Err(Error::Job("panicked".to_owned())));
        let mut said = self.said.into_inner();
        self.says.try_iter().for_each(|piece| said.push_str(&String::from_utf8_lossy(&piece)));
        Ok((status.with_context(|| format!("it said {said:?}"))?, said))
    }
}

/// Number of a guest, or of dom0.
pub fn domid(place: Option<&LinuxGuest>) -> u16 {
    place.map_or(0, LinuxGuest::id)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

pub fn succeed(place: &str, output: Output) -> anyhow::Result<String> {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status == 0, "status {} of {place}'s part:\n{stdout}\n{stderr}", output.status);
    Ok(stdout)
}
