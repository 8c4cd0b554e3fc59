//! What makes a file a domain image that Xen can boot and that we want to boot.
//!
//! The flaws of a fresh link are `sdk::check`'s affair; here is what Xen asks for, in any image of anybody's.
//! Everything is looked at before a machine is booted, so that a damaged or wrong file gives one clear
//! sentence instead of a message from deep inside the toolstack.

use std::{fmt, fs, path::Path};

use anyhow::{Context, bail, ensure};
use object::{
    LittleEndian,
    elf::{EM_X86_64, ET_EXEC, FileHeader64, PF_X, PT_LOAD, PT_NOTE, ProgramHeader64},
    read::elf::{FileHeader, ProgramHeader},
};
use serde::Serialize;
use testbed::proto::Mode;
use xen_abi::elfnote::{
    XEN_ELFNOTE_ENTRY, XEN_ELFNOTE_GUEST_OS, XEN_ELFNOTE_PHYS32_ENTRY, XEN_ELFNOTE_XEN_VERSION, notes,
};

const MIB: u64 = 1 << 20;

/// Room behind an image for what the toolstack puts there: start info, page tables, a boot stack.
const BEHIND_IMAGE: u64 = 256 * 1024;

/// What an image says about itself.
#[derive(Clone, Debug, Serialize)]
pub struct ImageInfo {
    /// Size of the file in bytes.
    pub file_size: u64,
    /// Physical addresses that it occupies: first, and first behind.
    pub range: (u64, u64),
    /// Entry for PV.
    pub pv_entry: Option<u64>,
    /// Entry for PVH.
    pub pvh_entry: Option<u64>,
    /// Name of the system in it.
    pub guest_os: Option<String>,
    /// Smallest memory in MiB into which it can be loaded; to run it may need more.
    pub min_memory_mib: u64,
}

impl fmt::Display for ImageInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = |e: Option<u64>| e.map_or("none".to_owned(), |e| format!("{e:#x}"));
        writeln!(f, "system      {}", self.guest_os.as_deref().unwrap_or("unknown"))?;
        writeln!(f, "file size   {} bytes", self.file_size)?;
        writeln!(f, "addresses   {:#x} to {:#x}", self.range.0, self.range.1)?;
        writeln!(f, "PV entry    {}", entry(self.pv_entry))?;
        writeln!(f, "PVH entry   {}", entry(self.pvh_entry))?;
        write!(f, "memory      at least {} MiB", self.min_memory_mib)
    }
}

impl ImageInfo {
    /// Can it be booted this way?
    ///
    /// # Errors
    /// When it has no entry for the mode or does not fit into the memory.
    pub fn fits(&self, mode: Mode, memory_mib: u32) -> anyhow::Result<()> {
        let entry = match mode {
            Mode::Pv => self.pv_entry,
            Mode::Pvh => self.pvh_entry,
        };
        ensure!(
            entry.is_some(),
            "the image cannot boot as {}: it has no entry point for that ({} note)",
            mode.name().to_uppercase(),
            if mode == Mode::Pv { "XEN_ELFNOTE_ENTRY" } else { "XEN_ELFNOTE_PHYS32_ENTRY" }
        );
        ensure!(
            self.min_memory_mib <= u64::from(memory_mib),
            "{memory_mib} MiB is too little memory for this image: give it at least {} with --memory",
            self.min_memory_mib
        );
        Ok(())
    }
}

/// Reads a file and checks it.
///
/// # Errors
/// One sentence that says what is wrong with it.
pub fn check_file(path: &Path) -> anyhow::Result<ImageInfo> {
    let data = match fs::read(path) {
        Ok(data) => data,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => bail!("there is no file {}", path.display()),
        Err(e) => return Err(e).with_context(|| format!("cannot read {}", path.display())),
    };
    ensure!(
        sdk::check::kind_of(&data) != Some(sdk::check::Kind::LinuxProcess),
        "{0} is not a domain image: it is linked for the stand-in kernel, so it is a Linux process. Just run it, or \
         use `casemate run --hosted {0}`",
        path.display()
    );
    check(&data).with_context(|| format!("{} is not a domain image", path.display()))
}

/// Checks the content of a file.
///
/// # Errors
/// One sentence that says what is wrong with it.
pub fn check(data: &[u8]) -> anyhow::Result<ImageInfo> {
    ensure!(!data.is_empty(), "the file is empty");
    ensure!(data.starts_with(b"\x7fELF"), "it is not an ELF file");
    let header = FileHeader64::<LittleEndian>::parse(data);
    let header =
        header.map_err(|_| anyhow::anyhow!("its ELF header is damaged, or not for a 64-bit machine"))?;
    let endian = LittleEndian;
    ensure!(header.e_machine(endian) == EM_X86_64, "it is for another processor than x86-64");
    ensure!(
        header.e_type(endian) == ET_EXEC,
        "it is not a static executable with fixed addresses (ELF type {}); a Linux program cannot be booted, \
         build it with `casemate build`",
        header.e_type(endian).0
    );
    let segments = header.program_headers(endian, data);
    let segments = segments.map_err(|_| anyhow::anyhow!("it is cut off: its program headers are missing"))?;
    let loads = loads(segments, data)?;
    let (Some(first), Some(last)) = (loads.first(), loads.last()) else {
        bail!("it has nothing to load (no PT_LOAD segment)");
    };
    let mut info = ImageInfo {
        file_size: data.len() as u64,
        range: (first.start, last.end),
        pv_entry: None,
        pvh_entry: None,
        guest_os: None,
        min_memory_mib: last.end.saturating_add(BEHIND_IMAGE).div_ceil(MIB),
    };
    read_notes(segments, data, &mut info)?;
    for (entry, what) in [(info.pv_entry, "PV"), (info.pvh_entry, "PVH")] {
        let inside = |at: u64| loads.iter().any(|l| l.executable && (l.start..l.end).contains(&at));
        if let Some(at) = entry {
            ensure!(inside(at), "its {what} entry point {at:#x} lies outside of its code");
        }
    }
    Ok(info)
}

/// A segment in memory, by physical address.
struct Load {
    start: u64,
    end: u64,
    executable: bool,
}

/// The segments to load, in the order of their addresses, whole and apart from each other.
fn loads(segments: &[ProgramHeader64<LittleEndian>], data: &[u8]) -> anyhow::Result<Vec<Load>> {
    let endian = LittleEndian;
    let mut loads = Vec::new();
    for (number, segment) in segments.iter().enumerate() {
        let in_file = segment.p_offset(endian).checked_add(segment.p_filesz(endian));
        ensure!(
            in_file.is_some_and(|end| end <= data.len() as u64),
            "it is cut off: segment {number} should end at byte {}, but the file has {} bytes",
            in_file.unwrap_or(u64::MAX),
            data.len()
        );
        if segment.p_type(endian) != PT_LOAD || segment.p_memsz(endian) == 0 {
            continue;
        }
        ensure!(
            segment.p_filesz(endian) <= segment.p_memsz(endian),
            "it is damaged: segment {number} is larger in the file than in memory"
        );
        let start = segment.p_paddr(endian);
        let end = start.checked_add(segment.p_memsz(endian));
        let end = end.with_context(|| format!("it is damaged: segment {number} has an absurd size"))?;
        let flags = segment.p_flags(endian);
        loads.push(Load { start, end, executable: flags.contains(PF_X) });
    }
    loads.sort_by_key(|l| l.start);
    for pair in loads.windows(2) {
        if let [a, b] = pair {
            ensure!(a.end <= b.start, "it is damaged: segments overlap at {:#x}", b.start);
        }
    }
    Ok(loads)
}

/// Fills in what Xen's notes say.
fn read_notes(
    segments: &[ProgramHeader64<LittleEndian>],
    data: &[u8],
    info: &mut ImageInfo,
) -> anyhow::Result<()> {
    let endian = LittleEndian;
    let mut version = None;
    let mut found = false;
    for segment in segments.iter().filter(|s| s.p_type(endian) == PT_NOTE) {
        let content = segment.data(endian, data).unwrap_or_default();
        for note in notes(content) {
            let note = note.map_err(|e| anyhow::anyhow!("it is damaged: {e}"))?;
            if !note.is_xen() {
                continue;
            }
            found = true;
            let number = || {
                let message = || format!("it is damaged: Xen's note {} is not a number", note.kind);
                note.number().with_context(message)
            };
            match note.kind {
                XEN_ELFNOTE_ENTRY => info.pv_entry = Some(number()?),
                XEN_ELFNOTE_PHYS32_ENTRY => info.pvh_entry = Some(number()?),
                XEN_ELFNOTE_GUEST_OS => info.guest_os = note.text().map(str::to_owned),
                XEN_ELFNOTE_XEN_VERSION => version = note.text(),
                _ => {}
            }
        }
    }
    ensure!(
        found,
        "it has no Xen notes (section .note.Xen), so Xen cannot boot it; a Linux program has to be built with \
         `casemate build` to become a domain image"
    );
    ensure!(
        info.pv_entry.is_some() || info.pvh_entry.is_some(),
        "its Xen notes name no entry point, neither for PV nor for PVH"
    );
    if let Some(version) = version {
        ensure!(
            version == "xen-3.0",
            "its Xen notes ask for the interface {version:?}; there is only \"xen-3.0\""
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::sample::spinning_image as image;

    fn message(data: &[u8]) -> String {
        check(data).unwrap_err().to_string()
    }

    #[test]
    fn a_good_image_is_described() {
        let info = check(&image()).unwrap();
        assert_eq!((info.pv_entry, info.pvh_entry), (Some(0x10_0000), Some(0x10_0000)));
        assert_eq!((info.range, info.min_memory_mib), ((0x10_0000, 0x10_00f8), 2));
        assert_eq!(info.guest_os.as_deref(), Some("spin"));
        assert_eq!(sdk::check::layout(&image()), []);
        info.fits(Mode::Pv, 2).unwrap();
        assert!(info.fits(Mode::Pv, 1).unwrap_err().to_string().contains("too little memory"));
    }

    #[test]
    fn every_cut_is_noticed() {
        let good = image();
        for cut in 0..good.len() {
            assert!(check(&good[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn no_damaged_byte_panics() {
        let good = image();
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = check(&bad);
            }
        }
    }

    #[test]
    fn messages_name_the_fault() {
        assert!(message(b"").contains("empty"));
        assert!(message(b"#!/bin/sh").contains("not an ELF"));
        assert!(message(&std::fs::read(std::env::current_exe().unwrap()).unwrap()).contains("Linux program"));
        let mut no_notes = image();
        no_notes[64 + 56] = 6; // PT_PHDR instead of PT_NOTE
        assert!(message(&no_notes).contains("no Xen notes"));
        let mut outside = image();
        let last = outside.len() - 2;
        outside[last] = 0x20;
        assert!(message(&outside).contains("PVH entry point 0x200000 lies outside"), "{}", message(&outside));
        let mut writable = image();
        writable[64 + 4] = 7; // p_flags
        assert_eq!(sdk::check::layout(&writable).len(), 1);
    }
}
