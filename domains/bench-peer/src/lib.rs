//! The second half of a measurement of messages: it does what the first half (`idcperf`) tells it over a control
//! connection, and measures nothing.
//!
//! # Protocol
//! Lines of text, one for each message of the control connection; the first half speaks, the second answers.
//!
//! | order | answer |
//! |---|---|
//! | `open SPEC ADDRESS` | `joined`; the connection gets the next number, from 0 on |
//! | `sink ID SIZE COUNT` | `go`; it takes `COUNT` messages and sends one of 8 bytes; `done EVENTS SLEEPS` |
//! | `source ID SIZE COUNT` | `go`; it takes one of 8 bytes and sends `COUNT` messages; `done EVENTS SLEEPS` |
//! | `echo ID SIZE COUNT` | `go`; it sends `COUNT` messages back; `done EVENTS SLEEPS` |
//! | `fan FIRST CONNECTIONS SIZE COUNT` | the same, one message of each connection in turn |
//!
//! Anything that goes wrong is the answer `failed WHY`. `EVENTS` and `SLEEPS` are what this half has done for the
//! order, 0 if the transport does not count them. The end of the control connection is the end.
#![no_std]

extern crate alloc;

mod end;
mod order;
mod spec;

pub use end::{Counts, End, IdcEnd, VchanEnd};
pub use order::{Job, Order};
pub use spec::Options;

use alloc::{boxed::Box, format, string::String, vec::Vec};

/// Name of the service whose first client has the control connection.
pub const NAME: &str = "bench";

/// Longest message of a measurement.
pub const MESSAGE_MAX: usize = 16 << 20;

/// What went wrong, in words for the other half.
pub type Failure = String;

/// The control connection, from the second half's side.
pub trait Control {
    /// The next order; none at the end.
    ///
    /// # Errors
    /// Why there is none.
    fn hear(&mut self) -> Result<Option<String>, Failure>;

    /// Answers.
    ///
    /// # Errors
    /// Why that is impossible.
    fn say(&mut self, line: &str) -> Result<(), Failure>;
}

/// Makes the second end of a connection out of SPEC and ADDRESS.
pub type Join<'a> = dyn FnMut(&str, &str) -> Result<Box<dyn End>, Failure> + 'a;

/// Serves until the control connection ends.
///
/// # Errors
/// When the control connection breaks. What goes wrong with an order is told to the first half.
pub fn serve(control: &mut dyn Control, join: &mut Join<'_>) -> Result<(), Failure> {
    let mut ends: Vec<Box<dyn End>> = Vec::new();
    while let Some(line) = control.hear()? {
        let answer = match line.parse() {
            Ok(Order::Open { spec, address }) => join(&spec, &address).map(|end| {
                ends.push(end);
                String::from("joined")
            }),
            Ok(Order::Run { job, first, connections, size, count }) => {
                let last = first.saturating_add(connections);
                match ends.get_mut(first..last) {
                    Some(ends) if size <= MESSAGE_MAX && !ends.is_empty() => {
                        control.say("go")?;
                        run(ends, job, size, count)
                    }
                    _ => Err(format!("`{line}` asks for what is not there")),
                }
            }
            Err(why) => Err(why),
        };
        match answer {
            Ok(answer) => control.say(&answer)?,
            Err(why) => control.say(&format!("failed {why}"))?,
        }
    }
    Ok(())
}

fn run(ends: &mut [Box<dyn End>], job: Job, size: usize, count: usize) -> Result<String, Failure> {
    let mut buf = Vec::new();
    buf.try_reserve_exact(size).map_err(|_| String::from("no memory for a message"))?;
    buf.resize(size, 0x5a);
    let before = total(ends);
    match &mut *ends {
        [end] => end.run(job, &mut buf, count)?,
        ends => {
            for _ in 0..count {
                for end in ends.iter_mut() {
                    end.run(job, &mut buf, 1)?;
                }
            }
        }
    }
    let after = total(ends);
    Ok(format!("done {} {}", after.events - before.events, after.sleeps - before.sleeps))
}

fn total(ends: &[Box<dyn End>]) -> Counts {
    ends.iter().fold(Counts::default(), |sum, end| {
        let counts = end.counts().unwrap_or_default();
        Counts { events: sum.events + counts.events, sleeps: sum.sleeps + counts.sleeps }
    })
}
