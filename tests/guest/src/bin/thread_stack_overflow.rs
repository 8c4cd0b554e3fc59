//! A thread's stack that overflows hits its own guard page, not another's stack.

#![no_std]
#![no_main]

use libos_sys::BootMode;

service::main!(main);

fn main() -> i32 {
    match service::boot().mode {
        BootMode::Pv => service::println!("expect: xen-crash"),
        BootMode::Pvh => service::println!("expect: trap=14 stack overflow"),
    }
    let Ok(thread) = service::thread::spawn_with_stack(16 << 10, || deeper(0)) else { return 1 };
    thread.join() as i32
}

#[inline(never)]
#[expect(unconditional_recursion, reason = "the point of the test")]
fn deeper(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 64]);
    deeper(depth + 1) + core::hint::black_box(&room)[3]
}
