//! Without the jitter of time two sources are left, which is enough.
//! args: libos.entropy=no-jitter

#![no_std]
#![no_main]

use guest::check;
use service::random;

service::main!(main);

fn main() -> i32 {
    let (mut first, mut second) = ([0; 32], [0; 32]);
    check!(random::fill(&mut first).is_ok());
    check!(random::fill(&mut second).is_ok());
    check!(first != second && first != [0; 32], "{first:x?} {second:x?}");
    let info = random::info();
    for (i, source) in info.sources.iter().enumerate() {
        let used = u32::from(i != random::ENTROPY_JITTER);
        check!(source.present == used && source.healthy == used && source.failures == 0, "{info:?}");
    }
    0
}
