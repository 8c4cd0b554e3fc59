//! The conformance suite as a program: a domain of the library OS, or a Linux process.
//!
//! ```text
//! idc-conformance serve SECONDS             the server, for one client
//! idc-conformance check DOMID SECONDS       the client of that domain's server
//! ```
//! SECONDS is the limit of one step. Status 0 if everything held, 1 if not, 2 for wrong arguments.
#![cfg_attr(casemate, no_std, no_main)]

#[cfg(casemate)]
extern crate alloc;

#[cfg(casemate)]
use service::println;

#[cfg(casemate)]
service::main!(main);

#[cfg(casemate)]
fn main() -> i32 {
    let words: alloc::vec::Vec<&str> =
        service::args().skip_while(|word| !matches!(*word, "serve" | "check")).collect();
    run(&words)
}

#[cfg(not(casemate))]
fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    std::process::ExitCode::from(run(&words) as u8)
}

fn run(words: &[&str]) -> i32 {
    use core::time::Duration;
    use idc_conformance::{check, serve};

    let limit = words.last().and_then(|word| word.parse().ok()).map(Duration::from_secs);
    let domid = words.get(1).and_then(|word| word.parse().ok()).map(idc::DomId);
    let idc = match idc::Idc::open() {
        Ok(idc) => idc,
        Err(error) => {
            println!("conformance: {error}");
            return 1;
        }
    };
    let outcome = match (words, limit, domid) {
        (["serve", _], Some(limit), _) => serve(&idc, limit, || println!("conformance: ready")),
        (["check", _, _], Some(limit), Some(peer)) => {
            check(&idc, peer, limit, |name| println!("conformance: {name} passed"))
        }
        _ => {
            println!("usage: idc-conformance serve SECONDS | check DOMID SECONDS");
            return 2;
        }
    };
    match outcome {
        Ok(()) => {
            println!("conformance: all passed");
            0
        }
        Err(text) => {
            println!("conformance: {text}");
            1
        }
    }
}
