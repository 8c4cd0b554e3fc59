//! All RAM can be used, what is handed out is zeroed and writable, and the image is where it says.

#![no_std]
#![no_main]

use guest::check;
use service::sys;

service::main!(main);

fn main() -> i32 {
    let info = service::memory::info();
    service::println!("{info:?}");
    check!(info.total >= 512);
    check!(info.image_start == 1 << 20);
    check!(info.image_start < info.text_end && info.text_end < info.rodata_end);
    check!(info.rodata_end < info.image_end);
    let here = main as *const () as u64;
    check!((info.image_start..info.text_end).contains(&here));

    // Take everything in pieces of all sizes, and write to every page.
    let (mut taken, mut piece, mut top) = (0, 256, 0);
    while piece > 0 {
        match sys::pages_alloc(piece) {
            Some(pages) => {
                taken += piece as u64;
                top = top.max(pages.as_ptr().addr() as u64 + pages.len() as u64);
                for page in pages.chunks_mut(4096) {
                    check!(page.iter().all(|byte| *byte == 0));
                    page.fill(0xa5);
                }
            }
            None => piece /= 2,
        }
    }
    service::println!("took {taken} of {} free pages, the highest below {top:#x}", info.free);
    // Page tables for RAM that was not mapped yet may cost a few pages.
    check!(taken + 16 + info.total / 256 >= info.free);
    // At least three quarters of the smallest domain are for the service.
    check!(info.free * 4 >= info.total * 3, "{} of {}", info.free, info.total);
    check!(service::memory::info().free < 16);
    0
}
