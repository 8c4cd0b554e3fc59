//! Sends back what it gets over a vchan of Xen's libxenvchan, so that programs which use that can be tried against a
//! domain of ours.
//!
//! ```text
//! vchan-echo serve DOMID PATH [SIZE]     the server: its nodes go below PATH, such as data/vchan/echo
//! vchan-echo connect DOMID PATH          the client of a server of that domain
//! ```
//! The bytes of one peer, until it closes; then it ends with status 0. Any other end is status 1.
#![cfg_attr(casemate, no_std, no_main)]

#[cfg(casemate)]
mod domain {
    use idc::vchan::{Config, Server, Vchan};
    use idc::{Deadline, DomId, Error, Idc};
    use service::println;

    service::main!(main);

    fn main() -> i32 {
        match run() {
            Ok(bytes) => {
                println!("vchan-echo: {bytes} bytes");
                0
            }
            Err(error) => {
                println!("vchan-echo: {error}");
                1
            }
        }
    }

    fn run() -> Result<u64, Error> {
        let wrong = Error::BadConfig("usage: serve DOMID PATH [SIZE] | connect DOMID PATH");
        let mut words = service::args().skip_while(|word| !matches!(*word, "serve" | "connect"));
        let (Some(role), Some(peer), Some(path)) = (words.next(), words.next(), words.next()) else {
            return Err(wrong);
        };
        let peer = DomId(peer.parse().map_err(|_| wrong)?);
        let idc = Idc::open()?;
        let mut channel = if role == "serve" {
            let mut config = Config::default();
            if let Some(size) = words.next() {
                let size = size.parse().map_err(|_| wrong)?;
                config = Config { read_size: size, write_size: size };
            }
            let server = Server::bind(&idc, peer, path, &config)?;
            println!("vchan-echo: ready");
            server.accept()?
        } else {
            Vchan::connect(&idc, peer, path, Deadline::NEVER)?
        };
        println!("vchan-echo: domain {peer} is there, rings of {:?} bytes", channel.sizes());
        let (mut buf, mut bytes) = ([0; 3000], 0);
        loop {
            match channel.read(&mut buf)? {
                0 => return Ok(bytes),
                len => {
                    channel.write_all(buf.get(..len).unwrap_or(&[]))?;
                    bytes += len as u64;
                }
            }
        }
    }
}

#[cfg(not(casemate))]
fn main() {
    eprintln!("vchan-echo: this is a domain image; see `casemate run vchan-echo --help`");
}
