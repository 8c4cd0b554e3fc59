//! Instances as domains: starting and stopping them with `xl`, letting guests in and out.
//!
//! One domain for each instance. What a start boots is what was measured: the image is read once, its SHA-256 compared
//! with the one in the registry, and the bytes that were measured are handed to `xl`. An image that is another one
//! than before is refused, since it would get the instance's key.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use idc::{DomId, Idc};
use sha2::{Digest, Sha256};
use vtpm::frame::{Kind, LOCALITY_MAX};

use crate::client::Client;
use crate::files::replace;
use crate::place;
use crate::registry::{Binding, Image, Instance, Registry};
use xenstore::{Xenstore, is_dom0};

/// Bytes of a domain's seed of randomness (`data/entropy-seed`, see the kernel's `entropy` module).
const SEED_LEN: usize = 48;

/// How an instance is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The guests that may use it.
    pub guests: Vec<u16>,
    /// The guests have run already with this TPM.
    pub running: bool,
    /// Take this image, and remember it, even if it is not the one of the last start.
    pub image: Option<PathBuf>,
    /// Whether an image that has changed may be started.
    pub accept_image: bool,
    /// How long to wait for the TPM.
    pub patience: Duration,
}

/// What becomes of the volatile state when an instance is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is lost, as when a machine is switched off.
    PowerOff,
    /// It is saved, and the next start goes on with it.
    Suspend,
}

/// SHA-256 as text.
pub fn measure(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads and measures an image.
///
/// # Errors
/// It cannot be read, or is no ELF file.
pub fn read_image(path: &Path) -> Result<(Image, Vec<u8>)> {
    let path = std::path::absolute(path).context("the image has no path")?;
    let bytes = fs::read(&path).with_context(|| {
        format!(
            "cannot read the image {}: `casemate build vtpm-domain` makes one; name it with --image",
            path.display()
        )
    })?;
    ensure!(bytes.starts_with(b"\x7fELF"), "{} is no image of a domain", path.display());
    Ok((Image { sha256: measure(&bytes), path }, bytes))
}

/// Which image a start takes: the one of before, or another one that somebody has said yes to.
fn choose(instance: &Instance, start: &Start) -> Result<(Image, Vec<u8>)> {
    let known = instance.image.as_ref();
    let path = start.image.as_deref().or(known.map(|image| image.path.as_path()));
    let path =
        path.with_context(|| format!("`{}` has no image yet: say which one with --image", instance.name))?;
    let (image, bytes) = read_image(path)?;
    if let Some(known) = known.filter(|known| known.sha256 != image.sha256)
        && !start.accept_image
    {
        bail!(
            "{} is not the image that ran `{}` before (SHA-256 {} and not {}): if it is meant to be another one, \
             start it once with --accept-image; it gets the TPM's secrets",
            image.path.display(),
            instance.name,
            image.sha256,
            known.sha256
        );
    }
    Ok((image, bytes))
}

/// The domain's name.
pub fn domain_name(instance: &Instance) -> String {
    format!("vtpm-{}", instance.name)
}

/// `xl.cfg(5)` of an instance. Names are checked when an instance is made, and the paths are ours.
pub fn configuration(instance: &Instance, kernel: &Path, patience: Duration) -> Result<String> {
    let kernel = kernel.to_str().filter(|path| !path.contains(['"', '\\', '\n']));
    let kernel = kernel.context("the path of the run directory has characters that xl.cfg does not take")?;
    Ok(format!(
        "# Written by `vtpmd instance start`; changes are lost.\n\
         name = \"{}\"\ntype = \"{}\"\nkernel = \"{kernel}\"\nmemory = {}\nvcpus = 1\n\
         cmdline = \"patience={}\"\n\
         on_poweroff = \"destroy\"\non_reboot = \"destroy\"\non_crash = \"destroy\"\n",
        domain_name(instance),
        instance.mode,
        instance.memory,
        patience.as_secs().clamp(1, u16::MAX.into()),
    ))
}

fn xl(words: &[&str]) -> Result<()> {
    let output = Command::new("xl").args(words).stdin(Stdio::null()).output();
    let output = output.context("cannot run `xl`: are Xen's tools installed?")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "`xl {}` failed: {}", words.join(" "), said.trim_end());
    Ok(())
}

/// The lifecycle of a registry's instances, in dom0.
pub struct Lifecycle<'a> {
    registry: &'a Registry,
    store: Xenstore,
}

impl<'a> Lifecycle<'a> {
    /// # Errors
    /// This is not dom0, or xenstore cannot be reached.
    pub fn new(registry: &'a Registry) -> Result<Lifecycle<'a>> {
        ensure!(
            is_dom0(),
            "this machine is no dom0, so there is nothing to run a vTPM domain on: do this in dom0 (to see it in an \
             emulated one: `casemate demo`)"
        );
        Ok(Lifecycle { registry, store: Xenstore::open()? })
    }

    /// Whether the domain of a binding still exists, and is the instance's.
    fn is_alive(&mut self, instance: &Instance, binding: &Binding) -> Result<bool> {
        let name = self.store.read(&format!("/local/domain/{}/name", binding.domid))?;
        // A domain that was bound by hand has another name.
        Ok(name.is_some_and(|name| !binding.ours || name == domain_name(instance).as_bytes()))
    }

    /// The binding of an instance that runs.
    fn running(&mut self, instance: &Instance) -> Result<Option<Binding>> {
        let Some(binding) = self.registry.binding(&instance.id()?)? else { return Ok(None) };
        Ok(if self.is_alive(instance, &binding)? { Some(binding) } else { None })
    }

    fn demand_running(&mut self, instance: &Instance) -> Result<Binding> {
        let binding = self.running(instance)?;
        binding.with_context(|| format!("`{0}` is not running: `start {0}` starts it", instance.name))
    }

    fn client(domid: u16, patience: Duration) -> Result<Client> {
        Ok(Client::new(&Idc::open().context("there is no IDC")?, DomId(domid), patience))
    }

    /// Starts an instance's domain and waits for its TPM; returns the domain's id, and the time from the start of
    /// `xl create` to the TPM's first answer.
    ///
    /// # Errors
    /// It runs already; the image is another one; what `xl` says; the TPM does not come up. Nothing is left running then.
    pub fn start(&mut self, name: &str, start: &Start) -> Result<(u16, Duration)> {
        let mut instance = self.registry.find(name)?;
        if let Some(binding) = self.running(&instance)? {
            bail!("`{}` runs in domain {} already: `stop` it first", instance.name, binding.domid);
        }
        let uuid = instance.id()?;
        let (image, bytes) = choose(&instance, start)?;
        if instance.image.as_ref() != Some(&image) {
            instance.image = Some(image);
            self.registry.update(&instance)?;
        }
        self.registry.unbind(&uuid)?;
        let (kernel, config) = (self.registry.run_file(&uuid, "image"), self.registry.run_file(&uuid, "cfg"));
        replace(&kernel, &bytes).context("cannot copy the image")?;
        replace(&config, configuration(&instance, &kernel, start.patience)?.as_bytes())
            .context("cannot write the domain's configuration")?;
        let began = Instant::now();
        let created = xl(&["create", "-p", "-q", &config.to_string_lossy()]);
        // xl has read it.
        fs::remove_file(&kernel).context("cannot remove the copy of the image")?;
        created?;
        let domain = domain_name(&instance);
        let started = self.set_up(&instance, start);
        if started.is_err() {
            self.registry.unbind(&uuid)?;
            if let Err(error) = xl(&["destroy", &domain]) {
                eprintln!("vtpmd: {error:#}");
            }
        }
        Ok((started?, began.elapsed()))
    }

    /// What comes between the creation of a domain and its first answer.
    fn set_up(&mut self, instance: &Instance, start: &Start) -> Result<u16> {
        let domid = self.store.domain_named(&domain_name(instance))?;
        let domid = domid.context("xenstore does not know the domain that xl has made")?;
        let mut seed = [0; SEED_LEN];
        getrandom::fill(&mut seed).context("there is no randomness")?;
        let seed: String = seed.iter().map(|byte| format!("{byte:02x}")).collect();
        let node = format!("/local/domain/{domid}/data/entropy-seed");
        self.store.write_private(&node, seed.as_bytes(), domid)?;
        let binding = Binding { domid, guests: start.guests.clone(), fresh: !start.running, ours: true };
        self.registry.bind(&instance.id()?, &binding)?;
        for guest in &start.guests {
            place::announce(&mut self.store, *guest, domid)?;
        }
        xl(&["unpause", &domid.to_string()])?;
        Lifecycle::client(domid, start.patience)?.info().with_context(|| {
            format!("the TPM in domain {domid} does not answer: is `vtpmd manager` running? Its log says why")
        })?;
        Ok(domid)
    }

    /// Stops an instance's domain. What was acknowledged is on the disk; nothing else is waited for.
    ///
    /// # Errors
    /// It is not running; what `xl` says; with [`Stop::Suspend`], that the state cannot be saved: it runs on then.
    pub fn stop(&mut self, name: &str, how: Stop, patience: Duration) -> Result<()> {
        let instance = self.registry.find(name)?;
        let uuid = instance.id()?;
        let Some(binding) = self.registry.binding(&uuid)? else {
            bail!("`{}` is not running", instance.name);
        };
        if self.is_alive(&instance, &binding)? {
            if how == Stop::Suspend {
                let saved = Lifecycle::client(binding.domid, patience)?.demand(Kind::Suspend, &[]);
                saved.context("the volatile state cannot be saved; without --suspend it is given up")?;
            }
            xl(&["destroy", &binding.domid.to_string()])?;
        }
        self.registry.unbind(&uuid)?;
        for guest in &binding.guests {
            place::withdraw(&mut self.store, *guest)?;
        }
        Ok(())
    }

    /// Lets a guest in. If it has only just been started, and the TPM has not, the TPM is reset with `reset`.
    ///
    /// # Errors
    /// It is not running, there is no such guest, or the TPM refuses.
    pub fn attach(
        &mut self,
        name: &str,
        guest: u16,
        locality: u8,
        reset: bool,
        patience: Duration,
    ) -> Result<()> {
        ensure!(locality <= LOCALITY_MAX, "the highest locality is {LOCALITY_MAX}");
        let instance = self.registry.find(name)?;
        let mut binding = self.demand_running(&instance)?;
        let mut client = Lifecycle::client(binding.domid, patience)?;
        if reset {
            client.demand(Kind::Reset, &[]).context("the TPM is not reset")?;
        }
        let [low, high] = guest.to_le_bytes();
        client.demand(Kind::Attach, &[low, high, locality]).context("the TPM does not let it in")?;
        if !binding.guests.contains(&guest) {
            binding.guests.push(guest);
            self.registry.bind(&instance.id()?, &binding)?;
        }
        place::announce(&mut self.store, guest, binding.domid)
    }

    /// Lets a guest in no more.
    ///
    /// # Errors
    /// It is not running, or the guest was not let in.
    pub fn detach(&mut self, name: &str, guest: u16, patience: Duration) -> Result<()> {
        let instance = self.registry.find(name)?;
        let mut binding = self.demand_running(&instance)?;
        // First what a restart of the domain would go by.
        binding.guests.retain(|known| *known != guest);
        self.registry.bind(&instance.id()?, &binding)?;
        place::withdraw(&mut self.store, guest)?;
        let out = Lifecycle::client(binding.domid, patience)?.demand(Kind::Detach, &guest.to_le_bytes());
        out.with_context(|| format!("domain {guest} was not let in before"))?;
        Ok(())
    }

    /// Removes an instance that does not run, with its state, for ever.
    ///
    /// # Errors
    /// It is running; the system's.
    pub fn destroy(&mut self, name: &str) -> Result<()> {
        let instance = self.registry.find(name)?;
        if self.running(&instance)?.is_none() {
            // Its domain is gone, in whatever way.
            self.registry.unbind(&instance.id()?)?;
        }
        self.registry.destroy(&instance)
    }

    /// What a running instance says about itself; nothing if it is not running.
    ///
    /// # Errors
    /// It runs and does not answer.
    pub fn info(&mut self, instance: &Instance, patience: Duration) -> Result<Option<Vec<(String, String)>>> {
        match self.running(instance)? {
            None => Ok(None),
            Some(binding) => Lifecycle::client(binding.domid, patience)?.info().map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(image: Option<Image>) -> Instance {
        Instance {
            uuid: "00000000-0000-4000-8000-000000000000".to_owned(),
            name: "it".to_owned(),
            family: "2.0".to_owned(),
            mode: "pvh".to_owned(),
            memory: 16,
            image,
        }
    }

    #[test]
    fn the_configuration_is_the_domains() {
        let text =
            configuration(&instance(None), Path::new("/run/x/image"), Duration::from_secs(60)).unwrap();
        for line in [
            "name = \"vtpm-it\"",
            "type = \"pvh\"",
            "kernel = \"/run/x/image\"",
            "memory = 16",
            "cmdline = \"patience=60\"",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(configuration(&instance(None), Path::new("/a\"b"), Duration::ZERO).is_err());
    }

    #[test]
    fn a_changed_image_is_refused_unless_it_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        fs::write(&path, b"\x7fELF one").unwrap();
        let (image, bytes) = read_image(&path).unwrap();
        assert_eq!(bytes, b"\x7fELF one");
        let mut start = Start {
            guests: Vec::new(),
            running: false,
            image: None,
            accept_image: false,
            patience: Duration::ZERO,
        };
        assert!(choose(&instance(None), &start).unwrap_err().to_string().contains("--image"));
        let instance = instance(Some(image.clone()));
        assert_eq!(choose(&instance, &start).unwrap().0, image);
        fs::write(&path, b"\x7fELF two").unwrap();
        let error = choose(&instance, &start).unwrap_err().to_string();
        assert!(error.contains("--accept-image") && error.contains(&image.sha256), "{error}");
        start.accept_image = true;
        assert_ne!(choose(&instance, &start).unwrap().0, image);
        fs::write(&path, b"no image").unwrap();
        assert!(choose(&instance, &start).is_err());
        fs::remove_file(&path).unwrap();
        assert!(choose(&instance, &start).unwrap_err().to_string().contains("casemate build"));
    }
}
