//! The window: addresses at 1 TiB for pages that are not our RAM (the grant table, the console and xenstore
//! rings of PVH, pages granted by peers).
//!
//! In PV, Xen writes a grant's mapping into the page table itself. In PVH, Xen puts the page at a guest frame
//! above all RAM, and our page table leads the window address there.

#![expect(unsafe_code, reason = "maps pages that Rust does not know")]

use super::frames::Frames;
use super::raw::Shared;
use super::{MEMORY, Tables};
use crate::arch::cell::Global;
use crate::arch::x86_64::hypercall;
use xen_abi::{DomId, GrantRef, gnttab, memory};

const BASE: u64 = 1 << 40;
/// Pages in the window: 128 MiB.
const PAGES: u64 = 32768;
const WORDS: usize = Frames::words(PAGES);

struct Window {
    slots: Frames,
    /// PVH: the guest frame that belongs to slot 0.
    gfn: u64,
}

static WINDOW: Global<Window> = Global::new(Window { slots: Frames::empty(), gfn: 0 });
/// Slots at the start of the window that the grant table may grow into.
const GRANT_FRAMES: u64 = 64;

/// Opens the window for a domain whose RAM ends below frame `ram_end`. False when memory is short.
pub fn init(ram_end: u64) -> bool {
    let above = ram_end.max(1 << 20).next_multiple_of(512);
    let Some(map) = super::forever(WORDS) else { return false };
    let mut slots = Frames::new(map);
    slots.release(GRANT_FRAMES, PAGES - GRANT_FRAMES);
    WINDOW.with(|w| *w = Window { slots, gfn: above });
    true
}

fn address(slot: u64) -> u64 {
    BASE + (slot << 12)
}

/// Guest frame that stands behind a slot in PVH.
fn gfn(slot: u64) -> u64 {
    WINDOW.with(|w| w.gfn) + slot
}

/// Makes the page-table entry of a slot: PV leaves it for Xen to fill, PVH points it at the slot's frame.
fn prepare(slot: u64, read_only: bool) -> Option<()> {
    let gfn = gfn(slot);
    MEMORY.with(|m| {
        let done = match &mut m.tables {
            Tables::Pv(t) => t.prepare(address(slot), &mut m.pool),
            Tables::Pvh(t) => t.map_gfn(address(slot), gfn, read_only, &mut m.pool),
            Tables::None => None,
        };
        m.refill();
        done
    })
}

/// Maps one guest frame that Xen set up outside RAM (PVH: the console or xenstore ring).
pub fn map_gfn(gfn: u64) -> Option<Shared> {
    let slot = WINDOW.with(|w| w.slots.take(1))?;
    MEMORY.with(|m| {
        let done = match &mut m.tables {
            Tables::Pvh(t) => t.map_gfn(address(slot), gfn, false, &mut m.pool),
            _ => None,
        };
        m.refill();
        done
    })?;
    // SAFETY: mapped just now, at an address that nothing else uses, for good.
    Some(unsafe { Shared::new(address(slot), 4096) })
}

/// Grows the grant table to `index + 1` frames and maps frame `index`. Frames come in order.
pub fn map_grant_table(index: u64) -> Option<Shared> {
    if index >= GRANT_FRAMES {
        return None;
    }
    let pv = MEMORY.with(|m| matches!(m.tables, Tables::Pv(_)));
    prepare(index, false)?;
    if pv {
        let mut frames = [0; GRANT_FRAMES as usize];
        let frames = &mut frames[..=index as usize];
        if hypercall::grant_setup_table(frames) != 0 {
            return None;
        }
        let mfn = frames[index as usize];
        MEMORY.with(|m| match &mut m.tables {
            Tables::Pv(t) => t.map_machine(address(index), mfn),
            _ => None,
        })?;
    } else {
        let mut arg = hypercall::to_physmap(memory::XENMAPSPACE_GRANT_TABLE, index, gfn(index));
        // SAFETY: the frame lies in the window, above all RAM, in a slot kept for the grant table.
        let result = unsafe { hypercall::memory_op(&mut arg) };
        if result != 0 {
            return None;
        }
    }
    // SAFETY: mapped just now, for good.
    Some(unsafe { Shared::new(address(index), 4096) })
}

/// Maps granted pages of `peer` at consecutive addresses; handles go to `handles`. Returns the address, or
/// the grant status that Xen gave (`GNTST_*`), and then nothing is mapped.
pub fn map_grants(peer: u16, grefs: &[u32], read_only: bool, handles: &mut [u32]) -> Result<u64, i16> {
    let count = grefs.len() as u64;
    let slot = WINDOW.with(|w| w.slots.take(count)).ok_or(gnttab::GNTST_NO_SPACE)?;
    for (i, gref) in grefs.iter().enumerate() {
        match map_one(peer, *gref, read_only, slot + i as u64) {
            Ok(handle) => handles[i] = handle,
            Err(status) => {
                unmap_pages(slot, &handles[..i]);
                WINDOW.with(|w| w.slots.release(slot, count));
                return Err(status);
            }
        }
    }
    Ok(address(slot))
}

fn map_one(peer: u16, gref: u32, read_only: bool, slot: u64) -> Result<u32, i16> {
    prepare(slot, read_only).ok_or(gnttab::GNTST_NO_SPACE)?;
    let pv = MEMORY.with(|m| matches!(m.tables, Tables::Pv(_)));
    let mut arg = gnttab::MapGrantRef {
        host_addr: if pv { address(slot) } else { gfn(slot) << 12 },
        flags: gnttab::GNTMAP_HOST_MAP | if read_only { gnttab::GNTMAP_READONLY } else { 0 },
        gref: GrantRef(gref),
        dom: DomId(peer),
        ..Default::default()
    };
    // SAFETY: the slot is free window space.
    let result = unsafe { hypercall::memory_op(&mut arg) };
    match (result, arg.status) {
        (0, gnttab::GNTST_OKAY) => Ok(arg.handle),
        (0, status) => Err(status),
        _ => Err(gnttab::GNTST_GENERAL_ERROR),
    }
}

/// Unmaps pages; false when Xen refused one (its slot is then never used again).
fn unmap_pages(slot: u64, handles: &[u32]) -> bool {
    let pv = MEMORY.with(|m| matches!(m.tables, Tables::Pv(_)));
    let mut all = true;
    for (i, handle) in handles.iter().enumerate() {
        let slot = slot + i as u64;
        let mut arg = gnttab::UnmapGrantRef {
            host_addr: if pv { address(slot) } else { gfn(slot) << 12 },
            handle: *handle,
            ..Default::default()
        };
        // SAFETY: callers promise that nothing uses the pages any more.
        let result = unsafe { hypercall::memory_op(&mut arg) };
        all &= result == 0 && arg.status == gnttab::GNTST_OKAY;
        if !pv {
            MEMORY.with(|m| match &mut m.tables {
                Tables::Pvh(t) => t.map_gfn(address(slot), 0, false, &mut m.pool),
                _ => None,
            });
        }
    }
    all
}

/// Undoes [`map_grants`].
///
/// # Safety
/// Base and handles come from one call of [`map_grants`], and nothing uses the pages any more.
pub unsafe fn unmap_grants(base: u64, handles: &[u32]) -> bool {
    let Some(slot) = base.checked_sub(BASE).map(|offset| offset >> 12) else { return false };
    if slot < GRANT_FRAMES || slot + handles.len() as u64 > PAGES {
        return false;
    }
    unmap_pages(slot, handles) && WINDOW.with(|w| w.slots.release(slot, handles.len() as u64))
}
