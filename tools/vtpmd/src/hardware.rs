//! The master key sealed to a hardware TPM of the machine, in place of a key file: who has a copy of the disk has nothing.
//!
//! Debian's tpm2-tools do the talking; their environment (`TPM2TOOLS_TCTI`) says which TPM that is. The parent is the
//! owner hierarchy's primary ECC key, which the TPM makes anew from its seed each time, so that nothing has to stay
//! in it. With a list of PCRs the TPM gives the key to a machine only that has booted the same.
//!
//! ```text
//! STATE/master.tpm/object.pub, object.priv   what the TPM has sealed, for nobody but itself
//! STATE/master.tpm/pcrs                      the list of PCRs, or empty
//! ```

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use zeroize::Zeroizing;

use crate::files::{private_dir, replace, sync_dir};

/// Bytes of the key.
pub const LEN: usize = 32;

/// A list of PCRs as tpm2-tools take it, such as `sha256:0,2,7`.
///
/// # Errors
/// It is none.
pub fn check_pcrs(text: &str) -> Result<()> {
    let good = text.split('+').all(|bank| {
        bank.split_once(':').is_some_and(|(alg, list)| {
            matches!(alg, "sha1" | "sha256" | "sha384" | "sha512")
                && list.split(',').all(|pcr| pcr.parse::<u8>().is_ok_and(|pcr| pcr < 24))
        })
    });
    ensure!(good, "`{text}` is no list of PCRs: write it like sha256:0,2,7");
    Ok(())
}

/// A place for contexts of the TPM, which are no secrets; gone when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Scratch {
    fn new(run: &Path) -> Result<Scratch> {
        let dir = run.join(format!("tpm-{}", std::process::id()));
        // What a process with this number left behind.
        let _ = fs::remove_dir_all(&dir);
        private_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Scratch(dir))
    }

    fn tool(&self, name: &str, words: &[&str], input: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let spawned = Command::new(name)
            .args(words)
            .current_dir(&self.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child =
            spawned.with_context(|| format!("cannot run {name}: install the package tpm2-tools"))?;
        let mut stdin = child.stdin.take().context("no input")?;
        // A tool that does not want it says why at its end.
        let _ = stdin.write_all(input);
        drop(stdin);
        // A key and nothing else comes out; a pipe holds it while the errors are read.
        let (mut out, mut errors) = (Zeroizing::new(Vec::with_capacity(4096)), String::new());
        child.stdout.take().context("no output")?.read_to_end(&mut out)?;
        child.stderr.take().context("no errors")?.read_to_string(&mut errors)?;
        let status = child.wait()?;
        // Without a resource manager objects stay in the TPM, which has room for three.
        if name != "tpm2_flushcontext" {
            let _ = self.tool("tpm2_flushcontext", &["-t"], &[]);
        }
        if !status.success() {
            let lines: Vec<_> = errors.lines().filter(|line| line.starts_with("ERROR")).collect();
            bail!("{name} failed: {}", if lines.is_empty() { errors.trim_end() } else { lines[0] });
        }
        Ok(out)
    }

    fn primary(&self) -> Result<()> {
        let words = ["-Q", "-C", "o", "-g", "sha256", "-G", "ecc256", "-c", "primary.ctx"];
        self.tool("tpm2_createprimary", &words, &[]).map(drop)
    }
}

/// Seals a key and leaves what is needed to unseal it in a directory, which must not be there yet.
///
/// # Errors
/// There is no TPM, or it refuses; the system's. Then there is no such directory.
pub fn seal(key: &[u8; LEN], dir: &Path, pcrs: Option<&str>, run: &Path) -> Result<()> {
    pcrs.map_or(Ok(()), check_pcrs)?;
    ensure!(!dir.exists(), "there is a sealed key in {} already", dir.display());
    let scratch = Scratch::new(run)?;
    scratch.primary()?;
    let mut words =
        vec!["-Q", "-C", "primary.ctx", "-g", "sha256", "-u", "object.pub", "-r", "object.priv", "-i", "-"];
    match pcrs {
        Some(pcrs) => {
            scratch.tool("tpm2_createpolicy", &["-Q", "--policy-pcr", "-l", pcrs, "-L", "policy"], &[])?;
            words.extend(["-L", "policy", "-a", "fixedtpm|fixedparent|noda"]);
        }
        None => words.extend(["-a", "fixedtpm|fixedparent|noda|userwithauth"]),
    }
    scratch.tool("tpm2_create", &words, key)?;
    // Complete under another name before it has its own.
    let draft = dir.with_extension("new");
    let _ = fs::remove_dir_all(&draft);
    private_dir(&draft).with_context(|| format!("cannot make {}", draft.display()))?;
    for name in ["object.pub", "object.priv"] {
        replace(&draft.join(name), &fs::read(scratch.0.join(name))?)?;
    }
    replace(&draft.join("pcrs"), pcrs.unwrap_or_default().as_bytes())?;
    drop(scratch);
    let back = unseal(&draft, run).context("the TPM does not give back what it has just sealed")?;
    ensure!(*back == *key, "the TPM gives back another key than it has sealed");
    fs::rename(&draft, dir).context("cannot rename the sealed key")?;
    dir.parent().map_or(Ok(()), sync_dir).context("cannot synchronise")
}

/// Unseals a key.
///
/// # Errors
/// There is no TPM, it is another one, or the machine has booted something else.
pub fn unseal(dir: &Path, run: &Path) -> Result<Zeroizing<[u8; LEN]>> {
    let scratch = Scratch::new(run)?;
    let file = |name: &str| -> Result<Vec<u8>> {
        fs::read(dir.join(name)).with_context(|| format!("cannot read {} in {}", name, dir.display()))
    };
    for name in ["object.pub", "object.priv"] {
        fs::write(scratch.0.join(name), file(name)?)?;
    }
    let pcrs = String::from_utf8(file("pcrs")?).context("the list of PCRs is damaged")?;
    scratch.primary()?;
    let words = ["-Q", "-C", "primary.ctx", "-u", "object.pub", "-r", "object.priv", "-c", "object.ctx"];
    scratch.tool("tpm2_load", &words, &[]).context("this TPM did not seal the master key")?;
    let auth = format!("pcr:{pcrs}");
    let mut words = vec!["-c", "object.ctx"];
    if !pcrs.is_empty() {
        check_pcrs(&pcrs)?;
        words.extend(["-p", &auth]);
    }
    let bytes = scratch.tool("tpm2_unseal", &words, &[]).with_context(|| match pcrs.as_str() {
        "" => "the TPM does not unseal the master key".to_owned(),
        pcrs => {
            format!("the TPM does not unseal the master key: has the machine booted something else ({pcrs})?")
        }
    })?;
    let key = <[u8; LEN]>::try_from(&bytes[..]).context("what the TPM has unsealed is no key")?;
    Ok(Zeroizing::new(key))
}
