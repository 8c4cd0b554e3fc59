//! `include/idc.h` is what cbindgen makes of the source now.
#![cfg(not(casemate))]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Words in `text` that begin with `idc_` and are followed by `(`.
fn functions(text: &str) -> BTreeSet<&str> {
    text.split("idc_")
        .skip(1)
        .filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
            rest[end..].starts_with('(').then(|| &rest[..end])
        })
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

/// Without cbindgen, too: no function is missing or left over.
#[test]
fn the_header_declares_what_is_exported() {
    let header = read("include/idc.h");
    let declarations: String =
        header.lines().filter(|line| !line.trim_start().starts_with(['/', '*'])).collect();
    let sources = ["code", "context", "channel", "polling"].map(|name| read(&format!("src/{name}.rs")));
    let mut exported = BTreeSet::new();
    for source in &sources {
        for part in source.split("#[unsafe(no_mangle)]\npub extern \"C\" fn ").skip(1) {
            exported.insert(part.strip_prefix("idc_").unwrap().split('(').next().unwrap());
        }
    }
    assert!(exported.len() > 30, "{exported:?}");
    assert_eq!(functions(&declarations), exported);
}

/// `CBINDGEN` names the program (`cargo install cbindgen`), else it is looked for in the search path. Set
/// `UPDATE_HEADER=1` to write the header.
#[test]
fn the_header_is_made_from_the_source() {
    let program = env::var("CBINDGEN").unwrap_or_else(|_| "cbindgen".into());
    if env::var_os("CBINDGEN").is_none() && Command::new(&program).arg("--version").output().is_err() {
        eprintln!("not compared: there is no cbindgen here");
        return;
    }
    let output = Command::new(&program)
        .current_dir(ROOT)
        .args(["--quiet", "--config", "cbindgen.toml", "--crate", "casemate-idc-c", "."])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let made = String::from_utf8(output.stdout).unwrap();
    if env::var_os("UPDATE_HEADER").is_some() {
        fs::write(Path::new(ROOT).join("include/idc.h"), made).unwrap();
    } else {
        assert!(made == read("include/idc.h"), "idc.h is not up to date; run this test with UPDATE_HEADER=1");
    }
}
