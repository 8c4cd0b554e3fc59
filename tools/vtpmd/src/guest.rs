//! The user domain's daemon: `/dev/tpm0` and `/dev/tpmrm0`, answered by the vTPM domain.
//!
//! The kernel's `tpm_vtpm_proxy` gives a descriptor from which one command at a time is read, and to which its answer is
//! written. Two things are not for the TPM: the proxy's own command that sets the locality, and commands while the vTPM
//! domain cannot be reached, which get a failure as the answer, so that nobody in the guest waits for ever.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use idc::DomId;
use rustix::io::Errno;
use vtpm::command::{Command, Family, answer, code, failure, self_test};
use vtpm::frame::{CONTENTS_MAX, Kind, Status};

use crate::client::{Client, Reply};

/// `TPM2_CC_SET_LOCALITY` and `TPM_ORD_SET_LOCALITY` of `linux/vtpm_proxy.h`: the next byte is the locality.
const SET_LOCALITY: u32 = 0x2000_1000;

/// How long a silent channel is believed to work when the kernel asks for a locality.
const BELIEF: Duration = Duration::from_millis(50);

/// What an error of the device means.
const GIVEN_UP: &str = "the kernel has given the TPM device up; its log (`dmesg`) says why";

/// What a device's daemon does, apart from the device.
#[derive(Debug)]
pub struct Guest {
    client: Client,
    family: Family,
    /// Tells a failure once, until it is over.
    down: bool,
    /// The vTPM was not to be reached just now: the command that follows need not wait for it once more.
    lost: bool,
}

impl Guest {
    /// Connects to the vTPM and asks which family it is.
    ///
    /// # Errors
    /// It is not there, or does not let this domain in.
    pub fn connect(mut client: Client) -> Result<Guest> {
        client = client.believing();
        let info = client.info()?;
        let value = info.iter().find(|(key, _)| key == "family").map(|(_, value)| value.as_str());
        let family = crate::registry::family(value.unwrap_or_default())?;
        Ok(Guest { client, family, down: false, lost: false })
    }

    /// Has the TPM test itself, before the kernel asks for that: it waits two seconds and no more, which is not enough
    /// on an emulated or a busy machine, and then there is no device.
    ///
    /// # Errors
    /// The TPM does not answer; what it says is for the kernel to judge.
    pub fn self_test(&mut self) -> Result<()> {
        self.client.request(Kind::Command, 0, &self_test(self.family)).map(drop)
    }

    /// The family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The vTPM's domain.
    pub fn domid(&self) -> DomId {
        self.client.domid()
    }

    /// The answer to a command that the kernel has for us.
    pub fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        if let Ok(command) = Command::parse(bytes, self.family)
            && command.code == SET_LOCALITY
        {
            // The kernel sends this before each command, and waits two minutes for the answer, while a command such as
            // TPM2_GetCapability has three quarters of a second: so this is the time to find a vTPM that has moved.
            if let Err(error) = self.client.revive(BELIEF) {
                self.failed(&format!("{error:#}"));
                self.lost = true;
            }
            // This domain has locality 0 only, and commands carry it anyway.
            return match bytes.get(10..) {
                Some([0]) => answer(self.family, code::SUCCESS),
                _ => answer(self.family, code::LOCALITY),
            };
        }
        if std::mem::take(&mut self.lost) {
            return failure(self.family);
        }
        match self.client.request(Kind::Command, 0, bytes) {
            Ok(Reply { status: Status::Ok, contents }) => {
                if std::mem::take(&mut self.down) {
                    eprintln!("vtpmd: the vTPM is back");
                }
                contents
            }
            Ok(Reply { status, .. }) => self.failed(&status),
            Err(error) => self.failed(&format!("{error:#}")),
        }
    }

    fn failed(&mut self, why: &dyn std::fmt::Display) -> Vec<u8> {
        if !std::mem::replace(&mut self.down, true) {
            eprintln!("vtpmd: the vTPM does not answer: {why}");
        }
        failure(self.family)
    }

    /// Serves a device until it ends.
    ///
    /// # Errors
    /// The device's.
    pub fn run(&mut self, mut device: impl Read + Write) -> Result<()> {
        let mut buf = vec![0; CONTENTS_MAX];
        loop {
            let len = match device.read(&mut buf) {
                Ok(0) => return Ok(()),
                Ok(len) => len,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context(GIVEN_UP),
            };
            let answer = self.answer(&buf[..len]);
            match device.write(&answer) {
                // The kernel takes an answer as a whole, or not at all if it has given up waiting for it.
                Ok(_) => {}
                Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => {
                    eprintln!("vtpmd: the kernel did not wait for an answer");
                }
                Err(error) => return Err(error).context(GIVEN_UP),
            }
        }
    }
}
