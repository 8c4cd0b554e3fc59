//! Linux guests of the test bed, and IDC between them and dom0, library-OS domains and each other.
//!
//! In each mode two Linux guests are booted and serve all tests; those that cost a guest its life boot their own.

mod bench;

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use testbed::{
    Error, GuestFiles, LinuxGuest, TestBed,
    proto::{Mode, Reason},
};

use self::bench::{Bench, SERVED, domid, text};
use super::{
    conformance, hostile,
    report::{Report, Verdict},
    vchan,
};
use crate::{
    image::finish::Image,
    ui::{self, Ui},
    workspace::Workspace,
};

/// The peer in Linux: echo service and client with checks, an example of the IDC crate.
const PROBE: &str = "probe";

/// The other: many channels, and streams that last until somebody dies.
const CROWD: &str = "crowd";

/// Measures how long a death takes to be noticed.
const DEATH: &str = "death";

/// Our side of libxenvchan's protocol.
const VCHAN: &str = "vchan";

type LinuxTest = fn(&Bench<'_>) -> anyhow::Result<()>;

/// Each runs in both modes.
const TESTS: [(&str, LinuxTest); 15] = [
    ("linux-programs", programs),
    ("linux-files", files),
    ("linux-kill", kill),
    ("linux-network", network),
    ("linux-idc-libos", idc_libos),
    ("linux-idc-libos-suite", idc_libos_suite),
    ("linux-idc-dom0", idc_dom0),
    ("linux-idc-linux", idc_linux),
    ("linux-idc-peer-dies", idc_peer_dies),
    ("linux-idc-deaths", deaths),
    ("linux-vchan", vchan_in_linux),
    ("linux-idc-channels-at-once", channels_at_once),
    ("linux-idc-no-leaks", no_leaks),
    ("linux-ends", ends),
    ("linux-does-not-boot", does_not_boot),
];

/// The last one of each mode, when all guests have ended.
const NOTHING_LEFT: &str = "linux-nothing-left";

/// Nominal time for the last of them to go.
const NOMINAL: Duration = Duration::from_secs(10);

fn name_of(mode: Mode, test: &str) -> String {
    format!("{mode}-{test}")
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
    full: bool,
    report: &mut Report,
    ui: &Ui,
) -> anyhow::Result<()> {
    if !is_wanted(report) {
        return Ok(());
    }
    let peer = |name| workspace.static_example("casemate-idc", name, ui);
    let suite = workspace.static_program(conformance::PACKAGE, ui)?;
    let peers = [
        peer(PROBE)?,
        peer(CROWD)?,
        peer(VCHAN)?,
        workspace.vchan_program(vchan::PEER, &[])?,
        suite,
        peer(DEATH)?,
    ];
    for mode in Mode::ALL {
        // What counts channels and grants of Linux takes minutes and is the same in both modes but for Xen.
        let long = |name: &str| {
            mode == Mode::Pvh && matches!(name, "linux-idc-channels-at-once" | "linux-idc-no-leaks")
        };
        let wanted: Vec<_> = TESTS
            .iter()
            .filter(|(name, _)| report.wants(&name_of(mode, name)) && (full || !long(name)))
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let bench = Bench::new(bed, mode, images, &peers, full);
        for (name, test) in wanted {
            let result = match &bench {
                Ok(bench) => test(bench),
                Err(error) => Err(anyhow::anyhow!("there is no Linux guest: {}", ui::text_of(error))),
            };
            report.add(&name_of(mode, name), verdict(result));
        }
        drop(bench);
        let name = name_of(mode, NOTHING_LEFT);
        if report.wants(&name) {
            report.add(&name, verdict(nothing_left(bed)));
        }
    }
    Ok(())
}

/// Guests that have ended leave Xen's list: nobody in dom0 keeps their pages.
fn nothing_left(bed: &TestBed) -> anyhow::Result<()> {
    let script = "xl list | awk 'NR > 1 && $5 ~ /[sd]/'";
    let deadline = Instant::now() + bed.limits().scale(NOMINAL);
    loop {
        let output = bed.shell(script, Some(bed.limits().scale(NOMINAL)))?;
        let dead = text(&output.stdout);
        if dead.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let output = bed.shell("xl debug-keys g; xl debug-keys q; xl dmesg | tail -n 150; for f in /proc/[0-9]*/fd/*; do l=$(readlink $f); case $l in /dev/xen/*) echo $f $l;; esac; done; for t in /proc/[0-9]*/task/*; do echo $t $(cat $t/comm) $(cat $t/wchan); done | grep -v '/[0-9]*/task/[0-9]* k'; grep -H xen /proc/[0-9]*/maps", None)?;
            bail!("these have not ended:\n{dead}\n{}", text(&output.stdout));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

fn verdict(result: anyhow::Result<()>) -> Verdict {
    result.map_err(|e| ui::text_of(&e)).into()
}

/// Exit status, both outputs, input, several at once in several guests.
fn programs(bench: &Bench<'_>) -> anyhow::Result<()> {
    let limit = Some(bench.limit());
    let output = bench.one.shell("echo out; echo err >&2; exit 3", limit)?;
    ensure!(output.status == 3 && output.stdout == b"out\n" && output.stderr == b"err\n", "{output:?}");
    let mut heard = Vec::new();
    let status = bench.one.run(&["cat"], b"through the guest", limit, |_, p| heard.extend_from_slice(p))?;
    ensure!(status == 0 && heard == b"through the guest", "{status} {heard:?}");
    let output = bench.one.shell("kill -9 $$", limit)?;
    ensure!(output.status == 128 + 9, "{output:?}");
    let missing = bench.one.run(&["/nowhere"], &[], limit, |_, _| ());
    ensure!(missing.is_err_and(|e| e.to_string().contains("/nowhere")));
    // More than the channel holds at once.
    let output = bench.one.shell("head -c 3000000 /dev/zero | tr '\\0' x; exit 7", limit)?;
    ensure!(output.status == 7 && output.stdout.len() == 3_000_000);
    ensure!(output.stdout.iter().all(|b| *b == b'x'));
    // Each guest knows itself by another number, and so does the test.
    let (one, two) = (&bench.one, &bench.two);
    thread::scope(|scope| {
        let ask = move |guest: &LinuxGuest, number: u32| -> anyhow::Result<()> {
            let script = format!("xenstore-read domid; echo {number}");
            let output = guest.shell(&script, limit)?;
            ensure!(text(&output.stdout) == format!("{}\n{number}", guest.id()), "{output:?}");
            Ok(())
        };
        let asking: Vec<_> = (0..8)
            .map(|number| scope.spawn(move || ask(if number % 2 == 0 { one } else { two }, number)))
            .collect();
        asking.into_iter().try_for_each(|a| a.join().unwrap_or_else(|_| bail!("panicked")))
    })
}

fn files(bench: &Bench<'_>) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("casemate-linux-{}-{}", std::process::id(), bench.one.id()));
    std::fs::create_dir_all(&dir)?;
    let result = (|| {
        let content: Vec<u8> =
            (0..2_500_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let file = dir.join("some");
        std::fs::write(&file, &content)?;
        let there = bench.one.put(&file)?;
        ensure!(bench.one.fetch(&there)? == content, "the content changed on the way");
        ensure!(bench.one.fetch("/nowhere").is_err_and(|e| e.to_string().contains("/nowhere")));
        Ok(())
    })();
    std::fs::remove_dir_all(&dir)?;
    result
}

/// A program that takes too long is killed, and nothing else is.
fn kill(bench: &Bench<'_>) -> anyhow::Result<()> {
    let late = bench.one.shell("sleep 1000", Some(Duration::from_millis(300)));
    ensure!(matches!(late, Err(Error::TimeLimit { .. })), "{late:?}");
    bench.linux(&bench.one, "while ps | grep -q '[s]leep 1000'; do usleep 50000; done")?;
    Ok(())
}

/// dom0 and the guest reach each other by TCP.
fn network(bench: &Bench<'_>) -> anyhow::Result<()> {
    let (dom0, guest) = bench.one.addresses().context("no addresses")?;
    bench.linux(
        &bench.one,
        &format!("nc -l -p 7000 > /tmp/got 2> /dev/null & echo $! > /tmp/nc; ping -c 1 -w 30 {dom0}"),
    )?;
    let script = format!("until echo through the network | nc -w 30 {guest} 7000; do usleep 100000; done");
    bench.dom0(&script)?;
    let script = "while kill -0 $(cat /tmp/nc) 2> /dev/null; do usleep 50000; done; cat /tmp/got";
    let got = bench.linux(&bench.one, script)?;
    ensure!(got == "through the network", "{got:?}");
    ensure!(bench.two.addresses().is_none());
    bench.linux(&bench.two, "! ip link show eth0 2> /dev/null")?;
    Ok(())
}

/// A Linux guest as the client of a service in a library-OS domain.
fn idc_libos(bench: &Bench<'_>) -> anyhow::Result<()> {
    let echo = bench.service("echo")?;
    let checked = bench.linux(&bench.one, &format!("$P check {} echo", echo.id()))?;
    ensure!(checked.contains("all checks passed"), "{checked}");
    Ok(())
}

/// The conformance suite between a Linux guest and a library-OS domain, in both roles.
fn idc_libos_suite(bench: &Bench<'_>) -> anyhow::Result<()> {
    bench.check_service_pair(&bench.one, true)?;
    bench.check_service_pair(&bench.one, false)
}

/// A Linux guest and dom0, either as the server.
fn idc_dom0(bench: &Bench<'_>) -> anyhow::Result<()> {
    bench.check_pair(None, Some(&bench.one))?;
    bench.check_pair(Some(&bench.one), None)
}

/// A Linux guest and another.
fn idc_linux(bench: &Bench<'_>) -> anyhow::Result<()> {
    bench.check_pair(Some(&bench.two), Some(&bench.one))
}

/// A guest is destroyed while it streams to four others and they to it: each of them ends with an error that names it,
/// and a service that it was a client of serves on.
fn idc_peer_dies(bench: &Bench<'_>) -> anyhow::Result<()> {
    let digest = bench.service("digest")?;
    let doomed = bench.bed.start_linux(&bench.config)?;
    let (one, id) = (&bench.one, doomed.id());
    let (dead, own, service) = (id.to_string(), one.id().to_string(), digest.id().to_string());
    thread::scope(|scope| {
        let stream = |place, argv: &[&str]| bench.stream(scope, place, argv);
        let mut watched = Vec::new();
        // Two that read what the doomed guest sends, two that send to it.
        for (place, name, to) in [(None, "to-dom0", "0"), (Some(one), "to-linux", own.as_str())] {
            watched.push(stream(place, &["sink", name]));
            stream(Some(&doomed), &["flood", to, name]);
        }
        for (place, name) in [(None, "from-dom0"), (Some(one), "from-linux")] {
            stream(Some(&doomed), &["sink", name]);
            watched.push(stream(place, &["flood", &dead, name]));
        }
        // Its service's own console says how that took it.
        let client = stream(Some(&doomed), &["flood", &service, "digest"]);
        for stream in watched.iter().chain([&client]) {
            stream.wait_for("flows")?;
        }
        doomed.destroy()?;
        for stream in watched {
            let (status, said) = stream.end()?;
            ensure!(status == 1 && said.contains(&format!("domain {dead}")), "status {status}: {said}");
        }
        anyhow::Ok(())
    })?;
    bench.linux(one, &format!("$C flood {} digest 100000", digest.id()))?;
    let console = text(&digest.console()?);
    ensure!(console.contains(&format!("domain {dead}")), "{console}");
    // A service domain that is destroyed under a client in Linux.
    thread::scope(|scope| {
        let stream = bench.stream(scope, Some(one), &["flood", &service, "digest"]);
        stream.wait_for("flows")?;
        digest.destroy()?;
        let (status, said) = stream.end()?;
        ensure!(status == 1 && said.contains(&format!("domain {service}")), "status {status}: {said}");
        // A program that is killed, in a guest that lives on.
        let reader = bench.stream(scope, None, &["sink", "killed"]);
        reader.wait_for("ready")?;
        let script = "rm -f /tmp/flood; $C flood 0 killed > /tmp/flood 2>&1 & pid=$!
until grep -q flows /tmp/flood; do usleep 20000; done
kill -9 $pid";
        bench.linux(one, script)?;
        let (status, said) = reader.end()?;
        ensure!(status == 1 && said.contains(&format!("domain {own}")), "status {status}: {said}");
        Ok(())
    })
}

/// A side that waits while its peer dies, in each way in which one can. The times are printed and not judged.
fn deaths(bench: &Bench<'_>) -> anyhow::Result<()> {
    let one = &bench.one;
    let show = |what: &str, said: String| println!("    {}, {what}: {said}", bench.mode);
    let serve = |place: Option<&LinuxGuest>, name: &str| {
        let program = if place.is_some() { "/bin/death" } else { bench.death.as_str() };
        bench.anywhere(place, &format!("{program} serve {name} > /dev/null 2>&1 &"))
    };
    serve(Some(one), "in-guest")?;
    show("process in a guest", bench.dom0(&format!("$D {} in-guest --say die", one.id()))?);
    serve(None, "in-dom0")?;
    show("process in dom0, seen from a guest", bench.linux(one, "/bin/death 0 in-dom0 --say die")?);

    let mortal = || hostile::start_mortal(bench.bed, bench.images, bench.mode);
    let domain = mortal()?;
    let id = domain.id();
    show("destroyed domain", bench.dom0(&format!("$D {id} mortal xl destroy {id}"))?);
    drop(domain);
    // One that has crashed is kept here: nobody in dom0 helps. A domain of ours gives notice itself.
    for (place, what, program) in
        [(None, "crashed domain", "$D"), (Some(one), "crashed domain, seen from a guest", "/bin/death")]
    {
        let domain = mortal()?;
        let said = bench.anywhere(place, &format!("{program} {} mortal --say crash", domain.id()))?;
        ensure!(said.contains(&format!("domain {}", domain.id())), "{said}");
        show(what, said);
        domain.destroy()?;
    }
    // Linux does not, and dom0 asks Xen.
    let guest = bench.bed.start_linux(&bench.config)?;
    serve(Some(&guest), "panics")?;
    bench.linux(&guest, "echo 1 > /proc/sys/kernel/sysrq")?;
    let id = guest.id();
    show(
        "crashed guest",
        bench.dom0(&format!(
            "$D {id} panics xl sysrq {id} c || {{ xl list; xenstore-ls /local/domain/{id}/control; exit 1; }}"
        ))?,
    );
    guest.destroy()?;
    Ok(())
}

/// A program with libxenvchan in dom0 or another guest, and our side in a Linux guest, as the server and as the client.
fn vchan_in_linux(bench: &Bench<'_>) -> anyhow::Result<()> {
    let one = &bench.one;
    for other in [None, Some(&bench.two)] {
        let (there, here) = (domid(other), one.id());
        let peer = if other.is_some() { "/bin/vchan-peer" } else { bench.vchan_peer.as_str() };
        let ours = |words: &str| {
            let script =
                format!("rm -f /tmp/vchan; /bin/vchan {words} > /tmp/vchan 2>&1 & echo $! > /tmp/vchan.pid");
            bench.linux(one, &script)
        };
        for (role, path) in
            [("serve", format!("/local/domain/{here}")), ("connect", format!("/local/domain/{there}"))]
        {
            let path = format!("{path}/data/vchan/linux-{there}");
            ours(&format!("{role} {there} {path}"))?;
            let peers = if role == "serve" { "client" } else { "server" };
            let said = bench.anywhere(other, &format!("{peer} {peers} check {here} {path} 4096 100000"))?;
            ensure!(said.contains("checked"), "{said}");
            let wait =
                "while kill -0 $(cat /tmp/vchan.pid) 2> /dev/null; do usleep 20000; done; cat /tmp/vchan";
            let said = bench.linux(one, wait)?;
            ensure!(said.contains("connected") && said.contains(" bytes"), "{role}: {said}");
        }
    }
    Ok(())
}

/// Many channels between two domains at once, in both directions.
fn channels_at_once(bench: &Bench<'_>) -> anyhow::Result<()> {
    let count = if bench.full { 1000 } else { 150 };
    let open = |server: Option<&LinuxGuest>, client: Option<&LinuxGuest>| {
        thread::scope(|scope| {
            let count = count.to_string();
            let limits = |place| bench.raise_limits(place);
            limits(server).and_then(|()| limits(client))?;
            let serving = bench.stream(scope, server, &["serve", "crowd", &count]);
            serving.wait_for("ready")?;
            let to = domid(server).to_string();
            let opening = bench.stream(scope, client, &["open", &to, "crowd", &count]);
            let opened = opening.end();
            if !matches!(opened, Ok((0, _))) {
                // The server would wait for the missing channels.
                bench.anywhere(server, "killall crowd")?;
            }
            for (part, end) in [("the client", opened), ("the server", serving.end())] {
                let (status, said) = end?;
                ensure!(status == 0, "{part}'s status {status}: {said}");
            }
            anyhow::Ok(())
        })
    };
    open(None, Some(&bench.one))?;
    open(Some(&bench.one), None)?;
    open(Some(&bench.two), Some(&bench.one))
}

/// Memory that a kernel may have taken for itself meanwhile, in KiB. The rings of the few channels of a normal run have
/// twice as much.
const LOST: u64 = 16 << 10;

/// Channels that come and go leave nothing behind: no page, no grant, no port.
fn no_leaks(bench: &Bench<'_>) -> anyhow::Result<()> {
    let cycles = if bench.full { 10_000 } else { 120 };
    // gntalloc counts the pages that it has handed out, and tells by refusing more than its limit: what a few channels
    // need, and no more, must do for any number of them, one after the other.
    let limit = "/sys/module/xen_gntalloc/parameters/limit";
    let echo = bench.service("echo")?;
    let before = bench.in_use(&[&echo])?;
    let memory = bench.available()?;
    bench.dom0(&format!("cat {limit} > /tmp/limit; echo 700 > {limit}"))?;
    bench.linux(&bench.one, &format!("cat {limit} > /tmp/limit; echo 300 > {limit}"))?;
    let result = bench.with_server(None, || {
        for (peer, id, name) in [("dom0", 0, SERVED), ("a domain", echo.id(), "echo")] {
            let said = bench.linux(&bench.one, &format!("$P churn {id} {name} {cycles}"))?;
            println!("    {}, with {peer}: {said}", bench.mode);
        }
        Ok(())
    });
    bench.linux(&bench.one, &format!("cat /tmp/limit > {limit}"))?;
    bench.dom0(&format!("cat /tmp/limit > {limit}"))?;
    result?;
    // Pages that a peer still has mapped when they are given back are with the kernel, which frees ten a second.
    let left = bench.available()?;
    for (place, before, after) in [("dom0", memory.0, left.0), ("the guest", memory.1, left.1)] {
        let lost = before.saturating_sub(after);
        println!("    {}: {lost} KiB less are available in {place}", bench.mode);
        ensure!(lost < LOST, "{lost} KiB of memory have been lost in {place}");
    }
    // The last channel may still be about to end.
    let deadline = Instant::now() + bench.limit();
    loop {
        let after = bench.in_use(&[&echo])?;
        if after == before {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "mapped grants and ports before and after:\n{before:?}\n{after:?}"
        );
    }
}

/// Whatever way a guest ends, what runs in it ends with an error that says so.
fn ends(bench: &Bench<'_>) -> anyhow::Result<()> {
    for (how, reason) in [
        // Linux cannot power a PVH domain off.
        ("echo b > /proc/sysrq-trigger", Some(Reason::Reboot)),
        ("echo c > /proc/sysrq-trigger", Some(Reason::Crash)),
        ("", None),
    ] {
        let guest = bench.bed.start_linux(&bench.config)?;
        let hung = thread::scope(|scope| {
            let (sender, started) = mpsc::channel();
            let limit = Some(bench.limit());
            let guest = &guest;
            let running = scope.spawn(move || {
                guest.run(&["/bin/sh", "-c", "echo begun; sleep 1000"], &[], limit, |_, _| {
                    let _ = sender.send(());
                })
            });
            started.recv().context("it was not started")?;
            if reason.is_none() {
                guest.destroy()?;
            } else {
                // The answer may or may not come out before the end.
                let _ = guest.shell(how, Some(bench.limit()));
            }
            Ok::<_, anyhow::Error>(running.join())
        })?;
        let hung = hung.unwrap_or(Ok(0));
        let said = hung.err().map(|e| e.to_string()).unwrap_or_default();
        ensure!(said.contains("ended meanwhile"), "{how:?}: {said:?}");
        if let Some(reason) = reason {
            let end = guest.domain().wait(|_| ())?;
            ensure!(end.reason == reason, "{how:?}: {end:?}");
        }
    }
    Ok(())
}

/// A guest that cannot come up is an error that shows why.
fn does_not_boot(bench: &Bench<'_>) -> anyhow::Result<()> {
    let mut config = bench.config.clone();
    config.kernel_args = vec!["rdinit=/nowhere".to_owned(), "panic=-1".to_owned()];
    let error = bench.bed.start_linux(&config).err().context("it came up")?.to_string();
    ensure!(error.contains("did not come up") && error.contains("console"), "{error}");
    config = bench.config.clone();
    config.files = GuestFiles::default().program("/nowhere/program");
    let error = bench.bed.start_linux(&config).err().context("it came up")?.to_string();
    ensure!(error.contains("/nowhere/program"), "{error}");
    Ok(())
}
