//! Random bytes come from three healthy sources, look like it, and the seed is used once and nobody else's.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use guest::check;
use libos_sys::errno;
use service::random::{self, ENTROPY_HARDWARE, ENTROPY_JITTER, ENTROPY_SEED};
use service::xenstore::NONE;
use service::{Errno, sys, thread};
use xen_abi::xenstore::MsgType;

service::main!(main);

const NODE: &str = "data/entropy-seed";

fn main() -> i32 {
    // Nothing happens before it is asked for.
    check!(random::info() == Default::default());
    let domid = service::boot().domid;
    let mut perms = [0; 64];
    let len = sys::xenstore_request(MsgType::GetPerms.number(), 0, b"data/entropy-seed\0", &mut perms);
    let want = alloc::format!("n{domid}\0");
    check!(len.is_ok_and(|len| perms[..len] == *want.as_bytes()), "{len:?} {perms:?}");
    check!(NONE.read(NODE).is_ok_and(|seed| seed.len() == 96));

    let (mut first, mut second) = ([0; 32], [0; 32]);
    check!(random::fill(&mut first).is_ok());
    check!(random::fill(&mut second).is_ok());
    check!(first != second && first != [0; 32], "{first:x?} {second:x?}");
    let info = random::info();
    service::println!("{info:?}");
    for source in info.sources {
        check!(source.present == 1 && source.healthy == 1 && source.failures == 0);
    }
    check!(info.sources[ENTROPY_HARDWARE].samples >= 1024);
    check!(info.sources[ENTROPY_JITTER].samples >= 1024);
    check!(info.sources[ENTROPY_SEED].samples == 48);
    check!(NONE.read(NODE) == Err(Errno(errno::ENOENT)));

    // As many ones as zeros: the standard deviation is 362, seven of them are allowed.
    let mut bytes = vec![0; 64 << 10];
    check!(random::fill(&mut bytes).is_ok());
    let ones: u32 = bytes.iter().map(|b| b.count_ones()).sum();
    check!(ones.abs_diff(4 * (64 << 10)) < 7 * 362, "{ones}");
    // Every value of a byte, and no 8 bytes twice.
    check!((0..=255).all(|value| bytes.contains(&value)));
    let mut words: Vec<_> = bytes.chunks(8).map(<[u8]>::to_vec).collect();
    words.sort_unstable();
    check!(words.windows(2).all(|pair| pair[0] != pair[1]));

    // More than one request's most, and nothing at all.
    let mut long = vec![0; 200_000];
    check!(random::fill(&mut long).is_ok());
    check!(
        long[199_968..] != [0; 32] && long[65_536..65_568] != [0; 32] && long[..32] != long[65_536..65_568]
    );
    check!(random::fill(&mut []).is_ok());

    // Beyond the reseeding interval, from several threads.
    let workers: Vec<_> = (0..4)
        .filter_map(|_| {
            thread::spawn(|| {
                let mut last = [0; 16];
                (0..2100).all(|_| {
                    let before = last;
                    thread::yield_now();
                    random::fill(&mut last).is_ok() && last != before
                })
            })
            .ok()
        })
        .collect();
    check!(workers.len() == 4);
    for worker in workers {
        check!(worker.join());
    }
    let info = random::info();
    check!(info.reseeds >= 2, "{info:?}");
    check!(info.sources.iter().all(|source| source.healthy == 1));
    0
}
