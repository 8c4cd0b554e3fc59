//! Constants cannot be written.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "does what must be caught")]

service::main!(main);

fn main() -> i32 {
    static CONSTANT: [u64; 4] = [1, 2, 3, 4];
    let constant = (&raw const CONSTANT).cast_mut().cast::<u64>();
    service::println!("expect: trap=14 address={constant:p}");
    // SAFETY: deliberately wrong; the page must be read-only.
    unsafe { constant.write_volatile(5) };
    service::println!("still here");
    1
}
