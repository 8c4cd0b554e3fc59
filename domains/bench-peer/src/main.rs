//! The second half of a measurement as a domain: `bench-peer` serves the first client of the service `bench` and ends
//! with it. The first half is `idcperf --peer DOMID` in dom0 or in a Linux guest.
#![cfg_attr(casemate, no_std, no_main)]

#[cfg(casemate)]
mod domain {
    extern crate alloc;

    use alloc::{
        boxed::Box,
        format,
        string::{String, ToString},
    };

    use bench_peer::{Control, End, Failure, IdcEnd, NAME, Options, VchanEnd, serve};
    use idc::{Channel, Deadline, DomId, GrantRef, Idc, ListenConfig, Listener, vchan::Vchan};
    use service::println;

    service::main!(main);

    fn main() -> i32 {
        match run() {
            Ok(()) => 0,
            Err(error) => {
                println!("bench-peer: {error}");
                1
            }
        }
    }

    struct Wire(Channel);

    impl Control for Wire {
        fn hear(&mut self) -> Result<Option<String>, Failure> {
            let message = self.0.recv().map_err(|error| error.to_string())?;
            message.map(String::from_utf8).transpose().map_err(|_| "an order is no text".to_string())
        }

        fn say(&mut self, line: &str) -> Result<(), Failure> {
            self.0.send(line.as_bytes()).map_err(|error| error.to_string())
        }
    }

    fn run() -> Result<(), Failure> {
        let text = |error: idc::Error| error.to_string();
        let idc = Idc::open().map_err(text)?;
        let mut listener = Listener::bind(&idc, NAME, ListenConfig::default()).map_err(text)?;
        println!("bench-peer: ready");
        let mut control = Wire(listener.accept().map_err(text)?);
        let peer = control.0.peer();
        serve(&mut control, &mut |spec, address| join(&idc, peer, spec, address))
    }

    fn join(idc: &Idc, peer: DomId, spec: &str, address: &str) -> Result<Box<dyn End>, Failure> {
        let text = |error: idc::Error| error.to_string();
        let (name, Options { config, batch, .. }) = Options::parse(spec)?;
        match name {
            "idc" => {
                let gref = address.parse().map(GrantRef).map_err(|_| format!("`{address}` is no grant"))?;
                let channel = idc.answer(peer, gref, &config).map_err(text)?;
                Ok(Box::new(IdcEnd { channel, batch }))
            }
            "vchan" => {
                Ok(Box::new(VchanEnd(Vchan::connect(idc, peer, address, Deadline::NEVER).map_err(text)?)))
            }
            _ => Err(format!("a domain has no transport `{name}`")),
        }
    }
}

#[cfg(not(casemate))]
fn main() -> std::process::ExitCode {
    eprintln!("bench-peer: this is a domain image; the same in Linux is `idcperf serve`");
    std::process::ExitCode::FAILURE
}
