//! Exceptions. All are fatal: the report names the exception, the address, the registers and the way there.

#![expect(unsafe_code, reason = "walks the stack and installs trap tables")]

use super::cpu;
use crate::mm;
use crate::mm::raw;
use crate::report::{self, decimal, hex, text};
use crate::sched;
use crate::xen::shared_info;
use xen_abi::shared_info::{SHARED_INFO_VCPU_INFO_OFFSET, VCPU_INFO_CR2_OFFSET};
use xen_abi::trap::{FLAT_KERNEL_CS, TrapInfo};

/// Vectors with an entry, 0 to 19.
pub const VECTORS: usize = 20;
const PAGE_FAULT: u64 = 14;

unsafe extern "C" {
    safe static libos_pv_traps: [u64; VECTORS];
    safe static libos_pvh_traps: [u64; VECTORS];
}

/// Registers as the trap entry pushes them.
#[repr(C)]
pub struct Frame {
    /// r15 r14 r13 r12 r11 r10 r9 r8 rdi rsi rbp rbx rdx rcx rax
    registers: [u64; 15],
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

const NAMES: [&str; 15] =
    ["r15", "r14", "r13", "r12", "r11", "r10", "r9 ", "r8 ", "rdi", "rsi", "rbp", "rbx", "rdx", "rcx", "rax"];
const RBP: usize = 10;

fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid task state",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection",
        PAGE_FAULT => "page fault",
        16 => "x87 error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD error",
        _ => "unknown",
    }
}

/// Addresses of the PVH entries, for the IDT.
pub fn pvh_entries() -> &'static [u64; VECTORS] {
    &libos_pvh_traps
}

/// Tells Xen where our trap entries are. PV only.
pub fn install_pv() -> bool {
    let mut table = [TrapInfo::default(); VECTORS + 1];
    // NMI and the vectors that no longer exist have no entry.
    let vectors = (0..VECTORS).filter(|v| !matches!(v, 2 | 9 | 15));
    for (slot, vector) in table.iter_mut().zip(vectors) {
        *slot =
            TrapInfo { vector: vector as u8, flags: 0, cs: FLAT_KERNEL_CS, address: libos_pv_traps[vector] };
    }
    // SAFETY: the addresses are those of trap entries; the last element stays zero.
    unsafe { super::hypercall::set_trap_table(&table) == 0 }
}

fn fault_address() -> u64 {
    if cpu::is_pv() {
        shared_info().load64(SHARED_INFO_VCPU_INFO_OFFSET + VCPU_INFO_CR2_OFFSET)
    } else {
        cpu::read_cr2()
    }
}

/// Where the trap entries end up.
#[unsafe(no_mangle)]
extern "C" fn libos_trap(frame: &Frame) -> ! {
    let address = if frame.vector == PAGE_FAULT { fault_address() } else { frame.rip };
    report::begin_last_words();
    text("trap: ");
    text(name(frame.vector));
    text(" (vector ");
    decimal(frame.vector);
    text(")");
    if frame.vector == PAGE_FAULT {
        text(match frame.error & 0x12 {
            0x10 => " executing",
            0x02 => " writing",
            _ => " reading",
        });
    }
    text(" at address ");
    hex(address);
    text(", error code ");
    hex(frame.error);
    text(", rip ");
    hex(frame.rip);
    text("\n");
    if frame.vector == PAGE_FAULT {
        // The guard page of a stack that the application made lies just below its stack pointer.
        let below = (frame.rsp & !0xfff).wrapping_sub(address & !0xfff) <= 4096;
        let foreign =
            below && mm::rights(address) == mm::Protection::None && sched::stack_end(sched::current()) == 0;
        if let Some(thread) = sched::guard_owner(address).or(foreign.then(sched::current)) {
            text("this is the guard page below the stack of thread ");
            decimal(thread as u64);
            text(": stack overflow\n");
        }
    }
    for (i, (name, value)) in NAMES.iter().zip(frame.registers).rev().enumerate() {
        text(if i % 3 == 0 { "  " } else { "   " });
        text(name);
        text(" ");
        hex(value);
        if i % 3 == 2 {
            text("\n");
        }
    }
    text("  rsp ");
    hex(frame.rsp);
    text("   rflags ");
    hex(frame.rflags);
    text("   thread ");
    decimal(sched::current() as u64);
    text("\n");
    backtrace(Some(frame.rip), frame.registers[RBP] as usize);
    report::crash()
}

/// Most frames that are printed.
const DEPTH: u64 = 32;

/// Prints the return addresses that hang at `frame_pointer`, `rip` first. Follows only records that can be read
/// and get higher, so it ends whatever the stack holds.
pub fn backtrace(rip: Option<u64>, frame_pointer: usize) {
    let text_range = mm::info();
    text("backtrace:\n");
    let mut number = 0;
    let mut line = |address: u64| {
        text("  #");
        decimal(number);
        text(" ");
        hex(address);
        text("\n");
        number += 1;
        number < DEPTH
    };
    if let Some(rip) = rip {
        line(rip);
    }
    let mut pointer = frame_pointer;
    while pointer.is_multiple_of(8) && mm::accessible(pointer as u64, 16, false) {
        // SAFETY: the record is mapped.
        let (next, return_address) = unsafe { raw::frame_record(pointer) };
        let inside = (text_range.image_start..text_range.text_end).contains(&(return_address as u64));
        if !inside || !line(return_address as u64) || next <= pointer {
            break;
        }
        pointer = next;
    }
}
