//! `new`, `build`, `run --hosted`, `size` and `symbolize` on packages that lie outside of the tree: what
//! `casemate new` writes, and a package with a build script, a procedural macro and C code. Nothing here needs Xen.
//!
//! The SDK is installed below cargo's target folder when it is not there yet (a minute; needs apt and the network
//! once).

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use object::{Object, ObjectSymbol};

const TREE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The program, to be run in a folder.
fn casemate(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_casemate"));
    command.env("CASEMATE_ROOT", TREE).current_dir(dir).args(args);
    // Cargo's own variables about this package would mislead the one that is built.
    for name in ["CASEMATE_SDK", "CASEMATE_KERNEL", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        command.env_remove(name);
    }
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn output(dir: &Path, args: &[&str]) -> Output {
    casemate(dir, args).output().unwrap()
}

/// What it prints; it has to succeed.
fn succeeds(dir: &Path, args: &[&str]) -> String {
    let output = output(dir, args);
    assert!(output.status.success(), "{args:?}: {}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// What it says when it refuses.
fn refused(dir: &Path, args: &[&str]) -> String {
    let output = output(dir, args);
    let said = text(&output.stderr);
    assert!(!output.status.success() && !said.contains("panicked"), "{args:?}: {said}");
    said
}

/// A folder whose name has a blank.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a folder");
    fs::create_dir(&path).unwrap();
    (dir, path)
}

/// The address of a symbol.
fn address_of(image: &Path, matches: impl Fn(&str) -> bool) -> u64 {
    let data = fs::read(image).unwrap();
    let file = object::File::parse(&*data).unwrap();
    let symbol = file.symbols().find(|s| s.name().is_ok_and(&matches)).expect("the symbol is there");
    symbol.address()
}

#[test]
fn bad_packages_are_refused() {
    let (_dir, dir) = folder();
    for (args, part) in [
        (&["new", "2nd"][..], "not a name"),
        (&["new", "a b"], "not a name"),
        (&["new", "fn"], "something else"),
        (&["new", ".."], "does not end in a name"),
        (&["new", "Vault", "--template", "service"], "not a name for a service"),
        (&["new", "Vault", "--template", "service", "--language", "c"], "not a name for a service"),
        (&["new", "vault", "--language", "c", "--no-std"], "--no-std is about Rust"),
        (&["new", "vault", "--language", "cobol"], "possible values: rust, c"),
    ] {
        let said = refused(&dir, args);
        assert!(said.contains(part), "{args:?}: {said}");
    }
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "a refused package left something behind");
    fs::create_dir(dir.join("there")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("link")).unwrap();
    for name in ["there", "link"] {
        let said = refused(&dir, &["new", name]);
        assert!(said.contains("is there already"), "{said}");
    }
    assert_eq!(fs::read_dir(dir.join("there")).unwrap().count(), 0);
}

#[test]
fn a_folder_without_a_program_is_named() {
    let (_dir, dir) = folder();
    fs::create_dir(dir.join("empty")).unwrap();
    let said = refused(&dir, &["build", "./empty"]);
    assert!(said.contains("neither a Cargo.toml nor a Makefile"), "{said}");
    fs::create_dir_all(dir.join("broken")).unwrap();
    fs::write(dir.join("broken/Cargo.toml"), "[package\n").unwrap();
    let said = refused(&dir, &["build", "broken"]);
    assert!(said.contains("cargo does not understand"), "{said}");
    fs::create_dir_all(dir.join("lib/src")).unwrap();
    fs::write(dir.join("lib/Cargo.toml"), "[package]\nname = \"only-lib\"\n[workspace]\n").unwrap();
    fs::write(dir.join("lib/src/lib.rs"), "").unwrap();
    let said = refused(&dir, &["run", "./lib"]);
    assert!(said.contains("library, without a program"), "{said}");
}

#[test]
fn without_an_sdk_it_says_so() {
    let (_dir, dir) = folder();
    succeeds(&dir, &["new", "prog"]);
    let output =
        casemate(&dir, &["build", "prog"]).env("CASEMATE_SDK", dir.join("nowhere")).output().unwrap();
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("nowhere") && said.contains("casemate sdk"), "{said}");
    let said = refused(&dir, &["sdk", "--prefix", "a blank"]);
    assert!(said.contains("blanks") && said.contains("--prefix"), "{said}");
}

#[test]
fn a_program_without_std_is_built_in_its_folder() {
    let (_dir, dir) = folder();
    succeeds(&dir, &["new", "tiny", "--no-std"]);
    let dir = dir.join("tiny");
    let json: serde_json::Value = serde_json::from_str(&succeeds(&dir, &["build", "--json"])).unwrap();
    assert_eq!(json[0]["name"], "tiny");
    let image = PathBuf::from(json[0]["path"].as_str().unwrap());
    assert_eq!(image.canonicalize().unwrap(), dir.join("target/images/tiny").canonicalize().unwrap());
    let image = image.to_str().unwrap();
    assert!(succeeds(&dir, &["check", image]).contains("PVH entry   0x"));
    let sizes: serde_json::Value = serde_json::from_str(&succeeds(&dir, &["size", image, "--json"])).unwrap();
    let groups = sizes["groups"].as_array().unwrap();
    assert!(
        groups.iter().any(|g| g["name"] == "libos" && g["sizes"]["code"].as_u64() > Some(10_000)),
        "{sizes}"
    );
    let table = succeeds(&dir, &["size", "--compare", image, image]);
    assert_eq!(table.lines().filter(|line| line.starts_with("| tiny |")).count(), 2, "{table}");
    let source = succeeds(&dir, &["size", image, "--source", "--json"]);
    let source: serde_json::Value = serde_json::from_str(&source).unwrap();
    let files = source["files"].as_array().unwrap();
    let of = |name: &str| files.iter().find(|f| f["file"] == name).map(|f| f["unsafe"].as_u64().unwrap());
    assert!(source["lines"].as_u64() > Some(1_000), "{source}");
    assert!(of("crates/libos/src/arch/x86_64/hypercall.rs") > Some(0), "{source}");
    assert_eq!(of("crates/libos/src/xen/console.rs"), Some(0), "{source}");
    assert_eq!(of("crates/service/src/server.rs"), None, "it is no server");
    assert!(succeeds(&dir, &["size", image, "--source"]).contains("with `unsafe`"));
    assert!(refused(&dir, &["size", image, image]).contains("--compare"));
    assert!(refused(&dir, &["size", "main.rs"]).contains("no file"));
    // The dependency lies where the tree is, and says so.
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("CASEMATE_ROOT") && !manifest.contains('@'), "{manifest}");
}

#[test]
fn a_c_program_runs_as_a_process_and_becomes_an_image() {
    let (_dir, dir) = folder();
    succeeds(&dir, &["new", "greeter", "--language", "c"]);
    let dir = dir.join("greeter");
    let said = succeeds(&dir, &["run", "--hosted", ".", "--", "one", "two three"]);
    assert_eq!(said, "Hello from greeter, with 2 words: one two three\n");
    let said = refused(&dir, &["run", "./greeter"]);
    assert!(said.contains("stand-in") && said.contains("--hosted"), "{said}");
    // The same Makefile again, for the other kernel.
    let listed = succeeds(&dir, &["build"]);
    assert!(listed.starts_with("greeter ") && listed.contains(" bytes"), "{listed}");
    assert!(succeeds(&dir, &["check", "greeter"]).contains("PV entry    0x"));
    let said = refused(&dir, &["run", "--hosted", "./greeter"]);
    assert!(said.contains("CASEMATE_KERNEL=standin"), "{said}");
    // Functions and lines of C.
    let main = address_of(&dir.join("greeter.debug"), |name| name == "main");
    let frame = format!("  #0 {main:#x}\n");
    fs::write(dir.join("console"), &frame).unwrap();
    let named = succeeds(&dir, &["symbolize", "greeter", "console"]);
    assert!(named.contains("main at ") && named.contains("main.c:5"), "{named}");
    // A stray system call is refused by name.
    let source = "int stray(void) { int r; __asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(39)); return r; }\n\
                  int main(void) { return stray() < 0; }\n";
    fs::write(dir.join("main.c"), source).unwrap();
    let said = refused(&dir, &["build"]);
    assert!(said.contains("`syscall` outside the kernel in ") && said.contains("make in"), "{said}");
}

#[test]
fn a_std_program_may_have_a_build_script_a_macro_and_c_code() {
    let (_dir, dir) = folder();
    succeeds(&dir, &["new", "mixed"]);
    let dir = dir.join("mixed");
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
    let manifest = manifest.replace(
        "[dependencies]\n",
        "[dependencies]\nserde = { version = \"1\", features = [\"derive\"] }\nserde_json = \"1\"\n\
         [build-dependencies]\ncc = \"1\"\n",
    );
    fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    // The versions that the tree uses are on this machine already.
    fs::copy(Path::new(TREE).join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    fs::write(dir.join("build.rs"), "fn main() { cc::Build::new().file(\"half.c\").compile(\"half\"); }")
        .unwrap();
    fs::write(dir.join("half.c"), "#include <math.h>\ndouble half(double x) { return floor(x) / 2; }\n")
        .unwrap();
    let source = r#"
        #[derive(serde::Serialize)]
        struct Answer { half: f64, casemate: bool }
        unsafe extern "C" { safe fn half(x: f64) -> f64; }
        #[inline(never)]
        fn print_answer() {
            let answer = Answer { half: half(9.7), casemate: cfg!(casemate) };
            println!("{}", serde_json::to_string(&answer).unwrap());
        }
        fn main() { print_answer(); }
    "#;
    fs::write(dir.join("src/main.rs"), source).unwrap();
    let said = succeeds(&dir, &["run", "--hosted", "."]);
    assert_eq!(said, "{\"half\":4.5,\"casemate\":true}\n");
    let listed = succeeds(&dir, &["build", "--profile", "small", "."]);
    assert!(listed.contains("target/images/mixed"), "{listed}");
    let image = dir.join("target/images/mixed");
    assert!(succeeds(&dir, &["check", image.to_str().unwrap()]).contains("PVH entry"));
    // Functions and lines of Rust, in both forms of a backtrace.
    succeeds(&dir, &["build"]);
    let debug = dir.join("target/images/mixed.debug");
    let place = address_of(&debug, |name| name.contains("print_answer"));
    fs::write(dir.join("console"), format!("  #0 {place:#x}\n   3:  {:#18x} - <unknown>\n", place + 1))
        .unwrap();
    let named = succeeds(&dir, &["symbolize", debug.to_str().unwrap(), "console"]);
    assert_eq!(named.matches("print_answer at ").count(), 2, "{named}");
    assert!(named.contains("src/main.rs:"), "{named}");
}

#[test]
fn a_new_service_runs_as_a_process() {
    let (_dir, dir) = folder();
    succeeds(&dir, &["new", "shout", "--template", "service"]);
    let dir = dir.join("shout");
    assert!(succeeds(&dir, &["build"]).starts_with("shout "));
    let mut child = casemate(&dir, &["--quiet", "run", "--hosted", ".", "--", "4242"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(line, "shout: ready\n");
}
