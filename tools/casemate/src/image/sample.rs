//! The smallest image that Xen boots: one instruction that jumps to itself, on PV and on PVH.
//!
//! It stands for a domain that hangs, in tests of this program and where the question is whether Xen works.

use xen_abi::elfnote::{
    XEN_ELFNOTE_ENTRY, XEN_ELFNOTE_GUEST_OS, XEN_ELFNOTE_LOADER, XEN_ELFNOTE_PADDR_OFFSET,
    XEN_ELFNOTE_PAE_MODE, XEN_ELFNOTE_PHYS32_ENTRY, XEN_ELFNOTE_VIRT_BASE, XEN_ELFNOTE_XEN_VERSION,
};

/// Where it is loaded, and its entry point.
const BASE: u64 = 0x10_0000;

/// Bytes of code; all but the first two are never reached.
const CODE_BYTES: usize = 64;

/// `jmp $`, the same bytes in 32-bit and in 64-bit mode.
const SPIN: [u8; 2] = [0xeb, 0xfe];

const ELF_HEADER_BYTES: u16 = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;

/// The image as a file.
pub fn spinning_image() -> Vec<u8> {
    let base32 = u32::try_from(BASE).unwrap_or_default();
    let notes = [
        note(XEN_ELFNOTE_GUEST_OS, b"spin\0"),
        note(XEN_ELFNOTE_LOADER, b"generic\0"),
        note(XEN_ELFNOTE_XEN_VERSION, b"xen-3.0\0"),
        note(XEN_ELFNOTE_PAE_MODE, b"yes\0"),
        note(XEN_ELFNOTE_VIRT_BASE, &0u64.to_le_bytes()),
        note(XEN_ELFNOTE_PADDR_OFFSET, &0u64.to_le_bytes()),
        note(XEN_ELFNOTE_ENTRY, &BASE.to_le_bytes()),
        note(XEN_ELFNOTE_PHYS32_ENTRY, &base32.to_le_bytes()),
    ]
    .concat();
    let mut file = Writer::default();
    // Elf64_Ehdr of a static x86-64 program.
    file.bytes(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0").half(2).half(62).word(1);
    file.long(BASE).long(ELF_HEADER_BYTES.into()).long(0).word(0);
    file.half(ELF_HEADER_BYTES).half(PROGRAM_HEADER_BYTES).half(2).half(64).half(0).half(0);
    // The program headers: the code, readable and executable; the notes.
    let code_at = u64::from(ELF_HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES);
    let (code, all) = (CODE_BYTES as u64, (CODE_BYTES + notes.len()) as u64);
    file.program_header(1, 5, code_at, BASE, all);
    file.program_header(4, 4, code_at + code, BASE + code, notes.len() as u64);
    file.bytes(&SPIN).bytes(&[0x90; CODE_BYTES - SPIN.len()]).bytes(&notes);
    file.0
}

/// An ELF note of Xen's.
fn note(kind: u32, content: &[u8]) -> Vec<u8> {
    let mut note = Writer::default();
    note.word(4)
        .word(u32::try_from(content.len()).unwrap_or_default())
        .word(kind)
        .bytes(b"Xen\0")
        .bytes(content);
    note.0.resize(note.0.len().next_multiple_of(4), 0);
    note.0
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn half(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn word(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn long(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn program_header(&mut self, kind: u32, flags: u32, offset: u64, address: u64, size: u64) {
        self.word(kind).word(flags).long(offset).long(address).long(address).long(size).long(size).long(4);
    }
}
