//! A Linux guest and a vTPM domain beside it, on the test bed: what the vTPM's tests, its measurement and the demo share.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use testbed::{GuestFiles, LinuxConfig, LinuxGuest, TestBed, proto::Mode};

use crate::{command::build::build_packages, image::finish::Image, ui::Ui, workspace::Workspace};

const PACKAGE: &str = "casemate-vtpm-domain";
const DAEMON: &str = "casemate-vtpmd";

/// The script with all that a TPM is used for; the vTPM's hosted tests run it, too.
pub const SCRIPT: &str = "domains/vtpm/tests/tpm2-tools.sh";

/// Memory of a vTPM domain, in MiB.
pub const MEMORY_MIB: u32 = 16;
/// Memory of a guest that has tpm2-tools in its file system, in MiB.
pub const GUEST_MIB: u32 = 256;

/// Nominal time limit of one step.
pub const LIMIT: Duration = Duration::from_secs(60);

/// In dom0: starts the manager, or restarts it, and waits until it is there.
pub const MANAGER: &str = "\
if [ -e $DIR/pid ]; then kill $(cat $DIR/pid); while [ -e /proc/$(cat $DIR/pid)/exe ]; do :; done; fi
$VTPMD manager $DIRS >> $DIR/manager.log 2>&1 &
echo $! > $DIR/pid";

/// In dom0: stops the manager.
pub const STOP_MANAGER: &str = "\
if [ -e $DIR/pid ]; then kill $(cat $DIR/pid); while [ -e /proc/$(cat $DIR/pid)/exe ]; do :; done; rm $DIR/pid; fi";

/// In the guest: starts its daemon and waits for the devices; if they do not come, says what daemon and kernel wait for
/// (`waiting`, of [`linux`]).
pub const START_DAEMON: &str = "\
vtpmd guest --patience $WAIT > /tmp/vtpmd.log 2>&1 & echo $! > /tmp/vtpmd.pid
end=$(($(date +%s) + WAIT))
until [ -c /dev/tpmrm0 ]; do
    why=
    kill -0 $(cat /tmp/vtpmd.pid) 2> /dev/null || why='vtpmd guest has ended'
    [ $(date +%s) -lt $end ] || why='there is no /dev/tpmrm0 in time'
    if [ -n \"$why\" ]; then
        echo \"$why\"; cat /tmp/vtpmd.log; dmesg | grep -i tpm; ls -l /dev/tpm* /dev/vtpmx
        waiting
        exit 1
    fi
    usleep 50000
done";

/// In the guest: starts swtpm behind the kernel's `tpm_vtpm_proxy`, and prints the number of its device. swtpm ends when
/// the kernel has not waited for its self-test, as on a busy emulated machine; then it is started again.
pub const START_SWTPM: &str = "\
mkdir -p /tmp/swtpm
for try in 1 2 3 4 5 6 7 8; do
    swtpm chardev --vtpm-proxy --tpm2 --tpmstate dir=/tmp/swtpm --flags not-need-init,startup-clear > /tmp/swtpm.log 2>&1 &
    pid=$!
    number=
    while kill -0 $pid 2> /dev/null; do
        number=$(sed -n 's,.*: /dev/tpm\\([0-9]*\\).*,\\1,p' /tmp/swtpm.log)
        if [ -n \"$number\" ] && [ -c /dev/tpmrm$number ]; then echo $number; exit 0; fi
        usleep 50000
    done
done
cat /tmp/swtpm.log; dmesg | grep -i tpm; exit 1";

/// In the guest: starts swtpm behind a socket, for the TCTI `swtpm:path=/tmp/swtpm.sock`.
pub const START_SWTPM_SOCKET: &str = "\
mkdir -p /tmp/swtpm-socket
swtpm socket --tpm2 --flags not-need-init,startup-clear --tpmstate dir=/tmp/swtpm-socket \
    --server type=unixio,path=/tmp/swtpm.sock --ctrl type=unixio,path=/tmp/swtpm.sock.ctrl > /tmp/swtpm-socket.log 2>&1 &
pid=$!
until [ -S /tmp/swtpm.sock.ctrl ]; do
    kill -0 $pid 2> /dev/null || { cat /tmp/swtpm-socket.log; exit 1; }
    usleep 50000
done";

/// What was built for it.
pub struct Built {
    /// The vTPM's image.
    pub image: Image,
    /// `vtpmd`, statically linked.
    pub program: PathBuf,
}

/// Builds the vTPM and its daemon.
///
/// # Errors
/// When something does not build.
pub fn build(workspace: &Workspace, ui: &Ui) -> anyhow::Result<Built> {
    let mut images = build_packages(workspace, &[PACKAGE.to_owned()], ui)?;
    ensure!(images.len() == 1, "the vTPM has {} images", images.len());
    let image = images.pop().context("no image of the vTPM")?;
    Ok(Built { image, program: workspace.static_program(DAEMON, ui)? })
}

/// A guest with tpm2-tools, swtpm and our daemon.
pub fn guest_config(workspace: &Workspace, vtpmd: &Path, mode: Mode) -> LinuxConfig {
    let mut config = LinuxConfig::new(mode);
    config.memory_mib = GUEST_MIB;
    config.files = GuestFiles::default()
        .file(vtpmd, "/bin/vtpmd")
        .file(workspace.root.join(SCRIPT), "/bin/tpm2-tools.sh")
        .package("tpm2-tools")
        .package("swtpm")
        .package("swtpm-libs")
        .program("/usr/bin/openssl")
        .library("libtss2-tcti-device.so.0")
        .library("libtss2-tcti-swtpm.so.0");
    config
}

/// Runs a script in dom0, with `vtpmd`'s path and a directory of this name, and returns its output. It has to end with
/// status 0.
///
/// # Errors
/// When it does not.
pub fn dom0(bed: &TestBed, daemon: &str, name: &str, script: &str) -> anyhow::Result<String> {
    let limit = bed.limits().scale(LIMIT);
    let script = format!(
        "set -e; VTPMD={daemon} DIR=/tmp/vtpm-{name} WAIT={}; DIRS=\"--state $DIR/state --run $DIR/run\"\n{script}",
        limit.as_secs()
    );
    finished("dom0", bed.shell(&script, Some(2 * limit))?)
}

/// `t COMMAND...`: runs it, and again if it did not get as far as the TPM, which the kernel waits for when a tool opens the
/// device, but not long enough for a busy emulated machine.
const AGAIN: &str = "\
t() {
    tries=0
    until \"$@\" 2> /tmp/t.$$; do
        tries=$((tries + 1))
        if [ $tries -ge 20 ] || ! grep -qE 'Could not load tcti|Timer expired' /tmp/t.$$; then cat /tmp/t.$$ >&2; return 1; fi
    done
}";

/// `waiting`: what daemon and kernel wait for.
const WAITING: &str = "\
waiting() {
    for task in /proc/$(cat /tmp/vtpmd.pid)/task/* $(grep -lE 'vtpm|hwrng|kworker|tpm2' /proc/[0-9]*/comm | sed s,/comm,,); do
        echo $task $(cat $task/comm) $(cat $task/wchan); cat $task/syscall $task/stack
    done 2> /dev/null
}";

/// Runs a script in a guest, with its TPM for tpm2-tools, and returns its output. It has to end with status 0.
///
/// # Errors
/// When it does not.
pub fn linux(bed: &TestBed, guest: &LinuxGuest, script: &str, limit: Duration) -> anyhow::Result<String> {
    let (wait, limit) = (bed.limits().scale(LIMIT).as_secs(), bed.limits().scale(limit));
    let script = format!(
        "set -e; WAIT={wait}; export TPM2TOOLS_TCTI=device:/dev/tpmrm0\n{AGAIN}\n{WAITING}\n{script}"
    );
    finished(&format!("domain {}", guest.id()), guest.shell(&script, Some(2 * limit))?)
}

fn finished(place: &str, output: testbed::Output) -> anyhow::Result<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status == 0, "status {} of {place}'s part:\n{stdout}\n{stderr}", output.status);
    Ok(stdout)
}

/// A guest with a vTPM, both started by `vtpmd instance` in dom0 as on any Xen.
pub struct Pair<'a> {
    bed: &'a TestBed,
    /// `vtpmd` in dom0.
    daemon: String,
    name: String,
    /// The guest.
    pub guest: LinuxGuest,
    /// The vTPM's domain.
    pub vtpm: u16,
}

impl<'a> Pair<'a> {
    /// Starts guest, manager, vTPM and the guest's daemon; see [`Pair::restart`] for the time.
    ///
    /// # Errors
    /// When one of them does not come up.
    pub fn start(
        bed: &'a TestBed,
        workspace: &Workspace,
        built: &Built,
        mode: Mode,
    ) -> anyhow::Result<(Pair<'a>, f64)> {
        let (daemon, image) = (bed.put(&built.program)?, bed.put(&built.image.path)?);
        let guest = bed.start_linux(&guest_config(workspace, &built.program, mode))?;
        let mut pair = Pair { bed, daemon, name: format!("{mode}-pair"), guest, vtpm: 0 };
        pair.dom0(&format!(
            "rm -rf $DIR; $VTPMD instance create it --image {image} --mode {mode} $DIRS\n{MANAGER}"
        ))?;
        let seconds = pair.restart("")?;
        pair.linux(START_DAEMON)?;
        Ok((pair, seconds))
    }

    /// Starts the vTPM; returns the seconds from the start of `xl create` to the first answer.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&mut self, options: &str) -> anyhow::Result<f64> {
        let guest = self.guest.id();
        let said = self.dom0(&format!(
            "$VTPMD instance start it --guest {guest} {options} --json --patience $WAIT $DIRS"
        ))?;
        let said: serde_json::Value = serde_json::from_str(&said).context("`vtpmd instance start`")?;
        let domid = said["domid"].as_u64().and_then(|domid| domid.try_into().ok());
        self.vtpm = domid.context("no domain id")?;
        said["seconds"].as_f64().context("no time")
    }

    /// See [`dom0`].
    ///
    /// # Errors
    /// See there.
    pub fn dom0(&self, script: &str) -> anyhow::Result<String> {
        dom0(self.bed, &self.daemon, &self.name, script)
    }

    /// See [`linux`].
    ///
    /// # Errors
    /// See there.
    pub fn linux(&self, script: &str) -> anyhow::Result<String> {
        linux(self.bed, &self.guest, script, LIMIT)
    }

    /// Stops everything.
    ///
    /// # Errors
    /// When something cannot be stopped.
    pub fn stop(self) -> anyhow::Result<()> {
        self.guest.destroy()?;
        self.dom0(&format!("$VTPMD instance stop it $DIRS\n{STOP_MANAGER}"))?;
        Ok(())
    }
}
