//! What takes the space in an image: by section, and by crate, library or object file.
//!
//! With a link map (`OUTPUT.map`, written when `CASEMATE_MAP` is set) every byte is accounted for. Without one
//! the symbols are counted, and what has no symbol appears as "(no symbol)". A Rust function counts for the
//! crate in its name, wherever the compiler put the code: after link-time optimisation one object holds all.

use crate::error::{At, Error, Result};
use crate::map;
use object::elf;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, SymbolKind};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::ops::AddAssign;
use std::path::{Path, PathBuf};

/// Sizes in bytes by what the memory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Executable.
    pub code: u64,
    /// Read only.
    pub read_only: u64,
    /// Initialised and writable.
    pub data: u64,
    /// Zeroed at the start; not in the file.
    pub zeroed: u64,
}

impl Sizes {
    /// Bytes in the stripped image.
    pub fn in_file(&self) -> u64 {
        self.code + self.read_only + self.data
    }

    /// Bytes of memory.
    pub fn in_memory(&self) -> u64 {
        self.in_file() + self.zeroed
    }
}

impl AddAssign for Sizes {
    fn add_assign(&mut self, other: Self) {
        self.code += other.code;
        self.read_only += other.read_only;
        self.data += other.data;
        self.zeroed += other.zeroed;
    }
}

/// The size report of an image. `Display` prints it as two tables.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every section that is loaded, in the order of addresses.
    pub sections: Vec<(String, Sizes)>,
    /// Every crate, library or object, the largest first.
    pub groups: Vec<(String, Sizes)>,
    /// Sum of the sections.
    pub total: Sizes,
    /// Bytes of the file up to the end of what is loaded: the size of the stripped image without its section
    /// table.
    pub loaded_file: u64,
    /// Whether the groups come from a link map.
    pub from_map: bool,
}

/// Which kind of memory a section is.
#[derive(Clone, Copy)]
enum Memory {
    Code,
    ReadOnly,
    Data,
    Zeroed,
}

impl Memory {
    fn of(flags: SectionFlags, zeroed: bool) -> Option<Self> {
        let SectionFlags::Elf { sh_flags, .. } = flags else { return None };
        if !sh_flags.contains(elf::SHF_ALLOC) {
            return None;
        }
        Some(if zeroed {
            Self::Zeroed
        } else if sh_flags.contains(elf::SHF_EXECINSTR) {
            Self::Code
        } else if sh_flags.contains(elf::SHF_WRITE) && !sh_flags.contains(elf::SHF_TLS) {
            Self::Data
        } else {
            Self::ReadOnly
        })
    }

    fn sizes(self, bytes: u64) -> Sizes {
        let mut sizes = Sizes::default();
        *match self {
            Self::Code => &mut sizes.code,
            Self::ReadOnly => &mut sizes.read_only,
            Self::Data => &mut sizes.data,
            Self::Zeroed => &mut sizes.zeroed,
        } = bytes;
        sizes
    }
}

/// A loaded section.
struct Loaded {
    name: String,
    address: u64,
    size: u64,
    memory: Memory,
}

/// Reports on the (unstripped) image at `path`; uses the link map at `map`, or `path.map` if that exists.
pub fn report(path: &Path, map: Option<&Path>) -> Result<Report> {
    let data = fs::read(path).at(path)?;
    let beside = PathBuf::from(format!("{}.map", path.display()));
    let map = match map {
        Some(map) => Some(fs::read_to_string(map).at(map)?),
        None if beside.is_file() => Some(fs::read_to_string(&beside).at(&beside)?),
        None => None,
    };
    let elf = ElfFile64::<Endianness>::parse(&*data).map_err(|error| Error::Malformed {
        path: path.to_path_buf(),
        reason: format!("not a 64-bit ELF file: {error}"),
    })?;
    let sections = loaded_sections(&elf);
    let mut groups: BTreeMap<String, Sizes> = BTreeMap::new();
    match &map {
        Some(map) => count_pieces(map, &sections, &mut groups),
        None => count_symbols(&elf, &sections, &mut groups),
    }
    let mut total = Sizes::default();
    let mut rows = Vec::new();
    for section in &sections {
        let sizes = section.memory.sizes(section.size);
        total += sizes;
        rows.push((section.name.clone(), sizes));
    }
    account_for_the_rest(
        &total,
        &mut groups,
        if map.is_some() { "(padding and tables)" } else { "(no symbol)" },
    );
    let mut groups: Vec<_> = groups.into_iter().filter(|(_, sizes)| sizes.in_memory() > 0).collect();
    groups.sort_by(|a, b| b.1.in_file().cmp(&a.1.in_file()).then_with(|| a.0.cmp(&b.0)));
    let loaded_file = elf
        .elf_program_headers()
        .iter()
        .filter(|segment| segment.p_type(elf.endian()) == elf::PT_LOAD)
        .map(|segment| segment.p_offset(elf.endian()).saturating_add(segment.p_filesz(elf.endian())))
        .max()
        .unwrap_or(0);
    Ok(Report { sections: rows, groups, total, loaded_file, from_map: map.is_some() })
}

fn loaded_sections(elf: &ElfFile64<'_>) -> Vec<Loaded> {
    let mut sections: Vec<Loaded> = elf
        .sections()
        .filter_map(|section| {
            let zeroed = section.file_range().is_none_or(|(_, size)| size == 0);
            let name = String::from_utf8_lossy(section.name_bytes().unwrap_or_default()).into_owned();
            // .tbss takes no room of its own: each thread's copy is made at run time.
            if name == ".tbss" || section.size() == 0 {
                return None;
            }
            let memory = Memory::of(section.flags(), zeroed)?;
            Some(Loaded { name, address: section.address(), size: section.size(), memory })
        })
        .collect();
    sections.sort_by_key(|section| section.address);
    sections
}

fn section_at(sections: &[Loaded], address: u64) -> Option<&Loaded> {
    let after = sections.partition_point(|section| section.address <= address);
    sections[..after].last().filter(|section| address - section.address < section.size)
}

fn count_pieces(map: &str, sections: &[Loaded], groups: &mut BTreeMap<String, Sizes>) {
    for piece in map::pieces(map) {
        let Some(section) = section_at(sections, piece.address) else { continue };
        let size = piece.size.min(section.address + section.size - piece.address);
        let group = match piece.section.rsplit('.').next().and_then(crate_of_symbol) {
            _ if piece.section == "*fill*" => "(padding and tables)".to_owned(),
            Some(name) => name,
            None => group_of_file(piece.file),
        };
        *groups.entry(group).or_default() += section.memory.sizes(size);
    }
}

fn count_symbols(elf: &ElfFile64<'_>, sections: &[Loaded], groups: &mut BTreeMap<String, Sizes>) {
    let mut symbols: Vec<(u64, u64, &str)> = elf
        .symbols()
        .filter(|symbol| matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data) && symbol.size() > 0)
        .map(|symbol| (symbol.address(), symbol.size(), symbol.name().unwrap_or_default()))
        .collect();
    symbols.sort_unstable();
    // Two names for the same bytes count once.
    let mut counted_until = 0;
    for (address, size, name) in symbols {
        let end = address.saturating_add(size);
        let start = address.max(counted_until);
        let Some(section) = section_at(sections, address) else { continue };
        let end = end.min(section.address + section.size);
        if end <= start {
            continue;
        }
        counted_until = end;
        let group = crate_of_symbol(name).unwrap_or_else(|| "C and assembly".to_owned());
        *groups.entry(group).or_default() += section.memory.sizes(end - start);
    }
}

/// Adds a group for the bytes of the sections that no other group has.
fn account_for_the_rest(total: &Sizes, groups: &mut BTreeMap<String, Sizes>, name: &str) {
    let mut sum = Sizes::default();
    for sizes in groups.values() {
        sum += *sizes;
    }
    let rest = Sizes {
        code: total.code.saturating_sub(sum.code),
        read_only: total.read_only.saturating_sub(sum.read_only),
        data: total.data.saturating_sub(sum.data),
        zeroed: total.zeroed.saturating_sub(sum.zeroed),
    };
    *groups.entry(name.to_owned()).or_default() += rest;
}

/// The crate that a mangled Rust symbol belongs to.
fn crate_of_symbol(symbol: &str) -> Option<String> {
    let demangled = format!("{:#}", rustc_demangle::try_demangle(symbol).ok()?);
    // `<T as Trait>::f` and `<T>::f` belong to the crate of T; `<&mut T as ..>`, `<[T] as ..>` to core.
    let mut path = demangled.as_str();
    while let Some(inner) = path.strip_prefix('<') {
        path = inner;
    }
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(path.len());
    let name = &path[..end];
    let follows = &path[end..];
    if name.is_empty() || !follows.starts_with("::") {
        Some("core".to_owned())
    } else {
        Some(name.to_owned())
    }
}

/// Group of an input file: the crate of an rlib, the name of a static library, else the file's own name.
fn group_of_file(file: &str) -> String {
    if file.is_empty() {
        return "(padding and tables)".to_owned();
    }
    let (container, member) = match file.strip_suffix(')').and_then(|text| text.rsplit_once('(')) {
        Some((container, member)) => (container, Some(member)),
        None => (file, None),
    };
    let name = container.rsplit('/').next().unwrap_or(container);
    if member.is_some() {
        let stem = name.strip_suffix(".rlib").or_else(|| name.strip_suffix(".a")).unwrap_or(name);
        let stem = stem.strip_prefix("lib").filter(|_| name.ends_with(".rlib")).unwrap_or(stem);
        return match stem.rsplit_once('-') {
            Some((crate_name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
                crate_name.to_owned()
            }
            _ => stem.to_owned(),
        };
    }
    match name {
        "crt1.o" => "kernel (crt1.o)".to_owned(),
        "crti.o" | "crtn.o" | "crtbeginT.o" | "crtend.o" => "start files".to_owned(),
        _ if name.contains(".rcgu.o") => name.split(['.', '-']).next().unwrap_or(name).to_owned(),
        _ => name.to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>10} {:>10} {:>10}  section", "in file", "in memory", "")?;
        for (name, sizes) in &self.sections {
            writeln!(f, "{:>10} {:>10} {:>10}  {name}", sizes.in_file(), sizes.in_memory(), "")?;
        }
        writeln!(f, "{:>10} {:>10} {:>10}  total", self.total.in_file(), self.total.in_memory(), "")?;
        writeln!(f, "{:>10} {:>10} {:>10}  stripped file, without section table", self.loaded_file, "", "")?;
        writeln!(f)?;
        let note =
            if self.from_map { "" } else { " (by symbols; link with CASEMATE_MAP=1 for exact numbers)" };
        writeln!(
            f,
            "{:>10} {:>10} {:>10} {:>10}  crate, library or object{note}",
            "code", "read-only", "data", "zeroed"
        )?;
        for (name, s) in &self.groups {
            writeln!(f, "{:>10} {:>10} {:>10} {:>10}  {name}", s.code, s.read_only, s.data, s.zeroed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_symbols() {
        let of = |name| crate_of_symbol(name).unwrap_or_else(|| "none".to_owned());
        assert_eq!(of("_ZN4core9panicking5panic17h0123456789abcdefE"), "core");
        assert_eq!(
            of("_ZN60_$LT$alloc..string..String$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE"),
            "alloc"
        );
        assert_eq!(of("_ZN44_$LT$$RF$T$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE"), "core");
        assert_eq!(of("_RNvCs1234_7mycrate3foo"), "mycrate");
        assert_eq!(of("main"), "none");
        assert_eq!(of("printf"), "none");
    }

    #[test]
    fn groups_of_files() {
        assert_eq!(group_of_file("/x/lib/libc.a(vfprintf.lo)"), "libc");
        assert_eq!(group_of_file("/x/libstd-0123456789abcdef.rlib(std.o)"), "std");
        assert_eq!(group_of_file("/x/libgmp.a(add-n.o)"), "libgmp");
        assert_eq!(group_of_file("/x/kernel/standin/crt1.o"), "kernel (crt1.o)");
        assert_eq!(group_of_file("/x/main.o"), "main.o");
        assert_eq!(group_of_file("/x/hello-0123.hello.9f-cgu.0.rcgu.o"), "hello");
    }
}
