//! The instances of this machine, and which domains run and use them.
//!
//! ```text
//! STATE/master.key                      key of all keys, mode 0600; or instead of it
//! STATE/master.tpm/                     the same, sealed to a hardware TPM
//! STATE/instances/UUID/instance.json    name and family
//! STATE/instances/UUID/slot{0,1}        sealed state
//! STATE/ledger/UUID/record{0,1}         commit record
//! RUN/UUID.cfg                          its domain's configuration, as `xl` got it
//! RUN/UUID.json                         the domain that runs it and the guests that use it; gone after a reboot
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use vtpm::seal::Purpose;
use vtpm::{Family, Key, Uuid, Vault};

use crate::files::{Files, private_dir, replace, sync_dir};
use crate::{hardware, key};

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Registry {
    state: PathBuf,
    run: PathBuf,
}

/// What is kept of an instance besides its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its identity.
    pub uuid: String,
    /// Name, for people; unique on this machine.
    pub name: String,
    /// `2.0` or `1.2`.
    pub family: String,
    /// Kind of its domain: `pv` or `pvh`.
    #[serde(default = "default_mode")]
    pub mode: String,
    /// Memory of its domain in MiB.
    #[serde(default = "default_memory")]
    pub memory: u32,
    /// The image that its domain boots.
    #[serde(default)]
    pub image: Option<Image>,
}

/// An image, as it was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Where it is.
    pub path: PathBuf,
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

fn default_mode() -> String {
    "pv".to_owned()
}

/// What is enough; see docs/guide/vtpm.md.
const fn default_memory() -> u32 {
    16
}

impl Instance {
    /// The UUID.
    ///
    /// # Errors
    /// The file was tampered with.
    pub fn id(&self) -> Result<Uuid> {
        Uuid::parse(&self.uuid).with_context(|| format!("`{}` is no UUID", self.uuid))
    }

    /// The family.
    ///
    /// # Errors
    /// The file was tampered with.
    pub fn tpm(&self) -> Result<Family> {
        family(&self.family)
    }
}

/// Reads `2.0` or `1.2`.
///
/// # Errors
/// Anything else.
pub fn family(text: &str) -> Result<Family> {
    let known = [Family::Tpm20, Family::Tpm12].into_iter().find(|family| family.name() == text);
    known.with_context(|| format!("there is no TPM {text}: use 2.0 or 1.2"))
}

/// Who runs and uses an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The vTPM domain.
    pub domid: u16,
    /// The guests.
    pub guests: Vec<u16>,
    /// The guests have not run since the vTPM domain was made, so that its first start is that of the platform.
    pub fresh: bool,
    /// The domain was made by [`crate::lifecycle`], and not bound by hand.
    #[serde(default)]
    pub ours: bool,
}

fn check_name(name: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    ensure!(
        (1..=64).contains(&name.len()) && name.chars().all(good) && !name.starts_with(['-', '.']),
        "`{name}` is no name: use up to 64 letters, digits, `-`, `_` and `.`, not starting with `-` or `.`"
    );
    Ok(())
}

impl Registry {
    /// Where things are on a Xen machine.
    pub const STATE: &str = "/var/lib/casemate/vtpm";
    /// And what is gone after a reboot.
    pub const RUN: &str = "/run/casemate/vtpm";

    /// A registry in these directories, which are made if they are missing.
    ///
    /// # Errors
    /// The system's.
    pub fn open(state: &Path, run: &Path) -> Result<Registry> {
        for dir in [state, run] {
            private_dir(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        Ok(Registry { state: state.to_owned(), run: run.to_owned() })
    }

    /// The directory of what is kept.
    pub fn state(&self) -> &Path {
        &self.state
    }

    fn instance_dir(&self, uuid: &Uuid) -> PathBuf {
        self.state.join("instances").join(uuid.to_string())
    }

    fn ledger_dir(&self, uuid: &Uuid) -> PathBuf {
        self.state.join("ledger").join(uuid.to_string())
    }

    fn binding_file(&self, uuid: &Uuid) -> PathBuf {
        self.run.join(format!("{uuid}.json"))
    }

    /// The file of the master key: the one that is named, or the usual one.
    pub fn key_file(&self, path: Option<&Path>) -> PathBuf {
        path.map_or_else(|| self.state.join("master.key"), Path::to_owned)
    }

    /// The directory of what is gone after a reboot.
    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    /// The master key; made if there is none and no instance either.
    ///
    /// # Errors
    /// See [`key::load`], [`key::create`] and [`hardware::unseal`].
    pub fn master(&self, path: Option<&Path>) -> Result<Key> {
        let path = self.key_file(path);
        let sealed = key::sealed(&path);
        if sealed.exists() {
            ensure!(
                !path.exists(),
                "there is {} and {}: `vtpmd key seal` removes the file if both are the same key",
                path.display(),
                sealed.display()
            );
            return Ok(Key::new(*hardware::unseal(&sealed, &self.run)?));
        }
        if !path.exists() && self.list()?.is_empty() {
            return key::create(&path);
        }
        key::load(&path)
    }

    /// The storage of an instance.
    ///
    /// # Errors
    /// The system's.
    pub fn files(&self, uuid: &Uuid) -> Result<Files> {
        Files::new(&self.instance_dir(uuid), &self.ledger_dir(uuid)).context("cannot make a directory")
    }

    /// Makes an instance.
    ///
    /// # Errors
    /// The name is taken or is none; the system's.
    pub fn create(&self, master: &Key, name: &str, family: Family) -> Result<Instance> {
        check_name(name)?;
        if self.list()?.iter().any(|instance| instance.name == name) {
            bail!("there is an instance `{name}` already");
        }
        let mut random = [0; 16];
        getrandom::fill(&mut random).context("there is no randomness")?;
        let uuid = Uuid::from_random(random);
        let instance = Instance {
            uuid: uuid.to_string(),
            name: name.to_owned(),
            family: family.name().to_owned(),
            mode: default_mode(),
            memory: default_memory(),
            image: None,
        };
        let vault = Vault::create(self.files(&uuid)?, uuid, master.derive(&uuid, Purpose::Ledger));
        vault.context("cannot write the first record")?;
        // The file that makes it an instance comes last.
        let dir = self.instance_dir(&uuid);
        self.update(&instance)?;
        dir.parent().map_or(Ok(()), sync_dir).context("cannot synchronise")?;
        Ok(instance)
    }

    /// Writes what is kept of an instance besides its state.
    ///
    /// # Errors
    /// The system's.
    pub fn update(&self, instance: &Instance) -> Result<()> {
        let file = self.instance_dir(&instance.id()?).join("instance.json");
        replace(&file, &serde_json::to_vec_pretty(instance)?).context("cannot write the instance's file")
    }

    /// A file of an instance that is gone after a reboot.
    pub fn run_file(&self, uuid: &Uuid, extension: &str) -> PathBuf {
        self.run.join(format!("{uuid}.{extension}"))
    }

    /// All instances, by name.
    ///
    /// # Errors
    /// The system's, or a file that cannot be read.
    pub fn list(&self) -> Result<Vec<Instance>> {
        let entries = match fs::read_dir(self.state.join("instances")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).context("cannot list the instances"),
        };
        let mut instances = Vec::new();
        for entry in entries {
            let path = entry?.path().join("instance.json");
            let Ok(text) = fs::read(&path) else { continue };
            let instance: Instance =
                serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
            instances.push(instance);
        }
        instances.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(instances)
    }

    /// The instance with this name or UUID.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<Instance> {
        let found = self.list()?.into_iter().find(|instance| instance.name == name || instance.uuid == name);
        found.with_context(|| format!("there is no instance `{name}`; `list` shows those that are"))
    }

    /// Removes an instance that no domain runs, with its state, for ever.
    ///
    /// # Errors
    /// It is running; the system's.
    pub fn destroy(&self, instance: &Instance) -> Result<()> {
        let uuid = instance.id()?;
        if let Some(binding) = self.binding(&uuid)? {
            bail!("domain {} runs `{}`: stop it first", binding.domid, instance.name);
        }
        let _ = fs::remove_file(self.run_file(&uuid, "cfg"));
        fs::remove_dir_all(self.instance_dir(&uuid)).context("cannot remove the instance")?;
        match fs::remove_dir_all(self.ledger_dir(&uuid)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context("cannot remove the ledger")
            }
            _ => Ok(()),
        }
    }

    /// Who runs and uses the instance.
    ///
    /// # Errors
    /// The system's, or a damaged file.
    pub fn binding(&self, uuid: &Uuid) -> Result<Option<Binding>> {
        match fs::read(self.binding_file(uuid)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).context("a file of a binding is damaged")?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("cannot read a binding"),
        }
    }

    /// Says who runs and uses the instance.
    ///
    /// # Errors
    /// The domain runs another one; the system's.
    pub fn bind(&self, uuid: &Uuid, binding: &Binding) -> Result<()> {
        if let Some((other, _)) = self.run_by(binding.domid)?
            && other.id()? != *uuid
        {
            bail!("domain {} runs the instance `{}`", binding.domid, other.name);
        }
        ensure!(
            binding.guests.len() < vtpm::policy::PEERS_MAX,
            "an instance has up to {} guests",
            vtpm::policy::PEERS_MAX - 1
        );
        replace(&self.binding_file(uuid), &serde_json::to_vec_pretty(binding)?)
            .context("cannot write a binding")
    }

    /// Nobody runs the instance.
    ///
    /// # Errors
    /// The system's.
    pub fn unbind(&self, uuid: &Uuid) -> Result<()> {
        match fs::remove_file(self.binding_file(uuid)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context("cannot remove a binding")
            }
            _ => Ok(()),
        }
    }

    /// The instance that this domain runs.
    ///
    /// # Errors
    /// The system's.
    pub fn run_by(&self, domid: u16) -> Result<Option<(Instance, Binding)>> {
        for instance in self.list()? {
            if let Some(binding) = self.binding(&instance.id()?)?
                && binding.domid == domid
            {
                return Ok(Some((instance, binding)));
            }
        }
        Ok(None)
    }
}
