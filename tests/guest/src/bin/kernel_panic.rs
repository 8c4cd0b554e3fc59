//! Giving back memory that is not ours is a bug of the caller that the kernel stops at.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "does what the interface forbids")]

service::main!(main);

fn main() -> i32 {
    service::println!("expect: kernel panic");
    // SAFETY: deliberately wrong; the kernel is expected to refuse.
    unsafe { libos_sys::libos_pages_free(core::ptr::without_provenance_mut(0), 1) };
    0
}
