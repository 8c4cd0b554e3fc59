//! The domain starts, knows its mode, its id and its command line, and ends.
//! args: one "two words" env.COLOUR=green libos.stack=128 3

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use guest::check;

service::main!(main);

fn main() -> i32 {
    let boot = service::boot();
    service::println!("mode {:?}, Xen {}.{}, domain {}", boot.mode, boot.xen.0, boot.xen.1, boot.domid);
    check!(boot.xen.0 == 4 && boot.xen.1 >= 4);
    check!(boot.domid > 0);
    check!(boot.cycles > 0);
    service::println!("{} cycles from entry to _start", boot.cycles);
    let args: Vec<_> = service::args().collect();
    check!(args == ["one", "two words", "3"], "{args:?}");
    check!(service::env("COLOUR") == Some("green"));
    check!(service::env("COLOR").is_none());
    0
}
