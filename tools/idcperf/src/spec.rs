//! Which transport, and how it is set up.

use std::{fmt, str::FromStr};

use idc::{Config, Spin};

/// A transport by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This project's IDC, on its hosted platform.
    Idc,
    /// A TCP connection over the loopback interface, `TCP_NODELAY`.
    Tcp,
    /// A stream socket in the Unix domain.
    Unix,
    /// Two pipes.
    Pipe,
    /// Reference: a copy in and a copy out of shared pages, handed over by one word, without a protocol.
    Copy,
    /// Reference: two event descriptors, no data.
    Eventfd,
}

/// What the user wrote, and what it means.
#[derive(Clone, Debug)]
pub struct Spec {
    text: String,
    /// The transport.
    pub kind: Kind,
    /// For `idc`.
    pub config: Config,
    /// For `idc`: messages in a batch.
    pub batch: usize,
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Spec, String> {
        let mut parts = text.split(':');
        let kind = match parts.next().unwrap_or_default() {
            "idc" => Kind::Idc,
            "tcp" => Kind::Tcp,
            "unix" => Kind::Unix,
            "pipe" => Kind::Pipe,
            "copy" => Kind::Copy,
            "eventfd" => Kind::Eventfd,
            other => return Err(format!("unknown transport `{other}`")),
        };
        let mut spec = Spec { text: text.to_owned(), kind, config: Config::default(), batch: 1 };
        for option in parts {
            if kind != Kind::Idc {
                return Err(format!("only `idc` has options, not `{text}`"));
            }
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let number = || value.parse().map_err(|_| format!("`{option}` needs a number"));
            match name {
                "nospin" => spec.config.spin = Spin::Never,
                "pages" => spec.config = spec.config.with_pages(number()?),
                "pool" => spec.config = spec.config.with_pool(number()?),
                "paper" => {
                    let slots = number()?;
                    spec.config = Config { spin: spec.config.spin, ..Config::paper(slots) };
                }
                "batch" => spec.batch = number()?.max(1),
                _ => return Err(format!("unknown option `{option}`")),
            }
        }
        Ok(spec)
    }
}
