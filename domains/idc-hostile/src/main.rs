//! The roles as a program: a domain of the library OS, or a Linux process.
//!
//! ```text
//! idc-hostile victim SECONDS             the honest service; ends when a witness has said so
//! idc-hostile assault DOMID SECONDS      hostile clients of it
//! idc-hostile witness DOMID SECONDS      an honest client of it, meanwhile
//! idc-hostile trap SECONDS               the hostile service
//! idc-hostile visit DOMID SECONDS        the honest client of it
//! idc-hostile mortal 0                   echoes, and panics when a client says `crash`
//! ```
//! SECONDS is the limit of one step. Status 0 if everything held, 1 if not, 2 for wrong arguments.
#![cfg_attr(casemate, no_std, no_main)]

extern crate alloc;

use alloc::boxed::Box;
use core::time::Duration;

use idc::{DomId, Idc};
use idc_hostile::{Outcome, assault, trap, victim, visit, witness};
#[cfg(casemate)]
use service::println;

#[cfg(casemate)]
service::main!(main);

#[cfg(casemate)]
fn main() -> i32 {
    let words: alloc::vec::Vec<&str> = service::args().filter(|word| !word.is_empty()).collect();
    run(&words)
}

#[cfg(not(casemate))]
fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    std::process::ExitCode::from(run(&words) as u8)
}

fn say(what: &str) {
    println!("hostile: {what}");
}

#[cfg(casemate)]
fn spawn(work: Box<dyn FnOnce() + Send>) -> Outcome {
    service::thread::spawn(work).map(drop).map_err(|error| alloc::format!("no thread: {error}"))
}

#[cfg(not(casemate))]
fn spawn(work: Box<dyn FnOnce() + Send>) -> Outcome {
    std::thread::spawn(work);
    Ok(())
}

/// Only a domain has something to lose in xenstore; what a path may be is tested hosted, too.
fn write(path: &str, value: &[u8]) {
    #[cfg(casemate)]
    let _ = service::xenstore::NONE.write(path, value);
    #[cfg(not(casemate))]
    let _ = (path, value);
}

/// For measuring how long it takes until others notice.
fn mortal(idc: &Idc) -> Outcome {
    let fail = |error: idc::Error| alloc::format!("{error}");
    let mut listener = idc::Listener::bind(idc, "mortal", idc::ListenConfig::default()).map_err(fail)?;
    let mut client = listener.accept().map_err(fail)?;
    while let Some(message) = client.recv().map_err(fail)? {
        assert!(message != b"crash", "the client said so");
        client.send(&message).map_err(fail)?;
    }
    Ok(())
}

fn run(words: &[&str]) -> i32 {
    let known = |word: &&str| matches!(*word, "victim" | "assault" | "witness" | "trap" | "visit" | "mortal");
    let from = words.iter().position(known).unwrap_or(0);
    let words = words.get(from..).unwrap_or_default();
    let limit = words.last().and_then(|word| word.parse().ok()).map(Duration::from_secs);
    let domid = words.get(1).and_then(|word| word.parse().ok()).map(DomId);
    let idc = match Idc::open() {
        Ok(idc) => idc,
        Err(error) => {
            say(&alloc::format!("{error}"));
            return 1;
        }
    };
    let ready = || say("ready");
    let outcome = match (words, limit, domid) {
        (["victim", _], Some(limit), _) => victim(&idc, limit, &spawn, say, ready),
        (["assault", _, _], Some(limit), Some(peer)) => assault(&idc, peer, limit, &mut write, say),
        (["witness", _, _], Some(limit), Some(peer)) => {
            witness(&idc, peer, limit, ready).map(|report| say(&report))
        }
        (["trap", _], Some(limit), _) => trap(&idc, limit, ready, say),
        (["mortal", _], ..) => mortal(&idc),
        (["visit", _, _], Some(limit), Some(peer)) => visit(&idc, peer, limit, say),
        _ => {
            println!("usage: idc-hostile victim SECONDS | assault DOMID SECONDS | witness DOMID SECONDS");
            println!("       idc-hostile trap SECONDS | visit DOMID SECONDS");
            return 2;
        }
    };
    match outcome {
        Ok(()) => {
            say("all held");
            0
        }
        Err(text) => {
            say(&text);
            1
        }
    }
}
