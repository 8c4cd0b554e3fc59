//! Nothing lies at address 0.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "does what must be caught")]

service::main!(main);

fn main() -> i32 {
    let null = core::hint::black_box(core::ptr::null::<u64>().wrapping_add(1));
    service::println!("expect: trap=14 address={null:p}");
    // SAFETY: deliberately wrong; the page must not be mapped.
    let value = unsafe { null.read_volatile() };
    service::println!("read {value}");
    service::println!("still here");
    1
}
