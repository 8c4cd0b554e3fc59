//! The lifecycle of instances by `vtpmd instance`, in dom0: what `casemate vtpm` does there is the same library.

use anyhow::{Context, ensure};
use serde_json::Value;
use testbed::{TestBed, proto::Mode};

use super::{DEFINE_COUNTER, EXTEND_PCR, EXTENDED, GET_RANDOM, INCREMENT, READ_COUNTER, READ_PCR, SUCCESS};
use crate::{
    beside::{self, MANAGER, STOP_MANAGER},
    command::test::report::Report,
    image::finish::Image,
    ui,
};

const NAME: &str = "vtpm-cli";

/// One name for each mode.
fn name_of(mode: Mode) -> String {
    format!("{mode}-{NAME}")
}

/// Is any of these tests wanted?
pub fn is_wanted(report: &Report) -> bool {
    report.wants_in_a_mode([NAME])
}

/// Runs them.
pub fn run(bed: &TestBed, image: &Image, daemon: &str, report: &mut Report) {
    for mode in Mode::ALL {
        if report.wants(&name_of(mode)) {
            let cli = Cli { bed, daemon, mode };
            let result = cli.test(image).map_err(|error| {
                let manager = cli.dom0("cat $DIR/manager.log").unwrap_or_default();
                error.context(format!("manager:\n{manager}"))
            });
            // Whatever is left must not be there for the next test.
            let swept = cli.dom0(&format!(
                "{STOP_MANAGER}\nfor name in one two; do xl destroy vtpm-$name 2> /dev/null || true; done"
            ));
            report.add(&name_of(mode), result.and(swept.map(drop)).map_err(|e| ui::text_of(&e)).into());
        }
    }
}

struct Cli<'a> {
    bed: &'a TestBed,
    daemon: &'a str,
    mode: Mode,
}

impl Cli<'_> {
    fn dom0(&self, script: &str) -> anyhow::Result<String> {
        beside::dom0(self.bed, self.daemon, &format!("{}-cli", self.mode), script)
    }

    /// Runs a command with `--json` that has to succeed.
    fn json(&self, words: &str) -> anyhow::Result<Value> {
        let said = self.dom0(&format!("$VTPMD instance {words} --json $DIRS"))?;
        serde_json::from_str(&said).with_context(|| format!("`{words}` prints no JSON: {said}"))
    }

    /// Runs a command that has to fail, and say so in these words.
    fn refused(&self, words: &str, why: &str) -> anyhow::Result<()> {
        let said = self.dom0(&format!("if $VTPMD instance {words} $DIRS 2>&1; then echo DONE; fi"))?;
        ensure!(!said.contains("DONE") && said.contains(why), "`{words}`: {said:?} and not {why:?}");
        Ok(())
    }

    fn start(&self, words: &str) -> anyhow::Result<u64> {
        let said = self.json(&format!("start {words} --patience $WAIT"))?;
        said["domid"].as_u64().with_context(|| format!("no domain id in {said}"))
    }

    fn ask(&self, domid: u64, command: &str) -> anyhow::Result<String> {
        let answer = self.dom0(&format!("$VTPMD ask command --domid {domid} --patience $WAIT {command}"))?;
        ensure!(answer.get(12..20) == Some(SUCCESS), "the TPM answers {answer}");
        Ok(answer)
    }

    fn counter(&self, domid: u64) -> anyhow::Result<u64> {
        let answer = self.ask(domid, READ_COUNTER)?;
        Ok(u64::from_str_radix(answer.get(32..48).context("a short answer")?, 16)?)
    }

    fn test(&self, image: &Image) -> anyhow::Result<()> {
        let there = self.bed.put(&image.path)?;
        self.dom0(&format!("rm -rf $DIR; mkdir -p $DIR; cp {there} $DIR/image\n{MANAGER}"))?;
        self.refused("create -x", "unexpected argument")?;
        self.refused("create a/b", "is no name")?;
        self.refused("create one --image /nowhere", "casemate build")?;
        let made = self.json(&format!("create one --image $DIR/image --mode {}", self.mode))?;
        let uuid = made["uuid"].as_str().context("no UUID")?.to_owned();
        self.refused("create one", "already")?;
        self.json(&format!("create two --image $DIR/image --mode {}", self.mode))?;
        let list = self.json("list")?;
        ensure!(list.as_array().is_some_and(|rows| rows.len() == 2), "{list}");
        self.refused("stop one", "is not running")?;
        self.refused("attach one --guest 0", "is not running")?;
        self.refused("start three", "`list` shows")?;
        self.refused("start one --guest 999", "no domain 999")?;
        // By its UUID as well as by its name; two at once have nothing in common.
        let (one, two) = (self.start(&uuid)?, self.start("two")?);
        ensure!(one != two && self.ask(one, GET_RANDOM)? != self.ask(two, GET_RANDOM)?);
        self.ask(one, DEFINE_COUNTER)?;
        self.ask(one, INCREMENT)?;
        let before = self.counter(one)?;
        ensure!(self.counter(two).is_err(), "both have the counter of one");
        self.refused("start one", "already")?;
        self.refused("destroy one", "stop it first")?;
        let info = self.json("info one")?;
        ensure!(info["tpm"]["condition"] == "running" && info["binding"]["domid"] == one, "{info}");
        // The manager's seed has reached the domain's generator.
        let entropy = info["tpm"]["entropy"].as_str().unwrap_or_default();
        ensure!(entropy.contains("jitter healthy, seed healthy"), "{info}");
        let sum = self.dom0("sha256sum < $DIR/image")?;
        ensure!(info["instance"]["image"]["sha256"].as_str() == sum.split(' ').next(), "{info}: {sum}");
        // PCRs are lost with the power, and outlive a suspend; the counter outlives both.
        self.ask(one, EXTEND_PCR)?;
        self.json("stop one --suspend")?;
        let one = self.start("one --running")?;
        ensure!(self.ask(one, READ_PCR)?.ends_with(EXTENDED), "PCR 16 did not outlive a suspend");
        self.json("stop one")?;
        let one = self.start("one")?;
        ensure!(!self.ask(one, READ_PCR)?.ends_with(EXTENDED), "PCR 16 outlived a power-off");
        ensure!(self.counter(one)? == before, "the counter changed");
        // A domain that is gone without `stop` is no obstacle.
        self.dom0(&format!("xl destroy {one}"))?;
        self.dom0("echo >> $DIR/image")?;
        self.refused("start one", "--accept-image")?;
        let one = self.start("one --accept-image")?;
        ensure!(self.counter(one)? == before, "the counter changed");
        self.json("stop one")?;
        self.start("one")?;
        for name in ["one", "two"] {
            self.json(&format!("stop {name}"))?;
            self.json(&format!("destroy {name}"))?;
        }
        let list = self.json("list")?;
        ensure!(list.as_array().is_some_and(Vec::is_empty), "{list}");
        let left = self.dom0("find $DIR/state/instances $DIR/state/ledger $DIR/run -type f")?;
        ensure!(left.is_empty(), "files are left: {left}");
        Ok(())
    }
}
