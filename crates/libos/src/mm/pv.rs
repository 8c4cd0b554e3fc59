//! Page tables of a PV domain: Xen checks every change, page-table pages are read-only, and entries hold
//! machine frames.
//!
//! The builder maps everything read-write-execute in 4 KiB pages from address 0. [`Tables::new`] takes that
//! over: where text lies it replaces the builder's L1 tables by tables with the right permissions, which Xen
//! checks in one go; everywhere else one NX bit in the L2 entry does for 2 MiB.
//!
//! Sources: `xen/xen.h` (mmu_update, update_va_mapping), `xen/arch-x86/xen-x86_64.h` (the machine-to-physical
//! table).

#![expect(unsafe_code, reason = "page tables")]

use super::raw::{self, Table};
use super::{Pool, Protection};
use crate::arch::x86_64::hypercall;
use xen_abi::mmu::*;

const ENTRY: u64 = PTE_PRESENT | PTE_USER | PTE_ACCESSED;
const DATA: u64 = ENTRY | PTE_RW | PTE_DIRTY | PTE_NX;
const LINK: u64 = ENTRY | PTE_RW | PTE_DIRTY;

/// Entries that one hypercall changes.
const BATCH: usize = 32;

/// The machine-to-physical table, mapped read-only by Xen.
const MACHINE_TO_PHYS: u64 = 0xffff_8000_0000_0000;

/// Page frame of a machine frame of this domain.
pub fn machine_to_phys(mfn: u64) -> u64 {
    // SAFETY: Xen maps the whole table for every PV domain; it covers every frame that the domain can own.
    unsafe { ((MACHINE_TO_PHYS + mfn * 8) as *const u64).read_volatile() }
}

/// The address space of a PV domain.
pub struct Tables {
    root: Table,
    p2m: &'static [u64],
}

impl Tables {
    /// Takes over the builder's tables (`root`, the physical-to-machine list `p2m`) and gives every page of
    /// the image, up to `mapped` frames, its permissions: `wanted(frame)` answers for single pages inside
    /// the first `special` frames, and `None` means data.
    ///
    /// # Safety
    /// The addresses are those of the start info, and this runs once, on the boot stack.
    pub unsafe fn new(
        root: u64,
        p2m: &'static [u64],
        mapped: u64,
        special: u64,
        pool: &mut Pool,
        wanted: impl Fn(u64) -> Option<Protection>,
    ) -> Option<Self> {
        // SAFETY: the builder's top-level table, mapped for good.
        let tables = Self { root: unsafe { Table::at(root) }, p2m };
        for chunk in 0..mapped.div_ceil(512) {
            let (directory, index) = tables.directory(chunk << 21)?;
            let old = directory.get(index);
            if chunk << 9 >= special {
                tables.link(directory, index, old | PTE_NX)?;
                continue;
            }
            let frame = pool.take()?;
            let (before, new) = (tables.follow(old), tables.fresh(frame)?);
            for i in 0..512 {
                let pfn = (chunk << 9) + i as u64;
                new.set(
                    i,
                    match wanted(pfn) {
                        Some(Protection::None) => 0,
                        Some(protection) => tables.entry(pfn, protection),
                        None if pfn == frame => tables.entry(pfn, Protection::Read),
                        // Keeps the builder's page tables read-only.
                        None => before.get(i) | if before.get(i) & PTE_PRESENT != 0 { PTE_NX } else { 0 },
                    },
                );
            }
            tables.seal(frame)?;
            tables.link(directory, index, tables.p2m[frame as usize] << 12 | LINK)?;
        }
        Some(tables)
    }

    /// Machine frame of one of our frames.
    pub fn machine_frame(&self, pfn: u64) -> u64 {
        self.p2m[pfn as usize]
    }

    fn entry(&self, pfn: u64, protection: Protection) -> u64 {
        self.p2m[pfn as usize] << 12
            | match protection {
                Protection::None => 0,
                Protection::Read => ENTRY | PTE_NX,
                Protection::ReadWrite => DATA,
                Protection::ReadExec => ENTRY,
            }
    }

    /// The table that a present entry points at.
    fn follow(&self, entry: u64) -> Table {
        // SAFETY: page-table pages are ordinary frames of the domain, mapped read-only at `pfn << 12`.
        unsafe { Table::at(machine_to_phys((entry & PTE_ADDR_MASK) >> 12) << 12) }
    }

    /// A zeroed page as a table to fill.
    fn fresh(&self, frame: u64) -> Option<Table> {
        // SAFETY: the frame comes from the pool: mapped, writable, nobody's.
        unsafe {
            raw::zero_pages(frame << 12, 1);
            Some(Table::at(frame << 12))
        }
    }

    /// Makes a filled table read-only, as Xen demands of page tables.
    fn seal(&self, frame: u64) -> Option<()> {
        let entry = self.entry(frame, Protection::Read);
        // SAFETY: only the owner of the table, this module, uses the page.
        (unsafe { hypercall::update_va_mapping(frame << 12, entry) } == 0).then_some(())
    }

    /// Writes an entry of a table that is in use.
    fn link(&self, table: Table, index: usize, entry: u64) -> Option<()> {
        let slot = table.slot(index);
        let machine = self.p2m[(slot >> 12) as usize] << 12 | slot & 0xfff;
        let update = MmuUpdate { ptr: machine | MMU_NORMAL_PT_UPDATE, val: entry };
        // SAFETY: callers link tables that map every live page where it was, with at least the rights in use.
        (unsafe { hypercall::mmu_update(&[update]) } == 0).then_some(())
    }

    /// The L2 table for an address and the index in it, if the tables above exist.
    fn directory(&self, address: u64) -> Option<(Table, usize)> {
        let mut table = self.root;
        for shift in [39, 30] {
            let entry = table.get((address >> shift) as usize & 511);
            if entry & PTE_PRESENT == 0 {
                return None;
            }
            table = self.follow(entry);
        }
        Some((table, (address >> 21) as usize & 511))
    }

    /// The same, making the tables above where they are missing.
    fn directory_or_new(&self, address: u64, pool: &mut Pool) -> Option<(Table, usize)> {
        let mut table = self.root;
        for shift in [39, 30] {
            let index = (address >> shift) as usize & 511;
            if table.get(index) & PTE_PRESENT == 0 {
                let frame = pool.take()?;
                self.fresh(frame)?;
                self.seal(frame)?;
                self.link(table, index, self.p2m[frame as usize] << 12 | LINK)?;
            }
            table = self.follow(table.get(index));
        }
        Some((table, (address >> 21) as usize & 511))
    }

    /// Maps the RAM frames `first..end` of one 2 MiB chunk as data.
    pub fn map_ram(&mut self, first: u64, end: u64, pool: &mut Pool) -> Option<()> {
        let (directory, index) = self.directory_or_new(first << 12, pool)?;
        if directory.get(index) & PTE_PRESENT != 0 {
            let mut at = first;
            while at < end {
                at += self.protect(at, end - at, Protection::ReadWrite)?;
            }
            return Some(());
        }
        let frame = pool.take()?;
        let table = self.fresh(frame)?;
        for pfn in first..end {
            table.set(pfn as usize & 511, self.entry(pfn, Protection::ReadWrite));
        }
        self.seal(frame)?;
        self.link(directory, index, self.p2m[frame as usize] << 12 | LINK)
    }

    /// Changes the rights of the first of `count` RAM pages, as many as one table holds and one hypercall takes
    /// (`BATCH`); how many these were.
    pub fn protect(&mut self, first: u64, count: u64, protection: Protection) -> Option<u64> {
        let entry = |pfn| if protection == Protection::None { 0 } else { self.entry(pfn, protection) };
        let count = count.min(512 - first % 512).min(BATCH as u64);
        let (directory, index) = self.directory(first << 12)?;
        let slot = self.follow(directory.get(index)).slot(first as usize & 511);
        let machine = self.p2m[(slot >> 12) as usize] << 12 | slot & 0xfff;
        let mut updates = [MmuUpdate::default(); BATCH];
        for (i, update) in (0..count).zip(&mut updates) {
            *update = MmuUpdate { ptr: (machine + i * 8) | MMU_NORMAL_PT_UPDATE, val: entry(first + i) };
        }
        // SAFETY: `mm` gives away no references into pages whose rights it takes.
        let result = unsafe {
            match count {
                // One hypercall, where a list takes another one to flush.
                1 => hypercall::update_va_mapping(first << 12, entry(first)),
                _ => hypercall::mmu_update(&updates[..count as usize]),
            }
        };
        (result == 0).then_some(count)
    }

    /// The rights of the page at `address`.
    pub fn rights(&self, address: u64) -> Protection {
        if address >= 1 << 47 {
            return Protection::None;
        }
        let entry = match self.directory(address) {
            Some((directory, index)) if directory.get(index) & PTE_PRESENT != 0 => {
                let link = directory.get(index);
                // Data is not executable by the link to its table alone, where the builder made the table.
                self.follow(link).get((address >> 12) as usize & 511) | link & PTE_NX
            }
            _ => 0,
        };
        Protection::of_entry(entry)
    }

    /// Makes sure that the entry for a window address can be written.
    pub fn prepare(&mut self, address: u64, pool: &mut Pool) -> Option<()> {
        let (directory, index) = self.directory_or_new(address, pool)?;
        if directory.get(index) & PTE_PRESENT == 0 {
            let frame = pool.take()?;
            self.fresh(frame)?;
            self.seal(frame)?;
            self.link(directory, index, self.p2m[frame as usize] << 12 | LINK)?;
        }
        Some(())
    }

    /// Maps a machine frame that is not our RAM at a prepared address (0: unmaps).
    pub fn map_machine(&mut self, address: u64, mfn: u64) -> Option<()> {
        let entry = if mfn == 0 { 0 } else { mfn << 12 | DATA };
        // SAFETY: the address lies in the window or is a page of the image set aside for this.
        (unsafe { hypercall::update_va_mapping(address, entry) } == 0).then_some(())
    }

    /// Whether the builder mapped this frame.
    pub fn is_mapped(root: u64, pfn: u64) -> bool {
        // SAFETY: as in `new`.
        let tables = Self { root: unsafe { Table::at(root) }, p2m: &[] };
        tables.directory(pfn << 12).is_some_and(|(directory, index)| {
            let entry = directory.get(index);
            entry & PTE_PRESENT != 0 && tables.follow(entry).get(pfn as usize & 511) & PTE_PRESENT != 0
        })
    }
}
