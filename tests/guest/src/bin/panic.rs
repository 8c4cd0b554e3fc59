//! A panic is reported with its message and place, and a backtrace.

#![no_std]
#![no_main]

service::main!(main);

fn main() -> i32 {
    service::println!("expect: panic all is lost: 7 at tests/guest/src/bin/panic.rs");
    lose(7)
}

#[inline(never)]
fn lose(count: u32) -> i32 {
    panic!("all is lost: {count}")
}
