//! Event channels: bound to ourselves, they carry every event, to every thread that waits, before or after.

#![no_std]
#![no_main]

use core::time::Duration;
use guest::check;
use libos_sys::{NEVER, errno, evtchn_status};
use service::{Errno, sys, thread, time};

service::main!(main);

fn main() -> i32 {
    let me = service::boot().domid;
    let unbound = sys::event_alloc_unbound(me);
    check!(unbound.is_ok(), "{unbound:?}");
    let Ok(a) = unbound else { return 1 };
    check!(sys::event_status(a) == Ok(evtchn_status::UNBOUND));
    let Ok(b) = sys::event_bind_interdomain(me, a) else { return 1 };
    check!(sys::event_status(a) == Ok(evtchn_status::INTERDOMAIN));
    check!(sys::event_bind_interdomain(me, a).is_err());

    // Binding leaves an event behind on the side that was unbound; take what there is.
    let past = time::Instant::now().nanos();
    while sys::event_wait(&[a, b], past).is_ok() {}

    // Before the wait.
    check!(sys::event_notify(b).is_ok());
    check!(sys::event_wait(&[b, a], NEVER) == Ok(1));
    check!(sys::event_wait(&[a, b], past) == Err(Errno(errno::ETIMEDOUT)));

    // A thousand, one by one, from another thread.
    let Ok(worker) = thread::spawn(move || {
        (0..1000).all(|_| sys::event_wait(&[a], NEVER) == Ok(0) && sys::event_notify(a).is_ok())
    }) else {
        return 1;
    };
    for round in 0..1000 {
        check!(sys::event_notify(b).is_ok());
        check!(sys::event_wait(&[b], NEVER) == Ok(0), "round {round}");
    }
    check!(worker.join());

    // One event, two threads that wait for it.
    let wait = move || sys::event_wait(&[a], NEVER);
    let (Ok(first), Ok(second)) = (thread::spawn(wait), thread::spawn(wait)) else { return 1 };
    thread::yield_now();
    check!(sys::event_notify(b).is_ok());
    check!(first.join() == Ok(0));
    check!(second.join() == Ok(0));

    // A deadline ends a wait, not before its time.
    let start = time::Instant::now();
    let deadline = time::deadline(Duration::from_millis(20));
    check!(sys::event_wait(&[a, b], deadline) == Err(Errno(errno::ETIMEDOUT)));
    check!(start.elapsed() >= Duration::from_millis(20));

    // A closed port is nobody's.
    check!(sys::event_close(b).is_ok());
    check!(sys::event_status(a) == Ok(evtchn_status::UNBOUND));
    check!(sys::event_notify(b).is_err());
    check!(sys::event_wait(&[b], NEVER) == Err(Errno(errno::ENOENT)));
    check!(sys::event_close(a).is_ok());
    check!(sys::event_close(a).is_err());
    check!(sys::event_bind_interdomain(0x7000, 1).is_err());
    0
}
