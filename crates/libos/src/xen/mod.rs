//! Xen's services to a domain, without `unsafe`.

pub mod clock;
pub mod console;
pub mod evtchn;
pub mod gnttab;
pub mod xenstore;

use crate::arch::cell::Global;
use crate::mm::raw::Shared;

static SHARED_INFO: Global<Shared> = Global::new(Shared::none());

/// Tells where the shared info page is. Called once by boot.
pub fn set_shared_info(page: Shared) {
    SHARED_INFO.with(|s| *s = page);
}

/// The shared info page (`struct shared_info`).
pub fn shared_info() -> Shared {
    SHARED_INFO.with(|s| *s)
}

/// A hypercall's result as a libos result: negative `errno` or the value.
fn result(code: i64, value: u32) -> i32 {
    if code < 0 { code as i32 } else { value as i32 }
}
