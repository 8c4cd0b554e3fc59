//! `brk`, `mmap` and their relatives: anonymous private memory.
//!
//! An address is a frame number (see `mm`), so every mapping takes its frames at once and gives them back at
//! once. One bit a frame says which ones the application has by these calls; no call touches another frame, so
//! a wrong `munmap` cannot free the kernel's memory. Nothing becomes executable: `PROT_EXEC` is `EACCES`.

use super::{Args, Errno, Result};
use crate::arch::cell::Global;
use crate::mm::{self, Protection, frames::Frames};

const PROT_READ: u64 = 1;
const PROT_WRITE: u64 = 2;
const PROT_EXEC: u64 = 4;
const MAP_SHARED: u64 = 1;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
const MREMAP_MAYMOVE: u64 = 1;
const MADV_DONTNEED: u64 = 4;
const MADV_LAST: u64 = 25;

/// The frames that the application has: one bit each, clear when it has it (the map is one of *others*).
struct Mapped {
    others: Option<Frames>,
    /// The heap that `brk` moves: its first address (0: there is none yet) and its end.
    heap: (u64, u64),
}

static MAPPED: Global<Mapped> = Global::new(Mapped { others: None, heap: (0, 0) });

/// Runs `f` with the map, which is made at the first call.
fn with_map<R>(f: impl FnOnce(&mut Frames) -> R) -> Result<R> {
    MAPPED.with(|m| {
        if m.others.is_none() {
            let words = Frames::words(mm::frame_limit());
            m.others = mm::forever(words).map(Frames::new);
        }
        m.others.as_mut().map(f).ok_or(Errno::NOMEM)
    })
}

/// Notes that the application has these pages from now on.
fn note(address: u64, pages: u64) -> Result<()> {
    with_map(|others| others.release(address >> 12, pages)).map(|_| ())
}

/// Whether the application has all of these pages.
fn has(address: u64, pages: u64) -> bool {
    with_map(|others| others.all_free(address >> 12, pages)).unwrap_or(false)
}

/// Calls `f` for each run of pages in the range that the application has.
fn each_run(address: u64, pages: u64, mut f: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
    let end = address + (pages << 12);
    let mut at = address;
    while at < end {
        let mut run = at;
        while run < end && has(run, 1) {
            run += 4096;
        }
        if run > at {
            f(at, (run - at) >> 12)?;
        }
        at = run + 4096;
    }
    Ok(())
}

fn protection(prot: u64) -> Result<Protection> {
    match prot {
        p if p & !(PROT_READ | PROT_WRITE | PROT_EXEC) != 0 => Err(Errno::INVAL),
        p if p & PROT_EXEC != 0 => Err(Errno::ACCES),
        p if p & PROT_WRITE != 0 => Ok(Protection::ReadWrite),
        PROT_READ => Ok(Protection::Read),
        _ => Ok(Protection::None),
    }
}

/// Gives pages rights, without hypercalls when they have them.
fn set_rights(address: u64, pages: u64, wanted: Protection) -> Result<()> {
    let mut at = 0;
    while at < pages {
        let differs = |i: &u64| mm::rights(address + (i << 12)) != wanted;
        let Some(first) = (at..pages).find(differs) else { break };
        let end = (first..pages).find(|i| !differs(i)).unwrap_or(pages);
        if !mm::protect(address + (first << 12), end - first, wanted) {
            return Err(Errno::NOMEM);
        }
        at = end;
    }
    Ok(())
}

/// Pages of a length, which must not be zero; too many are too many for any domain.
fn pages(len: u64) -> Result<u64> {
    if len == 0 { Err(Errno::INVAL) } else { Ok(len.div_ceil(4096)) }
}

/// A range of whole pages from user arguments.
fn range(address: u64, len: u64) -> Result<(u64, u64)> {
    let pages = pages(len)?;
    let end = (pages << 12).checked_add(address).filter(|_| pages < 1 << 35);
    (address.is_multiple_of(4096) && end.is_some()).then_some((address, pages)).ok_or(Errno::INVAL)
}

/// `mmap(addr, length, prot, flags, fd, offset)`; `MAP_ANONYMOUS` only. A shared mapping has nobody to be shared
/// with and is as good as a private one.
pub fn mmap(a: Args) -> Result<u64> {
    let [address, len, prot, flags, ..] = a.values();
    let (count, protection) = (pages(len)?, protection(prot)?);
    if flags & MAP_ANONYMOUS == 0 {
        // There is no file that could be mapped.
        return Err(Errno::NODEV);
    }
    if flags & 0xf > MAP_SHARED + 2 || flags & 0xf == 0 {
        return Err(Errno::INVAL);
    }
    let at = if flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) != 0 {
        range(address, len)?;
        if flags & MAP_FIXED_NOREPLACE == 0 {
            unmap(address, count)?;
        }
        if !mm::alloc_at(address, count) {
            return Err(if flags & MAP_FIXED_NOREPLACE != 0 { Errno::EXIST } else { Errno::NOMEM });
        }
        address
    } else {
        mm::alloc(count).ok_or(Errno::NOMEM)?
    };
    note(at, count)?;
    if protection != Protection::ReadWrite && set_rights(at, count, protection).is_err() {
        unmap(at, count)?;
        return Err(Errno::NOMEM);
    }
    Ok(at)
}

/// Gives back what the application has of these pages.
pub fn unmap(address: u64, count: u64) -> Result<()> {
    each_run(address, count, |at, pages| {
        set_rights(at, pages, Protection::ReadWrite)?;
        with_map(|others| others.take_at(at >> 12, pages))?;
        mm::free(at, pages);
        Ok(())
    })
}

/// `munmap(addr, length)`; pages that are not mapped are fine, as on Linux.
pub fn munmap(a: Args) -> Result<u64> {
    let [address, len, ..] = a.values();
    let (address, count) = range(address, len)?;
    unmap(address, count.min(mm::frame_limit()))?;
    Ok(0)
}

/// `mprotect(addr, len, prot)`.
pub fn mprotect(a: Args) -> Result<u64> {
    let [address, len, prot, ..] = a.values();
    if len == 0 && address.is_multiple_of(4096) {
        return Ok(0);
    }
    let ((address, count), wanted) = (range(address, len)?, protection(prot)?);
    if !has(address, count) {
        // Pages of the image and of stacks keep the rights they were made with.
        let mapped = mm::rights(address) != Protection::None;
        return Err(if mapped { Errno::ACCES } else { Errno::NOMEM });
    }
    set_rights(address, count, wanted)?;
    Ok(0)
}

/// `mremap(addr, old, new, flags)`: shrinks, grows in place, or (`MREMAP_MAYMOVE`) moves.
pub fn mremap(a: Args) -> Result<u64> {
    let [address, old, new, flags, ..] = a.values();
    if flags & !MREMAP_MAYMOVE != 0 {
        return Err(Errno::INVAL);
    }
    let ((address, old), new) = (range(address, old)?, pages(new)?);
    if !has(address, old) {
        return Err(if mm::rights(address) == Protection::None { Errno::FAULT } else { Errno::NOMEM });
    }
    let rights = mm::rights(address);
    if new <= old {
        unmap(address + (new << 12), old - new)?;
        return Ok(address);
    }
    let end = address + (old << 12);
    if mm::alloc_at(end, new - old) {
        note(end, new - old)?;
        set_rights(end, new - old, rights)?;
        return Ok(address);
    }
    if flags & MREMAP_MAYMOVE == 0 {
        return Err(Errno::NOMEM);
    }
    let to = mm::alloc(new).ok_or(Errno::NOMEM)?;
    note(to, new)?;
    set_rights(address, old, Protection::ReadWrite)?;
    let from = a.caller.slice::<u8>(address, (old << 12) as usize)?;
    a.caller.slice_mut::<u8>(to, (old << 12) as usize)?.copy_from_slice(from);
    unmap(address, old)?;
    set_rights(to, new, rights)?;
    Ok(to)
}

/// `madvise(addr, length, advice)`: `MADV_DONTNEED` empties the pages, other advice is taken as read.
pub fn madvise(a: Args) -> Result<u64> {
    let [address, len, advice, ..] = a.values();
    if !address.is_multiple_of(4096) || advice > MADV_LAST {
        return Err(Errno::INVAL);
    }
    if advice == MADV_DONTNEED && len > 0 {
        let (address, count) = range(address, len)?;
        each_run(address, count.min(mm::frame_limit()), |at, pages| {
            (0..pages).map(|i| at + (i << 12)).try_for_each(|page| {
                let rights = mm::rights(page);
                set_rights(page, 1, Protection::ReadWrite)?;
                a.caller.slice_mut::<u64>(page, 512)?.fill(0);
                set_rights(page, 1, rights)
            })
        })?;
    }
    Ok(0)
}

/// `brk(addr)`: moves the end of the heap; the end where it is, if that cannot be done. The heap begins at the
/// lowest free page at the time of the first call, and grows for as long as the pages behind it are free.
pub fn brk(a: Args) -> Result<u64> {
    let [wanted, ..] = a.values();
    let (start, end) = MAPPED.with(|m| m.heap);
    if start == 0 {
        let start = mm::alloc(1).ok_or(Errno::NOMEM)?;
        note(start, 1)?;
        MAPPED.with(|m| m.heap = (start, start));
        return Ok(start);
    }
    // The first page is always there.
    let page_end = |end: u64| end.next_multiple_of(4096).max(start + 4096);
    if wanted < start || wanted > mm::frame_limit() << 12 {
        return Ok(end);
    }
    let (old, new) = (page_end(end), page_end(wanted));
    if new > old {
        if !mm::alloc_at(old, (new - old) >> 12) {
            return Ok(end);
        }
        note(old, (new - old) >> 12)?;
    } else {
        unmap(new, (old - new) >> 12)?;
        // What is left of the last page must be zero when the heap grows again.
        let kept = wanted.next_multiple_of(8).min(new);
        if end > kept {
            a.caller
                .slice_mut::<u64>(
                    kept,
                    ((new.min(end.next_multiple_of(8))).saturating_sub(kept) / 8) as usize,
                )?
                .fill(0);
        }
    }
    MAPPED.with(|m| m.heap.1 = wanted);
    Ok(wanted)
}

/// `mincore` and others that have no meaning for locked memory: all of it always is.
pub fn locked(_: Args) -> Result<u64> {
    Ok(0)
}
