//! The monotonic clock goes forward and only forward, sleeping takes its time, the wall clock is right.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use core::time::Duration;
use guest::check;
use service::time::{Instant, since_epoch};
use service::xenstore::NONE;
use service::{sys, thread};

service::main!(main);

fn main() -> i32 {
    let mut last = sys::clock_monotonic();
    for _ in 0..200_000 {
        let now = sys::clock_monotonic();
        check!(now >= last, "{now} after {last}");
        // Ten minutes at once would be a jump, however slow the machine.
        check!(now - last < 600_000_000_000, "{now} after {last}");
        last = now;
    }
    for millis in [1, 10, 100] {
        let span = Duration::from_millis(millis);
        let (start, wall) = (Instant::now(), since_epoch());
        thread::sleep(span);
        let (slept, wall) = (start.elapsed(), since_epoch() - wall);
        check!(slept >= span, "{slept:?}");
        check!(wall >= span && wall < slept + Duration::from_millis(200), "{wall:?} {slept:?}");
    }
    // The toolstack wrote down when it started us.
    let (Ok(vm), now) = (NONE.read_text("vm"), since_epoch()) else { return 1 };
    let Ok(started) = NONE.read_text(&format!("{vm}/start_time")) else { return guest::SKIP };
    let seconds = started.split('.').next().and_then(|s| s.parse::<u64>().ok()).unwrap_or(0);
    service::println!("started at {started}, now {now:?}");
    check!(now.as_secs() + 2 >= seconds && now.as_secs() < seconds + 3600);
    0
}
