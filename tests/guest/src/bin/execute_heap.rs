//! Fresh pages cannot be executed.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "does what must be caught")]

service::main!(main);

fn main() -> i32 {
    let Some(pages) = service::sys::pages_alloc(1) else { return 1 };
    pages.fill(0xc3);
    let code = pages.as_ptr();
    service::println!("expect: trap=14 address={code:p}");
    // SAFETY: deliberately wrong; the page must not be executable.
    let function: extern "C" fn() = unsafe { core::mem::transmute(code) };
    function();
    service::println!("still here");
    1
}
