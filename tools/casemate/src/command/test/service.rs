//! The digest service in a domain, its client in dom0, and IDC between them: at work, and when one of them dies.

use std::time::Duration;

use anyhow::{Context, ensure};
use testbed::{Domain, DomainConfig, TestBed, proto::Mode};

use super::report::{Report, Verdict};
use crate::{
    image::finish::Image,
    ui::{self, Ui},
    workspace::Workspace,
};

/// The service's image, and its client's package.
const SERVICE: &str = "digest";
const CLIENT: &str = "casemate-digest-client";

const MEMORY_MIB: u32 = 8;

/// Nominal time limit of one step.
const LIMIT: Duration = Duration::from_secs(60);

type ServiceTest = fn(&Bench<'_>, &Domain) -> anyhow::Result<()>;

/// Each gets a service domain of its own, in both modes.
const TESTS: [(&str, ServiceTest); 4] = [
    ("idc-digest", digest),
    ("idc-clients-at-once", clients_at_once),
    ("idc-client-dies", client_dies),
    ("idc-service-dies", service_dies),
];

/// The test without a domain.
const ABSENT: &str = "idc-absent-domain";

/// A shell function that streams a named pipe to the service; when it returns, a megabyte has gone that way, so
/// the channel is in use, and descriptor 3 feeds it on. `$client` is its process.
const STREAM: &str = "rm -f /tmp/pipe; mkfifo /tmp/pipe
$CLIENT --domid $DOMID --wait $WAIT /tmp/pipe > /tmp/client.out 2> /tmp/client.err &
client=$!
exec 3> /tmp/pipe
head -c 1000000 /dev/zero >&3";

/// What the tests use.
struct Bench<'a> {
    bed: &'a TestBed,
    /// Path of the client in dom0.
    client: String,
}

/// Is any of these tests wanted?
pub fn is_wanted(report: &Report) -> bool {
    report.wants(ABSENT) || report.wants_in_a_mode(TESTS.iter().map(|(name, _)| *name))
}

/// Runs them.
///
/// # Errors
/// When the client cannot be built or brought into dom0.
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
    let client = bed.put(&workspace.static_program(CLIENT, ui)?)?;
    let image = images.iter().find(|i| i.name == SERVICE).context("there is no image of the service")?;
    let bench = Bench { bed, client };
    if report.wants(ABSENT) {
        report.add(ABSENT, verdict(bench.absent()));
    }
    for mode in Mode::ALL {
        for (name, test) in TESTS {
            let name = format!("{mode}-{name}");
            if report.wants(&name) {
                report.add(&name, verdict(bench.with_service(image, mode, test)));
            }
        }
    }
    Ok(())
}

fn verdict(result: anyhow::Result<()>) -> Verdict {
    result.map_err(|e| ui::text_of(&e)).into()
}

impl Bench<'_> {
    fn with_service(&self, image: &Image, mode: Mode, test: ServiceTest) -> anyhow::Result<()> {
        let mut config = DomainConfig::new(&image.path, mode);
        config.memory_mib = MEMORY_MIB;
        let domain = self.bed.start_domain(&config)?;
        let result = test(self, &domain).map_err(|e| {
            let console = domain.console().unwrap_or_default();
            e.context(format!("the console of the domain says:\n{}", String::from_utf8_lossy(&console)))
        });
        domain.destroy()?;
        result
    }

    /// Runs a script in dom0 and returns its output. It has to end with status 0.
    fn script(&self, domid: u16, script: &str) -> anyhow::Result<String> {
        let limit = self.bed.limits().scale(LIMIT);
        let script =
            format!("set -e; CLIENT={} DOMID={domid} WAIT={}\n{script}", self.client, limit.as_secs());
        let output = self.bed.shell(&script, Some(2 * limit))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        ensure!(output.status == 0, "status {} of dom0's part:\n{stdout}\n{stderr}", output.status);
        Ok(stdout)
    }

    /// No domain, no service: an error that says so.
    fn absent(&self) -> anyhow::Result<()> {
        let output =
            self.script(29999, "$CLIENT --domid $DOMID --wait 1 /dev/null 2>&1 || echo status $?")?;
        ensure!(output.contains("status 1") && output.contains("29999"), "{output}");
        Ok(())
    }
}

/// The digest of random bytes is the one that sha256sum computes.
fn digest(bench: &Bench<'_>, domain: &Domain) -> anyhow::Result<()> {
    let script = "head -c 3000001 /dev/urandom > /tmp/data
for file in /tmp/data /dev/null; do
  sha256sum $file | cut -c 1-64
  $CLIENT --domid $DOMID --wait $WAIT $file | cut -c 1-64
done";
    let output = bench.script(domain.id(), script)?;
    let lines: Vec<_> = output.lines().collect();
    ensure!(lines.len() == 4 && lines.iter().all(|l| l.len() == 64), "{output}");
    ensure!(lines[0] == lines[1] && lines[2] == lines[3] && lines[0] != lines[2], "{output}");
    Ok(())
}

/// Clients at once do not get into each other's way.
fn clients_at_once(bench: &Bench<'_>, domain: &Domain) -> anyhow::Result<()> {
    let script = "for i in 1 2 3 4; do head -c ${i}00000 /dev/urandom > /tmp/data$i; done
for i in 1 2 3 4; do $CLIENT --domid $DOMID --wait $WAIT /tmp/data$i > /tmp/answer$i & done
wait
cat /tmp/answer1 /tmp/answer2 /tmp/answer3 /tmp/answer4 | cut -c 1-64
sha256sum /tmp/data1 /tmp/data2 /tmp/data3 /tmp/data4 | cut -c 1-64";
    let output = bench.script(domain.id(), script)?;
    let lines: Vec<_> = output.lines().collect();
    ensure!(lines.len() == 8 && lines[..4] == lines[4..], "{output}");
    Ok(())
}

/// A client that is killed while it streams costs the others nothing.
fn client_dies(bench: &Bench<'_>, domain: &Domain) -> anyhow::Result<()> {
    bench.script(domain.id(), &format!("{STREAM}\nkill -9 $client; wait $client || true; exec 3>&-"))?;
    digest(bench, domain)
}

/// A service domain that is destroyed while a client streams to it: the client ends with an error that names it.
fn service_dies(bench: &Bench<'_>, domain: &Domain) -> anyhow::Result<()> {
    let script = format!(
        "{STREAM}
xl destroy $DOMID
head -c 9000000 /dev/zero >&3 2> /dev/null &
if wait $client; then echo status 0; else echo status $?; fi
exec 3>&-
cat /tmp/client.err"
    );
    let output = bench.script(domain.id(), &script)?;
    let names_it = output.contains(&format!("domain {}", domain.id()));
    ensure!(output.contains("status 1") && names_it, "{output}");
    Ok(())
}
