//! What the guest tests share.
//!
//! A guest test is a domain that checks one property of the library OS from inside and says the result with its
//! exit status: 0 success, 77 skip, 1 failure; anything else, or an end that nobody announced, is an error. A
//! line `expect: ...` on the console announces how the domain is going to end or what the test bed has to do:
//!
//! | line | meaning |
//! |---|---|
//! | `expect: trap=V address=0xA` | a report of exception V at address A, then a crash |
//! | `expect: xen-crash` | Xen crashes the domain and names an address in its text |
//! | `expect: panic MESSAGE` | a report of a panic with this message, then a crash |
//! | `expect: exit N` | exit status N |
//! | `expect: idle` | from now to its end the domain uses less than 5 % of a processor |
//! | `expect: input TEXT` | the test bed types TEXT and a newline |
//! | `expect: line TEXT` | the console shows this line, once |

#![no_std]
#![cfg(casemate)]

/// Exit status of a test that could not be run here.
pub const SKIP: i32 = 77;

/// Fails the test unless the condition holds: says which and where, and ends the domain with status 1.
#[macro_export]
macro_rules! check {
    ($condition:expr) => {
        $crate::check!($condition, "")
    };
    ($condition:expr, $($arg:tt)*) => {
        if !$condition {
            $crate::fail(stringify!($condition), file!(), line!(), format_args!($($arg)*));
        }
    };
}

/// Ends the test as failed.
pub fn fail(what: &str, file: &str, line: u32, detail: core::fmt::Arguments<'_>) -> ! {
    service::println!("failed: {what} at {file}:{line} {detail}");
    service::exit(1)
}
