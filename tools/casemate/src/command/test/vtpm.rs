//! The vTPM in a domain of its own: manager in dom0, TPM commands over IDC, restarts and kills.

mod cli;
mod linux;
mod oracle;

use anyhow::{Context, ensure};
use testbed::{Domain, DomainConfig, TestBed, proto::Mode};

use super::report::{Report, Verdict};
use crate::{
    beside::{self, LIMIT, MANAGER, MEMORY_MIB, STOP_MANAGER},
    image::finish::Image,
    ui::{self, Ui},
    workspace::Workspace,
};

const NAME: &str = "vtpm";
/// Kills of a TPM that is writing.
const KILLS: u32 = 10;

// TPM 2.0 commands, from TCG TPM 2.0 Library, part 3. The owner's authorisation is an empty password.
const GET_RANDOM: &str = "80010000000c0000017b0010";
/// PCR 16, bank SHA-256.
const READ_PCR: &str = "8001000000140000017e00000001000b03000001";
const EXTEND_PCR: &str = "80020000004100000182000000100000000940000009000000000000000001000b1111\
                          111111111111111111111111111111111111111111111111111111111111";
/// SHA-256 of 32 zeros and that digest.
const EXTENDED: &str = "8878b15a7d6a3a4f464e8f9f42591dbc0cf4bedea0ec309003d2b2ee53655ef8";
/// A counter in non-volatile memory at 0x01500000.
const DEFINE_COUNTER: &str =
    "80020000002d0000012a40000001000000094000000900000000000000000e01500000000b0206001600000008";
const INCREMENT: &str = "80020000001f00000134400000010150000000000009400000090000000000";
const READ_COUNTER: &str = "8002000000230000014e40000001015000000000000940000009000000000000080000";
const SUCCESS: &str = "00000000";

/// What the tests use.
struct Bench<'a> {
    bed: &'a TestBed,
    daemon: String,
    image: &'a Image,
}

/// Is any of these tests wanted?
pub fn is_wanted(report: &Report) -> bool {
    report.wants_in_a_mode([NAME]) || cli::is_wanted(report) || linux::is_wanted(report)
}

/// Runs them. What cannot be built is a result, too.
pub fn run(bed: &TestBed, workspace: &Workspace, full: bool, report: &mut Report, ui: &Ui) {
    if !is_wanted(report) {
        return;
    }
    let built = beside::build(workspace, ui).and_then(|built| {
        let daemon = bed.put(&built.program)?;
        Ok((built, daemon))
    });
    let (built, daemon) = match built {
        Ok(built) => built,
        Err(error) => return report.add(&format!("build-{NAME}"), Verdict::Error(ui::text_of(&error))),
    };
    for mode in Mode::ALL {
        let name = format!("{mode}-{NAME}");
        if report.wants(&name) {
            let bench = Bench { bed, daemon: daemon.clone(), image: &built.image };
            let result = bench.test(mode).map_err(|error| ui::text_of(&error));
            report.add(&name, result.into());
        }
    }
    cli::run(bed, &built.image, &daemon, report);
    linux::run(bed, workspace, &built, &daemon, full, report);
}

impl Bench<'_> {
    /// Runs a script in dom0 and returns its output. It has to end with status 0.
    fn script(&self, mode: Mode, script: &str) -> anyhow::Result<String> {
        beside::dom0(self.bed, &self.daemon, &mode.to_string(), script)
    }

    /// Starts a vTPM domain for the instance; it waits for the manager, which learns of the domain first.
    fn start(&self, mode: Mode) -> anyhow::Result<Domain> {
        let mut config = DomainConfig::new(&self.image.path, mode);
        config.memory_mib = MEMORY_MIB;
        // A manager that runs already would refuse a domain that it has not heard of.
        self.script(mode, STOP_MANAGER)?;
        config.cmdline = format!("patience={}", self.bed.limits().scale(LIMIT).as_secs());
        let domain = self.bed.start_domain(&config)?;
        self.script(mode, &format!("$VTPMD instance bind it --domid {} $DIRS\n{MANAGER}", domain.id()))?;
        Ok(domain)
    }

    /// Runs TPM commands and returns the answers.
    fn ask(&self, mode: Mode, domain: &Domain, commands: &[&str]) -> anyhow::Result<Vec<String>> {
        let script =
            format!("$VTPMD ask command --domid {} --patience $WAIT {}", domain.id(), commands.join(" "));
        let answers: Vec<String> = self.script(mode, &script)?.lines().map(str::to_owned).collect();
        for answer in &answers {
            let code = answer.get(12..20);
            ensure!(code == Some(SUCCESS), "the TPM answers {answer}");
        }
        Ok(answers)
    }

    fn counter(&self, mode: Mode, domain: &Domain) -> anyhow::Result<u64> {
        let answers = self.ask(mode, domain, &[READ_COUNTER])?;
        let digits = answers.first().and_then(|answer| answer.get(32..48)).context("a short answer")?;
        Ok(u64::from_str_radix(digits, 16)?)
    }

    fn test(&self, mode: Mode) -> anyhow::Result<()> {
        self.script(mode, "rm -rf $DIR; $VTPMD instance create it $DIRS")?;
        let domain = self.start(mode)?;
        let result = self.steps(mode, domain).map_err(|(error, domain)| {
            let console = domain.and_then(|domain| domain.console().ok()).unwrap_or_default();
            let manager = self.script(mode, "cat $DIR/manager.log").unwrap_or_default();
            let console = String::from_utf8_lossy(&console);
            error.context(format!("console:\n{console}\nmanager:\n{manager}"))
        });
        let stopped = self.script(mode, STOP_MANAGER);
        result.and(stopped.map(drop))
    }

    fn steps(&self, mode: Mode, domain: Domain) -> Result<(), (anyhow::Error, Option<Domain>)> {
        let mut domain = domain;
        if let Err(error) = self.commands(mode, &domain) {
            return Err((error, Some(domain)));
        }
        let mut acknowledged = match self.counter(mode, &domain) {
            Ok(counter) => counter,
            Err(error) => return Err((error, Some(domain))),
        };
        for kill in 0..KILLS {
            match self.kill(mode, &domain, kill) {
                Ok(answers) => acknowledged += answers,
                Err(error) => return Err((error, Some(domain))),
            }
            domain = self.start(mode).map_err(|error| (error, None))?;
            let counter = match self.counter(mode, &domain) {
                Ok(counter) => counter,
                Err(error) => return Err((error, Some(domain))),
            };
            // One more than was answered may have been written.
            if counter != acknowledged && counter != acknowledged + 1 {
                let error = anyhow::anyhow!("kill {kill}: {counter} after {acknowledged} were acknowledged");
                return Err((error, Some(domain)));
            }
            acknowledged = counter;
        }
        domain.destroy().map_err(|error| (error.into(), None))
    }

    fn commands(&self, mode: Mode, domain: &Domain) -> anyhow::Result<()> {
        let answers = self.ask(
            mode,
            domain,
            &[GET_RANDOM, GET_RANDOM, EXTEND_PCR, READ_PCR, DEFINE_COUNTER, INCREMENT, INCREMENT],
        )?;
        ensure!(answers.len() == 7, "{answers:?}");
        ensure!(answers[0].len() == 56 && answers[0] != answers[1], "{answers:?}");
        ensure!(answers[3].ends_with(EXTENDED), "the PCR is {}", answers[3]);
        let info = self.script(mode, &format!("$VTPMD ask info --domid {}", domain.id()))?;
        ensure!(info.contains("condition=running") && info.contains("engine=libtpms"), "{info}");
        // A manager that is restarted finds its domain again.
        self.script(mode, MANAGER)?;
        self.ask(mode, domain, &[INCREMENT])?;
        // What is stored is not the state itself: the names of its parts are not there.
        self.script(mode, "! grep -q permall $DIR/state/instances/*/slot*")?;
        Ok(())
    }

    /// Destroys the domain while it counts; the number of answers that came.
    fn kill(&self, mode: Mode, domain: &Domain, kill: u32) -> anyhow::Result<u64> {
        let script = format!(
            "$VTPMD ask command --domid {0} --patience $WAIT $(yes {1} | head -n 200) > $DIR/answers 2> $DIR/errors &
client=$!
while [ $(wc -l < $DIR/answers) -lt {2} ] && kill -0 $client; do :; done
xl destroy {0}
wait $client || true
grep -c '^............{SUCCESS}' $DIR/answers || true
! grep -v '^............{SUCCESS}' $DIR/answers",
            domain.id(),
            INCREMENT,
            1 + kill * 3,
        );
        let output = self.script(mode, &script)?;
        Ok(output.trim().parse()?)
    }
}
