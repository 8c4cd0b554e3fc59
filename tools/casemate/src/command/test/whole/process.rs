//! This very program as a child process, watched from outside.

use std::{
    ffi::OsStr,
    fmt,
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use testbed::Limits;

use crate::workspace::Workspace;

/// A running `casemate`.
pub struct Cli {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    lines: Receiver<String>,
    stderr: String,
}

/// How it ended.
pub struct Ended {
    /// Its exit status; none when a signal killed it.
    pub status: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {:?}\n{}\n{}", self.status, self.stdout.trim_end(), self.stderr.trim_end())
    }
}

impl Cli {
    /// Starts it, with nothing to read on standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        workspace: &Workspace,
        args: &[&str],
        environment: &[(&str, &OsStr)],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
        command.args(args).env("CASEMATE_ROOT", &workspace.root).env("CARGO_TARGET_DIR", &workspace.target);
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start this program")?;
        let (mut stdout, stderr) = match (child.stdout.take(), child.stderr.take()) {
            (Some(stdout), Some(stderr)) => (stdout, BufReader::new(stderr)),
            _ => bail!("no pipes"),
        };
        let stdout = thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let (to, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.split(b'\n').map_while(Result::ok) {
                let _ = to.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Ok(Self { child, stdout: Some(stdout), lines, stderr: String::new() })
    }

    /// Waits until it has printed a text on standard error.
    ///
    /// # Errors
    /// When it ended before, or took longer than a boot may take.
    pub fn wait_for(&mut self, text: &str) -> anyhow::Result<()> {
        loop {
            // Longer than the program waits: its own error says more, with the last lines of dom0's console.
            let line = self.lines.recv_timeout(Limits::boot() * 2);
            let line = line.with_context(|| format!("it never printed {text:?}, but:\n{}", self.stderr))?;
            self.stderr.push_str(&line);
            self.stderr.push('\n');
            if line.contains(text) {
                return Ok(());
            }
        }
    }

    /// The rest of a line on standard error that was waited for, from a text on.
    pub fn line(&self, text: &str) -> Option<String> {
        self.stderr.lines().find_map(|l| l.find(text).map(|at| l[at..].to_owned()))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end within the time that a boot may take.
    pub fn finish(&mut self) -> anyhow::Result<Ended> {
        // Its standard error ends when it ends.
        loop {
            match self.lines.recv_timeout(Limits::boot()) {
                Ok(line) => {
                    self.stderr.push_str(&line);
                    self.stderr.push('\n');
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    bail!("it does not end; it printed:\n{}", self.stderr)
                }
            }
        }
        let status = self.child.wait()?;
        let stdout = self.stdout.take().and_then(|s| s.join().ok()).unwrap_or_default();
        Ok(Ended { status: status.code(), stdout, stderr: std::mem::take(&mut self.stderr) })
    }

    /// What Ctrl-C does.
    ///
    /// # Errors
    /// When it is gone.
    pub fn interrupt(&self) -> anyhow::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::INT)?)
    }

    /// Kills it without a chance to clean up.
    ///
    /// # Errors
    /// When it is gone.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        let status = self.child.wait()?;
        ensure!(status.signal().is_some(), "it ended by itself: {status}");
        Ok(())
    }

    /// The processes of QEMU that it started and that still run.
    pub fn qemu(&self) -> Vec<Pid> {
        let parent = self.child.id().to_string();
        let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|process| {
                let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
                // pid (name) state ppid ...
                let (id, rest) = stat.split_once(" (")?;
                let (name, rest) = rest.rsplit_once(") ")?;
                let mut fields = rest.split(' ');
                let (state, its_parent) = (fields.next()?, fields.next()?);
                let running = name.starts_with("qemu") && state != "Z" && its_parent == parent;
                running.then(|| Pid::from_raw(id.parse().ok()?)).flatten()
            })
            .collect()
    }
}

impl Drop for Cli {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Kills processes.
///
/// # Errors
/// When there is none, or one is gone.
pub fn kill(processes: Vec<Pid>) -> anyhow::Result<()> {
    ensure!(!processes.is_empty(), "nothing to kill");
    processes.into_iter().try_for_each(|pid| Ok(kill_process(pid, Signal::KILL)?))
}

/// Waits until processes have ended that are not our children.
///
/// # Errors
/// When one still lives after a while.
pub fn await_end(processes: &[Pid]) -> anyhow::Result<()> {
    let began = Instant::now();
    for pid in processes {
        // A process that cannot be opened is gone.
        let Ok(handle) = pidfd_open(*pid, PidfdFlags::empty()) else { continue };
        let left = Duration::from_secs(20).saturating_sub(began.elapsed());
        let mut poll = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
        let left = rustix::event::Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: 0 };
        ensure!(rustix::event::poll(&mut poll, Some(&left))? > 0, "QEMU was left behind");
    }
    Ok(())
}
