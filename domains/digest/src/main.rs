//! The digest service as a domain of its own; or, built for Linux, as a plain process for debugging.
//!
//! ```text
//! digest [--once]                        in a domain: the words of its command line
//! casemate-digest DOMID [--once]         on Linux: plays that hosted domain
//! ```
//! `--once` serves one client and exits: 0 if it ended as it should, 1 if not.
#![cfg_attr(casemate, no_std, no_main)]

#[cfg(casemate)]
mod domain {
    //! One thread for each client: a slow one does not keep the others waiting.

    use digest_service::{NAME, Served, listen_config, serve};
    use idc::{Channel, Error, Idc, Listener};
    use service::println;

    service::main!(main);

    fn main() -> i32 {
        match run(service::args().any(|word| word == "--once")) {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(error) => {
                println!("digest: {error}");
                1
            }
        }
    }

    fn run(once: bool) -> Result<bool, Error> {
        let idc = Idc::open()?;
        let mut listener = Listener::bind(&idc, NAME, listen_config())?;
        println!("digest: ready");
        loop {
            let channel = listener.accept()?;
            if once {
                return Ok(client(channel));
            }
            // Without a thread the channel is dropped, which tells the client.
            if let Err(error) = service::thread::spawn(move || client(channel)) {
                println!("digest: a client was turned away: no thread ({error})");
            }
        }
    }

    fn client(mut channel: Channel) -> bool {
        let peer = channel.peer();
        let mut served = Served::default();
        let result = serve(&mut channel, &mut served);
        let Served { streams, bytes } = served;
        match &result {
            Ok(()) => println!("digest: domain {peer}: {streams} streams, {bytes} bytes"),
            Err(error) => println!("digest: domain {peer}: {streams} streams, {bytes} bytes; {error}"),
        }
        result.is_ok()
    }
}

#[cfg(not(casemate))]
fn main() -> std::process::ExitCode {
    hosted::main()
}

#[cfg(not(casemate))]
mod hosted {
    use std::process::ExitCode;

    use digest_service::{NAME, Served, listen_config, serve};
    use idc::{Channel, DomId, Error, HostedConfig, Idc, Listener};

    pub fn main() -> ExitCode {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let domid = args.iter().find_map(|word| word.parse().ok()).map(DomId);
        let Some(domid) = domid else {
            eprintln!("usage: casemate-digest DOMID [--once]");
            return ExitCode::from(2);
        };
        match run(domid, args.iter().any(|word| word == "--once")) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("digest: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn run(domid: DomId, once: bool) -> Result<bool, Error> {
        let idc = Idc::hosted(HostedConfig::new(domid))?;
        let mut listener = Listener::bind(&idc, NAME, listen_config())?;
        println!("digest: ready");
        loop {
            let channel = listener.accept()?;
            if once {
                return Ok(client(channel));
            }
            std::thread::spawn(move || client(channel));
        }
    }

    fn client(mut channel: Channel) -> bool {
        let peer = channel.peer();
        let mut served = Served::default();
        let result = serve(&mut channel, &mut served);
        println!("digest: domain {peer}: {served:?} {result:?}");
        result.is_ok()
    }
}
