//! The master key sealed to a TPM of the machine, whose part swtpm plays.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

struct Swtpm(Child, String);

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn swtpm(dir: &Path) -> Swtpm {
    fs::create_dir_all(dir).unwrap();
    let socket = |name: &str| format!("type=unixio,path={}", dir.join(name).display());
    let child = Command::new("swtpm")
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .args(["--tpmstate", &format!("dir={}", dir.display())])
        .args(["--server", &socket("sock"), "--ctrl", &socket("sock.ctrl")])
        .stdout(Stdio::null())
        .spawn()
        .expect("swtpm is needed: `casemate setup` installs it");
    let mut swtpm = Swtpm(child, format!("swtpm:path={}", dir.join("sock").display()));
    let begin = Instant::now();
    while !dir.join("sock.ctrl").exists() {
        assert!(swtpm.0.try_wait().unwrap().is_none(), "swtpm ended");
        assert!(begin.elapsed() < Duration::from_secs(120), "swtpm does not listen");
        std::thread::yield_now();
    }
    swtpm
}

/// Runs a program with this TPM; its output, or what it complained about.
fn run(program: &str, words: &[&str], tpm: &Swtpm) -> Result<String, String> {
    let output = Command::new(program).args(words).env("TPM2TOOLS_TCTI", &tpm.1).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn the_master_key_is_sealed_and_comes_back_to_the_same_machine_only() {
    let dir = tempfile::tempdir().unwrap();
    let (state, rundir) = (dir.path().join("state"), dir.path().join("run"));
    let key = state.join("master.key");
    let (tpm, other) = (swtpm(&dir.path().join("tpm")), swtpm(&dir.path().join("other")));
    let vtpmd = |words: &[&str], tpm: &Swtpm| {
        let dirs = ["--state", state.to_str().unwrap(), "--run", rundir.to_str().unwrap()];
        run(env!("CARGO_BIN_EXE_vtpmd"), &[words, &dirs].concat(), tpm)
    };
    vtpmd(&["instance", "create", "before"], &tpm).unwrap();
    let bytes = fs::read(&key).unwrap();
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    for bad in ["sha256", "sha256:24", "md5:0", "sha256:0,", "sha256:0;id"] {
        assert!(vtpmd(&["key", "seal", "--pcrs", bad], &tpm).unwrap_err().contains("no list of PCRs"));
    }
    // To nothing but the TPM.
    vtpmd(&["key", "seal"], &tpm).unwrap();
    assert!(!key.exists());
    let sealed = state.join("master.tpm");
    for file in fs::read_dir(&sealed).unwrap() {
        let text = fs::read(file.unwrap().path()).unwrap();
        assert!(!text.windows(32).any(|window| window == bytes), "the key is there in the clear");
    }
    vtpmd(&["instance", "create", "while-sealed"], &tpm).unwrap();
    let error = vtpmd(&["instance", "create", "elsewhere"], &other).unwrap_err();
    assert!(error.contains("did not seal"), "{error}");
    // A file beside it is one too many, and `seal` goes on where it was stopped.
    fs::write(&key, [7; 32]).unwrap();
    fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    assert!(vtpmd(&["instance", "create", "two-keys"], &tpm).unwrap_err().contains("key seal"));
    assert!(vtpmd(&["key", "seal"], &tpm).unwrap_err().contains("different keys"));
    fs::write(&key, &bytes).unwrap();
    vtpmd(&["key", "seal"], &tpm).unwrap();
    assert!(!key.exists() && sealed.exists());
    vtpmd(&["key", "unseal"], &tpm).unwrap();
    assert_eq!(fs::read(&key).unwrap(), bytes);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!sealed.exists() && vtpmd(&["key", "unseal"], &tpm).unwrap_err().contains("not sealed"));
    // To what was booted as well.
    vtpmd(&["key", "seal", "--pcrs", "sha256:16,23"], &tpm).unwrap();
    vtpmd(&["instance", "create", "same-pcrs"], &tpm).unwrap();
    let digest = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c";
    run("tpm2_pcrextend", &[&format!("16:sha256={digest}")], &tpm).unwrap();
    let error = vtpmd(&["instance", "create", "other-pcrs"], &tpm).unwrap_err();
    assert!(error.contains("booted something else"), "{error}");
    run("tpm2_pcrreset", &["16"], &tpm).unwrap();
    vtpmd(&["instance", "create", "pcrs-again"], &tpm).unwrap();
    // Damaged, it is refused.
    let object = sealed.join("object.priv");
    let mut damaged = fs::read(&object).unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(&object, damaged).unwrap();
    assert!(vtpmd(&["instance", "create", "damaged"], &tpm).is_err());
    // No TPM, no key; and nothing is left in the way.
    drop(tpm);
    assert!(!rundir.read_dir().unwrap().any(|entry| entry.unwrap().path().is_dir()));
}
