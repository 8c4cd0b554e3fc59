//! Page tables of a PVH domain: ordinary x86-64 tables, one to one.
//!
//! The boot code maps the first GiB with everything allowed. [`Tables::new`] replaces that: 4 KiB pages with
//! their own rights where the image lies, nothing elsewhere; RAM comes in later, in 2 MiB pages, and a page
//! that gets other rights splits its 2 MiB page first.
//!
//! Source: AMD APM volume 2, chapter 5.

#![expect(unsafe_code, reason = "page tables")]

use super::raw::{self, Table};
use super::{Pool, Protection};
use crate::arch::x86_64::cpu;
use xen_abi::mmu::*;

const LINK: u64 = PTE_PRESENT | PTE_RW;
const DATA: u64 = PTE_PRESENT | PTE_RW | PTE_NX;

/// The address space of a PVH domain.
pub struct Tables {
    root: Table,
}

fn entry(pfn: u64, protection: Protection) -> u64 {
    match protection {
        Protection::None => 0,
        Protection::Read => pfn << 12 | PTE_PRESENT | PTE_NX,
        Protection::ReadWrite => pfn << 12 | DATA,
        Protection::ReadExec => pfn << 12 | PTE_PRESENT,
    }
}

fn follow(entry: u64) -> Table {
    // SAFETY: page tables are frames below the end of RAM, mapped one to one.
    unsafe { Table::at(entry & PTE_ADDR_MASK) }
}

fn fresh(pool: &mut Pool) -> Option<Table> {
    let address = pool.take()? << 12;
    // SAFETY: the frame comes from the pool: mapped, writable, nobody's.
    unsafe {
        raw::zero_pages(address, 1);
        Some(Table::at(address))
    }
}

impl Tables {
    /// Takes over the boot tables (`root`, and `directory` for the first GiB): the first `mapped` frames (a
    /// multiple of 512) get the rights that `wanted` says, those from `special` on as data in 2 MiB pages, and
    /// nothing else stays mapped.
    ///
    /// # Safety
    /// The addresses are those of the boot code's tables, and this runs once, on the boot stack.
    pub unsafe fn new(
        root: u64,
        directory: u64,
        mapped: u64,
        special: u64,
        pool: &mut Pool,
        wanted: impl Fn(u64) -> Protection,
    ) -> Option<Self> {
        // SAFETY: the boot tables, mapped for good.
        let (root, directory) = unsafe { (Table::at(root), Table::at(directory)) };
        for chunk in 0..512 {
            if chunk << 9 >= mapped {
                directory.set(chunk as usize, 0);
                continue;
            }
            if chunk << 9 >= special {
                directory.set(chunk as usize, chunk << 21 | DATA | PTE_PSE);
                continue;
            }
            let table = fresh(pool)?;
            for i in 0..512 {
                let pfn = (chunk << 9) + i;
                table.set(i as usize, entry(pfn, wanted(pfn)));
            }
            directory.set(chunk as usize, table.slot(0) | LINK);
        }
        cpu::flush_tlb();
        Some(Self { root })
    }

    /// The L2 table for an address and the index in it.
    fn directory(&self, address: u64, pool: &mut Pool) -> Option<(Table, usize)> {
        let mut table = self.root;
        for shift in [39, 30] {
            let index = (address >> shift) as usize & 511;
            if table.get(index) & PTE_PRESENT == 0 {
                table.set(index, fresh(pool)?.slot(0) | LINK);
            }
            table = follow(table.get(index));
        }
        Some((table, (address >> 21) as usize & 511))
    }

    /// The L1 table for an address; splits a 2 MiB page.
    fn table(&self, address: u64, pool: &mut Pool) -> Option<Table> {
        let (directory, index) = self.directory(address, pool)?;
        let old = directory.get(index);
        if old & PTE_PRESENT == 0 {
            directory.set(index, fresh(pool)?.slot(0) | LINK);
        } else if old & PTE_PSE != 0 {
            let table = fresh(pool)?;
            for i in 0..512 {
                table.set(i, (old & !PTE_PSE) + (i as u64) * 4096);
            }
            directory.set(index, table.slot(0) | LINK);
            cpu::flush_tlb();
        }
        Some(follow(directory.get(index)))
    }

    /// Maps the RAM frames `first..end` of one 2 MiB chunk as data.
    pub fn map_ram(&mut self, first: u64, end: u64, pool: &mut Pool) -> Option<()> {
        let (directory, index) = self.directory(first << 12, pool)?;
        if first.is_multiple_of(512) && end - first == 512 && directory.get(index) & PTE_PRESENT == 0 {
            directory.set(index, first << 12 | DATA | PTE_PSE);
            return Some(());
        }
        let table = self.table(first << 12, pool)?;
        (first..end).for_each(|pfn| table.set(pfn as usize & 511, entry(pfn, Protection::ReadWrite)));
        Some(())
    }

    /// Changes the rights of one RAM page; how many that were: 1.
    pub fn protect(&mut self, pfn: u64, protection: Protection, pool: &mut Pool) -> Option<u64> {
        self.table(pfn << 12, pool)?.set(pfn as usize & 511, entry(pfn, protection));
        cpu::invlpg(pfn << 12);
        Some(1)
    }

    /// The rights of the page at `address`.
    pub fn rights(&self, address: u64) -> Protection {
        let mut table = self.root;
        for shift in [39, 30, 21, 12] {
            let entry = if address < 1 << 47 { table.get((address >> shift) as usize & 511) } else { 0 };
            if shift == 12 || entry & PTE_PRESENT == 0 || entry & PTE_PSE != 0 {
                return Protection::of_entry(entry);
            }
            table = follow(entry);
        }
        Protection::None
    }

    /// Maps guest frame `gfn`, which is not RAM, at a window address (0: unmaps).
    pub fn map_gfn(&mut self, address: u64, gfn: u64, read_only: bool, pool: &mut Pool) -> Option<()> {
        let protection = match (gfn, read_only) {
            (0, _) => Protection::None,
            (_, true) => Protection::Read,
            (_, false) => Protection::ReadWrite,
        };
        self.table(address, pool)?.set((address >> 12) as usize & 511, entry(gfn, protection));
        cpu::invlpg(address);
        Some(())
    }
}
