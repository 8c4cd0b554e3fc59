//! An address that cannot be is reported.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "does what must be caught")]

service::main!(main);

fn main() -> i32 {
    let strange = core::ptr::without_provenance::<u64>(1 << 63);
    service::println!("expect: trap=13");
    // SAFETY: deliberately wrong; the address is not canonical.
    let value = unsafe { core::hint::black_box(strange).read_volatile() };
    service::println!("read {value}");
    service::println!("still here");
    1
}
