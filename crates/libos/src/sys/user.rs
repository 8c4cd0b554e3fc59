//! Pointers that the application passes.
//!
//! Kernel and application share one address space and one privilege level, so there is nothing to check them
//! against; what protects the kernel is that such a value can only be made in the `line!` macro, where the
//! contract of `libos_sys` holds. After that, use is safe for the duration of the call.

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

    /// Writes one value.
    pub fn write(self, value: T) {
        // SAFETY: valid for writes, says the contract behind `from_abi`.
        unsafe { self.0.write(value) }
    }

    /// The address.
    pub fn address(self) -> u64 {
        self.0 as u64
    }
}
