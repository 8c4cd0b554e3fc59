//! Threads run, wait for one another, end, and give their stacks back; there can be many.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;
use guest::check;
use libos_sys::errno;
use service::sync::Semaphore;
use service::{Errno, sys, thread, time};

service::main!(main);

fn main() -> i32 {
    check!(thread::id() == 1);
    let before = service::memory::info().free;
    for round in 0..20 {
        let handles: Vec<_> =
            (0..40).filter_map(|i| thread::spawn(move || (thread::id(), i * i)).ok()).collect();
        check!(handles.len() == 40, "round {round}");
        for (i, handle) in handles.into_iter().enumerate() {
            let id = handle.id();
            check!(handle.join() == (id, i * i));
        }
    }
    thread::yield_now();
    let after = service::memory::info().free;
    check!(after + 24 >= before, "{before} pages before, {after} after");

    // Too many is an error, not a crash.
    let gate = Arc::new(service::sync::Gate::new());
    let mut waiting = Vec::new();
    let refused = loop {
        let gate = gate.clone();
        match thread::spawn_with_stack(4096, move || gate.wait()) {
            Ok(handle) => waiting.push(handle),
            Err(error) => break error,
        }
    };
    check!(matches!(refused, Errno(errno::EAGAIN | errno::ENOMEM)), "{refused}");
    check!(waiting.len() >= 40);
    gate.open();
    waiting.into_iter().for_each(thread::JoinHandle::join);

    // Turn by turn.
    // Threads take turns, so a plain Rc is enough between them.
    let turn = Rc::new(Cell::new(0));
    let handles: Vec<_> = (0..3)
        .filter_map(|me| {
            let turn = turn.clone();
            thread::spawn(move || {
                for round in 0..100 {
                    while turn.get() != round * 3 + me {
                        thread::yield_now();
                    }
                    turn.set(turn.get() + 1);
                }
            })
            .ok()
        })
        .collect();
    handles.into_iter().for_each(thread::JoinHandle::join);
    check!(turn.get() == 300);

    // A queue of one between two threads.
    let (full, empty) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(1)));
    let slot = Rc::new(Cell::new(0u64));
    let (f, e, s) = (full.clone(), empty.clone(), slot.clone());
    let Ok(producer) = thread::spawn(move || {
        for i in 0..1000 {
            e.wait();
            s.set(i);
            f.post();
        }
    }) else {
        return 1;
    };
    let mut sum = 0;
    for _ in 0..1000 {
        full.wait();
        sum += slot.get();
        empty.post();
    }
    producer.join();
    check!(sum == 499_500);

    // Waiting for a word: wrong value, time-out, wake order.
    static WORD: AtomicU32 = AtomicU32::new(7);
    check!(sys::wait(&WORD, 8, u64::MAX) == Err(Errno(errno::EAGAIN)));
    let deadline = time::deadline(Duration::from_millis(5));
    check!(sys::wait(&WORD, 7, deadline) == Err(Errno(errno::ETIMEDOUT)));
    check!(sys::clock_monotonic() >= deadline);
    let order = Arc::new(AtomicU32::new(0));
    let handles: Vec<_> = (0..3)
        .filter_map(|_| {
            let order = order.clone();
            let handle = thread::spawn(move || {
                let woken = sys::wait(&WORD, 7, u64::MAX);
                (woken, order.fetch_add(1, Ordering::Relaxed))
            });
            thread::yield_now();
            handle.ok()
        })
        .collect();
    check!(sys::wake(&WORD, 1) == 1);
    thread::yield_now();
    check!(order.load(Ordering::Relaxed) == 1);
    check!(sys::wake(&WORD, 10) == 2);
    check!(sys::wake(&WORD, 10) == 0);
    for (want, handle) in handles.into_iter().enumerate() {
        check!(handle.join() == (Ok(()), want as u32));
    }
    0
}
