//! Running the programs that the SDK is built with: output into a log file, a clean environment, and an
//! error that shows the end of the log.

use crate::error::{At, Error, Result};
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Lines of a log that an error shows.
const TAIL_LINES: usize = 20;

/// Variables of the caller's environment that would leak options into a build.
const LEAKING: &[&str] = &[
    "CC",
    "CXX",
    "CPP",
    "AR",
    "AS",
    "LD",
    "NM",
    "RANLIB",
    "STRIP",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "LIBS",
    "CPATH",
    "C_INCLUDE_PATH",
    "LIBRARY_PATH",
    "CONFIG_SITE",
    "MAKEFLAGS",
    "MFLAGS",
    "DESTDIR",
    "PKG_CONFIG_PATH",
    "PKG_CONFIG_LIBDIR",
    "PKG_CONFIG_SYSROOT_DIR",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "CASEMATE_KERNEL",
    "CASEMATE_CHECK",
    "CASEMATE_MAP",
    "CASEMATE_STD",
];

/// One step: a command whose output goes to a log.
#[derive(Debug)]
pub(crate) struct Step {
    what: String,
    log: PathBuf,
    command: Command,
}

impl Step {
    /// A step called `what` that runs `program` and appends its output to `log`.
    pub(crate) fn new(what: impl Into<String>, program: impl AsRef<OsStr>, log: &Path) -> Self {
        let mut command = Command::new(program);
        for name in LEAKING {
            command.env_remove(name);
        }
        command.env("LC_ALL", "C");
        Self { what: what.into(), log: log.to_path_buf(), command }
    }

    /// Adds one argument.
    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in this folder.
    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Puts a folder in front of `PATH`.
    pub(crate) fn path_first(mut self, dir: &Path) -> Self {
        let old = std::env::var_os("PATH").unwrap_or_default();
        let dirs = std::iter::once(dir.to_path_buf()).chain(std::env::split_paths(&old));
        if let Ok(path) = std::env::join_paths(dirs) {
            self.command.env("PATH", path);
        }
        self
    }

    /// Runs it; an error unless it succeeds.
    pub(crate) fn run(mut self) -> Result<()> {
        let mut log = self.open_log()?;
        self.note_command(&mut log)?;
        let output = log.try_clone().at(&self.log)?;
        self.command.stdin(Stdio::null()).stdout(output).stderr(log);
        let status = self.command.status().map_err(|source| self.missing(source))?;
        if status.success() { Ok(()) } else { Err(self.failed(status)) }
    }

    /// Runs it and returns what it wrote to its standard output.
    pub(crate) fn output(mut self) -> Result<String> {
        let mut log = self.open_log()?;
        self.note_command(&mut log)?;
        self.command.stdin(Stdio::null()).stderr(log);
        let output = self.command.output().map_err(|source| self.missing(source))?;
        if !output.status.success() {
            return Err(self.failed(output.status));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn open_log(&self) -> Result<File> {
        if let Some(dir) = self.log.parent() {
            fs::create_dir_all(dir).at(dir)?;
        }
        OpenOptions::new().create(true).append(true).open(&self.log).at(&self.log)
    }

    fn note_command(&self, log: &mut File) -> Result<()> {
        use std::io::Write as _;
        writeln!(log, "+ {}", self.line()).at(&self.log)
    }

    fn line(&self) -> String {
        let mut line = self.command.get_program().to_string_lossy().into_owned();
        for arg in self.command.get_args() {
            line.push(' ');
            line.push_str(&arg.to_string_lossy());
        }
        line
    }

    fn missing(&self, source: std::io::Error) -> Error {
        let program = self.command.get_program().to_string_lossy().into_owned();
        let package = package_of(&program);
        Error::Missing { what: self.what.clone(), program, package, source }
    }

    fn failed(&self, status: std::process::ExitStatus) -> Error {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        let mut command = self.line();
        if command.len() > 300 {
            let cut = (0..=300).rev().find(|&i| command.is_char_boundary(i)).unwrap_or(0);
            command.truncate(cut);
            command.push_str(" ...");
        }
        Error::Command { what: self.what.clone(), command, status, log: self.log.clone(), tail }
    }
}

/// The Debian package that holds a program.
fn package_of(program: &str) -> &'static str {
    match program.rsplit('/').next().unwrap_or(program) {
        "gcc" => "gcc",
        "make" => "make",
        "patch" => "patch",
        "tar" => "tar xz-utils",
        "cmake" => "cmake",
        "ninja" => "ninja-build",
        "meson" => "meson",
        "m4" => "m4",
        "perl" => "perl",
        "apt-get" | "apt-cache" => "apt; on another system give the source by path",
        "dpkg-deb" => "dpkg",
        "cargo" | "rustc" => "rustup or cargo",
        _ => "binutils gcc make",
    }
}
