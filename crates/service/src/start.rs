//! From the kernel's jump to `_start` to the service's main function.

#![expect(unsafe_code, reason = "the entry point")]

use crate::{arguments, sys};
use core::fmt::Write;
use libos_sys::BootMode;

unsafe extern "C" {
    /// Made by [`crate::main!`].
    safe fn libos_service_main() -> i32;
}

core::arch::global_asm!(
    ".pushsection .text._start, \"ax\", @progbits",
    ".globl _start",
    "_start:",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    ".popsection",
    start = sym start,
);

/// `stack` is laid out as in `libos_sys`, "Start".
extern "C" fn start(stack: *const usize) -> ! {
    arguments::init(stack);
    sys::exit(libos_service_main())
}

/// Ends the domain with this exit status (0 to 255).
pub fn exit(status: i32) -> ! {
    sys::exit(status)
}

/// Named by the unwind tables of the prebuilt `core` and `alloc`; never called, since panics end the domain.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Named by the landing pads of the prebuilt `alloc`; as above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    sys::panic(b"unwinding in a service without unwinding")
}

/// How the domain was booted.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    /// PV or PVH.
    pub mode: BootMode,
    /// Xen's version: major, minor.
    pub xen: (u32, u32),
    /// This domain's id.
    pub domid: u16,
    /// Time-stamp counter ticks from the domain's first instruction to the application's.
    pub cycles: u64,
}

/// Facts about this boot.
pub fn boot() -> Boot {
    let info = sys::boot_info();
    Boot {
        mode: if info.mode == BootMode::Pv as u32 { BootMode::Pv } else { BootMode::Pvh },
        xen: (info.xen_version >> 16, info.xen_version & 0xffff),
        domid: info.domid,
        cycles: info.tsc_start.wrapping_sub(info.tsc_entry),
    }
}

/// A panic's message, cut at a length that needs no heap.
struct Message {
    text: [u8; 512],
    len: usize,
}

impl Write for Message {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        let count = s.len().min(self.text.len() - self.len);
        self.text[self.len..self.len + count].copy_from_slice(&s.as_bytes()[..count]);
        self.len += count;
        Ok(())
    }
}

/// Ends the domain as a panic with this message does.
pub fn panic_exit(message: core::fmt::Arguments<'_>) -> ! {
    let mut text = Message { text: [0; 512], len: 0 };
    // `Message` never fails.
    let _ = text.write_fmt(message);
    sys::panic(&text.text[..text.len])
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => panic_exit(format_args!("{} at {}:{}", info.message(), place.file(), place.line())),
        None => panic_exit(format_args!("{}", info.message())),
    }
}
