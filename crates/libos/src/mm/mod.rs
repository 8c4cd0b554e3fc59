//! Memory: page frames, the address space, and the window for pages that are not our RAM.
//!
//! One address model in both modes: RAM frame `n` lies at address `n << 12`. Only what is in use is mapped,
//! in steps of 2 MiB, so boot costs the same in a small and in a big domain. Nothing is ever writable and
//! executable; text is never writable, data never executable, page 0 and the guard pages below stacks are not
//! mapped at all.
//!
//! Soundness: this module hands out a page to one owner at a time (`Frames` refuses double release) and never
//! changes the mapping of a page that somebody owns, except at that owner's word (`protect`).

#![expect(unsafe_code, reason = "hands out raw pages")]

pub mod frames;
#[cfg(not(test))]
pub mod mem;
pub mod pv;
pub mod pvh;
pub mod raw;
pub mod window;

use crate::arch::cell::Global;
use frames::Frames;
use libos_sys::MemoryInfo;

/// Rights of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Not mapped.
    None,
    /// Read.
    Read,
    /// Read and write.
    ReadWrite,
    /// Read and execute.
    ReadExec,
}

impl Protection {
    /// What a page-table entry allows.
    fn of_entry(entry: u64) -> Self {
        use xen_abi::mmu::{PTE_NX, PTE_PRESENT, PTE_RW};
        match (entry & PTE_PRESENT != 0, entry & PTE_RW != 0, entry & PTE_NX != 0) {
            (false, ..) => Self::None,
            (_, true, _) => Self::ReadWrite,
            (_, false, true) => Self::Read,
            (_, false, false) => Self::ReadExec,
        }
    }
}

/// Where the parts of the image lie (addresses, page aligned).
#[derive(Clone, Copy, Debug, Default)]
pub struct Image {
    /// First byte.
    pub start: u64,
    /// End of text.
    pub text_end: u64,
    /// End of read-only data.
    pub rodata_end: u64,
    /// End of the image.
    pub end: u64,
    /// The guard page below the boot stack.
    pub guard: u64,
}

impl Image {
    /// Rights of a page of the image; `None` for other pages.
    pub fn protection(&self, pfn: u64) -> Option<Protection> {
        match pfn << 12 {
            0 => Some(Protection::None),
            a if a == self.guard => Some(Protection::None),
            a if a < self.start || a >= self.end => None,
            a if a < self.text_end => Some(Protection::ReadExec),
            a if a < self.rodata_end => Some(Protection::Read),
            _ => Some(Protection::ReadWrite),
        }
    }
}

/// A few frames in hand, so that page tables can grow while frames are handed out.
#[derive(Default)]
pub struct Pool {
    frames: [u64; Self::SIZE],
    len: usize,
}

impl Pool {
    /// Room for the tables that map the image at boot: one for each 2 MiB up to the end of its read-only part.
    pub const SIZE: usize = 16;
    /// Most tables that one operation needs: three levels, or one to split a 2 MiB page.
    const KEEP: usize = 4;

    /// Takes a frame out.
    pub fn take(&mut self) -> Option<u64> {
        self.len = self.len.checked_sub(1)?;
        Some(self.frames[self.len])
    }

    /// Puts a frame in; false when the pool is full.
    pub fn put(&mut self, frame: u64) -> bool {
        if self.len == Self::SIZE {
            return false;
        }
        self.frames[self.len] = frame;
        self.len += 1;
        true
    }
}

/// The page tables of the mode we run in.
pub enum Tables {
    /// Before boot has got so far.
    None,
    /// Para-virtualised.
    Pv(pv::Tables),
    /// Hardware-virtualised.
    Pvh(pvh::Tables),
}

/// At most this many separate ranges of RAM (PVH domains above 3.75 GiB have two).
pub const MAX_REGIONS: usize = 4;

/// All of memory.
pub struct Memory {
    frames: Frames,
    /// RAM not mapped yet, as ranges of frames.
    rest: [(u64, u64); MAX_REGIONS],
    tables: Tables,
    pool: Pool,
    image: Image,
    total: u64,
}

static MEMORY: Global<Memory> = Global::new(Memory {
    frames: Frames::empty(),
    rest: [(0, 0); MAX_REGIONS],
    tables: Tables::None,
    pool: Pool { frames: [0; Pool::SIZE], len: 0 },
    image: Image { start: 0, text_end: 0, rodata_end: 0, end: 0, guard: 0 },
    total: 0,
});

/// What the boot code of either mode found out.
pub struct Found {
    /// Ranges of RAM frames.
    pub ram: [(u64, u64); MAX_REGIONS],
    /// Frames below this are mapped.
    pub mapped: u64,
    /// The first frame above the image and the builder's data; from here to `mapped` RAM is free.
    pub first_free: u64,
    /// Page tables.
    pub tables: Tables,
    /// Frames left over from boot.
    pub pool: Pool,
    /// The image.
    pub image: Image,
}

/// Takes charge of memory. Returns false when there is not enough of it to begin with.
///
/// # Safety
/// Called once, with the truth.
pub unsafe fn init(found: Found) -> bool {
    let Found { ram, mapped, mut first_free, tables, pool, image } = found;
    let limit = ram.iter().map(|r| r.1).max().unwrap_or(0);
    let words = Frames::words(limit);
    let map = first_free << 12;
    first_free += (words as u64 * 8).div_ceil(4096);
    let mapped_ram = mapped.min(ram[0].1);
    if first_free >= mapped_ram {
        return false;
    }
    // SAFETY: free RAM, mapped, and from now on below `first_free`.
    let mut frames = Frames::new(unsafe {
        raw::zero_pages(map, first_free - (map >> 12));
        raw::forever(map, words)
    });
    frames.release(1, (image.start >> 12) - 1);
    frames.release(first_free, mapped_ram - first_free);
    let mut rest = ram;
    rest[0].0 = mapped_ram;
    let total = ram.iter().map(|r| r.1 - r.0).sum();
    MEMORY.with(|m| {
        *m = Memory { frames, rest, tables, pool, image, total };
        m.refill();
    });
    true
}

impl Memory {
    /// Fills the pool from the free frames.
    fn refill(&mut self) {
        while self.pool.len < Pool::KEEP {
            let Some(frame) = self.frames.take(1) else { break };
            self.pool.put(frame);
        }
    }

    /// Maps the next chunk of RAM and releases it; false when there is none.
    fn extend(&mut self) -> bool {
        let Some(range) = self.rest.iter_mut().find(|r| r.0 < r.1) else { return false };
        let (first, end) = (range.0, range.1.min((range.0 & !511) + 512));
        let done = match &mut self.tables {
            Tables::Pv(t) => t.map_ram(first, end, &mut self.pool),
            Tables::Pvh(t) => t.map_ram(first, end, &mut self.pool),
            Tables::None => None,
        };
        if done.is_none() {
            return false;
        }
        range.0 = end;
        self.frames.release(first, end - first);
        self.refill();
        true
    }

    fn take(&mut self, count: u64) -> Option<u64> {
        loop {
            if let Some(frame) = self.frames.take(count) {
                return Some(frame);
            }
            if self.free() < count || !self.extend() {
                return None;
            }
        }
    }

    fn free(&self) -> u64 {
        self.frames.free() + self.rest.iter().map(|r| r.1 - r.0).sum::<u64>()
    }

    /// Takes these frames if all are free.
    fn take_at(&mut self, first: u64, count: u64) -> bool {
        let end = first.saturating_add(count);
        // RAM in question that is not mapped yet becomes free first.
        while self.rest.iter().any(|r| r.0 < r.1 && r.0 < end && first < r.1) {
            if !self.extend() {
                return false;
            }
        }
        self.frames.take_at(first, count)
    }

    fn protect(&mut self, first: u64, count: u64, protection: Protection) -> Option<()> {
        let mut at = first;
        while at < first + count {
            let step = match &mut self.tables {
                Tables::Pv(t) => t.protect(at, first + count - at, protection)?,
                Tables::Pvh(t) => t.protect(at, protection, &mut self.pool)?,
                Tables::None => return None,
            };
            at += step;
            self.refill();
        }
        Some(())
    }

    /// The rights of the page at `address`, as the page tables have them.
    fn rights(&self, address: u64) -> Protection {
        match &self.tables {
            Tables::Pv(t) => t.rights(address),
            Tables::Pvh(t) => t.rights(address),
            Tables::None => Protection::None,
        }
    }
}

/// Allocates `count` contiguous zeroed pages; their address.
pub fn alloc(count: u64) -> Option<u64> {
    let address = alloc_stale(count)?;
    // SAFETY: just taken: mapped, writable, nobody's.
    unsafe { raw::zero_pages(address, count) };
    Some(address)
}

/// Allocates `count` contiguous pages that hold whatever this domain left there: for stacks.
pub fn alloc_stale(count: u64) -> Option<u64> {
    Some(MEMORY.with(|m| m.take(count))? << 12)
}

/// Allocates these pages, zeroed, if all of them are free RAM.
pub fn alloc_at(address: u64, count: u64) -> bool {
    let ours = address.is_multiple_of(4096) && MEMORY.with(|m| m.take_at(address >> 12, count));
    if ours {
        // SAFETY: just taken: mapped, writable, nobody's.
        unsafe { raw::zero_pages(address, count) };
    }
    ours
}

/// A slice of `words` words, all zero, in pages that are never given back.
pub fn forever(words: usize) -> Option<&'static mut [u64]> {
    let address = alloc((words as u64 * 8).div_ceil(4096))?;
    // SAFETY: our own pages, mapped and zeroed, never given back.
    Some(unsafe { raw::forever(address, words) })
}

/// The bytes of `count` pages that are never given back.
pub fn cells(count: u64) -> Option<&'static [core::cell::Cell<u8>]> {
    let bytes = forever(count as usize * 512)?.as_mut_ptr();
    // SAFETY: nobody else has the pages; a cell of a byte is a byte.
    Some(unsafe { core::slice::from_raw_parts(bytes.cast(), (count << 12) as usize) })
}

/// Gives pages back. False, and nothing done, when the range is not in use.
pub fn free(address: u64, count: u64) -> bool {
    MEMORY.with(|m| {
        let first = address >> 12;
        let ours =
            address.is_multiple_of(4096) && first != 0 && !(m.image.start..m.image.end).contains(&address);
        ours && m.frames.release(first, count)
    })
}

/// Changes the rights of pages that the caller owns.
pub fn protect(address: u64, count: u64, protection: Protection) -> bool {
    MEMORY.with(|m| m.protect(address >> 12, count, protection).is_some())
}

/// The rights of the page at `address`.
pub fn rights(address: u64) -> Protection {
    MEMORY.with(|m| m.rights(address))
}

/// Whether all of `len` bytes at `address` can be read, or written.
pub fn accessible(address: u64, len: u64, write: bool) -> bool {
    let Some(end) = address.checked_add(len) else { return false };
    MEMORY.with(|m| {
        (address >> 12..end.div_ceil(4096)).all(|page| match m.rights(page << 12) {
            Protection::None => false,
            Protection::ReadWrite => true,
            Protection::Read | Protection::ReadExec => !write,
        })
    })
}

/// The first frame number above all RAM.
pub fn frame_limit() -> u64 {
    MEMORY.with(|m| m.frames.limit())
}

/// The state of memory.
pub fn info() -> MemoryInfo {
    MEMORY.with(|m| MemoryInfo {
        total: m.total,
        free: m.free(),
        image_start: m.image.start,
        text_end: m.image.text_end,
        rodata_end: m.image.rodata_end,
        image_end: m.image.end,
    })
}

/// Machine frame (PV) or guest frame (PVH) of one of our pages, as grants name it.
pub fn frame_of(address: u64) -> u64 {
    MEMORY.with(|m| match &m.tables {
        Tables::Pv(t) => t.machine_frame(address >> 12),
        _ => address >> 12,
    })
}

/// Lets the dying domain look at memory even if it died in here.
pub fn steal() {
    MEMORY.steal();
}
