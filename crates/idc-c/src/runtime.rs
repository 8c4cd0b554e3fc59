//! What a Rust library needs in a domain: memory, a place for each thread, and an end, all from the C library that
//! the program is linked with.
#![expect(unsafe_code, reason = "calls of the C library, and what the compiler wants")]

use alloc::boxed::Box;
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::{c_int, c_uint, c_void};
use core::fmt::Write;
use core::sync::atomic::{AtomicU32, Ordering};

use idc::Error;

unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn calloc(count: usize, size: usize) -> *mut c_void;
    fn realloc(old: *mut c_void, size: usize) -> *mut c_void;
    fn aligned_alloc(align: usize, size: usize) -> *mut c_void;
    fn free(pointer: *mut c_void);
    fn abort() -> !;
    fn write(fd: c_int, data: *const u8, len: usize) -> isize;
    fn pthread_key_create(key: *mut c_uint, destroy: unsafe extern "C" fn(*mut c_void)) -> c_int;
    fn pthread_key_delete(key: c_uint) -> c_int;
    fn pthread_getspecific(key: c_uint) -> *mut c_void;
    fn pthread_setspecific(key: c_uint, value: *const c_void) -> c_int;
}

/// Alignment of what `malloc` gives.
const ALIGN: usize = 16;

struct Memory;

// SAFETY: these are the C library's functions, which have the contract of this trait.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `aligned_alloc` gets a power of two.
        unsafe {
            if layout.align() <= ALIGN {
                malloc(layout.size())
            } else {
                aligned_alloc(layout.align(), layout.size())
            }
            .cast()
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above; `aligned_alloc` does not clear.
        unsafe {
            if layout.align() <= ALIGN {
                return calloc(1, layout.size()).cast();
            }
            let memory = self.alloc(layout);
            if !memory.is_null() {
                memory.write_bytes(0, layout.size());
            }
            memory
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, _: Layout) {
        // SAFETY: it is from `alloc`.
        unsafe { free(pointer.cast()) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: it is from `alloc`; what `realloc` gives is aligned for `ALIGN` only.
        unsafe {
            if layout.align() <= ALIGN {
                return realloc(pointer.cast(), size).cast();
            }
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(pointer, layout.size().min(size));
                self.dealloc(pointer, layout);
            }
            new
        }
    }
}

#[global_allocator]
static MEMORY: Memory = Memory;

/// The key of each thread's last error, plus one; 0 before there is one.
static KEY: AtomicU32 = AtomicU32::new(0);

unsafe extern "C" fn destroy(value: *mut c_void) {
    // SAFETY: only `set` stores values, and they are boxes.
    drop(unsafe { Box::from_raw(value.cast::<Option<Error>>()) });
}

fn key() -> Option<c_uint> {
    if let Some(key) = KEY.load(Ordering::Acquire).checked_sub(1) {
        return Some(key);
    }
    let mut key = 0;
    // SAFETY: stores a key.
    if unsafe { pthread_key_create(&raw mut key, destroy) } != 0 {
        return None;
    }
    match KEY.compare_exchange(0, key + 1, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Some(key),
        Err(other) => {
            // SAFETY: nobody else has this key.
            unsafe { pthread_key_delete(key) };
            other.checked_sub(1)
        }
    }
}

/// Remembers the error of this thread.
pub fn set(error: Option<Error>) {
    let Some(key) = key() else { return };
    // SAFETY: the key is ours; its values are boxes of this thread.
    unsafe {
        let place = pthread_getspecific(key).cast::<Option<Error>>();
        if !place.is_null() {
            *place = error;
        } else if error.is_some() {
            let new = Box::into_raw(Box::new(error));
            if pthread_setspecific(key, new.cast_const().cast()) != 0 {
                drop(Box::from_raw(new));
            }
        }
    }
}

/// The error of this thread.
pub fn get() -> Option<Error> {
    let key = key()?;
    // SAFETY: as above.
    unsafe { pthread_getspecific(key).cast::<Option<Error>>().as_ref().copied().flatten() }
}

/// Standard error.
struct Stderr;

impl Write for Stderr {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        // SAFETY: reads the text. What cannot be written is lost.
        unsafe { write(2, text.as_ptr(), text.len()) };
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let _ = writeln!(Stderr, "libidc: {info}");
    // SAFETY: ends the domain.
    unsafe { abort() }
}

/// Named by the unwind tables of the prebuilt `core` and `alloc`; never called, since panics end the domain.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Named by the landing pads of the prebuilt `alloc`; as above.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    // SAFETY: ends the domain.
    unsafe { abort() }
}
