//! Memory that belongs to the C program: where its pointers become references, and results are stored.
#![expect(unsafe_code, reason = "pointers from C")]

use core::ffi::{CStr, c_char};

use crate::code::{Fail, idc_status::*};

fn check<T>(pointer: *const T, count: usize) -> Result<(), Fail> {
    let fits = count.checked_mul(size_of::<T>()).is_some_and(|bytes| isize::try_from(bytes).is_ok());
    if fits && !pointer.is_null() && pointer.is_aligned() { Ok(()) } else { Err(IDC_E_INVALID.into()) }
}

/// `count` elements to read; no elements may be a null pointer.
pub fn slice<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T], Fail> {
    if count == 0 {
        return Ok(&[]);
    }
    check(pointer, count)?;
    // SAFETY: not null, aligned, not too long; that the memory is there and stays is the C program's promise.
    Ok(unsafe { core::slice::from_raw_parts(pointer, count) })
}

/// `count` bytes to write to; no bytes may be a null pointer.
pub fn buffer<'a>(pointer: *mut u8, count: usize) -> Result<&'a mut [u8], Fail> {
    array(pointer, count)
}

/// `count` numbers to write to, likewise. The program has given them a value before, whatever it is.
pub fn array<'a, T: Copy>(pointer: *mut T, count: usize) -> Result<&'a mut [T], Fail> {
    if count == 0 {
        return Ok(&mut []);
    }
    check(pointer, count)?;
    // SAFETY: as above, and nobody else uses it during the call.
    Ok(unsafe { core::slice::from_raw_parts_mut(pointer, count) })
}

/// A structure that may be absent.
pub fn optional<'a, T>(pointer: *const T) -> Result<Option<&'a T>, Fail> {
    if pointer.is_null() { Ok(None) } else { Ok(slice(pointer, 1)?.first()) }
}

/// A string.
pub fn text<'a>(pointer: *const c_char) -> Result<&'a str, Fail> {
    check(pointer, 1)?;
    // SAFETY: not null; that it ends is the C program's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|_| IDC_E_INVALID.into())
}

/// Whether a result can be stored there.
pub fn place<T>(pointer: *mut T) -> Result<(), Fail> {
    check(pointer, 1)
}

/// Stores a result where [`place`] said that it can be stored.
pub fn store<T>(pointer: *mut T, value: T) -> Result<(), Fail> {
    place(pointer)?;
    // SAFETY: not null and aligned; that it is the program's is its promise. What was there before needs no drop.
    unsafe { pointer.write(value) };
    Ok(())
}

/// Copies a text with a final zero, cut to the room that there is. Returns its length without that zero.
pub fn copy_text(text: &str, pointer: *mut c_char, room: usize) -> Result<i64, Fail> {
    let buffer = buffer(pointer.cast(), room)?;
    if let Some(most) = buffer.len().checked_sub(1) {
        let count = text.len().min(most);
        buffer[..count].copy_from_slice(&text.as_bytes()[..count]);
        buffer[count] = 0;
    }
    i64::try_from(text.len()).map_err(|_| IDC_E_INVALID.into())
}
