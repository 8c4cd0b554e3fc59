//! Options of a transport: what stands behind its name, between colons.

use alloc::format;

use idc::{Config, Spin};

use crate::{Failure, MESSAGE_MAX};

/// Options of `idc` and `vchan`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Of an end of `idc`.
    pub config: Config,
    /// For `idc`: messages in a batch.
    pub batch: usize,
    /// For `vchan`: bytes of each ring.
    pub ring: usize,
    /// For `tcp`: let the kernel gather small messages of a stream (no `TCP_NODELAY`).
    pub nagle: bool,
    /// For `iceoryx2`: look again and again in place of waiting.
    pub polls: bool,
}

impl Default for Options {
    fn default() -> Options {
        let config = Config::default().with_max_message(MESSAGE_MAX);
        Options { config, batch: 1, ring: 64 << 10, nagle: false, polls: false }
    }
}

impl Options {
    /// Splits a specification into the transport's name and its options.
    ///
    /// # Errors
    /// An option that there is not, or not for this transport.
    pub fn parse(text: &str) -> Result<(&str, Options), Failure> {
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let mut options = Options::default();
        for option in parts {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let number = || value.parse::<usize>().map_err(|_| format!("`{option}` needs a number"));
            let config = options.config;
            match (name, key) {
                ("idc", "nospin") => options.config = config.with_spin(Spin::Never),
                ("idc", "pages") => options.config = config.with_pages(number()?),
                ("idc", "pool") => options.config = config.with_pool(number()?),
                ("idc", "paper") => {
                    let (spin, max_message) = (config.spin, config.max_message);
                    options.config = Config { spin, max_message, ..Config::paper(number()?) };
                }
                ("idc", "batch") => options.batch = number()?.max(1),
                ("vchan", "ring") => options.ring = number()?,
                ("tcp", "nagle") => options.nagle = true,
                ("iceoryx2", "poll") => options.polls = true,
                _ => return Err(format!("`{name}` has no option `{key}`")),
            }
        }
        Ok((name, options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_transports() {
        let (name, options) = Options::parse("idc:nospin:pages=16:batch=8").unwrap();
        assert_eq!((name, options.config.pages, options.batch), ("idc", 16, 8));
        assert_eq!(options.config.spin, Spin::Never);
        assert_eq!(Options::parse("idc:paper=8").unwrap().1.config.slots, 8);
        assert_eq!(Options::parse("vchan:ring=2048").unwrap().1.ring, 2048);
        assert_eq!(Options::parse("tcp").unwrap(), ("tcp", Options::default()));
        assert!(Options::parse("tcp:nagle").unwrap().1.nagle);
        for bad in ["tcp:pages=1", "idc:pages", "idc:pages=x", "vchan:nospin", "idc:"] {
            assert!(Options::parse(bad).is_err(), "{bad}");
        }
    }
}
