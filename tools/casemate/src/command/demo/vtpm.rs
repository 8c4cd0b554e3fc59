//! The demo's end: a Linux guest quotes its PCRs, its own vTPM domain signs, and this machine verifies.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, ensure};
use serde::Serialize;
use testbed::{TestBed, proto::Mode};

use crate::{
    beside::{Built, MEMORY_MIB, Pair},
    workspace::Workspace,
};

/// Files of a quote, and the PCRs that it is about.
const FILES: [&str; 4] = ["ak.pem", "quote.msg", "quote.sig", "quote.pcrs"];
const PCRS: &str = "sha256:0,16";

/// What was seen.
#[derive(Serialize)]
pub struct Quote {
    mode: Mode,
    /// The vTPM's domain and the guest.
    vtpm: u16,
    guest: u16,
    engine: String,
    image_bytes: u64,
    memory_mib: u32,
    /// Time from the start of `xl create` to the TPM's first answer.
    first_answer_seconds: f64,
    /// What the guest's kernel says of its random number generators.
    random: String,
    /// What was measured into PCR 16, and what PCR 16 is in the quote.
    measured: String,
    pcr: String,
    nonce: String,
    /// What is not proof against replay is none: the same quote with another nonce.
    other_nonce_refused: bool,
}

/// Runs guest and vTPM, and verifies a quote here.
///
/// # Errors
/// When one of them does not come up, or the quote is not good.
pub fn quote(
    bed: &TestBed,
    workspace: &Workspace,
    built: &Built,
    mode: Mode,
    step: &dyn Fn(&str),
) -> anyhow::Result<Quote> {
    step("starting Linux, and a TPM in a domain of its own");
    let (pair, seconds) = Pair::start(bed, workspace, built, mode)?;
    let info = pair.dom0(&format!("$VTPMD ask info --domid {}", pair.vtpm))?;
    let engine = info.lines().find_map(|line| line.strip_prefix("engine=")).unwrap_or_default().to_owned();
    let random = pair.linux("cat /sys/class/misc/hw_random/rng_available")?;
    step("measuring a program in the guest, and making a key that never leaves the TPM");
    let measured = pair.linux(
        "mkdir -p /tmp/quote; cd /tmp/quote
sum=$(sha256sum /bin/vtpmd | cut -d ' ' -f 1); t tpm2_pcrextend 16:sha256=$sum; echo $sum
t tpm2_createek -G ecc -c ek.ctx -u ek.pub > /dev/null
t tpm2_createak -C ek.ctx -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pem -f pem -n ak.name > /dev/null",
    )?;
    let nonce = nonce()?;
    step("quoting, with a number that this machine chose");
    pair.linux(&format!(
        "cd /tmp/quote; t tpm2_quote -Q -c ak.ctx -l {PCRS} -q {nonce} -m quote.msg -s quote.sig -o quote.pcrs -g sha256"
    ))?;
    step("verifying here");
    let dir = workspace.target.join("demo").join("quote");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for file in FILES {
        fs::write(dir.join(file), pair.guest.fetch(&format!("/tmp/quote/{file}"))?)?;
    }
    let said = check(&dir, &nonce)?.context("tpm2_checkquote does not take the quote")?;
    let pcr = said.lines().find_map(|line| line.trim().strip_prefix("16: 0x")).unwrap_or_default();
    let pcr = pcr.to_lowercase();
    ensure!(pcr == extended(&measured)?, "PCR 16 is {pcr}, which does not follow from {measured}");
    let other_nonce_refused = check(&dir, &nonce.chars().rev().collect::<String>())?.is_none();
    ensure!(other_nonce_refused, "tpm2_checkquote takes an old quote");
    let (vtpm, guest) = (pair.vtpm, pair.guest.id());
    pair.stop()?;
    Ok(Quote {
        mode,
        vtpm,
        guest,
        engine,
        image_bytes: built.image.info.file_size,
        memory_mib: MEMORY_MIB,
        first_answer_seconds: seconds,
        random: random.trim().to_owned(),
        measured,
        pcr,
        nonce,
        other_nonce_refused,
    })
}

/// 16 random bytes, in hexadecimal. Its reverse is another one.
fn nonce() -> anyhow::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 15];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes).context("there is no randomness")?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("0{text}1"))
}

/// What `tpm2_checkquote` says to the quote in a folder; nothing if it refuses.
fn check(dir: &Path, nonce: &str) -> anyhow::Result<Option<String>> {
    let output = Command::new("tpm2_checkquote")
        .args(["-u", FILES[0], "-m", FILES[1], "-s", FILES[2], "-f", FILES[3], "-g", "sha256"])
        .args(["-q", nonce])
        .current_dir(dir)
        .output()
        .context("cannot run tpm2_checkquote: `casemate setup` installs it")?;
    Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// A PCR that was zero and extended with a digest.
fn extended(digest: &str) -> anyhow::Result<String> {
    use sha2::{Digest, Sha256};
    let bytes: Option<Vec<u8>> =
        (0..32).map(|i| u8::from_str_radix(digest.get(2 * i..2 * i + 2)?, 16).ok()).collect();
    let bytes = bytes.with_context(|| format!("`{digest}` is no digest"))?;
    let pcr = Sha256::new().chain_update([0; 32]).chain_update(bytes).finalize();
    Ok(pcr.iter().map(|byte| format!("{byte:02x}")).collect())
}

impl Quote {
    /// For people.
    pub fn print(&self) {
        let name = self.mode.name().to_uppercase();
        println!(
            "{name:3} vTPM          {} in domain {}, {} MiB, image {} bytes; {:.2} s from xl create to the first answer",
            self.engine, self.vtpm, self.memory_mib, self.image_bytes, self.first_answer_seconds
        );
        println!(
            "    Linux guest   domain {}: /dev/tpm0, /dev/tpmrm0; random numbers from {}",
            self.guest, self.random
        );
        println!("    measured      {} (SHA-256 of a program there)", self.measured);
        println!("    quoted        PCR 16 = {}, nonce {}", self.pcr, self.nonce);
        println!(
            "    verified      here, by tpm2_checkquote, with the key's public part; with another nonce: refused"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pcr_is_extended() {
        let digest = "11".repeat(32);
        assert_eq!(
            extended(&digest).unwrap(),
            "8878b15a7d6a3a4f464e8f9f42591dbc0cf4bedea0ec309003d2b2ee53655ef8"
        );
        assert!(extended("11").is_err() && extended(&"x".repeat(64)).is_err());
    }
}
