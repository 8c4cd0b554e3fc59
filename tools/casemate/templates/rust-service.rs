//! @NAME@: a service in a domain of its own. It answers each message in capitals.
//!
//! `casemate run .` boots it as a domain. `casemate run --hosted . -- 7` runs the same service as a Linux process
//! that plays domain 7, for debugging.
#![cfg_attr(casemate, no_std, no_main)]

use idc::{Channel, Error, Idc, ListenConfig, Listener};
#[cfg(casemate)]
use service::println;

/// Name under which other domains find it.
const NAME: &str = "@NAME@";

/// Serves clients, one after the other.
fn run(idc: &Idc) -> Result<(), Error> {
    let mut listener = Listener::bind(idc, NAME, ListenConfig::default())?;
    println!("{NAME}: ready");
    loop {
        let mut client = listener.accept()?;
        // A client that breaks the protocol loses its channel; the service goes on.
        if let Err(error) = serve(&mut client) {
            println!("{NAME}: domain {}: {error}", client.peer());
        }
    }
}

/// Serves one client until it ends the channel.
fn serve(client: &mut Channel) -> Result<(), Error> {
    while let Some(message) = client.recv()? {
        client.send(&message.to_ascii_uppercase())?;
    }
    client.finish()
}

#[cfg(casemate)]
service::main!(main);

/// The domain; its result is the exit status.
#[cfg(casemate)]
fn main() -> i32 {
    match Idc::open().and_then(|idc| run(&idc)) {
        Ok(()) => 0,
        Err(error) => {
            println!("{NAME}: {error}");
            1
        }
    }
}

/// The Linux process.
#[cfg(not(casemate))]
fn main() -> std::process::ExitCode {
    use idc::{DomId, HostedConfig};

    let Some(domid) = std::env::args().nth(1).and_then(|word| word.parse().ok()) else {
        eprintln!("usage: {NAME} DOMID");
        return std::process::ExitCode::from(2);
    };
    match Idc::hosted(HostedConfig::new(DomId(domid))).and_then(|idc| run(&idc)) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{NAME}: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
