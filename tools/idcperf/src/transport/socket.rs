//! Byte streams of the kernel: one `write` for a message; the receiver of many takes what there is, up to 256 KiB
//! at a time, which is the best that a stream can do.

use std::{
    fs::File,
    io::{PipeReader, PipeWriter, Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{Transport, Waiting, halves};
use crate::{site::Site, spec::Spec};

/// Most bytes that are taken at once.
const CHUNK: usize = 256 << 10;

struct Stream<W, R> {
    write: W,
    read: R,
    chunk: Vec<u8>,
}

impl<W: Write, R: Read> Stream<W, R> {
    fn new(write: W, read: R) -> Stream<W, R> {
        Stream { write, read, chunk: vec![0; CHUNK] }
    }
}

impl<W: Write, R: Read> Transport for Stream<W, R> {
    fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        Ok(self.write.write_all(message)?)
    }

    fn recv(&mut self, buf: &mut [u8]) -> anyhow::Result<()> {
        Ok(self.read.read_exact(buf)?)
    }

    fn recv_many(&mut self, buf: &mut [u8], count: usize) -> anyhow::Result<()> {
        let mut left = buf.len() * count;
        while left > 0 {
            let most = left.min(CHUNK);
            let len = self.read.read(&mut self.chunk[..most])?;
            anyhow::ensure!(len > 0, "the stream ended");
            left -= len;
        }
        Ok(())
    }
}

/// A listening TCP socket.
pub struct TcpOffer(TcpListener, bool);

impl TcpOffer {
    /// On a free port of the loopback interface, or of this domain's address.
    pub fn new(spec: &Spec, site: &Site) -> anyhow::Result<TcpOffer> {
        let address = match site {
            Site::Hosted(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
            Site::Xen { address, .. } => address.context("name this domain's address with --address")?,
        };
        Ok(TcpOffer(TcpListener::bind((address, 0))?, spec.options.nagle))
    }
}

fn tcp(stream: TcpStream, nagle: bool) -> anyhow::Result<Stream<TcpStream, TcpStream>> {
    stream.set_nodelay(!nagle)?;
    Ok(Stream::new(stream.try_clone()?, stream))
}

impl Waiting for TcpOffer {
    fn address(&self) -> String {
        self.0.local_addr().map(|address| address.to_string()).unwrap_or_default()
    }

    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>> {
        Ok(Box::new(tcp(self.0.accept()?.0, self.1)?))
    }
}

/// The other end.
pub fn join_tcp(spec: &Spec, address: &str) -> anyhow::Result<impl Transport + use<>> {
    tcp(TcpStream::connect(address)?, spec.options.nagle)
}

/// A listening Unix socket.
pub struct UnixOffer(UnixListener, PathBuf);

impl UnixOffer {
    /// At this path.
    pub fn new(path: &Path) -> anyhow::Result<UnixOffer> {
        Ok(UnixOffer(UnixListener::bind(path)?, path.to_owned()))
    }
}

impl Waiting for UnixOffer {
    fn address(&self) -> String {
        self.1.display().to_string()
    }

    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>> {
        let stream = self.0.accept()?.0;
        Ok(Box::new(Stream::new(stream.try_clone()?, stream)))
    }
}

/// The other end.
pub fn join_unix(address: &str) -> anyhow::Result<impl Transport + use<>> {
    let stream = UnixStream::connect(address)?;
    Ok(Stream::new(stream.try_clone()?, stream))
}

/// Two pipes. The second process opens their ends through `/proc`.
pub struct PipeOffer {
    write: PipeWriter,
    read: PipeReader,
    theirs: (PipeReader, PipeWriter),
}

impl PipeOffer {
    /// Makes them.
    pub fn new() -> anyhow::Result<PipeOffer> {
        let (there, write) = std::io::pipe()?;
        let (read, back) = std::io::pipe()?;
        Ok(PipeOffer { write, read, theirs: (there, back) })
    }
}

impl Waiting for PipeOffer {
    fn address(&self) -> String {
        use std::os::fd::AsRawFd;
        let of = |fd: i32| format!("/proc/{}/fd/{fd}", std::process::id());
        format!("{}|{}", of(self.theirs.0.as_raw_fd()), of(self.theirs.1.as_raw_fd()))
    }

    fn complete(self: Box<Self>) -> anyhow::Result<Box<dyn Transport>> {
        // The other ends stay open here, so this never sees the end of a stream; the peer's death ends the run.
        Ok(Box::new(Ends { stream: Stream::new(self.write, self.read), _theirs: self.theirs }))
    }
}

struct Ends {
    stream: Stream<PipeWriter, PipeReader>,
    _theirs: (PipeReader, PipeWriter),
}

impl Transport for Ends {
    fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        self.stream.send(message)
    }

    fn recv(&mut self, buf: &mut [u8]) -> anyhow::Result<()> {
        self.stream.recv(buf)
    }

    fn recv_many(&mut self, buf: &mut [u8], count: usize) -> anyhow::Result<()> {
        self.stream.recv_many(buf, count)
    }
}

/// The other ends.
pub fn join_pipe(address: &str) -> anyhow::Result<impl Transport + use<>> {
    let (read, write) = halves(address)?;
    let open = |path: &str, write: bool| {
        File::options().read(!write).write(write).open(path).context("a pipe's end")
    };
    Ok(Stream::new(open(write, true)?, open(read, false)?))
}
