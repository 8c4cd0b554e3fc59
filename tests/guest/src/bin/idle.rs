//! A domain that waits uses no processor time.

#![no_std]
#![no_main]

use core::time::Duration;

service::main!(main);

fn main() -> i32 {
    // Other threads that wait for other things must not keep the domain awake.
    let waits = [
        service::thread::spawn(|| {
            let _ = service::xenstore::event(u64::MAX);
        }),
        service::thread::spawn(|| {
            let _ = service::console::read(&mut [0; 8], u64::MAX);
        }),
    ];
    guest::check!(waits.iter().all(Result::is_ok));
    service::println!("expect: idle");
    service::thread::sleep(Duration::from_secs(3));
    0
}
