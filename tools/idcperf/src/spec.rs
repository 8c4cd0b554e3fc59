//! Which transport, and how it is set up.

use std::{fmt, str::FromStr};

use bench_peer::Options;

/// A transport by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This project's IDC: on its hosted platform, or on Xen.
    Idc,
    /// A TCP connection, `TCP_NODELAY`: over the loopback interface, or over the network between two domains.
    Tcp,
    /// A stream socket in the Unix domain.
    Unix,
    /// Two pipes.
    Pipe,
    /// Eclipse iceoryx2.
    Iceoryx2,
    /// Xen's libxenvchan, in a program of its own.
    Vchan,
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
    /// Its options.
    pub options: Options,
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Spec, String> {
        if text.contains(char::is_whitespace) {
            return Err("a transport is one word".to_owned());
        }
        let (name, options) = Options::parse(text)?;
        let kind = match name {
            "idc" => Kind::Idc,
            "tcp" => Kind::Tcp,
            "unix" => Kind::Unix,
            "pipe" => Kind::Pipe,
            "iceoryx2" => Kind::Iceoryx2,
            "vchan" => Kind::Vchan,
            "copy" => Kind::Copy,
            "eventfd" => Kind::Eventfd,
            other => return Err(format!("unknown transport `{other}`")),
        };
        Ok(Spec { text: text.to_owned(), kind, options })
    }
}
