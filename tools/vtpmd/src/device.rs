//! `/dev/vtpmx`: the kernel's `tpm_vtpm_proxy` (`linux/vtpm_proxy.h`) makes a TPM device out of a file descriptor.
#![expect(unsafe_code, reason = "the ioctl that makes the device")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::ioctl::{self, Updater, opcode};
use vtpm::Family;

/// Where devices are made.
pub const MAKER: &str = "/dev/vtpmx";

/// `struct vtpm_proxy_new_dev`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct NewDevice {
    flags: u32,
    tpm_num: u32,
    fd: u32,
    major: u32,
    minor: u32,
}

/// `VTPM_PROXY_FLAG_TPM2`.
const FLAG_TPM2: u32 = 1;
/// `VTPM_PROXY_IOC_NEW_DEV`.
const NEW_DEV: ioctl::Opcode = opcode::read_write::<NewDevice>(0xa1, 0);

/// The daemon's end of a TPM device. The device disappears when it is dropped.
#[derive(Debug)]
pub struct Device {
    end: File,
    /// Number of the device: `/dev/tpmN`.
    pub number: u32,
}

impl Device {
    /// Makes a device.
    ///
    /// # Errors
    /// The kernel has no such driver, or this process may not.
    pub fn new(family: Family) -> Result<Device> {
        let maker = OpenOptions::new().read(true).write(true).open(Path::new(MAKER)).with_context(|| {
            format!("cannot open {MAKER}: is the module tpm_vtpm_proxy loaded, and are you root?")
        })?;
        let mut new =
            NewDevice { flags: if family == Family::Tpm20 { FLAG_TPM2 } else { 0 }, ..NewDevice::default() };
        new_device(maker.as_fd(), &mut new).context("the kernel does not make a TPM device")?;
        let raw = i32::try_from(new.fd).context("the kernel's answer is no file descriptor")?;
        // SAFETY: the kernel opened it for this process just now, and nobody else knows it.
        let end = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Device { end: File::from(end), number: new.tpm_num })
    }

    /// The end, to read commands from and to write answers to.
    pub fn end(&self) -> &File {
        &self.end
    }
}

fn new_device(maker: BorrowedFd<'_>, new: &mut NewDevice) -> io::Result<()> {
    // SAFETY: the request reads and writes one `struct vtpm_proxy_new_dev`.
    Ok(unsafe { ioctl::ioctl(maker, Updater::<NEW_DEV, NewDevice>::new(new)) }?)
}
