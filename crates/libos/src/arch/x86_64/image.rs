//! Symbols of the linker script and of the boot code.

#![expect(unsafe_code, reason = "symbols of the linker script")]

use crate::mm::Image;

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __image_end: u8;
    static libos_boot_guard: u8;
    static libos_boot_stack_end: u8;
    static libos_shared_info: u8;
    static libos_pvh_l4: u8;
    static libos_pvh_l2: u8;
    static libos_pvh_gdt: u8;
    safe static libos_cancellation_point: u64;
}

macro_rules! addresses {
    ($($(#[$doc:meta])* $name:ident = $symbol:ident;)*) => {
        $($(#[$doc])* pub fn $name() -> u64 {
            (&raw const $symbol) as u64
        })*
    };
}

addresses! {
    /// First byte of the image: its ELF header.
    start = __image_start;
    /// End of the boot stack, which is the top of PVH's exception stack.
    boot_stack_end = libos_boot_stack_end;
    /// The page that the shared info is mapped over.
    shared_info = libos_shared_info;
    /// PVH's top-level page table.
    pvh_l4 = libos_pvh_l4;
    /// PVH's page directory of the first GiB.
    pvh_l2 = libos_pvh_l2;
    /// PVH's descriptor table.
    pvh_gdt = libos_pvh_gdt;
}

/// Where the parts of the image lie.
pub fn layout() -> Image {
    Image {
        start: start(),
        text_end: (&raw const __text_end) as u64,
        rodata_end: (&raw const __rodata_end) as u64,
        end: (&raw const __image_end) as u64,
        guard: (&raw const libos_boot_guard) as u64,
    }
}

/// Where the cancellation points of a C library begin (musl's `__cp_begin`); 0 when there are none.
pub fn cancellation_point() -> u64 {
    libos_cancellation_point
}

/// Program headers of the image: address, size of one, number.
pub fn program_headers() -> (u64, u64, u64) {
    let header = start() as *const u8;
    // SAFETY: the first segment of the image begins with the ELF64 header (see link.ld): e_phoff at 32,
    // e_phentsize at 54, e_phnum at 56.
    unsafe {
        let offset = header.add(32).cast::<u64>().read();
        let size = header.add(54).cast::<u16>().read();
        let count = header.add(56).cast::<u16>().read();
        (start() + offset, size.into(), count.into())
    }
}
