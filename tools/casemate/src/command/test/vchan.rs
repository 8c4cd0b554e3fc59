//! Programs that use libxenvchan of Xen, unchanged, against our side of its protocol in a library-OS domain.
//!
//! Two such programs run in dom0: a small one in C that checks every byte (`tests/peers/vchan-peer.c`), built here
//! against Xen's own library, and Xen's `vchan-socket-proxy`. Each is the server and the client.

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use testbed::{
    Domain, DomainConfig, TestBed,
    proto::{Mode, Reason},
};

use super::report::{Report, Verdict};
use crate::{
    image::finish::Image,
    ui::{self, Ui},
    workspace::Workspace,
};

/// The domain that sends back what it gets.
const ECHO: &str = "vchan-echo";

/// The peer in C.
pub const PEER: &str = "vchan-peer";

/// Sizes of a server's rings: both in the shared page, one in it, pages of their own.
const SIZES: [usize; 3] = [1024, 2048, 65_536];

/// Bytes that are sent and come back: many times around the small rings.
const BYTES: u32 = 200_000;

const MEMORY_MIB: u32 = 8;

/// Nominal time limit of one step.
const LIMIT: Duration = Duration::from_secs(60);

type VchanTest = fn(&Bench<'_>) -> anyhow::Result<()>;

/// Each runs in both modes.
const TESTS: [(&str, VchanTest); 5] = [
    ("vchan-domain-serves", domain_serves),
    ("vchan-domain-connects", domain_connects),
    ("vchan-socket-proxy", socket_proxy),
    ("vchan-peer-dies", peer_dies),
    ("vchan-domain-dies", domain_dies),
];

struct Bench<'a> {
    bed: &'a TestBed,
    mode: Mode,
    image: &'a Image,
    /// Paths in dom0: the peer in C, and our own side as a Linux program.
    peer: String,
    ours: String,
}

/// Is any of these tests wanted?
pub fn is_wanted(report: &Report) -> bool {
    report.wants_in_a_mode(TESTS.iter().map(|(name, _)| *name))
}

/// Runs them.
///
/// # Errors
/// When a program for them cannot be built or brought into dom0.
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
    let peer = bed.put(&workspace.vchan_program(PEER, &[])?)?;
    let ours = bed.put(&workspace.static_example("casemate-idc", "vchan", ui)?)?;
    let image =
        images.iter().find(|i| i.name == ECHO).with_context(|| format!("there is no image {ECHO}"))?;
    for mode in Mode::ALL {
        let bench = Bench { bed, mode, image, peer: peer.clone(), ours: ours.clone() };
        for (name, test) in TESTS {
            let name = format!("{mode}-{name}");
            if report.wants(&name) {
                let result = test(&bench).map_err(|e| ui::text_of(&e));
                report.add(&name, Verdict::from(result));
            }
        }
    }
    Ok(())
}

impl Bench<'_> {
    fn limit(&self) -> Duration {
        self.bed.limits().scale(LIMIT)
    }

    fn start(&self, words: &str) -> anyhow::Result<Domain> {
        let mut config = DomainConfig::new(&self.image.path, self.mode);
        config.memory_mib = MEMORY_MIB;
        config.cmdline = words.to_owned();
        config.limit = Some(self.limit());
        Ok(self.bed.start_domain(&config)?)
    }

    /// Runs a script in dom0. It has to end with status 0; what the domain says is added to an error.
    fn dom0(&self, domain: &Domain, script: &str) -> anyhow::Result<String> {
        let script = format!("PEER={} OURS={} D={}\n{script}", self.peer, self.ours, domain.id());
        let output = self.bed.shell(&script, Some(2 * self.limit()))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        if output.status != 0 {
            let console = text(&domain.console()?);
            bail!(
                "status {} of dom0's part:\n{stdout}\n{stderr}\nthe domain says:\n{console}",
                output.status
            );
        }
        Ok(stdout)
    }

    /// Waits for the domain's end, which has to be a good one, and returns what it said.
    fn end(&self, domain: &Domain) -> anyhow::Result<String> {
        let mut console = Vec::new();
        let end = domain.wait(|piece| console.extend_from_slice(piece))?;
        let console = String::from_utf8_lossy(&console).into_owned();
        ensure!(end.reason == Reason::PowerOff && end.status == Some(0), "{end:?}\n{console}");
        Ok(console)
    }
}

/// The domain is the server, the program in C its client.
fn domain_serves(bench: &Bench<'_>) -> anyhow::Result<()> {
    for size in SIZES {
        let domain = bench.start(&format!("serve 0 data/vchan/echo {size}"))?;
        let script = format!("$PEER client check $D /local/domain/$D/data/vchan/echo 0 {BYTES}");
        let said = bench.dom0(&domain, &script)?;
        ensure!(said.contains("checked"), "{said}");
        let console = bench.end(&domain)?;
        ensure!(
            console.contains(&format!("rings of ({size}")),
            "rings of {size} bytes were asked for:\n{console}"
        );
    }
    Ok(())
}

/// The program in C is the server, the domain its client.
fn domain_connects(bench: &Bench<'_>) -> anyhow::Result<()> {
    for size in SIZES {
        let path = format!("/local/domain/0/data/vchan/{}-{size}", bench.mode);
        let domain = bench.start(&format!("connect 0 {path}"))?;
        let said = bench.dom0(&domain, &format!("$PEER server check $D {path} {size} {BYTES}"))?;
        ensure!(said.contains("checked"), "{said}");
        bench.end(&domain)?;
    }
    Ok(())
}

/// Xen's own program carries a file there and back, in both roles.
fn socket_proxy(bench: &Bench<'_>) -> anyhow::Result<()> {
    let here = format!("/local/domain/0/data/vchan/proxy-{}", bench.mode);
    let there = "/local/domain/$D/data/vchan/echo";
    for (words, ready, proxy) in [
        (
            "serve 0 data/vchan/echo".to_owned(),
            format!("{there}/event-channel"),
            format!("-m client $D {there}"),
        ),
        (format!("connect 0 {here}"), "/local/domain/$D".to_owned(), format!("-m server $D {here}")),
    ] {
        let domain = bench.start(&words)?;
        // As a client the proxy does not wait for a server. Its input stays open until everything is back.
        let script = format!(
            "head -c {BYTES} /dev/urandom > /tmp/sent; : > /tmp/back
until xenstore-exists {ready}; do usleep 50000; done
{{ cat /tmp/sent; until [ $(wc -c < /tmp/back) -eq {BYTES} ]; do usleep 50000; done; }} |
  vchan-socket-proxy {proxy} - > /tmp/back
cmp /tmp/sent /tmp/back"
        );
        bench.dom0(&domain, &script)?;
        bench.end(&domain)?;
    }
    Ok(())
}

/// The process of the peer is killed: for a vchan that is the end of its stream.
fn peer_dies(bench: &Bench<'_>) -> anyhow::Result<()> {
    let path = format!("/local/domain/0/data/vchan/dies-{}", bench.mode);
    let domain = bench.start(&format!("connect 0 {path}"))?;
    let script = format!("$PEER server hold $D {path} 4096 > /tmp/hold 2>&1 & echo $!");
    let pid = bench.dom0(&domain, &script)?;
    // Asking dom0 takes its time, so this is no tight loop.
    let deadline = Instant::now() + bench.limit();
    while !String::from_utf8_lossy(&domain.console()?).contains("is there") {
        ensure!(Instant::now() < deadline, "the domain did not connect");
    }
    bench.dom0(&domain, &format!("kill -9 {pid}"))?;
    let said = bench.end(&domain)?;
    ensure!(said.contains("vchan-echo: 0 bytes"), "{said}");
    Ok(())
}

/// The domain is destroyed, of which nobody is told: our side in Linux finds out.
fn domain_dies(bench: &Bench<'_>) -> anyhow::Result<()> {
    let domain = bench.start("serve 0 data/vchan/echo")?;
    let script =
        "rm -f /tmp/ours; $OURS connect $D /local/domain/$D/data/vchan/echo > /tmp/ours 2>&1 & ours=$!
until grep -q connected /tmp/ours; do kill -0 $ours || { cat /tmp/ours; exit 9; }; usleep 20000; done
xl destroy $D
if wait $ours; then echo status 0; else echo status $?; fi
cat /tmp/ours";
    let said = bench.dom0(&domain, script)?;
    ensure!(said.contains("status 1") && said.contains(&format!("domain {} died", domain.id())), "{said}");
    Ok(())
}
