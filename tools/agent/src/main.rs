//! The test bed's agent in dom0 and in Linux guests.
//!
//! One static program with four uses:
//! - as process 1 of a dom0 that the test bed booted (`init`): it mounts, loads modules, starts Xen's
//!   daemons, then serves jobs in a child process and ends the machine when that child ends;
//! - as process 1 of a Linux guest: the same in small, with jobs that come from the agent in dom0 (`guest`);
//! - `casemate-agent --serve`: serves jobs on its standard streams, on a machine that is a dom0 itself;
//! - `casemate-agent --supervise PARENT COMMAND...`: becomes COMMAND, which the kernel kills as soon as
//!   the process that started it dies. The test bed starts QEMU this way, so that none is left behind.
//!
//! It needs root for everything but `--supervise`.

mod console;
mod domain;
mod guest;
mod init;
mod program;
mod serve;
mod xl;

use std::{
    env,
    fs::OpenOptions,
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

const USAGE: &str = "usage: casemate-agent --serve | --supervise PARENT COMMAND [ARGUMENT...]";

fn main() -> ExitCode {
    if std::process::id() == 1 {
        init::run();
    }
    let mut args = env::args_os().skip(1);
    let first = args.next();
    let result = match first.as_deref().and_then(|a| a.to_str()) {
        Some("--serve") => serve::serve(io::stdin(), io::stdout(), serve::Place::Native),
        Some("--serve-port") => args.next().ok_or_else(usage).and_then(|port| {
            let input = OpenOptions::new().read(true).write(true).open(port)?;
            let output = input.try_clone()?;
            serve::serve(input, output, serve::Place::Booted)
        }),
        Some("--serve-guest") => guest::accept()
            .map_err(io::Error::from)
            .and_then(|(input, output)| serve::serve(input, output, serve::Place::Guest)),
        Some("--supervise") => supervise(args),
        _ => Err(usage()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("casemate-agent: {e}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, USAGE)
}

/// Binds this process to the life of its parent, then becomes the command.
fn supervise(mut args: impl Iterator<Item = std::ffi::OsString>) -> io::Result<()> {
    let parent = args.next().and_then(|p| p.to_str()?.parse::<i32>().ok()).ok_or_else(usage)?;
    let program = args.next().ok_or_else(usage)?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // The parent may have died before the line above took effect.
    if rustix::process::getppid().map(|p| p.as_raw_nonzero().get()) != Some(parent) {
        return Err(io::Error::other("the parent process is gone"));
    }
    Err(Command::new(program).args(args).exec())
}
