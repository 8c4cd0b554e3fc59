//! The orders of the first half as text.

use alloc::{borrow::ToOwned, format, string::String};
use core::{fmt, str::FromStr};

use crate::Failure;

/// What the second half does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Takes messages, and says by a message of 8 bytes that it has them all.
    Sink,
    /// Takes a message of 8 bytes, the sign to begin, and sends messages.
    Source,
    /// Sends each message back.
    Echo,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Job::Sink => "sink",
            Job::Source => "source",
            Job::Echo => "echo",
        })
    }
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Join a connection.
    Open {
        /// Which transport, with options.
        spec: String,
        /// Where the first half waits; what that is depends on the transport.
        address: String,
    },
    /// Use connections.
    Run {
        /// How.
        job: Job,
        /// Number of the first one.
        first: usize,
        /// How many, used in turn.
        connections: usize,
        /// Bytes in a message.
        size: usize,
        /// Messages on each.
        count: usize,
    },
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Open { spec, address } => write!(f, "open {spec} {address}"),
            Order::Run { job, first, connections: 1, size, count } => {
                write!(f, "{job} {first} {size} {count}")
            }
            Order::Run { first, connections, size, count, .. } => {
                write!(f, "fan {first} {connections} {size} {count}")
            }
        }
    }
}

impl FromStr for Order {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Order, Failure> {
        let wrong = || format!("`{line}` is no order");
        let (verb, rest) = line.split_once(' ').ok_or_else(wrong)?;
        if verb == "open" {
            let (spec, address) = rest.split_once(' ').ok_or_else(wrong)?;
            return Ok(Order::Open { spec: spec.to_owned(), address: address.to_owned() });
        }
        let mut words = rest.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).ok_or_else(wrong);
        let job = match verb {
            "sink" => Job::Sink,
            "source" => Job::Source,
            "echo" | "fan" => Job::Echo,
            _ => return Err(wrong()),
        };
        let first = number()?;
        let connections = if verb == "fan" { number()? } else { 1 };
        let (size, count) = (number()?, number()?);
        match words.next() {
            None => Ok(Order::Run { job, first, connections, size, count }),
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn orders_survive_the_way_as_text() {
        for line in
            ["open idc:pages=4 /tmp/a b|7", "sink 0 16 1000", "source 3 0 1", "echo 1 2 3", "fan 5 100 64 7"]
        {
            assert_eq!(line.parse::<Order>().unwrap().to_string(), line);
        }
    }

    #[test]
    fn what_is_no_order_is_refused() {
        for line in [
            "",
            "open",
            "open idc",
            "sink",
            "sink 1 2",
            "sink 1 2 3 4",
            "sink -1 2 3",
            "fan 1 2 3",
            "dance 1 2 3",
        ] {
            assert!(line.parse::<Order>().is_err(), "{line}");
        }
    }
}
