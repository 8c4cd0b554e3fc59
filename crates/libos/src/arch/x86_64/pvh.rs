//! Boot of a PVH domain: segments, exceptions, hypercalls, and what the start info says.
//!
//! Sources: `xen/arch-x86/hvm/start_info.h`, `xen/arch-x86/cpuid.h`, `xen/hvm/params.h`; AMD APM volume 2,
//! chapters 4 (segments), 8 (exceptions), 12 (task state).

#![expect(unsafe_code, reason = "reads what the loader left in memory and sets up the processor")]

use super::hypercall::{Gate, hvm_param, memory_op, set_gate, set_hvm_param, to_physmap};
use super::{cpu, image, traps};
use crate::arch::cell::Global;
use crate::mm::pvh::Tables;
use crate::mm::raw::Shared;
use crate::mm::{self, Found, MAX_REGIONS, Pool, Protection, window};
use crate::start;
use crate::xen;
use core::arch::asm;
use libos_sys::BootMode;
use xen_abi::hvm::*;
use xen_abi::memory::XENMAPSPACE_SHARED_INFO;
use xen_abi::start_info::*;

/// Longest command line that is taken over.
const COMMAND_LINE: usize = 1024;

/// What the processor reads for ever: task state (only its interrupt stack matters) and interrupt table.
struct Descriptors {
    task_state: [u32; 26],
    interrupts: [[u64; 2]; traps::VECTORS],
    command_line: [u8; COMMAND_LINE],
}

static DESCRIPTORS: Global<Descriptors> = Global::new(Descriptors {
    task_state: [0; 26],
    interrupts: [[0; 2]; traps::VECTORS],
    command_line: [0; COMMAND_LINE],
});

/// Operand of `lgdt` and `lidt`.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Loads the descriptor tables. Every exception runs on the boot stack (IST 1), so that a stack overflow can
/// be reported.
fn install_exceptions() {
    let (idt, tss) = DESCRIPTORS.with(|d| {
        let top = image::boot_stack_end();
        // IST 1 lies at byte 36; the I/O map begins behind the end: there is none.
        (d.task_state[9], d.task_state[10]) = (top as u32, (top >> 32) as u32);
        d.task_state[25] = (size_of_val(&d.task_state) as u32) << 16;
        for (gate, address) in d.interrupts.iter_mut().zip(traps::pvh_entries()) {
            // Code segment 8, IST 1, present interrupt gate.
            let low = address & 0xffff | 8 << 16 | 1 << 32 | 0x8e << 40 | (address >> 16 & 0xffff) << 48;
            *gate = [low, address >> 32];
        }
        ((&raw const d.interrupts) as u64, (&raw const d.task_state) as u64)
    });
    let limit = size_of::<[u32; 26]>() as u64 - 1;
    let low = limit | (tss & 0xff_ffff) << 16 | 0x89 << 40 | (tss >> 24 & 0xff) << 56;
    let idt = Pointer { limit: (traps::VECTORS * 16 - 1) as u16, base: idt };
    let gdt = Pointer { limit: 39, base: image::pvh_gdt() };
    // SAFETY: the tables are statics that nothing moves or changes from now on; selector 0x18 is the task state
    // written just before.
    unsafe {
        (gdt.base as *mut u64).add(3).write(low);
        (gdt.base as *mut u64).add(4).write(tss >> 32);
        asm!("lgdt [{}]", "lidt [{}]", "ltr {2:x}", in(reg) &gdt, in(reg) &idt, in(reg) 0x18u16);
    }
}

/// What the loader left: the RAM in its memory map, as ranges of frames, and the length of the command line, which is
/// copied.
///
/// # Safety
/// `info` is the loader's, and so are the tables that it names.
unsafe fn from_loader(info: &HvmStartInfo) -> ([(u64, u64); MAX_REGIONS], usize) {
    let mut ram = [(0, 0); MAX_REGIONS];
    let mut slots = ram.iter_mut();
    for i in 0..u64::from(info.memmap_entries) {
        let address = info.memmap_paddr + i * size_of::<HvmMemmapTableEntry>() as u64;
        // SAFETY: the loader's table, below the first GiB, mapped by the boot code.
        let entry = unsafe { (address as *const HvmMemmapTableEntry).read() };
        if entry.kind == XEN_HVM_MEMMAP_TYPE_RAM
            && let Some(slot) = slots.next()
        {
            *slot = (entry.addr.div_ceil(4096), entry.addr.saturating_add(entry.size) >> 12);
        }
    }
    let mut len = 0;
    DESCRIPTORS.with(|d| {
        while info.cmdline_paddr != 0 && len < COMMAND_LINE {
            // SAFETY: a string that the loader ended with 0, below the first GiB.
            let byte = unsafe { (info.cmdline_paddr as *const u8).add(len).read() };
            if byte == 0 {
                break;
            }
            d.command_line[len] = byte;
            len += 1;
        }
    });
    (ram, len)
}

/// From the PVH entry.
///
/// # Safety
/// `info` is the loader's start info.
#[unsafe(no_mangle)]
unsafe extern "C" fn libos_boot_pvh(info: &HvmStartInfo, tsc: u64) -> ! {
    cpu::set_mode(BootMode::Pvh);
    install_exceptions();
    // "AuthenticAMD" and "HygonGenuine" have vmmcall; all others with VT-x have vmcall.
    let vendor = cpu::cpuid(0, 0)[1];
    let amd = vendor == u32::from_le_bytes(*b"Auth") || vendor == u32::from_le_bytes(*b"Hygo");
    set_gate(if amd { Gate::Vmmcall } else { Gate::Vmcall });

    let layout = image::layout();
    // SAFETY: the loader's start info.
    let (ram, len) = unsafe { from_loader(info) };
    let end = layout.end >> 12;
    let mapped = end.next_multiple_of(512);
    let special = layout.rodata_end.max(layout.guard + 4096).div_ceil(4096);
    let tables_needed = special.div_ceil(512);
    // The last chunk of the image may have no room left for the tables and the frame map.
    let mapped = if mapped - end < tables_needed + 64 { mapped + 512 } else { mapped };
    let mut pool = Pool::default();
    (end..end + tables_needed).for_each(|frame| {
        pool.put(frame);
    });
    let wanted = |pfn| {
        let present = ram.iter().any(|r| (r.0..r.1).contains(&pfn));
        layout.protection(pfn).unwrap_or(if present { Protection::ReadWrite } else { Protection::None })
    };
    // SAFETY: the boot code's tables, on the boot stack, once.
    let tables = unsafe { Tables::new(image::pvh_l4(), image::pvh_l2(), mapped, special, &mut pool, wanted) };
    let Some(tables) = tables else { crate::report::crash() };
    let tables = mm::Tables::Pvh(tables);
    let found = Found { ram, mapped, first_free: end + tables_needed, tables, pool, image: layout };
    // SAFETY: once, and true.
    let enough = unsafe { mm::init(found) };

    let shared_info = image::shared_info();
    // A domain that starts in 32-bit mode has the 32-bit shared info until this parameter is set in 64-bit mode.
    // Its value here is that of no callback at all.
    set_hvm_param(HVM_PARAM_CALLBACK_IRQ, 0);
    // SAFETY: the page is set aside for this in the image.
    unsafe {
        memory_op(&mut to_physmap(XENMAPSPACE_SHARED_INFO, 0, shared_info >> 12));
        xen::set_shared_info(Shared::new(shared_info, 4096));
    }
    let limit = ram.iter().map(|r| r.1).max().unwrap_or(0);
    let enough = enough && window::init(limit);
    let page = |pfn, port| Some((window::map_gfn(hvm_param(pfn)?)?, hvm_param(port)? as u32));
    if let Some((ring, port)) = page(HVM_PARAM_CONSOLE_PFN, HVM_PARAM_CONSOLE_EVTCHN) {
        xen::console::init(ring, port);
    }
    if let Some((ring, port)) = page(HVM_PARAM_STORE_PFN, HVM_PARAM_STORE_EVTCHN) {
        xen::xenstore::init(ring, port);
    }
    let line = DESCRIPTORS.with(|d| d.command_line.as_ptr());
    // SAFETY: a static that was filled above, and that nobody looks at from now on but through this slice.
    start::go(enough, tsc, unsafe { core::slice::from_raw_parts(line, len) })
}
