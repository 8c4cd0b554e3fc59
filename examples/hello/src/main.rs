//! The smallest domain: says hello on the console and exits.

#![no_std]
#![no_main]

service::main!(main);

fn main() -> i32 {
    service::println!("Hello from a domain of its own.");
    0
}
