//! Mappings of files and devices into a Linux process.
#![expect(unsafe_code, reason = "mmap and munmap")]

use core::ptr::NonNull;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::platform::Access;
use crate::setup::PAGE_SIZE;
use crate::shm::Pages;

/// Address space that is given back when this is dropped.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: it is an address range; nothing in it belongs to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; a shared reference gives no access.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `map` made this range and nobody else unmaps it; the pages are reached only through the `Pages`
        // that owns this. The range exists, so this cannot fail.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Consecutive pages of a file or device.
#[derive(Debug)]
pub(super) struct Run<'a> {
    pub(super) file: BorrowedFd<'a>,
    /// Offset in bytes; whole pages.
    pub(super) offset: u64,
    /// Pages.
    pub(super) count: usize,
}

/// Maps one run. It has to be such that an access can never fault: a device that keeps its pages, or a file
/// that is sealed against shrinking.
pub(super) fn map(run: &Run<'_>, access: Access) -> Result<Pages<Mapping>, Errno> {
    // SAFETY: a new range, wherever the kernel likes.
    let start = unsafe {
        mmap(
            core::ptr::null_mut(),
            run.count * PAGE_SIZE,
            prot(access),
            MapFlags::SHARED,
            run.file,
            run.offset,
        )?
    };
    Ok(pages(Mapping { base: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, len: run.count * PAGE_SIZE }))
}

/// Maps runs one behind the other; see [`map`].
pub(super) fn map_all(runs: &[Run<'_>], access: Access) -> Result<Pages<Mapping>, Errno> {
    let len = runs.iter().map(|run| run.count * PAGE_SIZE).sum::<usize>();
    // SAFETY: a new range, wherever the kernel likes.
    let start = unsafe {
        mmap_anonymous(
            core::ptr::null_mut(),
            len,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )?
    };
    let mapping = Mapping { base: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, len };
    let mut at = 0;
    for run in runs {
        let size = run.count * PAGE_SIZE;
        // SAFETY: replaces a part of the range made above, which nobody has a pointer into yet; the sizes of
        // the runs add up to its length.
        unsafe {
            let target = mapping.base.as_ptr().add(at).cast();
            mmap(target, size, prot(access), MapFlags::SHARED | MapFlags::FIXED, run.file, run.offset)?;
        }
        at += size;
    }
    Ok(pages(mapping))
}

fn prot(access: Access) -> ProtFlags {
    match access {
        Access::ReadOnly => ProtFlags::READ,
        Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
    }
}

fn pages(mapping: Mapping) -> Pages<Mapping> {
    // SAFETY: the range is page aligned and mapped in full, with the access that was asked for, until `mapping`
    // is dropped; no reference into it exists.
    unsafe { Pages::new(mapping.base, mapping.len, mapping) }
}
