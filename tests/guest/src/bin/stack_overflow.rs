//! A stack that overflows hits its guard page.

#![no_std]
#![no_main]

use libos_sys::BootMode;

service::main!(main);

fn main() -> i32 {
    match service::boot().mode {
        // Xen delivers exceptions on the stack that has just run out, and crashes the domain.
        BootMode::Pv => service::println!("expect: xen-crash"),
        BootMode::Pvh => service::println!("expect: trap=14 stack overflow"),
    }
    deeper(0) as i32
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "the point of the test")]
fn deeper(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 64]);
    deeper(depth + 1) + core::hint::black_box(&room)[3]
}
