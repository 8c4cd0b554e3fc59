//! The heap gives what is asked for, keeps contents apart, fails cleanly, and gives memory back.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use guest::check;

service::main!(main);

fn main() -> i32 {
    let before = service::memory::info().free;
    let mut held: VecDeque<(u8, Vec<u8>)> = VecDeque::new();
    let mut seed = 12345u32;
    for round in 0..4000u32 {
        seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
        let size = 1 + (seed >> 8) as usize % if round.is_multiple_of(50) { 40_000 } else { 700 };
        let mark = round as u8;
        held.push_back((mark, vec![mark; size]));
        if held.len() > 60 {
            let (mark, block) = held.remove(seed as usize % held.len()).unwrap_or_default();
            check!(block.iter().all(|byte| *byte == mark), "round {round}");
        }
    }
    for (mark, block) in held.drain(..) {
        check!(block.iter().all(|byte| *byte == mark));
    }
    drop(held);

    let mut huge: Vec<u8> = Vec::new();
    let total = service::memory::info().total as usize * 4096;
    check!(huge.try_reserve_exact(total).is_err());
    check!(huge.try_reserve_exact(1 << 20).is_ok());
    drop(huge);

    let after = service::memory::info().free;
    service::println!("free pages before {before}, after {after}");
    // The heap may keep some pages for itself; a leak would be many more.
    check!(after + 24 >= before);
    0
}
