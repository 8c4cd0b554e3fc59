//! More output than the ring holds arrives whole, and input arrives.

#![no_std]
#![no_main]

use guest::check;
use libos_sys::NEVER;

service::main!(main);

fn main() -> i32 {
    // The ring has 2,048 bytes; these lines have 40,000.
    for line in 0..1000 {
        service::println!("line {line:4} of a long text that is longer");
    }
    service::println!("expect: input over to you");
    let mut text = [0; 64];
    let mut len = 0;
    while len == 0 || text[len - 1] != b'\n' {
        match service::console::read(&mut text[len..], NEVER) {
            Ok(count) => len += count,
            Err(error) => check!(false, "{error}"),
        }
    }
    check!(&text[..len] == b"over to you\n", "{:?}", &text[..len]);
    let now = service::time::Instant::now().nanos();
    check!(service::console::read(&mut text, now + 1_000_000).is_err());
    0
}
