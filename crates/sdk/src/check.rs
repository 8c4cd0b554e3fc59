//! The check of a linked image.
//!
//! It guards against accidents of the tool chain, not against a hostile program (which shares the kernel's
//! ring anyway). An image is refused when
//! - a `syscall`, `sysenter` or `int 0x80` instruction is left outside the kernel: in a para-virtualised
//!   domain `syscall` is a *hypercall*, so a stray `write(2)` would be `HYPERVISOR_mmu_update`;
//! - a segment is writable and executable, or the stack is executable;
//! - it asks for a dynamic linker;
//! - it is to be a domain and lacks one of the notes by which Xen loads it.
//!
//! Instructions are found by decoding from the start of each function, not by searching for bytes: the two
//! bytes of `syscall` occur in constants and in the middle of other instructions. So the image must not be
//! stripped yet.

use crate::error::{At, Error, Result};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction};
use object::elf;
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, SectionFlags, SymbolKind};
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::Path;

/// Symbols that the linker script puts around the kernel's code.
const KERNEL_BEGIN: &str = "__libos_text_start";
const KERNEL_END: &str = "__libos_text_end";

/// Notes without which Xen does not load an image as PV and as PVH (`xen/elfnote.h`).
const XEN_NOTES: &[(u32, &str)] = &[
    (1, "XEN_ELFNOTE_ENTRY"),
    (3, "XEN_ELFNOTE_VIRT_BASE"),
    (5, "XEN_ELFNOTE_XEN_VERSION"),
    (6, "XEN_ELFNOTE_GUEST_OS"),
    (8, "XEN_ELFNOTE_LOADER"),
    (10, "XEN_ELFNOTE_FEATURES"),
    (18, "XEN_ELFNOTE_PHYS32_ENTRY"),
];

/// What the image is meant to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Xen domain.
    Domain,
    /// A Linux process over the stand-in kernel.
    LinuxProcess,
}

impl Kind {
    /// The kind of image that a kernel of the SDK makes, by the kernel's name.
    pub fn of_kernel(name: &str) -> Self {
        if name.starts_with(crate::kernel::STANDIN) { Self::LinuxProcess } else { Self::Domain }
    }
}

/// A reason to refuse an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// An instruction that enters the operating system, outside the kernel.
    SystemCall {
        /// `syscall`, `sysenter` or `int 0x80`.
        instruction: &'static str,
        /// Its address.
        address: u64,
        /// The function that holds it, demangled, with the offset.
        function: String,
    },
    /// A loaded segment is writable and executable.
    WritableCode {
        /// Address of the segment.
        address: u64,
    },
    /// `PT_GNU_STACK` asks for an executable stack.
    ExecutableStack,
    /// The image asks for a dynamic linker.
    Dynamic,
    /// There are no symbols to tell the kernel from the rest.
    Stripped,
    /// The image does not say where the kernel's code is.
    KernelUnmarked,
    /// A note that Xen needs is missing.
    NoteMissing {
        /// Its name in `xen/elfnote.h`.
        name: &'static str,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SystemCall { instruction, address, function } => write!(
                f,
                "`{instruction}` outside the kernel in {function} (at {address:#x}): the code must call the C \
                 library; a Rust crate may need a cfg or feature for that, assembly must be left out"
            ),
            Self::WritableCode { address } => {
                write!(f, "the segment at {address:#x} is writable and executable; see the linker script")
            }
            Self::ExecutableStack => {
                write!(f, "an object file asks for an executable stack (assembly without .note.GNU-stack?)")
            }
            Self::Dynamic => write!(f, "it asks for a dynamic linker, but domain images are static"),
            Self::Stripped => write!(f, "no symbols: check the image before it is stripped"),
            Self::KernelUnmarked => {
                write!(
                    f,
                    "no symbols {KERNEL_BEGIN} and {KERNEL_END} around the kernel's code; see the linker script"
                )
            }
            Self::NoteMissing { name } => {
                write!(
                    f,
                    "the note {name} is missing: not linked with the kernel, or a linker script without it"
                )
            }
        }
    }
}

/// Checks the image at `path`; the list is empty when it is good.
pub fn check(path: &Path, kind: Kind) -> Result<Vec<Problem>> {
    let data = fs::read(path).at(path)?;
    check_bytes(&data, kind).map_err(|reason| Error::Malformed { path: path.to_path_buf(), reason })
}

/// The kind of image that `data` is by its notes; nothing when it has neither Xen's nor the stand-in's.
pub fn kind_of(data: &[u8]) -> Option<Kind> {
    let elf = ElfFile64::<Endianness>::parse(data).ok()?;
    let notes = read_notes(&elf, data);
    let is = |owner: &[u8]| notes.iter().any(|&(name, _)| name == owner);
    if is(b"Xen") { Some(Kind::Domain) } else { is(b"Casemate").then_some(Kind::LinuxProcess) }
}

/// The part of the check that needs no symbols and no notes of ours: W^X, stack, dynamic linker. For images that
/// somebody else linked. What is no 64-bit ELF file has no problem here.
pub fn layout(data: &[u8]) -> Vec<Problem> {
    ElfFile64::<Endianness>::parse(data).map(|elf| segments(&elf)).unwrap_or_default()
}

/// [`check`] on the bytes of an image. The error says why it is not an ELF image that can be checked.
fn check_bytes(data: &[u8], kind: Kind) -> std::result::Result<Vec<Problem>, String> {
    let elf =
        ElfFile64::<Endianness>::parse(data).map_err(|error| format!("not a 64-bit ELF file: {error}"))?;
    let endian = elf.endian();
    let header = elf.elf_header();
    if header.e_machine(endian) != elf::EM_X86_64 || header.e_type(endian) != elf::ET_EXEC {
        return Err("not a linked x86-64 program".to_owned());
    }
    let mut problems = segments(&elf);
    if kind == Kind::Domain {
        problems.extend(notes(&elf, data));
    }
    let symbols = Symbols::read(&elf);
    if symbols.code.is_empty() {
        problems.push(Problem::Stripped);
        return Ok(problems);
    }
    match symbols.kernel.clone() {
        Some(kernel) => problems.extend(system_calls(&elf, &symbols, &kernel)?),
        None => {
            problems.push(Problem::KernelUnmarked);
            problems.extend(system_calls(&elf, &symbols, &(0..0))?);
        }
    }
    Ok(problems)
}

fn segments(elf: &ElfFile64<'_>) -> Vec<Problem> {
    let endian = elf.endian();
    let mut problems = Vec::new();
    for segment in elf.elf_program_headers() {
        let flags = segment.p_flags(endian);
        match segment.p_type(endian) {
            elf::PT_LOAD if flags.contains(elf::PF_W | elf::PF_X) => {
                problems.push(Problem::WritableCode { address: segment.p_vaddr(endian) });
            }
            elf::PT_GNU_STACK if flags.contains(elf::PF_X) => problems.push(Problem::ExecutableStack),
            elf::PT_INTERP => problems.push(Problem::Dynamic),
            _ => {}
        }
    }
    problems
}

/// Owner and type of every note.
fn read_notes<'data>(elf: &ElfFile64<'data>, data: &'data [u8]) -> Vec<(&'data [u8], u32)> {
    let endian = elf.endian();
    let mut found = Vec::new();
    for segment in elf.elf_program_headers() {
        let Ok(Some(mut notes)) = segment.notes(endian, data) else { continue };
        while let Ok(Some(note)) = notes.next() {
            found.push((note.name(), note.n_type(endian).0));
        }
    }
    found
}

fn notes(elf: &ElfFile64<'_>, data: &[u8]) -> Vec<Problem> {
    let found = read_notes(elf, data);
    XEN_NOTES
        .iter()
        .filter(|&&(number, _)| !found.contains(&(b"Xen", number)))
        .map(|&(_, name)| Problem::NoteMissing { name })
        .collect()
}

/// Places in the code, by address.
struct Symbols<'data> {
    /// Start and name of every function and code label, sorted.
    code: Vec<(u64, &'data str)>,
    /// Data inside code sections (tables of hand-written assembly).
    data: Vec<Range<u64>>,
    /// The kernel's code.
    kernel: Option<Range<u64>>,
}

impl<'data> Symbols<'data> {
    fn read(elf: &ElfFile64<'data>) -> Self {
        let mut symbols = Self { code: Vec::new(), data: Vec::new(), kernel: None };
        let (mut begin, mut end) = (None, None);
        let mut labels = Vec::new();
        for symbol in elf.symbols() {
            let name = symbol.name().unwrap_or_default();
            match name {
                KERNEL_BEGIN => begin = Some(symbol.address()),
                KERNEL_END => end = Some(symbol.address()),
                _ => {}
            }
            let in_code = symbol
                .section_index()
                .and_then(|index| elf.section_by_index(index).ok())
                .is_some_and(|section| is_code(section.flags()));
            if !in_code {
                continue;
            }
            match symbol.kind() {
                SymbolKind::Text => symbols.code.push((symbol.address(), name)),
                SymbolKind::Unknown | SymbolKind::Label => labels.push((symbol.address(), name)),
                SymbolKind::Data => {
                    symbols.data.push(symbol.address()..symbol.address().saturating_add(symbol.size()));
                }
                _ => {}
            }
        }
        // Stable: at one address a function goes before a label, and only the first one stays.
        symbols.code.append(&mut labels);
        symbols.code.sort_by_key(|&(address, _)| address);
        symbols.code.dedup_by_key(|&mut (address, _)| address);
        symbols.kernel = begin.zip(end).map(|(begin, end)| begin..end);
        symbols
    }

    /// The last code symbol at or below `address`, but not below `floor`.
    fn at_or_below(&self, address: u64, floor: u64) -> Option<(u64, &'data str)> {
        let after = self.code.partition_point(|&(start, _)| start <= address);
        self.code[..after].last().copied().filter(|&(start, _)| start >= floor)
    }
}

fn is_code(flags: SectionFlags) -> bool {
    matches!(flags, SectionFlags::Elf { sh_flags, .. } if sh_flags.contains(elf::SHF_EXECINSTR))
}

/// Whether the bytes at the start of `code` could be (the end of) an instruction that we look for.
fn suspicious(code: &[u8]) -> bool {
    matches!(code, [0x0f, 0x05 | 0x34, ..] | [0xcd, 0x80, ..])
}

fn system_calls(
    elf: &ElfFile64<'_>,
    symbols: &Symbols<'_>,
    kernel: &Range<u64>,
) -> std::result::Result<Vec<Problem>, String> {
    let mut problems = Vec::new();
    for section in elf.sections().filter(|section| is_code(section.flags())) {
        let base = section.address();
        let code = section.data().map_err(|error| format!("a code section cannot be read: {error}"))?;
        // Decode only the functions that hold the bytes at all; most images have none.
        let mut checked_until = base;
        for offset in 0..code.len() {
            let address = base + offset as u64;
            if !suspicious(&code[offset..]) || address < checked_until || kernel.contains(&address) {
                continue;
            }
            if symbols.data.iter().any(|data| data.contains(&address)) {
                continue;
            }
            let (start, name) = symbols.at_or_below(address, base).unwrap_or((base, "code without a symbol"));
            let next = symbols.code.partition_point(|&(s, _)| s <= address);
            let end = symbols.code.get(next).map_or(u64::MAX, |&(s, _)| s).min(base + code.len() as u64);
            let body = &code[(start - base) as usize..(end - base) as usize];
            problems.extend(decode(body, start, name));
            checked_until = end;
        }
    }
    Ok(problems)
}

/// Decodes one function from its start and reports what it finds.
fn decode(body: &[u8], start: u64, name: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut decoder = Decoder::with_ip(64, body, start, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        decoder.decode_out(&mut instruction);
        let what = match instruction.code() {
            Code::Syscall => "syscall",
            Code::Sysenter => "sysenter",
            Code::Int_imm8 if instruction.immediate8() == 0x80 => "int 0x80",
            _ => continue,
        };
        let address = instruction.ip();
        let function = format!("{:#}+{:#x}", rustc_demangle::demangle(name), address - start);
        problems.push(Problem::SystemCall { instruction: what, address, function });
    }
    problems
}

/// The program `casemate-check`: `[--kernel NAME] IMAGE...`. Returns the exit status: 0 when all images are
/// good, 1 when one is refused, 2 for a wrong call. Messages go to standard error.
pub fn main(args: impl IntoIterator<Item = String>) -> u8 {
    let mut kind = Kind::Domain;
    let mut images = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--kernel" => match args.next() {
                Some(name) => kind = Kind::of_kernel(&name),
                None => images.clear(),
            },
            _ => images.push(arg),
        }
    }
    if images.is_empty() {
        eprintln!("usage: check [--kernel NAME] IMAGE...");
        return 2;
    }
    let mut status = 0;
    for image in images {
        match check(Path::new(&image), kind) {
            Ok(problems) if problems.is_empty() => continue,
            Ok(problems) => {
                for problem in problems {
                    eprintln!("{image}: {problem}");
                }
            }
            Err(error) => eprintln!("{error}"),
        }
        status = 1;
    }
    status
}
