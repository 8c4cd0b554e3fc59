//! `vtpmd`: see the library's documentation.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use idc::{DomId, Idc};
use serde_json::json;
use vtpm::frame::{Kind, LOCALITY_MAX, Status};
use vtpmd::cli::{Dirs, InstanceCommand};
use vtpmd::client::Client;
use vtpmd::device::Device;
use vtpmd::guest::Guest;
use vtpmd::manager::Manager;
use vtpmd::measure;
use vtpmd::proxy::{Place, Protocol, Sockets, Tpm};

/// The Linux side of the vTPM.
#[derive(Debug, Parser)]
#[command(name = "vtpmd", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Use hosted processes below this directory instead of Xen, for debugging
    #[arg(long, global = true, value_name = "DIRECTORY")]
    hosted: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// In a user domain: make /dev/tpm0, answered by the vTPM domain
    Guest {
        /// The vTPM's domain (default: the one that dom0 names in xenstore, also when it changes)
        #[arg(long, value_name = "N")]
        domid: Option<u16>,
        /// How long to wait for the vTPM
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        patience: u32,
    },
    /// In dom0: offer the TPM of a vTPM domain on sockets for tpm2-tools
    ///
    /// With tcp:2321 the TCTI is swtpm:host=127.0.0.1,port=2321 (or mssim:...).
    Proxy {
        #[command(flatten)]
        target: Target,
        /// Where to listen: tcp:PORT (loopback; PORT+1 is for control) or unix:PATH (PATH.ctrl is for control)
        #[arg(long, default_value = "tcp:2321")]
        listen: Place,
        /// What clients speak
        #[arg(long, value_enum, default_value_t = Protocol::Swtpm)]
        protocol: Protocol,
        /// Highest locality that clients may use
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=i64::from(LOCALITY_MAX)))]
        max_locality: u8,
    },
    /// In dom0: keep sealed state, leases and keys for vTPM domains
    Manager {
        #[command(flatten)]
        dirs: Dirs,
        /// This domain's id, for hosted processes (on Xen it is known)
        #[arg(long, default_value_t = 0)]
        domid: u16,
    },
    /// In dom0: make, start, stop and remove instances, and let guests use them
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// In dom0: the manager's master key, in a file or sealed to the machine's own TPM
    ///
    /// tpm2-tools do the talking; TPM2TOOLS_TCTI in the environment says which TPM that is.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Measure TPM commands on two TPMs, in windows that take turns
    Measure {
        /// The first: idc:N, unix:PATH or device:PATH
        ours: String,
        /// The other one
        theirs: String,
        /// Windows for each command
        #[arg(long, default_value_t = 15, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=999))]
        windows: u16,
        /// Divide the number of commands in a window by this
        #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=999))]
        share: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask a vTPM domain something
    #[command(subcommand)]
    Ask(AskCommand),
}

#[derive(Debug, Args)]
struct Target {
    /// The vTPM's domain
    #[arg(long, value_name = "N")]
    domid: u16,
    /// How long to wait for the vTPM
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u32,
    /// Which hosted domain this is (default: any)
    #[arg(long, value_name = "N")]
    own_domid: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Seal it, and remove the file. Only this TPM gives it back: keep a copy of the file in a safe place
    Seal {
        /// Give it only to a machine that has booted the same: PCRs such as sha256:0,2,7
        #[arg(long, value_name = "LIST")]
        pcrs: Option<String>,
        #[command(flatten)]
        dirs: Dirs,
    },
    /// Put it into a file again
    Unseal {
        #[command(flatten)]
        dirs: Dirs,
    },
}

#[derive(Debug, Subcommand)]
enum AskCommand {
    /// What it says about itself
    Info {
        #[command(flatten)]
        target: Target,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// To run TPM commands, in hexadecimal; prints the answers, one a line
    Command {
        #[command(flatten)]
        target: Target,
        /// Locality of the commands
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=i64::from(LOCALITY_MAX)))]
        locality: u8,
        /// The commands, with their headers
        #[arg(required = true, value_name = "HEX")]
        commands: Vec<String>,
    },
    /// To reset the TPM, as a reset of the guest does
    Reset {
        #[command(flatten)]
        target: Target,
    },
    /// To save everything and stop
    Suspend {
        #[command(flatten)]
        target: Target,
    },
    /// To go on after a suspend
    Resume {
        #[command(flatten)]
        target: Target,
    },
    /// To let a guest in
    Attach {
        #[command(flatten)]
        target: Target,
        /// The guest
        #[arg(long, value_name = "N")]
        guest: u16,
    },
    /// To let a guest in no more
    Detach {
        #[command(flatten)]
        target: Target,
        /// The guest
        #[arg(long, value_name = "N")]
        guest: u16,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vtpmd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Guest { domid, patience } => {
            let (idc, patience) = (idc(cli, None)?, Duration::from_secs((*patience).into()));
            let client = match domid {
                Some(domid) => Client::new(&idc, DomId(*domid), patience),
                None => Client::told(&idc, patience)?,
            };
            let mut guest = Guest::connect(client)?;
            guest.self_test()?;
            let device = Device::new(guest.family())?;
            println!(
                "vtpmd: /dev/tpm{} is a TPM {} in domain {}",
                device.number,
                guest.family().name(),
                guest.domid()
            );
            guest.run(device.end())
        }
        Command::Proxy { target, listen, protocol, max_locality } => {
            let idc = idc(cli, target.own_domid)?;
            let tpm = Tpm::new(target.client(&idc), target.client(&idc), *max_locality)?;
            let sockets = Sockets::listen(listen)?;
            println!("vtpmd: the TPM of domain {} is at {:?}", target.domid, sockets.place());
            sockets.run(*protocol, &Arc::new(tpm));
            Ok(())
        }
        Command::Manager { dirs, domid } => {
            let registry = dirs.open()?;
            let master = registry.master(dirs.key.as_deref())?;
            let idc = idc(cli, Some(*domid))?;
            let own = idc.domid()?;
            Manager::new(registry, master, own)?.run(&idc)
        }
        Command::Instance(command) => {
            let said = command.run()?;
            if !said.is_empty() {
                println!("{said}");
            }
            Ok(())
        }
        Command::Key(KeyCommand::Seal { pcrs, dirs }) => {
            let registry = dirs.open()?;
            let file = registry.key_file(dirs.key.as_deref());
            if !file.exists() {
                // Made if there is none yet.
                registry.master(dirs.key.as_deref())?;
            }
            vtpmd::key::seal(&file, pcrs.as_deref(), registry.run_dir())
        }
        Command::Key(KeyCommand::Unseal { dirs }) => {
            let registry = dirs.open()?;
            vtpmd::key::unseal(&registry.key_file(dirs.key.as_deref()), registry.run_dir())
        }
        Command::Measure { ours, theirs, windows, share, json } => {
            let (mut ours, mut theirs) = (measure::open(ours)?, measure::open(theirs)?);
            let rows = measure::compare(&mut *ours, &mut *theirs, usize::from(*windows), *share)?;
            if *json {
                println!("{}", json!(rows));
            } else {
                print!("{}", measure::table(&rows));
            }
            Ok(())
        }
        Command::Ask(command) => ask(cli, command),
    }
}

fn idc(cli: &Cli, own: Option<u16>) -> Result<Idc> {
    vtpmd::open_idc(cli.hosted.as_deref(), own).context("there is no IDC")
}

fn client(cli: &Cli, target: &Target) -> Result<Client> {
    Ok(target.client(&idc(cli, target.own_domid)?))
}

impl Target {
    fn client(&self, idc: &Idc) -> Client {
        Client::new(idc, DomId(self.domid), Duration::from_secs(self.patience.into()))
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| digit.try_into().ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

fn ask(cli: &Cli, command: &AskCommand) -> Result<()> {
    let (target, kind, contents) = match command {
        AskCommand::Info { target, json } => {
            let info = client(cli, target)?.info()?;
            if *json {
                let object: serde_json::Map<_, _> =
                    info.into_iter().map(|(key, value)| (key, json!(value))).collect();
                println!("{}", serde_json::Value::from(object));
            } else {
                info.iter().for_each(|(key, value)| println!("{key}={value}"));
            }
            return Ok(());
        }
        AskCommand::Command { target, locality, commands } => {
            let mut client = client(cli, target)?;
            for command in commands {
                let bytes = from_hex(command).with_context(|| format!("`{command}` is not hexadecimal"))?;
                let reply = client.request(Kind::Command, *locality, &bytes)?;
                ensure!(reply.status == Status::Ok, "{}", reply.status);
                println!("{}", reply.contents.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            }
            return Ok(());
        }
        AskCommand::Reset { target } => (target, Kind::Reset, Vec::new()),
        AskCommand::Suspend { target } => (target, Kind::Suspend, Vec::new()),
        AskCommand::Resume { target } => (target, Kind::Resume, Vec::new()),
        AskCommand::Attach { target, guest } => {
            let [low, high] = guest.to_le_bytes();
            (target, Kind::Attach, vec![low, high, 0])
        }
        AskCommand::Detach { target, guest } => (target, Kind::Detach, guest.to_le_bytes().to_vec()),
    };
    let rest = client(cli, target)?.demand(kind, &contents)?;
    if !rest.is_empty() {
        bail!("the vTPM answered more than was expected");
    }
    Ok(())
}
