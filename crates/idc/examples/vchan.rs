//! A Linux program that talks with others over libxenvchan's protocol, in dom0 or in a domU.
//!
//! ```text
//! vchan serve DOMID PATH      server: sends back what comes, until the peer closes
//! vchan connect DOMID PATH    client: the same
//! ```
//! The path is that of the server's nodes in xenstore, such as `/local/domain/5/data/vchan/echo`.

use std::process::ExitCode;
use std::time::Duration;

use idc::vchan::{Config, Server, Vchan};
use idc::{DomId, Error, Idc};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match *args {
        [role @ ("serve" | "connect"), domid, path] => match domid.parse() {
            Ok(number) => echo(role, DomId(number), path),
            Err(_) => Err(Error::BadConfig("the domain's id is not a number")),
        },
        _ => Err(Error::BadConfig("see the head of examples/vchan.rs for the commands")),
    };
    match result {
        Ok(bytes) => {
            println!("vchan: {bytes} bytes");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vchan: {error}");
            ExitCode::FAILURE
        }
    }
}

fn echo(role: &str, peer: DomId, path: &str) -> Result<u64, Error> {
    let idc = Idc::open()?;
    let deadline = idc.deadline(Duration::from_secs(120));
    let mut channel = if role == "serve" {
        Server::bind(&idc, peer, path, &Config::default())?.accept_by(deadline)?
    } else {
        Vchan::connect(&idc, peer, path, deadline)?
    };
    println!("connected");
    let (mut buf, mut bytes) = ([0; 3000], 0);
    loop {
        match channel.read(&mut buf)? {
            0 => return Ok(bytes),
            len => {
                channel.write_all(&buf[..len])?;
                bytes += len as u64;
            }
        }
    }
}
