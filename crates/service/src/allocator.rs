//! The heap: talc over the kernel's pages. Memory that is free again goes back to the kernel.

#![expect(unsafe_code, reason = "a global allocator")]

use core::alloc::{GlobalAlloc, Layout};
use libos_sys::{PAGE_SIZE, libos_pages_alloc, libos_pages_free};
use talc::DefaultBinning;
use talc::cell::{TalcCell, TalcSyncCell};
use talc::source::GlobalAllocSource;

/// Pages from the kernel as talc wants to see them.
#[derive(Debug)]
struct Pages;

// SAFETY: the kernel hands out each page once; page alignment is all that is ever asked for.
unsafe impl GlobalAlloc for Pages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() > PAGE_SIZE {
            return core::ptr::null_mut();
        }
        libos_pages_alloc(layout.size().div_ceil(PAGE_SIZE))
    }

    unsafe fn dealloc(&self, base: *mut u8, layout: Layout) {
        // SAFETY: comes from `alloc` with the same layout.
        unsafe { libos_pages_free(base, layout.size().div_ceil(PAGE_SIZE)) }
    }
}

/// What the heap grows by, bytes.
const STEP: usize = 32 << 10;

#[global_allocator]
// SAFETY: threads are cooperative and switch only inside functions of the kernel that wait, which talc and
// `Pages` never call; there are no interrupt handlers.
static HEAP: TalcSyncCell<GlobalAllocSource<Pages>, DefaultBinning> =
    unsafe { TalcSyncCell::new(TalcCell::new(GlobalAllocSource::with_block_size(Pages, STEP))) };
