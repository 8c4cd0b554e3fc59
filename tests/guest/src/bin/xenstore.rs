//! Xenstore: read, write, list, remove, watch, transactions, errors, and several threads at once.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use guest::check;
use libos_sys::{NEVER, errno};
use service::xenstore::{self, NONE};
use service::{Errno, thread};

service::main!(main);

fn main() -> i32 {
    let domid = service::boot().domid;
    check!(NONE.read_text("domid") == Ok(format!("{domid}")));
    check!(NONE.read("data/no/such/node") == Err(Errno(errno::ENOENT)));
    check!(NONE.write("/local/domain/0/name", b"mine") == Err(Errno(errno::EACCES)));
    check!(NONE.read("two//slashes") == Err(Errno(errno::EINVAL)));

    for i in 0..20 {
        check!(NONE.write(&format!("data/test/{i:02}"), format!("value {i}").as_bytes()).is_ok());
    }
    let names = NONE.list("data/test");
    let want: Vec<String> = (0..20).map(|i| format!("{i:02}")).collect();
    check!(names.as_ref().is_ok_and(|n| *n == want), "{names:?}");
    check!(NONE.read_text("data/test/07").as_deref() == Ok("value 7"));

    // The longest value, longer than the ring.
    let long: Vec<u8> = (0..2000u32).map(|i| (i % 251) as u8).collect();
    check!(NONE.write("data/long", &long).is_ok());
    check!(NONE.read("data/long").is_ok_and(|v| v == long));
    check!(NONE.write("data/long", &vec![0; 5000]).is_err());

    // A transaction is all or nothing.
    let undone = xenstore::transaction(|tx| {
        tx.write("data/test/00", b"changed")?;
        Err::<(), _>(Errno(errno::EIO))
    });
    check!(undone == Err(Errno(errno::EIO)));
    check!(NONE.read_text("data/test/00").as_deref() == Ok("value 0"));
    // One that is disturbed is tried again.
    let mut tries = 0;
    let sum = xenstore::transaction(|tx| {
        tries += 1;
        let old = tx.read_text("data/test/01")?;
        if tries == 1 {
            NONE.write("data/test/01", b"value 100")?;
        }
        tx.write("data/test/01", format!("{old}!").as_bytes())
    });
    check!(sum.is_ok() && tries == 2, "{sum:?} {tries}");
    check!(NONE.read_text("data/test/01").as_deref() == Ok("value 100!"));

    // A watch fires once for itself and then for every change, also while others talk to xenstore.
    check!(xenstore::watch("data/watched", "token").is_ok());
    let event = xenstore::event(NEVER);
    check!(event.as_ref().is_ok_and(|(p, t)| p == "data/watched" && t == "token"), "{event:?}");
    let Ok(waiter) = thread::spawn(|| xenstore::event(NEVER)) else { return 1 };
    thread::yield_now();
    check!(NONE.write("data/watched/below", b"x").is_ok());
    let event = waiter.join();
    check!(event.as_ref().is_ok_and(|(p, _)| p == "data/watched/below"), "{event:?}");
    check!(xenstore::unwatch("data/watched", "token").is_ok());
    let now = service::time::Instant::now().nanos();
    check!(xenstore::event(now) == Err(Errno(errno::ETIMEDOUT)));

    let workers: Vec<_> = (0..4)
        .filter_map(|w| {
            thread::spawn(move || {
                let path = format!("data/worker/{w}");
                (0..20).all(|i| {
                    let value = format!("{w} {i}");
                    NONE.write(&path, value.as_bytes()).is_ok() && NONE.read_text(&path) == Ok(value)
                })
            })
            .ok()
        })
        .collect();
    check!(workers.len() == 4);
    for worker in workers {
        check!(worker.join());
    }
    check!(NONE.rm("data/test").is_ok());
    check!(NONE.list("data/test") == Err(Errno(errno::ENOENT)));
    0
}
