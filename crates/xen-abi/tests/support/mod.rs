//! Machinery of the layout test: collects expectations, lets a C program answer them, scans the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

const HINT: &str = "the layout test needs a C compiler and Xen's headers: apt-get install libxen-dev gcc";

/// What every C file of this test starts with.
const PRELUDE: &str = r"
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define __XEN_TOOLS__
#define __XEN_INTERFACE_VERSION__ __XEN_LATEST_INTERFACE_VERSION__
#include <xen/xen.h>
#include <xen/callback.h>
#include <xen/domctl.h>
#include <xen/elfnote.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/memory.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/arch-x86/cpuid.h>
#include <xen/arch-x86/hvm/start_info.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/io/console.h>
#include <xen/io/xs_wire.h>
";

/// Where the value of an item comes from in C.
enum Source {
    /// A C expression.
    Expression(String),
    /// The macro of the same name, in whatever case.
    Macro(String),
}

/// Items of the crate with the values that they have in Rust.
#[derive(Default)]
pub struct Table {
    rows: Vec<(String, Source, u64)>,
}

impl Table {
    pub fn value(&mut self, item: String, expression: String, expected: u64) {
        self.rows.push((item, Source::Expression(expression), expected));
    }

    pub fn named(&mut self, module: &str, name: &str, expression: Option<&str>, expected: u64) {
        let source = match expression {
            Some(expression) => Source::Expression(expression.to_owned()),
            None => Source::Macro(name.to_owned()),
        };
        self.rows.push((format!("{module}::{name}"), source, expected));
    }

    pub fn size(&mut self, item: &str, c_type: &str, size: usize, align: usize) {
        self.value(item.to_owned(), format!("sizeof({c_type})"), size as u64);
        self.value(format!("alignment of {item}"), format!("_Alignof({c_type})"), align as u64);
    }

    pub fn field(&mut self, item: &str, c_type: &str, c_field: &str, offset: usize, size: usize) {
        self.value(item.to_owned(), format!("offsetof({c_type}, {c_field})"), offset as u64);
        self.value(format!("size of {item}"), format!("sizeof((({c_type} *)0)->{c_field})"), size as u64);
    }

    pub fn has(&self, item: &str) -> bool {
        self.rows.iter().any(|(known, _, _)| known == item)
    }

    /// Compiles and runs the C program; returns one line for each difference.
    pub fn compare_with_c(&self) -> Vec<String> {
        let dir = scratch_dir();
        let macros = macros(&dir);
        let mut program = format!("{PRELUDE}\nint main(void) {{\n");
        for (item, source, _) in &self.rows {
            let expression = match source {
                Source::Expression(expression) => expression,
                Source::Macro(name) => macros
                    .get(name)
                    .unwrap_or_else(|| panic!("{item}: Xen's headers define no {name}, in any case")),
            };
            program += &format!("printf(\"%llu\\n\", (unsigned long long)({expression}));\n");
        }
        program += "return 0;\n}\n";
        let (source, binary) = (dir.join("layout.c"), dir.join("layout"));
        std::fs::write(&source, program).expect("write the C program");
        run(cc().args(["-std=gnu11", "-Werror=overflow", "-o"]).arg(&binary).arg(&source));
        let output = run(&mut Command::new(&binary));
        let actual: Vec<u64> = output.lines().map(|line| line.parse().expect("a number")).collect();
        assert_eq!(actual.len(), self.rows.len());
        self.rows
            .iter()
            .zip(actual)
            .filter(|((_, _, expected), actual)| expected != actual)
            .map(|((item, _, expected), actual)| format!("{item}: {expected:#x} here, {actual:#x} in C"))
            .collect()
    }
}

fn cc() -> Command {
    Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()))
}

fn run(command: &mut Command) -> String {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("cannot run {:?}: {error}\n{HINT}", command.get_program()),
    };
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}\n{HINT}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// A directory of its own for each comparison: tests run at the same time.
fn scratch_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("layout-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("make a scratch directory");
    dir
}

/// The object-like macros of the headers: upper-case name without leading underscores -> name in C. Of several
/// candidates (`GTF_readonly` and `_GTF_readonly`) the one with the fewest underscores counts.
fn macros(dir: &Path) -> BTreeMap<String, String> {
    let file = dir.join("macros.c");
    std::fs::write(&file, PRELUDE).expect("write the C file");
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for line in run(cc().args(["-std=gnu11", "-E", "-dM"]).arg(&file)).lines() {
        let Some(name) = line.strip_prefix("#define ").and_then(|rest| rest.split(' ').next()) else {
            continue;
        };
        if name.contains('(') {
            continue;
        }
        let key = name.trim_start_matches('_').to_ascii_uppercase();
        if found.get(&key).is_none_or(|other| name.len() < other.len()) {
            found.insert(key, name.to_owned());
        }
    }
    found
}

/// `WatchEvent` -> `WATCH_EVENT`.
pub fn screaming_snake_case(name: &str) -> String {
    let mut result = String::new();
    for (at, letter) in name.chars().enumerate() {
        if at > 0 && letter.is_uppercase() {
            result.push('_');
        }
        result.push(letter.to_ascii_uppercase());
    }
    result
}

/// Every module-level constant and every `repr(C)` structure with its fields, as `module::NAME`,
/// `module::Type` and `module::Type.field`.
pub fn scan_source() -> BTreeSet<String> {
    let mut items = BTreeSet::new();
    scan_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut items);
    items
}

fn scan_dir(dir: &Path, prefix: &str, items: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).expect("the source") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        let module = format!("{prefix}{stem}");
        if path.is_dir() {
            scan_dir(&path, &format!("{module}::"), items);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            scan_file(&std::fs::read_to_string(&path).expect("a source file"), &module, items);
        }
    }
}

fn scan_file(text: &str, module: &str, items: &mut BTreeSet<String>) {
    let mut repr_c = false;
    let mut inside: Option<&str> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("pub const ").or_else(|| line.strip_prefix("const ")) {
            if let Some((name, _)) = name.split_once(':')
                && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
            {
                items.insert(format!("{module}::{name}"));
            }
        } else if line.starts_with("#[repr(C") {
            repr_c = true;
        } else if let Some(rest) = line.strip_prefix("pub struct ") {
            let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            if repr_c {
                items.insert(format!("{module}::{name}"));
                inside = Some(name);
            }
            repr_c = false;
        } else if line == "}" {
            inside = None;
        } else if let (Some(owner), Some(rest)) = (inside, line.strip_prefix("    pub "))
            && let Some((field, _)) = rest.split_once(':')
        {
            items.insert(format!("{module}::{owner}.{field}"));
        }
    }
}

/// A number of the ABI as C would print it.
pub trait Number {
    fn number(self) -> u64;
}

macro_rules! number {
    ($($type:ty => |$value:ident| $number:expr;)*) => {
        $(impl Number for $type {
            fn number(self) -> u64 {
                let $value = self;
                $number
            }
        })*
    };
}

number! {
    u8 => |value| value.into();
    u16 => |value| value.into();
    u32 => |value| value.into();
    u64 => |value| value;
    usize => |value| value as u64;
    i16 => |value| i64::from(value) as u64;
    xen_abi::DomId => |value| value.0.into();
    xen_abi::GrantRef => |value| value.0.into();
}

/// Size of a field, without a value of its structure.
pub fn size_of_field<T, F>(_: impl Fn(&T) -> &F) -> usize {
    size_of::<F>()
}

/// `structs! { table; module::Type = "C type" { field, field = "C field" } ... }`
macro_rules! structs {
    ($table:ident; $($module:ident::$name:ident = $c_type:literal {
        $($field:ident $(= $c_field:literal)?),*
    })*) => {$({
        type Type = xen_abi::$module::$name;
        let item = concat!(stringify!($module), "::", stringify!($name));
        $table.size(item, $c_type, size_of::<Type>(), align_of::<Type>());
        $(
            let c_field = [$($c_field,)? stringify!($field)][0];
            let size = $crate::support::size_of_field(|value: &Type| &value.$field);
            $table.field(
                &format!("{item}.{}", stringify!($field)), $c_type, c_field,
                std::mem::offset_of!(Type, $field), size,
            );
        )*
    })*};
}

/// `consts! { table; "module" path; NAME NAME = "C expression" ... }`
macro_rules! consts {
    ($table:ident; $module:literal $($path:ident)::+; $($name:ident $(= $expression:literal)?)*) => {{
        use $($path)::+ as module;
        use $crate::support::Number as _;
        $({
            let expression: Option<&str> = [$(Some($expression),)? None][0];
            $table.named($module, stringify!($name), expression, module::$name.number());
        })*
    }};
}

pub(crate) use {consts, structs};
