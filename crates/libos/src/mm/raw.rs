//! Raw access to memory: page tables, fresh pages, and pages shared with Xen or another domain.
//!
//! [`Shared`] is the only view of bytes that somebody else may write at any moment: every access is volatile
//! or atomic, bounds-checked, and copies; outside of it there is never a reference.

#![expect(unsafe_code, reason = "memory that Rust does not know")]

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// A page table of 512 entries at a mapped address.
#[derive(Clone, Copy)]
pub struct Table(u64);

impl Table {
    /// The table at `address`.
    ///
    /// # Safety
    /// A page table lies there, mapped, for as long as this value is used; for [`Self::set`] also writable.
    pub const unsafe fn at(address: u64) -> Self {
        Self(address)
    }

    /// Entry `index` (below 512).
    pub fn get(self, index: usize) -> u64 {
        assert!(index < 512);
        // SAFETY: inside the page that `at` was promised.
        unsafe { (self.0 as *const u64).add(index).read_volatile() }
    }

    /// Writes an entry of a table that is not (or, in PVH, may be) in use.
    pub fn set(self, index: usize, entry: u64) {
        assert!(index < 512);
        // SAFETY: as for `get`.
        unsafe { (self.0 as *mut u64).add(index).write_volatile(entry) }
    }

    /// Address of entry `index`.
    pub fn slot(self, index: usize) -> u64 {
        self.0 + index as u64 * 8
    }
}

/// Zeroes `count` pages.
///
/// # Safety
/// They are mapped writable and nothing uses them.
pub unsafe fn zero_pages(address: u64, count: u64) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write_bytes(address as *mut u8, 0, (count << 12) as usize) }
}

/// A slice over memory that boot sets aside for ever.
///
/// # Safety
/// `address` is aligned, mapped (writable for `words` words), initialised, and nothing else ever uses it.
pub unsafe fn forever(address: u64, words: usize) -> &'static mut [u64] {
    // SAFETY: the caller's promise.
    unsafe { core::slice::from_raw_parts_mut(address as *mut u64, words) }
}

/// Atomic integers.
trait Atomic {}
impl Atomic for AtomicU8 {}
impl Atomic for AtomicU16 {}
impl Atomic for AtomicU32 {}
impl Atomic for AtomicU64 {}

/// Bytes that another domain or Xen writes too.
#[derive(Clone, Copy)]
pub struct Shared {
    base: usize,
    len: usize,
}

impl Shared {
    /// No memory: every access panics.
    pub const fn none() -> Self {
        Self { base: 0, len: 0 }
    }

    /// `len` bytes at `base`.
    ///
    /// # Safety
    /// The range is mapped and 8-byte aligned while this value is used, and Rust keeps nothing else there.
    pub const unsafe fn new(base: u64, len: usize) -> Self {
        Self { base: base as usize, len }
    }

    /// Whether there is memory behind this.
    pub fn is_some(&self) -> bool {
        self.len != 0
    }

    fn at<T: Atomic>(&self, offset: usize) -> &T {
        assert!(offset.is_multiple_of(size_of::<T>()) && offset + size_of::<T>() <= self.len);
        // SAFETY: in bounds and aligned, of memory that is there, says the contract of `new`. Others write it, but an
        // atomic integer may change at any moment, and any bits make one.
        unsafe { &*((self.base + offset) as *const T) }
    }

    /// Reads a word; later accesses stay behind it.
    pub fn load32(&self, offset: usize) -> u32 {
        self.at::<AtomicU32>(offset).load(Ordering::Acquire)
    }

    /// Writes a word; earlier accesses stay before it.
    pub fn store32(&self, offset: usize, value: u32) {
        self.at::<AtomicU32>(offset).store(value, Ordering::Release);
    }

    /// Sets a 16-bit word to `new` if it holds `old`; returns what it held.
    pub fn compare_exchange16(&self, offset: usize, old: u16, new: u16) -> u16 {
        let word = self.at::<AtomicU16>(offset);
        word.compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst).unwrap_or_else(|held| held)
    }

    /// Reads a double word; later accesses stay behind it.
    pub fn load64(&self, offset: usize) -> u64 {
        self.at::<AtomicU64>(offset).load(Ordering::Acquire)
    }

    /// Takes the bits in `mask` out of a double word; returns which of them were set.
    pub fn take_bits64(&self, offset: usize, mask: u64) -> u64 {
        self.at::<AtomicU64>(offset).fetch_and(!mask, Ordering::AcqRel) & mask
    }

    /// Reads a byte.
    pub fn load8(&self, offset: usize) -> u8 {
        self.at::<AtomicU8>(offset).load(Ordering::Acquire)
    }

    /// Writes a byte.
    pub fn store8(&self, offset: usize, value: u8) {
        self.at::<AtomicU8>(offset).store(value, Ordering::Release);
    }
}

/// The two words of a frame record at `pointer`: the caller's frame pointer and the return address.
///
/// # Safety
/// `pointer` is aligned and 16 bytes there are readable.
pub unsafe fn frame_record(pointer: usize) -> (usize, usize) {
    let record = pointer as *const usize;
    // SAFETY: the caller's promise.
    unsafe { (record.read_volatile(), record.add(1).read_volatile()) }
}
