//! Arguments and environment, from the stack that the kernel laid out.

#![expect(unsafe_code, reason = "reads the initial stack")]

use core::ffi::CStr;
use core::sync::atomic::{AtomicPtr, Ordering};

static STACK: AtomicPtr<usize> = AtomicPtr::new(core::ptr::null_mut());

pub(crate) fn init(stack: *const usize) {
    STACK.store(stack.cast_mut(), Ordering::Relaxed);
}

/// Word `index` of the initial stack.
fn word(index: usize) -> usize {
    // SAFETY: callers stay within argc, argv, envp and their terminators.
    unsafe { STACK.load(Ordering::Relaxed).add(index).read() }
}

/// The strings whose addresses begin at word `first`.
fn strings(first: usize) -> impl Iterator<Item = &'static str> {
    (first..).map(word).take_while(|p| *p != 0).map(|pointer| {
        // SAFETY: the kernel's strings, ended by 0, never changed.
        let text = unsafe { CStr::from_ptr(pointer as *const core::ffi::c_char) };
        text.to_str().unwrap_or_default()
    })
}

/// The words of the domain's command line, without the kernel's own and the environment. One that is not UTF-8
/// appears empty.
pub fn args() -> impl Iterator<Item = &'static str> {
    // The first argument is the program's name.
    strings(2)
}

/// Value of an environment variable (`env.NAME=VALUE` on the domain's command line).
pub fn env(name: &str) -> Option<&'static str> {
    let argc = word(0);
    strings(1 + argc + 1).find_map(|v| v.strip_prefix(name)?.strip_prefix('='))
}
