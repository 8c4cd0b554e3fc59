//! `/dev/tpm0` in a Linux guest: the kernel's `tpm_vtpm_proxy`, `vtpmd guest`, and a vTPM domain beside it. The guest has
//! Debian's kernel and tpm2-tools; swtpm is what the vTPM is compared with.

use std::{cell::RefCell, path::PathBuf, thread, time::Duration};

use anyhow::{Context, bail, ensure};
use testbed::{Domain, DomainConfig, GuestFiles, LinuxConfig, LinuxGuest, TestBed, proto::Mode};

use super::oracle;
use crate::{
    beside::{self, Built, LIMIT, MANAGER, MEMORY_MIB, START_DAEMON, STOP_MANAGER},
    command::test::report::{Report, Verdict},
    image::finish::Image,
    ui,
    workspace::Workspace,
};

/// Nominal time limit of the whole script.
const SCRIPT_LIMIT: Duration = Duration::from_secs(900);

type LinuxTest = fn(&Bench<'_>) -> anyhow::Result<()>;

/// Each runs in both modes.
const TESTS: [(&str, LinuxTest); 4] = [
    ("vtpm-linux-device", device),
    ("vtpm-linux-refusals", refusals),
    ("vtpm-linux-restarts", restarts),
    ("vtpm-linux-tpm2-tools", tpm2_tools),
];

fn name_of(mode: Mode, test: &str) -> String {
    format!("{mode}-{test}")
}

/// Is any of these tests wanted?
pub fn is_wanted(report: &Report) -> bool {
    report.wants_in_a_mode(TESTS.iter().map(|(name, _)| *name))
}

/// Runs them. `daemon` is `vtpmd` in dom0.
pub fn run(
    bed: &TestBed,
    workspace: &Workspace,
    built: &Built,
    daemon: &str,
    full: bool,
    report: &mut Report,
) {
    // The script takes many minutes where everything is emulated, and there is nothing in it that knows the mode.
    let long = |mode: Mode, name: &str| mode == Mode::Pv && name == "vtpm-linux-tpm2-tools" && !full;
    for mode in Mode::ALL {
        let wanted: Vec<_> = TESTS
            .iter()
            .filter(|(name, _)| report.wants(&name_of(mode, name)) && !long(mode, name))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let bench = Bench::new(bed, workspace, built, daemon, mode);
        for (name, test) in wanted {
            let result = match &bench {
                Ok(bench) => test(bench).map_err(|error| error.context(bench.logs())),
                Err(error) => Err(anyhow::anyhow!("there is no guest with a vTPM: {}", ui::text_of(error))),
            };
            report.add(&name_of(mode, name), result.map_err(|e| ui::text_of(&e)).into());
        }
        if let Ok(bench) = bench
            && let Err(error) = bench.dom0(STOP_MANAGER)
        {
            report.add(&name_of(mode, "vtpm-linux-manager-stops"), Verdict::Error(ui::text_of(&error)));
        }
    }
}

/// A vTPM domain with its guest, and another guest that is not its.
struct Bench<'a> {
    bed: &'a TestBed,
    mode: Mode,
    image: &'a Image,
    daemon: &'a str,
    config: LinuxConfig,
    /// The script with all that a TPM is used for.
    script: PathBuf,
    pair: RefCell<(Domain, LinuxGuest)>,
    stranger: LinuxGuest,
}

impl<'a> Bench<'a> {
    fn new(
        bed: &'a TestBed,
        workspace: &Workspace,
        built: &'a Built,
        daemon: &'a str,
        mode: Mode,
    ) -> anyhow::Result<Self> {
        let (image, config) = (&built.image, beside::guest_config(workspace, &built.program, mode));
        let mut bare = LinuxConfig::new(mode);
        bare.files = GuestFiles::default().file(&built.program, "/bin/vtpmd");
        let (guest, stranger) = thread::scope(|scope| {
            let stranger = scope.spawn(|| bed.start_linux(&bare));
            (bed.start_linux(&config), stranger.join())
        });
        let guest = guest?;
        let stranger = stranger.map_err(|_| anyhow::anyhow!("panicked"))??;
        let vtpm = paused(bed, image, mode)?;
        let script = workspace.root.join(beside::SCRIPT);
        let bench =
            Self { bed, mode, image, daemon, config, script, pair: RefCell::new((vtpm, guest)), stranger };
        bench.dom0("rm -rf $DIR; $VTPMD instance create it $DIRS")?;
        bench.dom0(MANAGER)?;
        bench.bind("")?;
        bench.start_daemon()?;
        Ok(bench)
    }

    /// Runs a script in dom0 and returns its output. It has to end with status 0.
    fn dom0(&self, script: &str) -> anyhow::Result<String> {
        beside::dom0(self.bed, self.daemon, &format!("{}-linux", self.mode), script)
    }

    /// Runs a script in the guest. It has to end with status 0.
    fn linux(&self, script: &str) -> anyhow::Result<String> {
        beside::linux(self.bed, &self.guest(), script, LIMIT)
    }

    fn guest(&self) -> LinuxGuest {
        self.pair.borrow().1.clone()
    }

    fn vtpm(&self) -> u16 {
        self.pair.borrow().0.id()
    }

    /// The paused vTPM domain becomes the guest's, and runs.
    fn bind(&self, options: &str) -> anyhow::Result<()> {
        let (vtpm, guest) = (self.vtpm(), self.guest().id());
        self.dom0(&format!(
            "$VTPMD instance bind it --domid {vtpm} --guest {guest} {options} $DIRS; xl unpause {vtpm}"
        ))?;
        Ok(())
    }

    /// Starts the guest's daemon and waits for the devices.
    fn start_daemon(&self) -> anyhow::Result<()> {
        self.linux(START_DAEMON).map(drop)
    }

    /// What everybody has said, for the report of a failure.
    fn logs(&self) -> String {
        let console = self.pair.borrow().0.console().unwrap_or_default();
        let manager = self.dom0("cat $DIR/manager.log").unwrap_or_default();
        let daemon = self.linux("cat /tmp/vtpmd.log; dmesg | tail -n 20; waiting").unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        // Whether the domain or the way to it is stuck, and which processor is busy.
        let vtpm = self.vtpm();
        let random = super::GET_RANDOM;
        let ask = format!("time vtpmd ask command {random} --domid {vtpm} --patience $WAIT 2>&1");
        let from_guest = self.linux(&format!("({ask}) 2>&1")).unwrap_or_else(|error| format!("{error:#}"));
        let from_dom0 = self
            .dom0(&format!("(time $VTPMD ask info --domid {vtpm}; xl list; xl vcpu-list; xl debug-keys e; xl dmesg | tail -n 60; top -b -n 1 | head -n 15) 2>&1"))
            .unwrap_or_else(|error| format!("{error:#}"));
        format!(
            "console of the vTPM:\n{console}\nmanager:\n{manager}\nguest:\n{daemon}\nasked by the guest:\n{from_guest}\n\
             dom0:\n{from_dom0}"
        )
    }
}

fn paused(bed: &TestBed, image: &Image, mode: Mode) -> anyhow::Result<Domain> {
    let mut config = DomainConfig::new(&image.path, mode);
    config.memory_mib = MEMORY_MIB;
    config.cmdline = format!("patience={}", bed.limits().scale(LIMIT).as_secs());
    config.paused = true;
    Ok(bed.start_domain(&config)?)
}

/// The kernel has its devices, and takes its random numbers from there.
fn device(bench: &Bench<'_>) -> anyhow::Result<()> {
    let seen = bench.linux(
        "ls -l /dev/tpm0 /dev/tpmrm0; cat /sys/class/tpm/tpm0/tpm_version_major
cat /sys/class/misc/hw_random/rng_available; dd if=/dev/hwrng bs=16 count=1 2> /dev/null | wc -c",
    )?;
    let mut lines = seen.lines().skip(2);
    ensure!(lines.next() == Some("2"), "{seen}");
    ensure!(lines.next().is_some_and(|line| line.contains("tpm-rng")), "{seen}");
    ensure!(lines.next() == Some("16"), "{seen}");
    // Through the resource manager and without it.
    for device in ["/dev/tpmrm0", "/dev/tpm0"] {
        let script = format!("t tpm2_getrandom -T device:{device} --hex 16");
        let (one, two) = (bench.linux(&script)?, bench.linux(&script)?);
        ensure!(one.len() == 32 && one != two, "{one} {two}");
    }
    // The TPM is the one of the domain beside: that has counted, and no other manager is involved.
    let info = bench.dom0(&format!("$VTPMD ask info --domid {}", bench.vtpm()))?;
    ensure!(info.contains(&format!("guests={}", bench.guest().id())), "{info}");
    Ok(())
}

/// What is not the guest's to do is refused, and logged, and the TPM goes on.
fn refusals(bench: &Bench<'_>) -> anyhow::Result<()> {
    let (vtpm, guest) = (bench.vtpm(), bench.guest());
    let ask =
        |what: &str| format!("if vtpmd ask {what} --domid {vtpm} --patience $WAIT 2>&1; then exit 1; fi");
    let random = super::GET_RANDOM;
    let said = bench.linux(&ask(&format!("command {random} --locality 1")))?;
    ensure!(said.contains("locality"), "{said}");
    for kind in ["reset", "suspend", "resume", "attach --guest 5", "detach --guest 5"] {
        let said = bench.linux(&ask(kind))?;
        ensure!(said.contains("may not"), "{kind}: {said}");
    }
    // Another guest is turned away, whatever it says. How it learns that depends on which side is quicker; why, the
    // vTPM's console tells below.
    beside::linux(bench.bed, &bench.stranger, &ask(&format!("command {random}")), LIMIT)?;
    let script = format!("if vtpmd guest --domid {vtpm} 2>&1; then exit 1; fi; ! [ -e /dev/tpm0 ]");
    beside::linux(bench.bed, &bench.stranger, &script, LIMIT)?;
    // dom0 may let it in, and out again.
    let id = bench.stranger.id();
    bench.dom0(&format!("$VTPMD instance attach it --guest {id} --patience $WAIT $DIRS"))?;
    let script = format!("vtpmd ask command {random} --domid {vtpm} --patience $WAIT");
    let answer = beside::linux(bench.bed, &bench.stranger, &script, LIMIT)?;
    ensure!(answer.get(12..20) == Some(super::SUCCESS), "{answer}");
    bench.dom0(&format!("$VTPMD instance detach it --guest {id} --patience $WAIT $DIRS"))?;
    beside::linux(bench.bed, &bench.stranger, &ask(&format!("command {random}")), LIMIT)?;
    // Locality 0 is what there is, and a locality that the kernel's driver asks for is answered by the daemon: the
    // driver does so before each command. A command that nobody waits for any more is none that a later one waits for.
    ensure!(bench.linux("t tpm2_getrandom --hex 8")?.len() == 16);
    let refused = bench.linux("t tpm2_pcrreset 0 2>&1 || true")?;
    ensure!(refused.contains("locality"), "{refused}");
    let console = bench.pair.borrow().0.console()?;
    let console = String::from_utf8_lossy(&console);
    for line in [
        format!("domain {}: channel: it is not on the list", bench.stranger.id()),
        format!("domain {}: locality: 1 is above 0", guest.id()),
        format!("domain {}: request: Reset is not for a guest", guest.id()),
    ] {
        ensure!(console.contains(&line), "`{line}` is not on the console:\n{console}");
    }
    Ok(())
}

/// Waits until the guest's TPM does something again.
const UNTIL: &str =
    "until_works() { until \"$@\" > /tmp/works 2> /dev/null; do usleep 100000; done; cat /tmp/works; }\n";

/// State is there after a restart of the manager, the vTPM's domain, the guest's daemon, and the guest.
fn restarts(bench: &Bench<'_>) -> anyhow::Result<()> {
    let index = "0x01500010";
    let write = |text: &str| {
        bench.linux(&format!("printf '{text}' > /tmp/text; t tpm2_nvwrite {index} -C o -i /tmp/text"))
    };
    let expect = |text: &str, who: &str| -> anyhow::Result<()> {
        let read = bench.linux(&format!("{UNTIL}until_works tpm2_nvread {index} -C o -s {}", text.len()))?;
        ensure!(read == text, "after {who}: {read:?} and not {text:?}");
        Ok(())
    };
    bench.linux(&format!("t tpm2_nvdefine {index} -C o -s 16 -a 'ownerread|ownerwrite'"))?;
    write("first")?;
    bench.dom0(MANAGER)?;
    expect("first", "a restart of the manager")?;
    write("second")?;
    // The vTPM's domain dies under the guest, which has measured something.
    let measured = bench.linux("t tpm2_pcrextend 7:sha256=b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c; t tpm2_pcrread sha256:7")?;
    bench.pair.borrow().0.destroy()?;
    bench.pair.borrow_mut().0 = paused(bench.bed, bench.image, bench.mode)?;
    bench.bind("--running")?;
    expect("second", "a restart of the vTPM's domain")?;
    let lost = bench.linux("t tpm2_pcrread sha256:7")?;
    let zeros = "0x".to_owned() + &"0".repeat(64);
    ensure!(lost != measured && !lost.contains(&zeros), "PCR 7 is {lost} after {measured}");
    write("third")?;
    // The guest's daemon: the device goes with it.
    bench.linux("kill $(cat /tmp/vtpmd.pid); while [ -e /dev/tpmrm0 ]; do usleep 50000; done")?;
    bench.start_daemon()?;
    expect("third", "a restart of the daemon")?;
    // The guest, and its vTPM with it.
    bench.guest().destroy()?;
    bench.pair.borrow().0.destroy()?;
    let guest = bench.bed.start_linux(&bench.config)?;
    *bench.pair.borrow_mut() = (paused(bench.bed, bench.image, bench.mode)?, guest);
    bench.bind("")?;
    bench.start_daemon()?;
    expect("third", "a restart of the guest")?;
    let fresh = bench.linux("t tpm2_pcrread sha256:7")?;
    ensure!(fresh.contains(&zeros), "PCR 7 is {fresh} in a guest that has just begun");
    bench.linux(&format!("t tpm2_nvundefine {index} -C o"))?;
    Ok(())
}

/// The whole script, on the vTPM and on swtpm: the same results. swtpm runs on this machine, which is not emulated.
fn tpm2_tools(bench: &Bench<'_>) -> anyhow::Result<()> {
    let path = &bench.script;
    let (ours, theirs) = thread::scope(|scope| {
        let theirs = scope.spawn(|| oracle::ask(path));
        let script = "mkdir -p /tmp/ours; TSS2_LOG=all+error sh /bin/tpm2-tools.sh /tmp/ours";
        (beside::linux(bench.bed, &bench.guest(), script, SCRIPT_LIMIT), theirs.join())
    });
    let ours = ours.map_err(|error| {
        let tries = bench.linux("tail -n 20 /tmp/ours/tries").unwrap_or_default();
        error.context(format!("for commands of the vTPM the kernel did not wait:\n{tries}"))
    });
    let (ours, theirs) = (ours?, theirs.map_err(|_| anyhow::anyhow!("panicked"))?.context("swtpm")?);
    compare(&ours, &theirs)
}

/// Both say the same, and all that has to work does.
fn compare(ours: &str, theirs: &str) -> anyhow::Result<()> {
    for step in ["checkquote-ecc256-rsa2048: ok", "unseal-again: ok", "activatecredential: ok", "clear: ok"] {
        ensure!(theirs.contains(step), "swtpm does not: {step}\n{theirs}");
    }
    for bad in ["FAILED", "SUCCEEDED", "IS NOT", "TWICE", "TAKEN"] {
        ensure!(!theirs.contains(bad), "swtpm:\n{theirs}");
    }
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        ensure!(ours == theirs, "the vTPM says {ours:?}, swtpm {theirs:?}");
    }
    let (ours, theirs) = (ours.lines().count(), theirs.lines().count());
    if ours != theirs {
        bail!("the vTPM says {ours} lines, swtpm {theirs}");
    }
    (ours > 100).then_some(()).context("the script has hardly run")
}
