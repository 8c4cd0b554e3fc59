//! A TPM in a domain of its own; or, built for Linux, as a plain process for debugging.
//!
//! ```text
//! vtpm [manager=DOMID] [patience=SECONDS]                            in a domain: the words of its command line
//! casemate-vtpm domid=N [directory=DIR] [manager=DOMID] [patience=SECONDS]   on Linux: plays that hosted domain
//! ```
//! The instance, its key and its clients come from the manager.

use std::process::ExitCode;

use idc::Idc;
use vtpm_domain::{Failure, Options, complain, start};

fn main() -> ExitCode {
    match options().and_then(|(idc, options)| run(&idc, &options).map_err(|error| error.to_string())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(idc: &Idc, options: &Options) -> Result<(), Failure> {
    let server = start(idc, options, |line| println!("vtpm: {line}"))?;
    Ok(server.run(idc)?)
}

#[cfg(casemate)]
fn options() -> Result<(Idc, Options), String> {
    let mut options = Options::default();
    for word in std::env::args().skip(1) {
        if !options.take(&word)? {
            return Err(format!("the word `{word}` of the command line is unknown"));
        }
    }
    Ok((Idc::open().map_err(|error| error.to_string())?, options))
}

#[cfg(not(casemate))]
fn options() -> Result<(Idc, Options), String> {
    let (mut options, mut domid, mut directory) = (Options::default(), None, None);
    for word in std::env::args().skip(1) {
        match word.split_once('=') {
            Some(("domid", value)) => {
                domid = Some(value.parse().map_err(|_| format!("`{value}` is no domain id"))?);
            }
            Some(("directory", value)) => directory = Some(value.to_owned()),
            _ if options.take(&word)? => {}
            _ => return Err(format!("the word `{word}` of the command line is unknown")),
        }
    }
    let domid = domid.ok_or("say which hosted domain this is: domid=N")?;
    let mut config = idc::HostedConfig::new(idc::DomId(domid));
    if let Some(directory) = directory {
        config = config.directory(directory);
    }
    Ok((Idc::hosted(config).map_err(|error| error.to_string())?, options))
}
