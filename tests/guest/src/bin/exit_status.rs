//! The exit status is what the main function returned.

#![no_std]
#![no_main]

service::main!(main);

fn main() -> i32 {
    service::println!("expect: exit 42");
    42
}
