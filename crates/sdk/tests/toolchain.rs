//! The tool chain from outside: an SDK is installed and programs are built with it and run over the stand-in.
//!
//! The SDK is installed once below cargo's target folder (half a minute the first time; needs apt and the
//! network once) or taken from `CASEMATE_SDK`.

use sdk::check::{self, Kind, Problem};
use sdk::conformance::{self, exit_code};
use sdk::{Options, Sdk, kernel};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The SDK under test.
fn sdk() -> &'static Sdk {
    static SDK: OnceLock<Sdk> = OnceLock::new();
    SDK.get_or_init(|| {
        if let Some(prefix) = std::env::var_os("CASEMATE_SDK") {
            return Sdk::open(prefix).expect("CASEMATE_SDK names an SDK");
        }
        let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
        sdk::install(&Options {
            prefix: tmp.join("sdk"),
            cache: tmp.with_file_name("sdk-cache"),
            musl_source: None,
            kernel: None,
            checker: Some(PathBuf::from(env!("CARGO_BIN_EXE_casemate-check"))),
            jobs: 2,
            report: &|text| eprintln!("{text}"),
        })
        .expect("the SDK installs")
    })
}

/// An empty folder for one test.
fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("toolchain").join(name);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// Runs a tool of the SDK in `dir` for the stand-in kernel.
fn tool(name: &str, dir: &Path, args: &[&str]) -> Output {
    Command::new(sdk().tool(name))
        .args(args)
        .current_dir(dir)
        .env("CASEMATE_KERNEL", kernel::STANDIN)
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Compiles one source text to `dir/program`.
fn compile(compiler: &str, dir: &Path, source: &str, args: &[&str]) -> Output {
    fs::write(dir.join("program.c"), source).unwrap();
    let mut all = vec!["program.c", "-o", "program"];
    all.extend(args);
    tool(compiler, dir, &all)
}

const HELLO: &str = "#include <stdio.h>\nint main(void) { printf(\"hello\\n\"); return 3; }\n";
const RAW_SYSCALL: &str = "static long stray_call(long n)\n\
    { long r; __asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(n) : \"rcx\", \"r11\"); return r; }\n\
    int main(void) { return stray_call(39) < 0; }\n";

#[test]
fn conformance_programs_pass_over_the_stand_in() {
    let programs = conformance::build(sdk(), kernel::STANDIN, &folder("conformance")).unwrap();
    let mut bad = Vec::new();
    for program in &programs {
        if let Err(error) = program.run().and_then(|outcome| program.judge(&outcome)) {
            bad.push(error.to_string());
        }
    }
    assert!(bad.is_empty(), "{} of {} failed:\n{}", bad.len(), programs.len(), bad.join("\n"));
}

/// Whether Clang is on this machine; it is the optional one of the two compilers.
fn have_clang() -> bool {
    let found = Command::new("clang").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("clang is not installed: its part of this test is left out");
    }
    found
}

#[test]
fn both_compilers_need_no_option() {
    for compiler in ["gcc", "cc", "clang"] {
        if compiler == "clang" && !have_clang() {
            continue;
        }
        let dir = folder(&format!("hello-{compiler}"));
        let built = compile(compiler, &dir, HELLO, &[]);
        assert!(built.status.success(), "{compiler}: {}", stderr(&built));
        let ran = Command::new(dir.join("program")).output().unwrap();
        assert_eq!(
            (ran.status.code(), ran.stdout.as_slice()),
            (Some(3), b"hello\n".as_slice()),
            "{compiler}"
        );
    }
}

#[test]
fn options_for_shared_objects_do_not_get_through() {
    let dir = folder("pie");
    for args in [&["-pie", "-fPIE"][..], &["-static-pie"], &["-s"], &["-O2", "-flto"]] {
        let built = compile("gcc", &dir, HELLO, args);
        assert!(built.status.success(), "{args:?}: {}", stderr(&built));
        assert_eq!(Command::new(dir.join("program")).output().unwrap().status.code(), Some(3), "{args:?}");
    }
    for compiler in ["gcc", "clang"] {
        if compiler == "clang" && !have_clang() {
            continue;
        }
        let built = compile(compiler, &dir, HELLO, &["-shared", "-fPIC"]);
        assert!(
            !built.status.success() && stderr(&built).contains("static"),
            "{compiler}: {}",
            stderr(&built)
        );
    }
    // What libtool asks before it believes in shared libraries.
    let help = tool("ld", &dir, &["--help"]);
    assert!(help.status.success() && !String::from_utf8_lossy(&help.stdout).contains("supported targets"));
}

#[test]
fn the_build_machines_libraries_and_headers_are_out_of_reach() {
    let dir = folder("leak");
    for library in ["-lz", "-lcrypto", "-ltpms", "-lstdc++"] {
        let built = compile("gcc", &dir, HELLO, &[library]);
        assert!(!built.status.success(), "{library} was found");
    }
    let read = compile("gcc", &dir, "#include <gnu/libc-version.h>\nint main(void) { return 0; }\n", &[]);
    assert!(!read.status.success() && stderr(&read).contains("gnu/libc-version.h"), "{}", stderr(&read));
}

#[test]
fn a_stray_system_call_is_refused_by_name() {
    let dir = folder("stray");
    for (compiler, args) in [("gcc", &["-O0"][..]), ("clang", &["-O0"]), ("gcc", &["-O0", "-s"])] {
        if compiler == "clang" && !have_clang() {
            continue;
        }
        let built = compile(compiler, &dir, RAW_SYSCALL, args);
        assert!(!built.status.success(), "{compiler} {args:?} let it through");
        assert!(stderr(&built).contains("`syscall` outside the kernel in stray_call+"), "{}", stderr(&built));
        assert!(!dir.join("program").exists(), "the refused image is still there");
    }
}

#[test]
fn an_unknown_kernel_is_named() {
    let dir = folder("kernel");
    let built = compile("gcc", &dir, HELLO, &["-mkernel=nosuch"]);
    assert!(!built.status.success() && stderr(&built).contains("no kernel 'nosuch'"), "{}", stderr(&built));
}

#[test]
fn files_work_over_the_second_stand_in_only() {
    let source = "#include <stdio.h>\nint main(void) { FILE *f = fopen(\"made\", \"w\");\n\
                  return f && fputs(\"text\", f) >= 0 && fclose(f) == 0 ? 0 : 7; }\n";
    for (kernel, status) in [(kernel::STANDIN, 7), (kernel::STANDIN_FILES, 0)] {
        let dir = folder(kernel);
        let built = compile("gcc", &dir, source, &[&format!("-mkernel={kernel}")]);
        assert!(built.status.success(), "{}", stderr(&built));
        let ran = Command::new(dir.join("program")).current_dir(&dir).output().unwrap();
        assert_eq!(ran.status.code(), Some(status), "{kernel}");
        assert_eq!(dir.join("made").exists(), status == 0, "{kernel}");
    }
}

#[test]
fn std_programs_build_with_the_stock_rust_target() {
    let dir = folder("std");
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(
        dir.join("Cargo.toml"),
        "[package]\nname = \"std-program\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n",
    )
    .unwrap();
    fs::write(
        dir.join("src/main.rs"),
        r#"
        use std::{collections::HashMap, sync::mpsc, thread, time::{Duration, Instant}};
        fn main() {
            let start = Instant::now();
            let (sender, receiver) = mpsc::channel();
            let threads: Vec<_> = (1..=4)
                .map(|n| { let sender = sender.clone(); thread::spawn(move || sender.send(n * n).unwrap()) })
                .collect();
            drop(sender);
            let sum: i32 = receiver.iter().sum();
            for thread in threads { thread.join().unwrap(); }
            thread::sleep(Duration::from_millis(5));
            let caught = std::panic::catch_unwind(|| panic!("caught")).is_err();
            let map: HashMap<_, _> = [("sum", sum)].into();
            let absent = std::fs::read("/etc/passwd").unwrap_err().kind();
            let args: Vec<_> = std::env::args().skip(1).collect();
            println!("{} {caught} {absent:?} {args:?} {}", map["sum"], start.elapsed() >= Duration::from_millis(5));
        }
        "#,
    )
    .unwrap();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--target", sdk::RUST_TARGET, "--config"])
        .arg(sdk().share("cargo-config.toml"))
        .arg("--config")
        .arg(sdk().share("cargo-standin.toml"))
        .arg("--target-dir")
        .arg(dir.join("target"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", stderr(&built));
    let program = dir.join("target").join(sdk::RUST_TARGET).join("debug/std-program");
    let ran = Command::new(&program).args(["one", "two"]).output().unwrap();
    assert_eq!(exit_code(&ran.status), 0, "{}", stderr(&ran));
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "30 true NotFound [\"one\", \"two\"] true\n");
    let problems = check::check(&program, Kind::LinuxProcess).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
}

/// Builds a std program of one file with flags for the compiler, and the copy of std that `CASEMATE_STD` names.
fn std_program(dir: &Path, source: &str, std: &str, flags: &[&str]) -> PathBuf {
    fs::write(dir.join("main.rs"), source).unwrap();
    let program = dir.join(std);
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let built = Command::new(rustc)
        .args(["--edition", "2024", "-O", "--target", sdk::RUST_TARGET, "main.rs", "-o"])
        .arg(&program)
        .args(["-Clink-self-contained=no", "-Crelocation-model=static"])
        .arg(format!("-Clinker={}", sdk().tool("gcc").display()))
        .args(flags)
        .env("CASEMATE_STD", std)
        .env("CASEMATE_KERNEL", kernel::STANDIN)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", stderr(&built));
    program
}

#[test]
fn std_comes_without_what_needs_files() {
    let dir = folder("std-copies");
    let source = "use std::panic;\nfn main() {\n\
                  let caught = panic::catch_unwind(|| panic!(\"first\")).is_err();\n\
                  println!(\"caught {caught}\");\n\
                  let v: Vec<u8> = Vec::new(); println!(\"{}\", v[std::env::args().count()]);\n}\n";
    let size = |program: &Path| sdk::size::report(program, None).unwrap().loaded_file;
    let full = std_program(&dir, source, "full", &[]);
    let copy = std_program(&dir, source, "std", &[]);
    let small = std_program(&dir, source, "small", &["-Cpanic=abort"]);
    let (full_size, copy_size, small_size) = (size(&full), size(&copy), size(&small));
    // On a toolchain whose std looks otherwise nothing is cut, and this test says so.
    assert!(copy_size + 100_000 < full_size, "{copy_size} of {full_size}");
    assert!(small_size + 60_000 < copy_size, "{small_size} of {copy_size}");
    for (program, out, status) in
        [(full, "caught true\n", 101), (copy, "caught true\n", 101), (small, "", 134)]
    {
        let ran = Command::new(&program).env("RUST_BACKTRACE", "1").output().unwrap();
        let said = stderr(&ran);
        assert_eq!(
            (String::from_utf8_lossy(&ran.stdout).as_ref(), exit_code(&ran.status)),
            (out, status),
            "{said}"
        );
        assert!(said.contains("panicked at") && said.contains("first"), "{said}");
    }
}

/// A linked image with flaws that the `ld` wrapper's own check is told to overlook.
fn unchecked(dir: &Path, source: &str, args: &[&str]) -> PathBuf {
    fs::write(dir.join("program.c"), source).unwrap();
    let built = Command::new(sdk().tool("gcc"))
        .args(["program.c", "-o", "program"])
        .args(args)
        .current_dir(dir)
        .env("CASEMATE_KERNEL", kernel::STANDIN)
        .env("CASEMATE_CHECK", "no")
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", stderr(&built));
    dir.join("program")
}

#[test]
fn the_check_names_each_flaw() {
    let dir = folder("check");
    let kind = Kind::LinuxProcess;
    assert_eq!(check::check(&unchecked(&dir, HELLO, &[]), kind).unwrap(), []);
    // Bytes of the instruction in a constant, in data between functions and in a string are no instruction.
    let innocent = "__asm__(\".text\\n.type table,@object\\ntable: .byte 0x0f,0x05,0xcd,0x80\\n.size table,4\\n\");\n\
                    const char text[] = \"\\x0f\\x05\";\n\
                    int main(int n, char **v) { (void)v; return n == 0x050f050f ? text[0] : 0; }\n";
    assert_eq!(check::check(&unchecked(&dir, innocent, &[]), kind).unwrap(), []);

    let stray = check::check(&unchecked(&dir, RAW_SYSCALL, &["-O0"]), kind).unwrap();
    assert!(
        matches!(&stray[..], [Problem::SystemCall { instruction: "syscall", function, .. }]
            if function.starts_with("stray_call+")),
        "{stray:?}"
    );
    let others = "int main(void) { __asm__(\"int $0x80; sysenter\"); return 0; }\n";
    let found = check::check(&unchecked(&dir, others, &[]), kind).unwrap();
    assert!(
        matches!(
            &found[..],
            [
                Problem::SystemCall { instruction: "int 0x80", .. },
                Problem::SystemCall { instruction: "sysenter", .. }
            ]
        ),
        "{found:?}"
    );

    let writable = check::check(&unchecked(&dir, HELLO, &["-Wl,-N"]), kind).unwrap();
    assert!(matches!(writable[..], [Problem::WritableCode { .. }]), "{writable:?}");
    let stack = check::check(&unchecked(&dir, HELLO, &["-z", "execstack"]), kind).unwrap();
    assert_eq!(stack, [Problem::ExecutableStack]);
    assert_eq!(check::check(&unchecked(&dir, HELLO, &["-s"]), kind).unwrap(), [Problem::Stripped]);

    // As a domain it lacks the notes.
    let notes = check::check(&unchecked(&dir, HELLO, &[]), Kind::Domain).unwrap();
    assert!(notes.contains(&Problem::NoteMissing { name: "XEN_ELFNOTE_PHYS32_ENTRY" }), "{notes:?}");

    // The build machine's own programs are dynamic and have no kernel.
    let own = check::check(Path::new("/proc/self/exe"), kind);
    assert!(own.is_err() || own.unwrap().contains(&Problem::Dynamic));
}

#[test]
fn the_check_survives_damaged_images() {
    let dir = folder("damaged");
    let good = fs::read(unchecked(&dir, HELLO, &[])).unwrap();
    let path = dir.join("bad");
    for cut in [0, 1, 4, 63, 64, 100, 1000, good.len() / 2, good.len() - 1] {
        fs::write(&path, &good[..cut]).unwrap();
        let _ = check::check(&path, Kind::Domain);
        let _ = sdk::size::report(&path, None);
    }
    // Every byte of the headers turned, one at a time.
    for at in (0..0x300).step_by(3) {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        fs::write(&path, &bad).unwrap();
        let _ = check::check(&path, Kind::Domain);
        let _ = sdk::size::report(&path, None);
    }
    fs::write(&path, "no image").unwrap();
    assert!(matches!(check::check(&path, Kind::Domain), Err(sdk::Error::Malformed { .. })));
}

#[test]
fn sizes_add_up_with_and_without_a_map() {
    let dir = folder("size");
    let program = unchecked(&dir, HELLO, &["-Wl,-Map=program.map"]);
    let with_map = sdk::size::report(&program, None).unwrap();
    assert!(with_map.from_map);
    fs::remove_file(dir.join("program.map")).unwrap();
    let without = sdk::size::report(&program, None).unwrap();
    assert!(!without.from_map);
    for report in [&with_map, &without] {
        let groups: u64 = report.groups.iter().map(|(_, sizes)| sizes.in_memory()).sum();
        assert_eq!(groups, report.total.in_memory());
    }
    assert_eq!(with_map.total, without.total);
    let libc = with_map.groups.iter().find(|(name, _)| name == "libc").expect("libc is a group");
    assert!(libc.1.code > 2000, "{with_map}");
    let hello = with_map.total.in_file();
    assert!(hello < 8_000, "hello grew to {hello} bytes:\n{with_map}");
}

#[test]
fn pkg_config_sees_the_sysroot_only() {
    let dir = folder("pkg-config");
    fs::write(
        dir.join("own.pc"),
        "Name: own\nDescription: own\nVersion: 1\nLibs: -lown\nLibs.private: -lbelow\n",
    )
    .unwrap();
    let ask = |args: &[&str]| {
        Command::new(sdk().tool("pkg-config")).args(args).env("PKG_CONFIG_PATH", &dir).output().unwrap()
    };
    assert_eq!(String::from_utf8_lossy(&ask(&["--libs", "own"]).stdout).trim(), "-lown -lbelow");
    let all = String::from_utf8_lossy(&ask(&["--list-all"]).stdout).into_owned();
    assert_eq!(all.lines().count(), 1, "{all}");
}

#[test]
fn installing_again_changes_nothing() {
    if std::env::var_os("CASEMATE_SDK").is_some() {
        return;
    }
    let crt1 = sdk().kernel_dir(kernel::STANDIN).join("crt1.o");
    let before = fs::metadata(&crt1).unwrap().modified().unwrap();
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    sdk::install(&Options {
        prefix: tmp.join("sdk"),
        cache: tmp.with_file_name("sdk-cache"),
        musl_source: None,
        kernel: None,
        checker: None,
        jobs: 2,
        report: &|text| panic!("a second installation has nothing to do, but: {text}"),
    })
    .unwrap();
    assert_eq!(fs::metadata(&crt1).unwrap().modified().unwrap(), before);
}

#[test]
fn long_command_lines_are_understood() {
    let dir = folder("response");
    fs::write(dir.join("arguments"), "program.c\n-o\n\"a name with $ and ' in it\"\n-O0\n").unwrap();
    fs::write(dir.join("program.c"), HELLO).unwrap();
    let built = tool("gcc", &dir, &["@arguments"]);
    assert!(built.status.success(), "{}", stderr(&built));
    let ran = Command::new(dir.join("a name with $ and ' in it")).output().unwrap();
    assert_eq!(ran.status.code(), Some(3));
    fs::write(dir.join("program.c"), RAW_SYSCALL).unwrap();
    let built = tool("gcc", &dir, &["@arguments"]);
    assert!(!built.status.success() && stderr(&built).contains("stray_call"), "{}", stderr(&built));
}

#[test]
fn a_moved_sdk_works() {
    let dir = folder("moved");
    let moved = dir.join("elsewhere");
    let copied = Command::new("cp").arg("-a").arg(sdk().prefix()).arg(&moved).status().unwrap();
    assert!(copied.success());
    fs::write(dir.join("program.c"), HELLO).unwrap();
    let moved = Sdk::open(&moved).unwrap();
    let built = Command::new(moved.tool("gcc"))
        .args(["program.c", "-o", "program", "-v"])
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", stderr(&built));
    assert!(!stderr(&built).contains(&format!("{}/", sdk().prefix().display())), "{}", stderr(&built));
    assert_eq!(Command::new(dir.join("program")).output().unwrap().status.code(), Some(3));
}

#[test]
fn bad_sources_and_places_are_named() {
    let dir = folder("bad");
    let options = |prefix: PathBuf, musl_source: Option<PathBuf>| {
        sdk::install(&Options {
            prefix,
            cache: dir.join("cache"),
            musl_source,
            kernel: None,
            checker: None,
            jobs: 1,
            report: &|_| {},
        })
        .expect_err("nothing to install from")
        .to_string()
    };
    let blank = options(dir.join("a blank"), None);
    assert!(blank.contains("a blank") && blank.contains("--prefix"), "{blank}");
    let absent = options(dir.join("prefix"), Some(dir.join("absent.tar.gz")));
    assert!(absent.contains("absent.tar.gz") && absent.contains("no such file"), "{absent}");
    fs::write(dir.join("rubbish.tar.gz"), "rubbish").unwrap();
    let rubbish = options(dir.join("prefix"), Some(dir.join("rubbish.tar.gz")));
    assert!(rubbish.contains("rubbish.tar.gz") && rubbish.contains("tar"), "{rubbish}");
    fs::create_dir_all(dir.join("empty")).unwrap();
    let empty = options(dir.join("prefix"), Some(dir.join("empty")));
    assert!(empty.contains("VERSION"), "{empty}");
    assert!(Sdk::open(dir.join("prefix")).is_err(), "an incomplete SDK opens");
}
