//! What the application adds counts as a seed if it is noise, and changes nothing if it is not.
//! args: libos.entropy=no-hardware

#![no_std]
#![no_main]

use guest::check;
use libos_sys::errno;
use service::Errno;
use service::random::{self, ENTROPY_SEED};
use service::xenstore::NONE;

service::main!(main);

fn main() -> i32 {
    service::println!(
        "expect: line libos: no random numbers: fewer than two entropy sources are healthy: \
         hardware switched off, jitter healthy, seed absent"
    );
    // Taken away before anybody has asked for it.
    let seed = NONE.read("data/entropy-seed");
    check!(NONE.rm("data/entropy-seed").is_ok());
    let mut bytes = [7; 32];
    check!(random::fill(&mut bytes) == Err(Errno(errno::EIO)));
    for bad in [&[0; 64][..], &[], &[1, 2, 3], &[9; 31]] {
        check!(random::add(bad) == Err(Errno(errno::EINVAL)));
        check!(random::fill(&mut bytes) == Err(Errno(errno::EIO)) && bytes == [0; 32]);
    }
    // The digits of the seed are as good as any.
    let Ok(seed) = seed else { return 1 };
    check!(random::add(&seed[..64]).is_ok());
    check!(random::fill(&mut bytes).is_ok() && bytes != [0; 32]);
    let before = random::info();
    check!(before.sources[ENTROPY_SEED].healthy == 1 && before.sources[ENTROPY_SEED].samples == 64);
    // Again, and then something bad: what was there stays.
    check!(random::add(&seed[32..]).is_ok());
    check!(random::add(&[0; 64]) == Err(Errno(errno::EINVAL)));
    let after = random::info();
    check!(after.sources[ENTROPY_SEED].healthy == 1 && after.reseeds == before.reseeds + 1, "{after:?}");
    check!(random::fill(&mut bytes).is_ok());
    0
}
