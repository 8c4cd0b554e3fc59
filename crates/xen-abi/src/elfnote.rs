//! The ELF notes by which an image tells Xen how to start it (`xen/elfnote.h`), and a reader for them.

/// Name (owner) of Xen's notes.
pub const NAME: &str = "Xen";

/// Text for people.
pub const XEN_ELFNOTE_INFO: u32 = 0;
/// Virtual address of the PV entry point.
pub const XEN_ELFNOTE_ENTRY: u32 = 1;
/// Virtual address of the hypercall page.
pub const XEN_ELFNOTE_HYPERCALL_PAGE: u32 = 2;
/// Virtual address of pseudo-physical address 0.
pub const XEN_ELFNOTE_VIRT_BASE: u32 = 3;
/// What to subtract from the physical addresses in the ELF headers.
pub const XEN_ELFNOTE_PADDR_OFFSET: u32 = 4;
/// Version of the interface, `xen-3.0`.
pub const XEN_ELFNOTE_XEN_VERSION: u32 = 5;
/// Name of the system.
pub const XEN_ELFNOTE_GUEST_OS: u32 = 6;
/// Version of the system.
pub const XEN_ELFNOTE_GUEST_VERSION: u32 = 7;
/// Kind of loader, `generic`.
pub const XEN_ELFNOTE_LOADER: u32 = 8;
/// `yes` (of no meaning to 64-bit images).
pub const XEN_ELFNOTE_PAE_MODE: u32 = 9;
/// Names of features, separated by `|`; `!` before a required one.
pub const XEN_ELFNOTE_FEATURES: u32 = 10;
/// Whether to load the symbol table.
pub const XEN_ELFNOTE_BSD_SYMTAB: u32 = 11;
/// Lowest address at which the hypervisor's hole may start.
pub const XEN_ELFNOTE_HV_START_LOW: u32 = 12;
/// Pairs of mask and value: which non-present L1 entries hold frames.
pub const XEN_ELFNOTE_L1_MFN_VALID: u32 = 13;
/// 1: a suspend may be cancelled.
pub const XEN_ELFNOTE_SUSPEND_CANCEL: u32 = 14;
/// Virtual address for the initial frame list.
pub const XEN_ELFNOTE_INIT_P2M: u32 = 15;
/// 1: the module need not be mapped.
pub const XEN_ELFNOTE_MOD_START_PFN: u32 = 16;
/// Bit mask of supported features.
pub const XEN_ELFNOTE_SUPPORTED_FEATURES: u32 = 17;
/// Physical address of the PVH entry point (32-bit mode, no paging).
pub const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

/// A note of an ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note<'a> {
    /// Who defined it, without the terminating zero; [`NAME`] for Xen.
    pub name: &'a [u8],
    /// Its type, for Xen an `XEN_ELFNOTE_*` number.
    pub kind: u32,
    /// Its content.
    pub desc: &'a [u8],
}

impl<'a> Note<'a> {
    /// Whether it is one of Xen's.
    pub fn is_xen(&self) -> bool {
        self.name == NAME.as_bytes()
    }

    /// The content as a number; Xen takes 1, 2, 4 and 8 bytes, little-endian.
    pub fn number(&self) -> Option<u64> {
        match self.desc.len() {
            1 | 2 | 4 | 8 => {
                Some(self.desc.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
            }
            _ => None,
        }
    }

    /// The content up to the first zero byte, or all of it, as text.
    pub fn text(&self) -> Option<&'a str> {
        self.desc.split(|byte| *byte == 0).next().and_then(|text| str::from_utf8(text).ok())
    }
}

/// A note that does not fit into its segment: the image is damaged or was made by a faulty linker script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ELF note at offset {offset:#x} of its segment is cut off: the image is damaged")]
pub struct TruncatedNote {
    /// Offset of the note in the segment or section.
    pub offset: usize,
}

/// The notes of a `PT_NOTE` segment or a note section, given its bytes (little-endian, fields aligned to 4
/// bytes, as Xen reads them).
///
/// Ends after the first error. Zero bytes at the end that are too few for a note are padding.
pub fn notes(segment: &[u8]) -> Notes<'_> {
    Notes { segment, offset: 0 }
}

/// Iterator over notes; see [`notes`].
#[derive(Clone, Debug)]
pub struct Notes<'a> {
    segment: &'a [u8],
    offset: usize,
}

/// Bytes of `Elf64_Nhdr`: length of the name, length of the content, type.
const NOTE_HEADER_LEN: usize = 12;

impl<'a> Iterator for Notes<'a> {
    type Item = Result<Note<'a>, TruncatedNote>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.segment.get(self.offset..)?;
        if rest.len() < NOTE_HEADER_LEN && rest.iter().all(|byte| *byte == 0) {
            return None;
        }
        match split_note(rest) {
            Some((note, len)) => {
                self.offset = self.offset.saturating_add(len);
                Some(Ok(note))
            }
            None => {
                let offset = self.offset;
                self.offset = usize::MAX;
                Some(Err(TruncatedNote { offset }))
            }
        }
    }
}

impl core::iter::FusedIterator for Notes<'_> {}

/// The first note and the bytes it takes, padding included.
fn split_note(bytes: &[u8]) -> Option<(Note<'_>, usize)> {
    let (name_len, rest) = split_word(bytes)?;
    let (desc_len, rest) = split_word(rest)?;
    let (kind, rest) = split_word(rest)?;
    let (name_len, desc_len) = (usize::try_from(name_len).ok()?, usize::try_from(desc_len).ok()?);
    let desc_start = name_len.checked_next_multiple_of(4)?;
    let name = rest.get(..name_len)?;
    let desc = rest.get(desc_start..desc_start.checked_add(desc_len)?)?;
    let len = NOTE_HEADER_LEN.checked_add(desc_start)?.checked_add(desc_len.checked_next_multiple_of(4)?)?;
    Some((Note { name: name.strip_suffix(b"\0").unwrap_or(name), kind, desc }, len))
}

fn split_word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_first_chunk()?;
    Some((u32::from_le_bytes(*word), rest))
}
