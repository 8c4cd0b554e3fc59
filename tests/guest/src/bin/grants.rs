//! Grants: a page of ours, granted to ourselves, mapped read-write and read-only, withdrawn only when unmapped.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "calls the grant functions and reads what they map")]

extern crate alloc;

use alloc::vec;
use alloc::vec::Vec;
use guest::check;
use libos_sys::*;

service::main!(main);

fn main() -> i32 {
    let boot = service::boot();
    let (me, pvh) = (boot.domid, boot.mode == BootMode::Pvh);
    const COUNT: usize = 70;
    let Some(pages) = service::sys::pages_alloc(COUNT) else { return 1 };
    let base = pages.as_mut_ptr();
    let page = |i: usize| base.wrapping_add(i * PAGE_SIZE).cast::<u64>();
    for i in 0..COUNT {
        // SAFETY: our own pages.
        unsafe { page(i).write_volatile(i as u64 + 1000) };
    }

    // SAFETY: pages are ours and page aligned; in all calls below vectors have the lengths named.
    let grant = |i: usize, flags| unsafe { libos_grant_access(me, page(i).cast(), flags) };
    let refs: Vec<u32> = (0..COUNT).map(|i| grant(i, 0)).filter_map(|g| g.try_into().ok()).collect();
    check!(refs.len() == COUNT);
    let mut handles = vec![0; COUNT];
    // SAFETY: see above.
    let mapped = unsafe { libos_grant_map(me, refs.as_ptr(), COUNT, 0, handles.as_mut_ptr()) };
    check!(mapped > 0, "{mapped}");
    let window = mapped as *mut u8;
    for i in 0..COUNT {
        let theirs = window.wrapping_add(i * PAGE_SIZE).cast::<u64>();
        // SAFETY: mapped just now; both addresses are the same memory, accessed volatile.
        unsafe {
            check!(theirs.read_volatile() == i as u64 + 1000);
            theirs.write_volatile(i as u64 + 2000);
            check!(theirs.read_volatile() == i as u64 + 2000);
            // In PVH a page of ours has one guest frame at a time: mapped at the window's, it has left its own.
            check!(pvh || page(i).read_volatile() == i as u64 + 2000);
        }
    }
    // SAFETY: see above.
    unsafe {
        check!(libos_grant_end(refs[0]) == -errno::EBUSY);
        check!(libos_grant_unmap(window, handles.as_ptr(), COUNT) == 0);
        check!(refs.iter().all(|gref| libos_grant_end(*gref) == 0));
        check!(libos_grant_end(refs[0]) == -errno::EINVAL);
        check!(libos_grant_end(1) == -errno::EINVAL);
        check!(libos_grant_end(u32::MAX) == -errno::EINVAL);
    }

    // More grants than one frame of the table holds, again and again.
    for _ in 0..3 {
        let many: Vec<i64> = (0..1500).map(|i| grant(i % COUNT, GRANT_READONLY)).collect();
        check!(many.iter().all(|gref| *gref >= 8));
        // SAFETY: see above.
        check!(many.iter().all(|gref| libos_grant_end(*gref as u32) == 0));
    }

    // Errors: a page that is not aligned, a reference that nobody granted, a domain that is not there.
    let mut handle = 0;
    // SAFETY: see above.
    unsafe {
        check!(libos_grant_access(me, base.wrapping_add(8), 0) < 0);
        check!(libos_grant_map(me, [400].as_ptr(), 1, 0, &raw mut handle) < 0);
        check!(libos_grant_map(0x7000, [8].as_ptr(), 1, 0, &raw mut handle) < 0);
    }
    // A read-only grant cannot be mapped writable.
    let Some(fresh) = service::sys::pages_alloc(1) else { return 1 };
    fresh.fill(7);
    // SAFETY: see above.
    unsafe {
        let gref = libos_grant_access(me, fresh.as_ptr(), GRANT_READONLY) as u32;
        check!(libos_grant_map(me, &raw const gref, 1, 0, &raw mut handle) < 0);
        let mapped = libos_grant_map(me, &raw const gref, 1, GRANT_READONLY, &raw mut handle);
        check!(mapped > 0, "{mapped}");
        check!((mapped as *const u8).read_volatile() == 7);
        service::println!("expect: trap=14 address={:#x}", mapped);
        (mapped as *mut u64).write_volatile(1);
    }
    1
}
