//! From boot to the application: the first thread and its initial stack.
//!
//! The stack is laid out as Linux lays it out for a static program (System V psABI, 3.4.1), so that a C
//! library's `_start` fits as it is; arguments and environment come from the domain's command line.

#![expect(unsafe_code, reason = "writes the initial stack")]

use crate::arch::cell::Global;
use crate::arch::x86_64::{cpu, hypercall, image, switch};
use crate::cmdline::words;
use crate::report;
use crate::sched;
use crate::xen::clock;
use core::ffi::c_void;
use libos_sys::{ABI_VERSION, BootInfo, BootMode};

/// Bytes of the first thread's stack unless `libos.stack=KiB` says otherwise: a 64th of memory, within bounds.
fn default_stack() -> usize {
    (crate::mm::info().total as usize * 4096 / 64).clamp(64 << 10, 1 << 20) & !0xfff
}

/// Bytes at the top of the first stack for arguments, environment and auxiliary vector. A command line has at
/// most 1,024 bytes (`MAX_GUEST_CMDLINE`), so this is enough for twice 64 words.
const VECTORS: usize = 4096;
/// Most arguments, and most variables.
const MAX_WORDS: usize = 64;
const MAX_STACK_KIB: usize = 1 << 20;

struct Start {
    stack: usize,
    line: &'static [u8],
    info: BootInfo,
}

static START: Global<Start> = Global::new(Start {
    stack: 0,
    line: &[],
    info: BootInfo {
        abi_version: ABI_VERSION,
        mode: 0,
        tsc_entry: 0,
        tsc_start: 0,
        xen_version: 0,
        domid: 0,
        reserved: 0,
    },
});

/// Facts about this boot, all but the domain id.
pub fn info() -> BootInfo {
    START.with(|s| s.info)
}

/// The domain's command line.
pub fn line() -> &'static [u8] {
    START.with(|s| s.line)
}

/// Starts the first thread. `enough` is false when memory was too short to set everything up.
pub fn go(enough: bool, tsc_entry: u64, line: &'static [u8]) -> ! {
    if !enough {
        short_of_memory();
    }
    clock::begin();
    START.with(|s| {
        s.line = line;
        s.info.mode = if cpu::is_pv() { BootMode::Pv as u32 } else { BootMode::Pvh as u32 };
        s.info.tsc_entry = tsc_entry;
        s.info.xen_version = hypercall::xen_version();
    });
    let stack = words(line)
        .find_map(|w| w.strip_prefix(b"libos.stack="))
        .and_then(|v| core::str::from_utf8(v).ok()?.parse::<usize>().ok())
        .map_or_else(default_stack, |kib| kib.clamp(16, MAX_STACK_KIB) << 10);
    // SAFETY: `first_thread` gets the stack that is built below, and never returns or unwinds.
    if unsafe { sched::spawn(first_thread, core::ptr::null_mut(), stack, VECTORS) } < 0 {
        short_of_memory();
    }
    let top = sched::stack_end(1);
    START.with(|s| s.stack = build_stack(Stack { at: top, floor: top - VECTORS as u64 }, line));
    sched::start()
}

fn short_of_memory() -> ! {
    report::begin_last_words();
    report::text("libos: not enough memory to start; give the domain more\n");
    report::crash()
}

/// The initial stack under construction, filled from the top down.
struct Stack {
    at: u64,
    /// Lowest address that may be written.
    floor: u64,
}

impl Stack {
    fn bytes(&mut self, bytes: impl DoubleEndedIterator<Item = u8>) -> u64 {
        for byte in bytes.rev() {
            self.at -= 1;
            assert!(self.at >= self.floor);
            // SAFETY: in the upper part of the fresh stack, which nobody uses yet.
            unsafe { (self.at as *mut u8).write(byte) };
        }
        self.at
    }

    fn word(&mut self, word: u64) {
        let at = self.bytes(word.to_le_bytes().into_iter());
        assert!(at.is_multiple_of(8));
    }
}

// Auxiliary vector, System V psABI 3.4.3 and Linux's `auxvec.h`.
const AT_NULL: u64 = 0;
const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;
const AT_PAGESZ: u64 = 6;
const AT_RANDOM: u64 = 25;

extern "C" fn first_thread(_: *mut c_void) {
    let stack = START.with(|s| {
        s.info.tsc_start = cpu::rdtsc();
        s.stack
    });
    // SAFETY: laid out as the application expects, at the top of this thread's stack, above this frame, which is
    // never returned to.
    unsafe { switch::enter(stack) }
}

/// Fills the top of the first thread's stack; the stack pointer for `_start`.
fn build_stack(mut stack: Stack, line: &[u8]) -> usize {
    let random = stack.bytes(random_bytes().into_iter());
    let (mut args, mut argc) = ([0; MAX_WORDS], 0);
    let (mut env, mut envc) = ([0; MAX_WORDS], 0);
    let mut string = |word: &[u8]| {
        stack.bytes([0].into_iter());
        stack.bytes(word.iter().copied().filter(|b| *b != b'"'))
    };
    args[argc] = string(b"domain");
    argc += 1;
    for word in words(line) {
        if let Some(variable) = word.strip_prefix(b"env.") {
            if envc < MAX_WORDS {
                env[envc] = string(variable);
                envc += 1;
            }
        } else if !word.starts_with(b"libos.") && argc < MAX_WORDS {
            args[argc] = string(word);
            argc += 1;
        }
    }
    let (headers, header_size, header_count) = image::program_headers();
    let auxiliary = [
        (AT_PHDR, headers),
        (AT_PHENT, header_size),
        (AT_PHNUM, header_count),
        (AT_PAGESZ, 4096),
        (AT_RANDOM, random),
        (AT_NULL, 0),
    ];
    let words = (1 + argc + 1 + envc + 1 + 2 * auxiliary.len()) as u64;
    // `_start` finds the stack pointer 16-byte aligned.
    stack.at = ((stack.at - words * 8) & !15) + words * 8;
    for (kind, value) in auxiliary.into_iter().rev() {
        stack.word(value);
        stack.word(kind);
    }
    stack.word(0);
    env[..envc].iter().rev().for_each(|p| stack.word(*p));
    stack.word(0);
    args[..argc].iter().rev().for_each(|p| stack.word(*p));
    stack.word(argc as u64);
    stack.at as usize
}

/// Sixteen bytes for `AT_RANDOM`, which seeds no more than a C library's stack canary, and is good for nothing
/// else: RDRAND where there is one, the time-stamp counter mixed in. Random numbers come from [`crate::entropy`],
/// whose start would cost every domain more than its whole boot.
fn random_bytes() -> [u8; 16] {
    let mut words = [cpu::rdtsc(), cpu::rdtsc().rotate_left(32)];
    words.iter_mut().for_each(|w| *w ^= cpu::random().unwrap_or(0));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&words[0].to_le_bytes());
    bytes[8..].copy_from_slice(&words[1].to_le_bytes());
    bytes
}
