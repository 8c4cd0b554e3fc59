//! Boot of a PV domain: what the start info says.
//!
//! The domain builder lays out, from address 0 (VIRT_BASE): RAM below the image, the image, the
//! physical-to-machine list, the start info, the xenstore and console rings, the page tables, its stack. All
//! above that stack is free. Source: `xen/xen.h` (`struct start_info` and the comment before it).

#![expect(unsafe_code, reason = "reads what the domain builder left in memory")]

use super::{cpu, image, traps};
use crate::mm::pv::{Tables, machine_to_phys};
use crate::mm::raw::{self, Shared};
use crate::mm::{self, Found, MAX_REGIONS, Pool};
use crate::start;
use crate::xen;
use libos_sys::BootMode;
use xen_abi::start_info::StartInfo;

/// From the PV entry.
///
/// # Safety
/// `info` is Xen's start info and `stack` the top of the builder's stack.
#[unsafe(no_mangle)]
unsafe extern "C" fn libos_boot_pv(info: &'static StartInfo, tsc: u64, stack: u64) -> ! {
    cpu::set_mode(BootMode::Pv);
    let layout = image::layout();
    let pages = info.nr_pages;
    let first_free = stack.div_ceil(4096);
    // The builder maps some free RAM behind its stack.
    let mut mapped = first_free;
    while mapped < pages && Tables::is_mapped(info.pt_base, mapped) {
        mapped += 1;
    }
    let mut pool = Pool::default();
    let special = layout.rodata_end.max(layout.guard + 4096).div_ceil(4096);
    let tables_needed = special.div_ceil(512);
    let first_free_after = first_free + tables_needed;
    (first_free..first_free_after.min(mapped)).for_each(|frame| {
        pool.put(frame);
    });
    // SAFETY: the list that the builder made, one machine frame for each page, never given back.
    let p2m: &'static [u64] = unsafe { raw::forever(info.mfn_list, pages as usize) };
    // Data pages of the image keep the builder's entry.
    let wanted = |pfn| layout.protection(pfn).filter(|p| *p != mm::Protection::ReadWrite);
    // SAFETY: the builder's tables, on the boot stack, once.
    let tables = unsafe { Tables::new(info.pt_base, p2m, mapped, special, &mut pool, wanted) };
    let Some(mut tables) = tables else { crate::report::crash() };
    let shared_info = image::shared_info();
    tables.map_machine(shared_info, info.shared_info >> 12);
    // SAFETY: the page is set aside for this in the image.
    xen::set_shared_info(unsafe { Shared::new(shared_info, 4096) });
    traps::install_pv();

    let mut ram = [(0, 0); MAX_REGIONS];
    ram[0] = (0, pages);
    let tables = mm::Tables::Pv(tables);
    let found = Found { ram, mapped, first_free: first_free_after, tables, pool, image: layout };
    // SAFETY: once, and true.
    let enough = unsafe { mm::init(found) };
    // SAFETY: the rings that the builder set up, in pages of ours that are not free.
    let ring = |mfn: u64| unsafe { Shared::new(machine_to_phys(mfn) << 12, 4096) };
    xen::console::init(ring(info.console_mfn.0), info.console_evtchn.0);
    xen::xenstore::init(ring(info.store_mfn.0), info.store_evtchn.0);
    start::go(enough && mm::window::init(pages), tsc, info.command_line())
}
