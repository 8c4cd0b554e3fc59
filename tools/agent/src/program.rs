//! Runs programs for [`Job::Run`](testbed::proto::Job::Run), with streamed output.

use std::{
    io::{self, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, Stdio},
    thread,
};

use rustix::process::{Pid, Signal};
use testbed::proto::Stream;

/// Bytes of output sent at once.
const PIECE: usize = 32 * 1024;

/// Runs a program to its end. `started` learns its process group before anything else happens, `output` gets
/// what it prints, as it comes.
///
/// # Errors
/// When the program cannot be started, in words.
pub fn run(
    argv: &[String],
    cwd: Option<&str>,
    input: Vec<u8>,
    started: impl FnOnce(Pid),
    output: impl Fn(Stream, &[u8]) + Sync,
) -> Result<i32, String> {
    let (program, args) = argv.split_first().ok_or("no program named")?;
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(cwd) = cwd {
        command.current_dir(cwd);
    }
    let mut child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    started(Pid::from_child(&child));
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let status = thread::scope(|scope| {
        if let Some(mut stdin) = stdin {
            // A program that does not read its input is no error.
            scope.spawn(move || drop(stdin.write_all(&input)));
        }
        if let Some(stderr) = stderr {
            scope.spawn(|| copy(stderr, Stream::Stderr, &output));
        }
        if let Some(stdout) = stdout {
            copy(stdout, Stream::Stdout, &output);
        }
        child.wait()
    });
    let status = status.map_err(|e| format!("{program}: {e}"))?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// Ends a program started by [`run`] and all of its process group; one that has ended is fine.
///
/// # Errors
/// Those of `kill`.
pub fn kill(group: Pid) -> io::Result<()> {
    match rustix::process::kill_process_group(group, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

fn copy(mut from: impl Read, stream: Stream, output: &(impl Fn(Stream, &[u8]) + Sync)) {
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(n) => output(stream, &piece[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
