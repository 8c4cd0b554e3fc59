//! The command line as a stranger meets it: wrong options, missing and damaged files, help. Nothing here needs Xen.

use std::{fs, path::PathBuf};

use assert_cmd::{Command, assert::Assert};

/// The program, in a folder of its own.
fn casemate(args: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("casemate").unwrap();
    command.env("CASEMATE_ROOT", concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).args(args).assert()
}

/// What it says on standard error; the exit status has to be this one.
fn refused(args: &[&str], status: i32) -> String {
    let output = casemate(args).code(status).get_output().clone();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// A file with this content.
fn file(name: &str, content: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    (dir, path)
}

/// A static ELF program with nothing but a header and one empty code segment.
fn elf_without_notes() -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    for value in [0x10_0000u64, 64, 0] {
        elf.extend(value.to_le_bytes());
    }
    elf.extend([0; 4]);
    for value in [64u16, 56, 1, 64, 0, 0] {
        elf.extend(value.to_le_bytes());
    }
    elf.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for value in [0u64, 0x10_0000, 0x10_0000, 120, 120, 4096] {
        elf.extend(value.to_le_bytes());
    }
    elf
}

#[test]
fn no_command_shows_the_help() {
    let text = refused(&[], 2);
    assert!(text.contains("Usage:") && text.contains("Examples:"), "{text}");
}

#[test]
fn help_of_every_command_says_what_it_does() {
    for command in [
        "setup",
        "doctor",
        "sdk",
        "new",
        "build",
        "size",
        "check",
        "run",
        "symbolize",
        "demo",
        "test",
        "bench",
        "completions",
        "man",
    ] {
        let output = casemate(&[command, "--help"]).success().get_output().clone();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("Usage: casemate") && text.len() > 200, "{command}: {text}");
    }
}

#[test]
fn wrong_options_are_named() {
    for (args, part) in [
        (&["run", "x", "--mode", "hvm"][..], "possible values: pv, pvh"),
        (&["run", "x", "--memory", "0"], "0 is not in 1..=65536"),
        (&["run", "x", "--memory", "much"], "invalid digit"),
        (&["run"], "<IMAGE|PACKAGE|FOLDER>"),
        (&["rum"], "'run'"),
        (&["completions", "cmd"], "possible values"),
    ] {
        let text = refused(args, 2);
        assert!(text.contains(part), "{args:?}: {text}");
    }
}

#[test]
fn bad_images_are_refused_before_anything_is_booted() {
    let (_a, text_file) = file("notes.elf", b"To do: make this a domain.\n");
    let (_b, empty) = file("empty.elf", b"");
    let (_c, cut) = file("cut.elf", &elf_without_notes()[..100]);
    let (_d, no_notes) = file("linux.elf", &elf_without_notes());
    let program = PathBuf::from(env!("CARGO_BIN_EXE_casemate"));
    for (path, part) in [
        (PathBuf::from("/nowhere/image.elf"), "there is no file /nowhere/image.elf"),
        (PathBuf::from("/"), "cannot read /"),
        (text_file, "it is not an ELF file"),
        (empty, "the file is empty"),
        (cut, "it is cut off"),
        (no_notes, "it has no Xen notes"),
        (program, "casemate build"),
    ] {
        let path = path.to_str().unwrap();
        let checked = refused(&["check", path], 1);
        let run = refused(&["run", path], 125);
        assert!(checked.contains(part), "{path}: {checked}");
        assert!(run.contains(part), "{path}: {run}");
        assert!(!run.contains("booting"), "{path}: {run}");
    }
}

#[test]
fn a_package_that_is_none_names_those_that_are() {
    let text = refused(&["run", "no-such-thing"], 125);
    assert!(text.contains("no-such-thing") && text.contains("hello"), "{text}");
    let text = refused(&["build", "xen-abi"], 1);
    assert!(text.contains("not a domain"), "{text}");
}

#[test]
fn arguments_that_cannot_be_passed_are_refused() {
    let (_dir, image) = file("x", b"");
    let text = refused(&["run", image.to_str().unwrap(), "--", "a\"b"], 125);
    assert!(text.contains("empty") || text.contains("double quote"), "{text}");
}

#[test]
fn outside_of_the_tree_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::cargo_bin("casemate").unwrap();
    let assert = command.env("CASEMATE_ROOT", dir.path()).args(["build"]).assert().code(1);
    let text = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
    assert!(text.contains("CASEMATE_ROOT") && text.contains("not the Casemate source tree"), "{text}");
}

#[test]
fn symbolize_passes_other_text_unchanged() {
    let program = env!("CARGO_BIN_EXE_casemate");
    let mut command = Command::cargo_bin("casemate").unwrap();
    let assert =
        command.args(["symbolize", program]).write_stdin("one\n  #0 0xfffffffffff0\n").assert().success();
    assert_eq!(assert.get_output().stdout, b"one\n  #0 0xfffffffffff0\n");
    let text = refused(&["symbolize", "/nowhere"], 1);
    assert!(text.contains("/nowhere"), "{text}");
}

#[test]
fn completions_and_manual_pages() {
    let output = casemate(&["completions", "bash"]).success().get_output().clone();
    assert!(String::from_utf8(output.stdout).unwrap().contains("_casemate"));
    let dir = tempfile::tempdir().unwrap();
    casemate(&["man", dir.path().to_str().unwrap()]).success();
    let page = fs::read_to_string(dir.path().join("casemate-run.1")).unwrap();
    assert!(page.contains("exit status") || page.contains("Exit status"), "{page}");
}

#[test]
fn doctor_speaks_json() {
    let output = casemate(&["doctor", "--json"]).get_output().clone();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["needs"].as_array().is_some_and(|needs| needs.len() > 3), "{report}");
    assert_eq!(output.status.success(), report["healthy"] == true);
}
