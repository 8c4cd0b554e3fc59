//! swtpm on this machine: what every TPM has to say to the script with all that a TPM is used for.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};

/// swtpm; ended when it is dropped.
struct Swtpm(Child);

impl Drop for Swtpm {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `script` prints with swtpm behind it.
///
/// # Errors
/// swtpm or a tool is missing or fails.
pub fn ask(script: &Path) -> anyhow::Result<String> {
    let dir = tempfile::tempdir().context("cannot make a directory for swtpm")?;
    let [state, scratch] = ["state", "scratch"].map(|name| dir.path().join(name));
    for dir in [&state, &scratch] {
        std::fs::create_dir(dir)?;
    }
    let (server, control) = (dir.path().join("swtpm"), dir.path().join("swtpm.ctrl"));
    let socket = |path: &Path| format!("type=unixio,path={}", path.display());
    let child = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--tpmstate", &format!("dir={}", state.display())])
        .args(["--server", &socket(&server), "--ctrl", &socket(&control)])
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start swtpm; `casemate setup` installs it")?;
    let mut swtpm = Swtpm(child);
    while !control.exists() {
        ensure!(swtpm.0.try_wait()?.is_none(), "swtpm has ended at once");
        thread::sleep(Duration::from_millis(10));
    }
    let output = Command::new("sh")
        .arg(script)
        .arg(&scratch)
        .env("TPM2TOOLS_TCTI", format!("swtpm:path={}", server.display()))
        .env("TSS2_LOG", "all+error")
        .output()
        .context("cannot run the script")?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    ensure!(
        output.status.success(),
        "{}:\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}
