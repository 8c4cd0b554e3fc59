//! Text cannot be written.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "does what must be caught")]

service::main!(main);

fn main() -> i32 {
    let text = main as *const () as *mut u8;
    service::println!("expect: trap=14 address={text:p}");
    // SAFETY: deliberately wrong; the page must be read-only.
    unsafe { text.write_volatile(0xc3) };
    service::println!("still here");
    1
}
