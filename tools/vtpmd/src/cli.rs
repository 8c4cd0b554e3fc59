//! The commands on instances, for `vtpmd instance` and for `casemate vtpm`: what they take, what they do, what they print.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::lifecycle::{Lifecycle, Start, Stop, read_image};
use crate::place;
use crate::registry::{Binding, Instance, Registry, family};
use xenstore::{Xenstore, is_dom0};

/// Where things are.
#[derive(Clone, Debug, Args)]
pub struct Dirs {
    /// Where instances are kept
    #[arg(long, default_value = Registry::STATE, value_name = "DIRECTORY")]
    pub state: PathBuf,
    /// Where it is kept which domain runs what; empty after a reboot
    #[arg(long, default_value = Registry::RUN, value_name = "DIRECTORY")]
    pub run: PathBuf,
    /// File of the master key (default: master.key in the state directory)
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl Dirs {
    /// The registry there.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&self) -> Result<Registry> {
        Registry::open(&self.state, &self.run)
    }
}

/// Kind of virtual machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Para-virtualised; needs no virtualisation hardware
    Pv,
    /// Hardware virtualisation without emulated devices
    Pvh,
}

/// How long to wait.
#[derive(Clone, Copy, Debug, Args)]
pub struct Patience {
    /// How long to wait for the TPM
    #[arg(long = "patience", default_value_t = 60, value_name = "SECONDS")]
    seconds: u16,
}

impl Patience {
    fn time(self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }
}

/// What to do with instances.
#[derive(Clone, Debug, Subcommand)]
#[expect(missing_docs, reason = "fields that every command has are said once, in their own types")]
pub enum InstanceCommand {
    /// Make an instance
    Create {
        /// Its name
        name: String,
        /// Generation of the TPM: 2.0 or 1.2
        #[arg(long, default_value = "2.0")]
        tpm: String,
        /// Image of its domain; it is measured, and a start refuses another one
        #[arg(long, value_name = "FILE")]
        image: Option<PathBuf>,
        /// Kind of its domain
        #[arg(long, value_enum, default_value_t = Mode::Pv)]
        mode: Mode,
        /// Memory of its domain in MiB
        #[arg(long, value_name = "MiB", default_value_t = 16, value_parser = clap::value_parser!(u32).range(8..=65536))]
        memory: u32,
        #[command(flatten)]
        dirs: Dirs,
    },
    /// List all instances
    List {
        #[command(flatten)]
        dirs: Dirs,
    },
    /// Start an instance's domain and wait for its TPM
    Start {
        /// Name or UUID
        name: String,
        /// A guest that may use it; more than once for several
        #[arg(long, value_name = "N")]
        guest: Vec<u16>,
        /// The guests have run already with this TPM: their measurements are lost, and the PCRs will say so
        #[arg(long)]
        running: bool,
        /// Image of its domain (default: the one of before)
        #[arg(long, value_name = "FILE")]
        image: Option<PathBuf>,
        /// Start an image that is not the one of before, and remember it; it gets the TPM's secrets
        #[arg(long)]
        accept_image: bool,
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        dirs: Dirs,
    },
    /// Stop an instance's domain
    Stop {
        /// Name or UUID
        name: String,
        /// Save the volatile state, PCRs among it; the next start goes on with it
        #[arg(long)]
        suspend: bool,
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        dirs: Dirs,
    },
    /// Let a guest use an instance that runs
    Attach {
        /// Name or UUID
        name: String,
        /// The guest
        #[arg(long, value_name = "N")]
        guest: u16,
        /// Highest locality that it may use, until the domain is started again
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=4))]
        locality: u8,
        /// The guest was started anew: reset the TPM, as a machine does that starts
        #[arg(long)]
        reset: bool,
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        dirs: Dirs,
    },
    /// Let a guest use an instance no more
    Detach {
        /// Name or UUID
        name: String,
        /// The guest
        #[arg(long, value_name = "N")]
        guest: u16,
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        dirs: Dirs,
    },
    /// Remove an instance that does not run, and its state, for ever
    Destroy {
        /// Name or UUID
        name: String,
        #[command(flatten)]
        dirs: Dirs,
    },
    /// Say everything about an instance, and what its TPM says if it runs
    Info {
        /// Name or UUID
        name: String,
        #[command(flatten)]
        patience: Patience,
        #[command(flatten)]
        dirs: Dirs,
    },
    /// For other toolstacks: say that a domain runs an instance; it must not run yet
    Bind {
        /// Name or UUID
        name: String,
        /// The vTPM domain
        #[arg(long, value_name = "N")]
        domid: u16,
        /// A guest that may use it; more than once for several
        #[arg(long, value_name = "N")]
        guest: Vec<u16>,
        /// The guests have run already with this TPM: their measurements are lost, and the PCRs will say so
        #[arg(long)]
        running: bool,
        #[command(flatten)]
        dirs: Dirs,
    },
    /// For other toolstacks: say that no domain runs an instance
    Unbind {
        /// Name or UUID
        name: String,
        #[command(flatten)]
        dirs: Dirs,
    },
}

impl InstanceCommand {
    /// Does it, and returns what to print: lines for people, or JSON.
    ///
    /// # Errors
    /// What went wrong, and what to do about it.
    pub fn run(&self) -> Result<String> {
        match self {
            InstanceCommand::Create { name, tpm, image, mode, memory, dirs } => {
                // What can be wrong with it comes before anything is made.
                let (family, image) = (family(tpm)?, image.as_deref().map(read_image).transpose()?);
                let registry = dirs.open()?;
                let master = registry.master(dirs.key.as_deref())?;
                let mut instance = registry.create(&master, name, family)?;
                instance.mode = if *mode == Mode::Pv { "pv" } else { "pvh" }.to_owned();
                instance.memory = *memory;
                instance.image = image.map(|(image, _)| image);
                registry.update(&instance)?;
                let text = format!("{} {} TPM {}", instance.uuid, instance.name, instance.family);
                Ok(choose(dirs, json!(instance), text))
            }
            InstanceCommand::List { dirs } => list(dirs),
            InstanceCommand::Start { name, guest, running, image, accept_image, patience, dirs } => {
                let registry = dirs.open()?;
                let start = Start {
                    guests: guest.clone(),
                    running: *running,
                    image: image.clone(),
                    accept_image: *accept_image,
                    patience: patience.time(),
                };
                let (domid, took) = Lifecycle::new(&registry)?.start(name, &start)?;
                let json = json!({ "domid": domid, "seconds": took.as_secs_f64() });
                Ok(choose(dirs, json, format!("`{name}` runs in domain {domid}")))
            }
            InstanceCommand::Stop { name, suspend, patience, dirs } => {
                let registry = dirs.open()?;
                let how = if *suspend { Stop::Suspend } else { Stop::PowerOff };
                Lifecycle::new(&registry)?.stop(name, how, patience.time())?;
                Ok(done(dirs))
            }
            InstanceCommand::Attach { name, guest, locality, reset, patience, dirs } => {
                let registry = dirs.open()?;
                Lifecycle::new(&registry)?.attach(name, *guest, *locality, *reset, patience.time())?;
                Ok(done(dirs))
            }
            InstanceCommand::Detach { name, guest, patience, dirs } => {
                let registry = dirs.open()?;
                Lifecycle::new(&registry)?.detach(name, *guest, patience.time())?;
                Ok(done(dirs))
            }
            InstanceCommand::Destroy { name, dirs } => {
                let registry = dirs.open()?;
                if is_dom0() {
                    Lifecycle::new(&registry)?.destroy(name)?;
                } else {
                    registry.destroy(&registry.find(name)?)?;
                }
                Ok(done(dirs))
            }
            InstanceCommand::Info { name, patience, dirs } => info(name, patience.time(), dirs),
            InstanceCommand::Bind { name, domid, guest, running, dirs } => {
                let registry = dirs.open()?;
                let uuid = registry.find(name)?.id()?;
                let binding = Binding { domid: *domid, guests: guest.clone(), fresh: !running, ours: false };
                registry.bind(&uuid, &binding)?;
                if is_dom0() {
                    let mut store = Xenstore::open()?;
                    guest.iter().try_for_each(|guest| place::announce(&mut store, *guest, *domid))?;
                }
                Ok(done(dirs))
            }
            InstanceCommand::Unbind { name, dirs } => {
                let registry = dirs.open()?;
                registry.unbind(&registry.find(name)?.id()?)?;
                Ok(done(dirs))
            }
        }
    }
}

fn choose(dirs: &Dirs, json: Value, text: String) -> String {
    if dirs.json { json.to_string() } else { text }
}

/// What there is to say after something that has nothing to say.
fn done(dirs: &Dirs) -> String {
    choose(dirs, json!({}), String::new())
}

fn state(binding: Option<&Binding>) -> String {
    binding.map_or("stopped".to_owned(), |binding| {
        let guests: Vec<_> = binding.guests.iter().map(ToString::to_string).collect();
        format!("domain {}, guests {}", binding.domid, guests.join(","))
    })
}

fn list(dirs: &Dirs) -> Result<String> {
    let registry = dirs.open()?;
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for instance in registry.list()? {
        let binding = registry.binding(&instance.id()?)?;
        rows.push(json!({ "instance": instance, "binding": binding }));
        let Instance { uuid, family, name, .. } = &instance;
        lines.push(format!("{uuid} TPM {family} {name} {}", state(binding.as_ref())));
    }
    Ok(choose(dirs, json!(rows), lines.join("\n")))
}

fn info(name: &str, patience: Duration, dirs: &Dirs) -> Result<String> {
    let registry = dirs.open()?;
    let instance = registry.find(name)?;
    let binding = registry.binding(&instance.id()?)?;
    let said = if is_dom0() {
        Lifecycle::new(&registry)?.info(&instance, patience)?
    } else if binding.is_some() {
        bail!("this machine is no dom0: ask a hosted vTPM with `vtpmd ask info`");
    } else {
        None
    };
    let image = instance
        .image
        .as_ref()
        .map_or("none yet".to_owned(), |image| format!("{}\nsha256={}", image.path.display(), image.sha256));
    let mut text = format!(
        "uuid={}\nname={}\nfamily={}\nmode={}\nmemory={}\nimage={image}\nplace={}",
        instance.uuid,
        instance.name,
        instance.family,
        instance.mode,
        instance.memory,
        state(binding.as_ref())
    );
    for (key, value) in said.iter().flatten().filter(|(key, _)| !matches!(key.as_str(), "uuid" | "family")) {
        text.push_str(&format!("\n{key}={value}"));
    }
    let said = said.map(|said| {
        let pairs = said.into_iter().map(|(key, value)| (key, json!(value)));
        Value::from(pairs.collect::<serde_json::Map<_, _>>())
    });
    Ok(choose(dirs, json!({ "instance": instance, "binding": binding, "tpm": said }), text))
}
