//! @NAME@: a program without a C library and without std, alone in a domain of its own.
#![no_std]
#![no_main]

service::main!(main);

/// Its result is the domain's exit status.
fn main() -> i32 {
    service::println!("Hello from @NAME@, with {} words.", service::args().count());
    0
}
