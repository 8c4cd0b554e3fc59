//! What a domain finds at its start: the start info page of PV (`xen/xen.h`, address in `rsi`) and the
//! start info of PVH (`xen/arch-x86/hvm/start_info.h`, physical address in `ebx`).

use crate::{EvtchnPort, Mfn};

/// Bytes of the PV command line (`MAX_GUEST_CMDLINE`).
pub const MAX_GUEST_CMDLINE: usize = 1024;

/// Start info of a PV domain (`struct start_info`).
///
/// The fields up to and including the console are filled at boot and at resume, the rest at boot only.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct StartInfo {
    /// `xen-<version>-<platform>`, zero-terminated.
    pub magic: [u8; 32],
    /// Pages of the domain.
    pub nr_pages: u64,
    /// Machine address of the shared info page.
    pub shared_info: u64,
    /// `SIF_*` bits.
    pub flags: u32,
    /// Frame of the xenstore page.
    pub store_mfn: Mfn,
    /// Event channel of xenstore.
    pub store_evtchn: EvtchnPort,
    /// Frame of the console page (`console.domU.mfn`). In dom0 the word holds something else; see
    /// [`StartInfo::dom0_console`].
    pub console_mfn: Mfn,
    /// Event channel of the console (`console.domU.evtchn`); nothing in dom0.
    pub console_evtchn: EvtchnPort,
    /// Virtual address of the top-level page table.
    pub pt_base: u64,
    /// Pages of page tables.
    pub nr_pt_frames: u64,
    /// Virtual address of the list of frames: word N is the MFN of PFN N.
    pub mfn_list: u64,
    /// Virtual address of the module; with [`SIF_MOD_START_PFN`] its PFN. 0 when there is none.
    pub mod_start: u64,
    /// Bytes of the module.
    pub mod_len: u64,
    /// Command line, zero-terminated if shorter than the field.
    pub cmd_line: [u8; MAX_GUEST_CMDLINE],
    /// First PFN of the frames that hold the list of frames.
    pub first_p2m_pfn: u64,
    /// Frames that hold the list of frames.
    pub nr_p2m_frames: u64,
}

impl StartInfo {
    /// Dom0 only: offset and size of the console information in the start info page
    /// (`console.dom0.info_off`, `console.dom0.info_size`).
    pub const fn dom0_console(&self) -> (u32, u32) {
        ((self.console_mfn.0 & 0xffff_ffff) as u32, (self.console_mfn.0 >> 32) as u32)
    }

    /// The command line up to its terminating zero; the whole field when there is none.
    pub fn command_line(&self) -> &[u8] {
        self.cmd_line.split(|byte| *byte == 0).next().unwrap_or(&[])
    }
}

/// The domain is privileged.
pub const SIF_PRIVILEGED: u32 = 1 << 0;
/// The domain is dom0.
pub const SIF_INITDOMAIN: u32 = 1 << 1;
/// The module is a list of multiboot modules.
pub const SIF_MULTIBOOT_MOD: u32 = 1 << 2;
/// `mod_start` is a PFN.
pub const SIF_MOD_START_PFN: u32 = 1 << 3;
/// The toolstack understands a linear frame list.
pub const SIF_VIRT_P2M_4TOOLS: u32 = 1 << 4;
/// Power-management options.
pub const SIF_PM_MASK: u32 = 0xff << 8;

/// Value of [`HvmStartInfo::magic`].
pub const XEN_HVM_START_MAGIC_VALUE: u32 = 0x336e_c578;

/// Start info of a PVH domain (`struct hvm_start_info`). The last three fields exist from version 1 on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HvmStartInfo {
    /// [`XEN_HVM_START_MAGIC_VALUE`].
    pub magic: u32,
    /// Version of this structure.
    pub version: u32,
    /// `SIF_*` bits.
    pub flags: u32,
    /// Number of modules.
    pub nr_modules: u32,
    /// Physical address of an array of [`HvmModlistEntry`].
    pub modlist_paddr: u64,
    /// Physical address of the command line, zero-terminated.
    pub cmdline_paddr: u64,
    /// Physical address of the ACPI root pointer.
    pub rsdp_paddr: u64,
    /// Physical address of an array of [`HvmMemmapTableEntry`].
    pub memmap_paddr: u64,
    /// Entries of that array; 0 when there is none.
    pub memmap_entries: u32,
    /// Zero.
    pub reserved: u32,
}

/// Bytes of a version 0 [`HvmStartInfo`]: up to and without `memmap_paddr`.
pub const HVM_START_INFO_V0_SIZE: usize = 40;

/// A module of a PVH domain (`struct hvm_modlist_entry`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HvmModlistEntry {
    /// Physical address.
    pub paddr: u64,
    /// Bytes.
    pub size: u64,
    /// Physical address of its command line.
    pub cmdline_paddr: u64,
    /// Zero.
    pub reserved: u64,
}

/// An entry of the memory map (`struct hvm_memmap_table_entry`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HvmMemmapTableEntry {
    /// Base address.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// An `XEN_HVM_MEMMAP_TYPE_*` value (`type` in C).
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

/// Usable memory.
pub const XEN_HVM_MEMMAP_TYPE_RAM: u32 = 1;
/// Not usable.
pub const XEN_HVM_MEMMAP_TYPE_RESERVED: u32 = 2;
/// ACPI tables, usable once read.
pub const XEN_HVM_MEMMAP_TYPE_ACPI: u32 = 3;
/// ACPI non-volatile storage.
pub const XEN_HVM_MEMMAP_TYPE_NVS: u32 = 4;
/// Faulty memory.
pub const XEN_HVM_MEMMAP_TYPE_UNUSABLE: u32 = 5;
/// Switched off.
pub const XEN_HVM_MEMMAP_TYPE_DISABLED: u32 = 6;
/// Persistent memory.
pub const XEN_HVM_MEMMAP_TYPE_PMEM: u32 = 7;
