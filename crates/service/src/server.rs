//! A service over IDC: its clients, one thread for each, so that a slow one does not keep the others waiting.
//!
//! ```ignore
//! service::server!("upper", ListenConfig::default(), serve);
//!
//! fn serve(client: &mut Channel, served: &mut u64) -> Result<(), Error> {
//!     while let Some(message) = client.recv()? {
//!         client.send(&message.to_ascii_uppercase())?;
//!         *served += 1;
//!     }
//!     client.finish()
//! }
//! ```
//! For `--cfg casemate` that is a domain, and the words are those of its command line; else it is a Linux process that
//! plays the hosted domain whose id is its first argument. The word `--once` has it serve one client and end: with
//! status 0 if the client ended as it should, with 1 if not.

use core::fmt::Display;

use idc::{Channel, Error, Idc, ListenConfig, Listener};

#[cfg(casemate)]
use crate::{println, thread::spawn};

/// Serves one client until it ends the channel; the counters are reported when it has, also after an error.
pub type Serve<Counters> = fn(&mut Channel, &mut Counters) -> Result<(), Error>;

/// Makes the program: name of the service (`&'static str`), its [`ListenConfig`], and a [`Serve`] function whose
/// counters are `Default + Display`.
#[macro_export]
macro_rules! server {
    ($name:expr, $listen:expr, $serve:path) => {
        #[cfg(casemate)]
        $crate::main!(main);

        #[cfg(casemate)]
        fn main() -> i32 {
            $crate::server::domain($name, $listen, $serve)
        }

        #[cfg(not(casemate))]
        fn main() -> std::process::ExitCode {
            $crate::server::process($name, $listen, $serve)
        }
    };
}

/// The domain; returns its exit status. See [`server!`].
#[cfg(casemate)]
pub fn domain<C: Default + Display + 'static>(
    name: &'static str,
    listen: ListenConfig,
    serve: Serve<C>,
) -> i32 {
    let once = crate::args().any(|word| word == "--once");
    match Idc::open().and_then(|idc| run(&idc, name, listen, once, serve)) {
        Ok(good) => i32::from(!good),
        Err(error) => {
            println!("{name}: {error}");
            1
        }
    }
}

/// The Linux process. See [`server!`].
#[cfg(not(casemate))]
pub fn process<C: Default + Display + 'static>(
    name: &'static str,
    listen: ListenConfig,
    serve: Serve<C>,
) -> std::process::ExitCode {
    use std::process::ExitCode;

    let words: Vec<String> = std::env::args().skip(1).collect();
    let domid = words.first().and_then(|word| word.parse().ok());
    let (Some(domid), true) = (domid, words.iter().skip(1).all(|word| word == "--once")) else {
        eprintln!(
            "usage: {name} DOMID [--once]\nplays the hosted domain DOMID for other processes of this user"
        );
        return ExitCode::from(2);
    };
    let idc = Idc::hosted(idc::HostedConfig::new(idc::DomId(domid)));
    match idc.and_then(|idc| run(&idc, name, listen, words.len() > 1, serve)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(casemate))]
fn spawn<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<std::thread::JoinHandle<T>> {
    std::thread::Builder::new().spawn(f)
}

/// With `once`, whether the client ended as it should; else only the service's own errors end this.
fn run<C: Default + Display + 'static>(
    idc: &Idc,
    name: &'static str,
    listen: ListenConfig,
    once: bool,
    serve: Serve<C>,
) -> Result<bool, Error> {
    let mut listener = Listener::bind(idc, name, listen)?;
    println!("{name}: ready");
    loop {
        let channel = listener.accept()?;
        if once {
            return Ok(client(name, channel, serve));
        }
        // Without a thread the channel is dropped, which tells the client.
        if let Err(error) = spawn(move || client(name, channel, serve)) {
            println!("{name}: a client was turned away: no thread ({error})");
        }
    }
}

fn client<C: Default + Display>(name: &str, mut channel: Channel, serve: Serve<C>) -> bool {
    let peer = channel.peer();
    let mut counters = C::default();
    let result = serve(&mut channel, &mut counters);
    // A client that breaks the protocol loses its channel; the service goes on.
    match &result {
        Ok(()) => println!("{name}: domain {peer}: {counters}"),
        Err(error) => println!("{name}: domain {peer}: {counters}; {error}"),
    }
    result.is_ok()
}
