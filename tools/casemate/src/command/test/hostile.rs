//! A hostile domain on a real Xen: it dials an honest service and answers honest clients, and spoils every word that it
//! can reach, while another honest domain is served.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        mpsc::{self, Receiver},
    },
    thread::{self, Scope, ScopedJoinHandle},
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use testbed::{
    Domain, DomainConfig, TestBed,
    proto::{Mode, Reason},
};

use super::{
    conformance::both,
    report::{Report, Verdict},
};
use crate::{
    image::finish::Image,
    ui::{self, Ui},
    workspace::Workspace,
};

/// The package; its image lacks the first part of the name.
const PACKAGE: &str = "casemate-idc-hostile";
const IMAGE: &str = "idc-hostile";

const MEMORY_MIB: u32 = 16;

/// Nominal time limit of one step.
const LIMIT: Duration = Duration::from_secs(60);

/// What each role says at its end.
const HELD: &str = "hostile: all held";

/// The domain that is hostile is one of the library OS; this is where the honest side is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Dom0,
    Domain,
}

type HostileTest = fn(&Bench<'_>, Place) -> anyhow::Result<()>;

const TESTS: [(&str, HostileTest, Place); 4] = [
    ("idc-hostile-client-dom0", clients, Place::Dom0),
    ("idc-hostile-client-libos", clients, Place::Domain),
    ("idc-hostile-service-dom0", services, Place::Dom0),
    ("idc-hostile-service-libos", services, Place::Domain),
];

struct Bench<'a> {
    bed: &'a TestBed,
    mode: Mode,
    image: &'a Image,
    /// Path of the roles in dom0.
    program: String,
}

/// Is any of these tests wanted?
pub fn is_wanted(report: &Report) -> bool {
    report.wants_in_a_mode(TESTS.iter().map(|(name, ..)| *name))
}

/// Runs them.
///
/// # Errors
/// When the roles cannot be built or brought into dom0.
pub fn run(
    bed: &TestBed,
    workspace: &Workspace,
    images: &[Image],
    report: &mut Report,
    ui: &Ui,
) -> anyhow::Result<()> {
    if !is_wanted(report) {
        return Ok(());
    }
    let program = bed.put(&workspace.static_program(PACKAGE, ui)?)?;
    let image = find(images)?;
    for mode in Mode::ALL {
        let bench = Bench { bed, mode, image, program: program.clone() };
        for (name, test, place) in TESTS {
            let name = format!("{mode}-{name}");
            if report.wants(&name) {
                report.add(&name, Verdict::from(test(&bench, place).map_err(|e| ui::text_of(&e))));
            }
        }
    }
    Ok(())
}

fn find(images: &[Image]) -> anyhow::Result<&Image> {
    images.iter().find(|i| i.name == IMAGE).with_context(|| format!("there is no image {IMAGE}"))
}

/// Pages of closed channels that a peer may keep before it gets no more (`idc`'s quarantine).
const QUARANTINE: usize = 160;

/// Starts a domain that crashes when its client says so.
pub(super) fn start_mortal(bed: &TestBed, images: &[Image], mode: Mode) -> anyhow::Result<Domain> {
    let mut config = DomainConfig::new(&find(images)?.path, mode);
    config.memory_mib = MEMORY_MIB;
    "mortal 0".clone_into(&mut config.cmdline);
    Ok(bed.start_domain(&config)?)
}

/// Hostile clients of an honest service, with an honest one next to them.
fn clients(bench: &Bench<'_>, place: Place) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let victim = bench.start(scope, place, "victim")?;
        victim.wait_for("hostile: ready")?;
        let witness = bench.start(scope, Place::Domain, &format!("witness {}", victim.id()))?;
        witness.wait_for("hostile: ready")?;
        let hostile = bench.start(scope, Place::Domain, &format!("assault {}", victim.id()))?;
        let (witnessed, attacked, victimised) = (witness.end(), hostile.end(), victim.end());
        let text = victimised.as_deref().unwrap_or_default().to_owned();
        both(both(witnessed.map(drop), attacked.map(drop)), victimised.map(drop))?;
        // Linux keeps such pages by itself. A slow attack may not get as far as the budget before it ends.
        let kept = text.split("\"quarantined\":").nth(1).unwrap_or_default();
        let kept: String = kept.chars().take_while(char::is_ascii_digit).collect();
        let within = kept.parse().is_ok_and(|pages: usize| pages <= QUARANTINE);
        let held = within || (!kept.is_empty() && !text.contains("\"put_off\":0"));
        ensure!(held || place == Place::Dom0, "the hostile domain got pages without end:\n{text}");
        Ok(())
    })
}

/// A hostile service and an honest client.
fn services(bench: &Bench<'_>, place: Place) -> anyhow::Result<()> {
    thread::scope(|scope| {
        let hostile = bench.start(scope, Place::Domain, "trap")?;
        let visitor = bench.start(scope, place, &format!("visit {}", hostile.id()))?;
        both(visitor.end().map(drop), hostile.end().map(drop))
    })
}

impl Bench<'_> {
    /// Starts a role.
    fn start<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        place: Place,
        words: &str,
    ) -> anyhow::Result<Role<'scope>> {
        let step = self.bed.limits().scale(LIMIT);
        let words = format!("{words} {}", step.as_secs());
        let (said, says) = mpsc::channel();
        let (domain, thread) = match place {
            Place::Dom0 => {
                let command = format!("ulimit -n 4096; exec {} {words}", self.program);
                let thread = scope.spawn(move || {
                    let output = |_, piece: &[u8]| drop(said.send(piece.to_vec()));
                    let status = self.bed.run(&["/bin/sh", "-c", &command], &[], Some(5 * step), output)?;
                    ensure!(status == 0, "status {status}");
                    Ok(())
                });
                (None, thread)
            }
            Place::Domain => {
                let mut config = DomainConfig::new(&self.image.path, self.mode);
                config.memory_mib = MEMORY_MIB;
                config.cmdline = words;
                config.limit = Some(5 * step);
                let domain = Arc::new(self.bed.start_domain(&config)?);
                let waiting = Arc::clone(&domain);
                let thread = scope.spawn(move || {
                    let end = waiting.wait(|piece| drop(said.send(piece.to_vec())))?;
                    ensure!(end.reason == Reason::PowerOff && end.status == Some(0), "{end:?}");
                    Ok(())
                });
                (Some(domain), thread)
            }
        };
        Ok(Role { domain, thread, says, said: RefCell::default(), limit: 2 * step })
    }
}

/// A role at work.
struct Role<'scope> {
    domain: Option<Arc<Domain>>,
    thread: ScopedJoinHandle<'scope, anyhow::Result<()>>,
    says: Receiver<Vec<u8>>,
    said: RefCell<String>,
    limit: Duration,
}

impl Role<'_> {
    fn id(&self) -> u16 {
        self.domain.as_ref().map_or(0, |domain| domain.id())
    }

    /// Waits until it has said something.
    fn wait_for(&self, what: &str) -> anyhow::Result<()> {
        let mut said = self.said.borrow_mut();
        while !said.contains(what) {
            match self.says.recv_timeout(self.limit) {
                Ok(piece) => said.push_str(&String::from_utf8_lossy(&piece)),
                Err(_) => bail!("waited in vain for {what:?}; it said {said:?}"),
            }
        }
        Ok(())
    }

    /// Its end has to be a good one; what it has said.
    fn end(self) -> anyhow::Result<String> {
        let id = self.id();
        let result = self.thread.join().unwrap_or_else(|_| Err(anyhow!("panicked")));
        let mut said = self.said.into_inner();
        self.says.try_iter().for_each(|piece| said.push_str(&String::from_utf8_lossy(&piece)));
        result.with_context(|| format!("domain {id} said:\n{said}"))?;
        ensure!(said.contains(HELD), "domain {id} said:\n{said}");
        Ok(said)
    }
}
