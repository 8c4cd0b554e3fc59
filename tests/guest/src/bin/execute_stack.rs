//! Stacks cannot be executed.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "does what must be caught")]

service::main!(main);

fn main() -> i32 {
    let code = [0xc3u8; 16];
    let code = core::hint::black_box(&code).as_ptr();
    service::println!("expect: trap=14 address={code:p}");
    // SAFETY: deliberately wrong; the page must not be executable.
    let function: extern "C" fn() = unsafe { core::mem::transmute(code) };
    function();
    service::println!("still here");
    1
}
