//! A C program, linked with either library of this package, talks to itself in two processes.
#![cfg(not(casemate))]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The library is built for the tests, too: this makes cargo do so.
use casemate_idc_c as _;

/// What a program with the static library needs besides; that of `rustc --print native-static-libs`.
const NATIVE: [&str; 2] = ["-lgcc_s", "-lc"];

/// Where cargo puts the libraries for tests.
fn libraries() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_path_buf()
}

fn compile(dir: &Path, shared: bool) -> PathBuf {
    let program = dir.join(if shared { "peers-shared" } else { "peers-static" });
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries = libraries();
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
    cc.args(["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Werror", "-pthread", "-I"]);
    cc.arg(root.join("include")).arg(root.join("tests/peers.c")).arg("-o").arg(&program);
    if shared {
        std::os::unix::fs::symlink(libraries.join("libcasemate_idc_c.so"), dir.join("libidc.so.0")).unwrap();
        cc.arg(dir.join("libidc.so.0")).arg(format!("-Wl,-rpath,{}", dir.display()));
    } else {
        cc.arg(libraries.join("libcasemate_idc_c.a")).args(NATIVE);
    }
    let output = cc.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// Killed at the end of a test, however it ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn works(program: &Path, part: &str, folder: &Path) {
    let output = Command::new(program).arg(part).arg(folder).output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("all is well"), "{:?}\n{text}{errors}", output.status);
}

fn all(shared: bool) {
    let dir = tempfile::tempdir().unwrap();
    let program = compile(dir.path(), shared);
    let folder = dir.path().join("idc");
    works(&program, "arguments", &folder);
    let service =
        Command::new(&program).arg("serve").arg(&folder).stdin(Stdio::null()).spawn().map(Process).unwrap();
    works(&program, "client", &folder);
    drop(service);
}

#[test]
fn with_the_static_library() {
    all(false);
}

#[test]
fn with_the_shared_library() {
    all(true);
}

/// The header is C++, too.
#[test]
fn the_header_is_for_cpp_too() {
    let Ok(output) = Command::new("c++")
        .args(["-x", "c++", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-include"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("include/idc.h"))
        .arg("/dev/null")
        .output()
    else {
        eprintln!("not tried: there is no c++ here");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
