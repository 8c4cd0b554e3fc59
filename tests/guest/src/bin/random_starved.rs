//! With one source there are no random numbers, and the console says once which there are.
//! args: libos.entropy=no-hardware,no-seed

#![no_std]
#![no_main]

use guest::check;
use libos_sys::errno;
use service::{Errno, random};

service::main!(main);

fn main() -> i32 {
    service::println!(
        "expect: line libos: no random numbers: fewer than two entropy sources are healthy: \
         hardware switched off, jitter healthy, seed switched off"
    );
    for _ in 0..3 {
        let mut bytes = [7; 32];
        check!(random::fill(&mut bytes) == Err(Errno(errno::EIO)));
        check!(bytes == [0; 32]);
    }
    let info = random::info();
    check!(info.sources[random::ENTROPY_JITTER].healthy == 1);
    check!(
        info.sources[random::ENTROPY_HARDWARE].present == 0
            && info.sources[random::ENTROPY_SEED].present == 0
    );
    0
}
