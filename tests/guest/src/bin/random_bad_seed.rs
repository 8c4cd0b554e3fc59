//! A seed that is none is named and does not count; a good one that comes later does.
//! args: libos.entropy=no-hardware,no-nonsense

#![no_std]
#![no_main]

extern crate alloc;

use guest::check;
use libos_sys::errno;
use service::xenstore::NONE;
use service::{Errno, random};

service::main!(main);

const NODE: &str = "data/entropy-seed";

fn main() -> i32 {
    for line in [
        "unknown word in libos.entropy=, use no-hardware, no-jitter, no-seed",
        "entropy source seed does not count any more: malformed: 64 to 512 hexadecimal digits are wanted",
        "entropy source seed does not count any more: malformed: not a hexadecimal number",
        "entropy source seed does not count any more: malformed: too long",
        "entropy source seed does not count any more: stuck",
        "no random numbers: fewer than two entropy sources are healthy: \
         hardware switched off, jitter healthy, seed failed",
    ] {
        service::println!("expect: line libos: {line}");
    }
    let bad = ["12345678", &"0x".repeat(48), &"5a".repeat(1000), &"00".repeat(48)];
    for (i, seed) in bad.into_iter().enumerate() {
        check!(NONE.write(NODE, seed.as_bytes()).is_ok());
        check!(random::fill(&mut [0; 32]) == Err(Errno(errno::EIO)), "{seed}");
        check!(NONE.read(NODE) == Err(Errno(errno::ENOENT)));
        let source = random::info().sources[random::ENTROPY_SEED];
        check!(source.healthy == 0 && source.failures == 1 + i as u64, "{source:?}");
    }
    // Without a new one the state stays as it is.
    check!(random::fill(&mut [0; 32]) == Err(Errno(errno::EIO)));
    let good = "00112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f0";
    check!(NONE.write(NODE, good.as_bytes()).is_ok());
    let mut bytes = [0; 32];
    check!(random::fill(&mut bytes).is_ok() && bytes != [0; 32]);
    let source = random::info().sources[random::ENTROPY_SEED];
    check!(source.healthy == 1 && source.samples == 32, "{source:?}");
    0
}
