//! Pointers that the application passes.
//!
//! Kernel and application share one address space and one privilege level, so there is nothing to defend; but
//! such a value can only be made where the contract of `libos_sys` holds: in the `line!` macro, and for the
//! system calls of a C library with a [`Caller`]. After that, use is safe for the duration of the call. What a
//! `Caller` is given is also looked up in the page tables, so that a wild pointer is `EFAULT`, as on Linux, and
//! not a crash inside the kernel.

use crate::mm;
use crate::sys::linux::Errno;
use core::sync::atomic::{AtomicU32, Ordering};

/// Makes a kernel value of what came over the line.
pub trait FromAbi<T>: Sized {
    /// # Safety
    /// `value` keeps the promise that `libos_sys` asks of this argument, for the whole call.
    unsafe fn from_abi(value: T) -> Self;
}

/// Memory to read.
#[derive(Clone, Copy)]
pub struct In<T>(*const T);

/// Memory to write.
#[derive(Clone, Copy)]
pub struct Out<T>(*mut T);

impl<T> FromAbi<*const T> for In<T> {
    unsafe fn from_abi(value: *const T) -> Self {
        Self(value)
    }
}

impl<T> FromAbi<*mut T> for Out<T> {
    unsafe fn from_abi(value: *mut T) -> Self {
        Self(value)
    }
}

impl<T> FromAbi<T> for T {
    unsafe fn from_abi(value: T) -> Self {
        value
    }
}

impl<T> In<T> {
    /// `len` elements; a null pointer is as good as no elements.
    pub fn slice<'a>(self, len: usize) -> &'a [T] {
        if self.0.is_null() {
            return &[];
        }
        // SAFETY: readable for `len` elements, says the contract behind `from_abi`.
        unsafe { core::slice::from_raw_parts(self.0, len) }
    }

    /// The address.
    pub fn address(self) -> u64 {
        self.0 as u64
    }
}

impl In<u32> {
    /// Reads the word, which other threads change atomically.
    pub fn atomic_load(self) -> u32 {
        // SAFETY: valid and aligned, says the contract behind `from_abi`.
        unsafe { AtomicU32::from_ptr(self.0.cast_mut()) }.load(Ordering::SeqCst)
    }
}

impl<T> Out<T> {
    /// `len` elements; a null pointer is as good as no elements.
    pub fn slice<'a>(self, len: usize) -> &'a mut [T] {
        if self.0.is_null() {
            return &mut [];
        }
        // SAFETY: writable for `len` elements and nobody else's, says the contract behind `from_abi`.
        unsafe { core::slice::from_raw_parts_mut(self.0, len) }
    }

    /// The address.
    pub fn address(self) -> u64 {
        self.0 as u64
    }
}

/// A plain value that system calls pass through memory: any bytes make one, and it has no padding.
pub trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for i32 {}
impl Plain for u32 {}
impl Plain for u64 {}
impl<T: Plain, const N: usize> Plain for [T; N] {}

/// The right to use the addresses that a system call was given, while it runs.
#[derive(Clone, Copy)]
pub struct Caller(());

impl Caller {
    /// # Safety
    /// The application keeps Linux's contract for the arguments of this call: what they point at is memory of
    /// its own, for reading or writing as the call says, and nobody else uses it meanwhile.
    pub unsafe fn new() -> Self {
        Self(())
    }

    fn checked<T>(self, address: u64, count: usize, write: bool) -> Result<*mut T, Errno> {
        let len = (count as u64).checked_mul(size_of::<T>() as u64).ok_or(Errno::FAULT)?;
        let aligned = address.is_multiple_of(align_of::<T>() as u64) && address != 0;
        (aligned && mm::accessible(address, len, write)).then_some(address as *mut T).ok_or(Errno::FAULT)
    }

    /// `count` elements to read.
    pub fn slice<'a, T: Plain>(self, address: u64, count: usize) -> Result<&'a [T], Errno> {
        if count == 0 {
            return Ok(&[]);
        }
        let first = self.checked::<T>(address, count, false)?;
        // SAFETY: mapped, aligned, and the application's, says the contract behind `new`.
        Ok(unsafe { core::slice::from_raw_parts(first, count) })
    }

    /// `count` elements to write.
    pub fn slice_mut<'a, T: Plain>(self, address: u64, count: usize) -> Result<&'a mut [T], Errno> {
        if count == 0 {
            return Ok(&mut []);
        }
        let first = self.checked::<T>(address, count, true)?;
        // SAFETY: as for `slice`.
        Ok(unsafe { core::slice::from_raw_parts_mut(first, count) })
    }

    /// The value at `address`.
    pub fn read<T: Plain>(self, address: u64) -> Result<T, Errno> {
        Ok(self.slice::<T>(address, 1)?[0])
    }

    /// Writes `value` at `address`.
    pub fn write<T: Plain>(self, address: u64, value: T) -> Result<(), Errno> {
        self.slice_mut::<T>(address, 1)?[0] = value;
        Ok(())
    }

    /// Writes `value` at `address` unless that is null.
    pub fn write_if<T: Plain>(self, address: u64, value: T) -> Result<(), Errno> {
        if address == 0 { Ok(()) } else { self.write(address, value) }
    }

    /// The word at `address`, which other threads change atomically.
    pub fn word(self, address: u64) -> Result<u32, Errno> {
        Ok(In::<u32>(self.checked(address, 1, false)?).atomic_load())
    }

    /// Writes the word at `address`, at which other threads look.
    pub fn set_word(self, address: u64, value: u32) -> Result<(), Errno> {
        let word = self.checked::<u32>(address, 1, true)?;
        // SAFETY: mapped and aligned.
        unsafe { AtomicU32::from_ptr(word) }.store(value, Ordering::SeqCst);
        Ok(())
    }
}
