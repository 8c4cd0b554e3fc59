//! The C boundary: declarations of `libtpms/tpm_library.h`, the callbacks, and safe functions around them.
//!
//! Who may call what: everything but [`cancel`] and [`version`] is for the one owner of the engine, which
//! [`Libtpms`](crate::Libtpms) sees to. libtpms calls back only while one of its functions runs, on that thread.
#![expect(unsafe_code, reason = "the C boundary of libtpms")]

use std::ffi::{CStr, c_char, c_int};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::{mem, ptr, slice};

/// `TPM_SUCCESS`.
pub const SUCCESS: u32 = 0;
/// `TPM_FAIL`.
const FAIL: u32 = 9;
/// `TPM_RETRY`, the answer to a load for "there is none".
const NONE: u32 = 0x800;

/// `TPMLIB_TPM_VERSION_1_2` and `TPMLIB_TPM_VERSION_2`.
const VERSION_12: c_int = 0;
const VERSION_20: c_int = 1;

/// `struct libtpms_callbacks`.
#[repr(C)]
struct Callbacks {
    size: c_int,
    nvram_init: extern "C" fn() -> u32,
    nvram_load: unsafe extern "C" fn(*mut *mut u8, *mut u32, u32, *const c_char) -> u32,
    nvram_store: unsafe extern "C" fn(*const u8, u32, u32, *const c_char) -> u32,
    nvram_delete: unsafe extern "C" fn(u32, *const c_char, u8) -> u32,
    io_init: extern "C" fn() -> u32,
    io_locality: unsafe extern "C" fn(*mut u32, u32) -> u32,
    io_presence: unsafe extern "C" fn(*mut u8, u32) -> u32,
}

unsafe extern "C" {
    safe fn TPMLIB_GetVersion() -> u32;
    safe fn TPMLIB_ChooseTPMVersion(version: c_int) -> u32;
    fn TPMLIB_RegisterCallbacks(callbacks: *mut Callbacks) -> u32;
    safe fn TPMLIB_MainInit() -> u32;
    safe fn TPMLIB_Terminate();
    fn TPMLIB_Process(
        answer: *mut *mut u8,
        answer_size: *mut u32,
        answer_room: *mut u32,
        command: *mut u8,
        command_size: u32,
    ) -> u32;
    fn TPMLIB_VolatileAll_Store(buffer: *mut *mut u8, size: *mut u32) -> u32;
    safe fn TPMLIB_CancelCommand() -> u32;
    fn TPM_Malloc(buffer: *mut *mut u8, size: u32) -> u32;
    fn TPM_Free(buffer: *mut u8);
}

/// The kinds of state by libtpms' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blob {
    Permanent,
    Saved,
    Volatile,
}

impl Blob {
    pub const ALL: [Blob; 3] = [Blob::Permanent, Blob::Saved, Blob::Volatile];

    fn from_name(name: &CStr) -> Option<Blob> {
        match name.to_bytes() {
            b"permall" => Some(Blob::Permanent),
            b"savestate" => Some(Blob::Saved),
            b"volatilestate" => Some(Blob::Volatile),
            _ => None,
        }
    }
}

/// What the callbacks work on.
struct Shared {
    blobs: [Option<Vec<u8>>; 3],
    /// A permanent or saved state was stored or deleted.
    changed: bool,
    locality: u8,
}

static SHARED: Mutex<Shared> = Mutex::new(Shared { blobs: [None, None, None], changed: false, locality: 0 });

/// Never held while libtpms runs, so its callbacks find it free.
fn shared() -> MutexGuard<'static, Shared> {
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Overwrites a secret before its memory is used for something else.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

fn put(place: &mut Option<Vec<u8>>, value: Option<Vec<u8>>) {
    if let Some(mut old) = mem::replace(place, value) {
        wipe(&mut old);
    }
}

/// Sets what a load will give.
pub fn set_blob(blob: Blob, value: Option<&[u8]>) {
    put(&mut shared().blobs[blob as usize], value.map(<[u8]>::to_vec));
}

/// What was stored last.
pub fn blob(blob: Blob) -> Option<Vec<u8>> {
    shared().blobs[blob as usize].clone()
}

/// Whether a permanent or saved state was stored or deleted since the last call.
pub fn take_changed() -> bool {
    mem::take(&mut shared().changed)
}

extern "C" fn init() -> u32 {
    SUCCESS
}

/// # Safety
/// libtpms passes places for a pointer and a length, and a name that ends with 0.
unsafe extern "C" fn load(data: *mut *mut u8, len: *mut u32, _tpm: u32, name: *const c_char) -> u32 {
    // SAFETY: see above.
    let name = unsafe { CStr::from_ptr(name) };
    let Some(blob) = Blob::from_name(name) else { return NONE };
    let shared = shared();
    let Some(bytes) = &shared.blobs[blob as usize] else { return NONE };
    let Ok(size) = u32::try_from(bytes.len()) else { return FAIL };
    let mut copy = ptr::null_mut();
    // SAFETY: it writes one pointer, to memory of that size, which libtpms will free.
    let result = unsafe { TPM_Malloc(&raw mut copy, size.max(1)) };
    if result != SUCCESS || copy.is_null() {
        return FAIL;
    }
    // SAFETY: the new memory has room; the places are the caller's.
    unsafe {
        copy.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        data.write(copy);
        len.write(size);
    }
    SUCCESS
}

/// # Safety
/// libtpms passes so many readable bytes, and a name that ends with 0.
unsafe extern "C" fn store(data: *const u8, len: u32, _tpm: u32, name: *const c_char) -> u32 {
    // SAFETY: see above.
    let (bytes, name) = unsafe { (slice_of(data, len), CStr::from_ptr(name)) };
    let Some(blob) = Blob::from_name(name) else { return FAIL };
    let mut shared = shared();
    put(&mut shared.blobs[blob as usize], Some(bytes.to_vec()));
    shared.changed |= blob != Blob::Volatile;
    SUCCESS
}

/// # Safety
/// libtpms passes a name that ends with 0.
unsafe extern "C" fn delete(_tpm: u32, name: *const c_char, must_exist: u8) -> u32 {
    // SAFETY: see above.
    let name = unsafe { CStr::from_ptr(name) };
    let Some(blob) = Blob::from_name(name) else { return FAIL };
    let mut shared = shared();
    let there = shared.blobs[blob as usize].is_some();
    put(&mut shared.blobs[blob as usize], None);
    shared.changed |= there && blob != Blob::Volatile;
    if there || must_exist == 0 { SUCCESS } else { FAIL }
}

/// # Safety
/// libtpms passes a place for a number.
unsafe extern "C" fn locality(place: *mut u32, _tpm: u32) -> u32 {
    // SAFETY: see above.
    unsafe { place.write(shared().locality.into()) };
    SUCCESS
}

/// # Safety
/// libtpms passes a place for a byte.
unsafe extern "C" fn presence(place: *mut u8, _tpm: u32) -> u32 {
    // SAFETY: see above. Nobody is there who could press a button.
    unsafe { place.write(0) };
    SUCCESS
}

/// # Safety
/// `data` points to so many readable bytes, or `len` is 0.
unsafe fn slice_of<'a>(data: *const u8, len: u32) -> &'a [u8] {
    if data.is_null() || len == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(data, len as usize) }
}

/// Major, minor and micro version of the library.
pub fn version() -> [u8; 3] {
    let [_, major, minor, micro] = TPMLIB_GetVersion().to_be_bytes();
    [major, minor, micro]
}

/// Chooses TPM 2.0 or 1.2.
pub fn choose(tpm20: bool) -> u32 {
    TPMLIB_ChooseTPMVersion(if tpm20 { VERSION_20 } else { VERSION_12 })
}

/// Names the callbacks.
pub fn register() -> u32 {
    let mut callbacks = Callbacks {
        // A few dozen bytes.
        size: size_of::<Callbacks>() as c_int,
        nvram_init: init,
        nvram_load: load,
        nvram_store: store,
        nvram_delete: delete,
        io_init: init,
        io_locality: locality,
        io_presence: presence,
    };
    // SAFETY: libtpms copies the table while it is called.
    unsafe { TPMLIB_RegisterCallbacks(&raw mut callbacks) }
}

/// Power on.
pub fn start() -> u32 {
    TPMLIB_MainInit()
}

/// Power off.
pub fn stop() {
    TPMLIB_Terminate();
}

/// Asks a running command to stop; only sets a flag.
pub fn cancel() {
    TPMLIB_CancelCommand();
}

/// Memory that libtpms allocated for us.
struct Given {
    data: *mut u8,
    len: u32,
    room: u32,
}

impl Given {
    const EMPTY: Given = Given { data: ptr::null_mut(), len: 0, room: 0 };

    fn to_vec(&self) -> Vec<u8> {
        // SAFETY: libtpms filled so many bytes of its memory.
        unsafe { slice_of(self.data, self.len) }.to_vec()
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // SAFETY: libtpms allocated it (or it is null), and nobody else has it.
        unsafe { TPM_Free(self.data) };
    }
}

/// Runs a command and returns the answer, or libtpms' error.
pub fn process(locality: u8, command: &[u8]) -> Result<Vec<u8>, u32> {
    shared().locality = locality;
    let mut answer = Given::EMPTY;
    // libtpms may write into it.
    let mut copy = command.to_vec();
    let size = u32::try_from(copy.len()).map_err(|_| FAIL)?;
    // SAFETY: the command is that long; libtpms allocates the answer and says how long it is.
    let result = unsafe {
        TPMLIB_Process(
            &raw mut answer.data,
            &raw mut answer.len,
            &raw mut answer.room,
            copy.as_mut_ptr(),
            size,
        )
    };
    // Commands hold passwords and sealed data.
    wipe(&mut copy);
    if result == SUCCESS { Ok(answer.to_vec()) } else { Err(result) }
}

/// The volatile state.
pub fn volatile() -> Result<Vec<u8>, u32> {
    let mut state = Given::EMPTY;
    // SAFETY: libtpms allocates the state and says how long it is.
    let result = unsafe { TPMLIB_VolatileAll_Store(&raw mut state.data, &raw mut state.len) };
    if result == SUCCESS { Ok(state.to_vec()) } else { Err(result) }
}
