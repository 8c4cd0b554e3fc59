//! What the tests of `casemate run --gdb` debug: a function with arguments and a variable, called twice.

#![no_std]
#![no_main]

service::main!(main);

fn main() -> i32 {
    service::println!("expect: exit 49");
    weigh(core::hint::black_box(5), 8) + weigh(core::hint::black_box(1), 9)
}

/// Adds up products.
#[inline(never)]
fn weigh(first: i32, second: i32) -> i32 {
    let product = core::hint::black_box(first * second);
    product - core::hint::black_box(7) / second
}
