//! Data cannot be executed.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "does what must be caught")]

service::main!(main);

fn main() -> i32 {
    static mut CODE: [u8; 16] = [0xc3; 16];
    let code = (&raw mut CODE).cast::<u8>();
    service::println!("expect: trap=14 address={code:p}");
    // SAFETY: deliberately wrong; the page must not be executable.
    let function: extern "C" fn() = unsafe { core::mem::transmute(code) };
    function();
    service::println!("still here");
    1
}
