//! Every access to bytes that another domain can read or write.
//!
//! Shared bytes change at any moment. So no reference to them is ever made, not even inside this module: a
//! word is loaded or stored by one atomic operation of 64 bits, and bulk data is copied word by word, once,
//! between shared memory and private memory. What a caller gets is a private copy.
//!
//! # Invariants
//! - Offsets are multiples of eight, and an access lies inside the window. Callers compute offsets from their
//!   own, checked numbers, so a violation is a bug on this side; it is an assertion, never an access.
//! - The last word of a bulk write is padded with zeros: nothing private leaks into shared memory.
//! - Bulk words are relaxed. The header that publishes them is stored with `Release` and loaded with `Acquire`.
#![expect(unsafe_code, reason = "the one place where shared bytes are touched")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering, fence};

/// A window on shared bytes. The ring is written against this, so that models of it can run on other
/// memory (a mock peer, the loom checker).
pub trait Memory {
    /// Bytes in the window; a multiple of eight.
    fn size(&self) -> usize;

    /// Loads the word at `offset`, once.
    fn load(&self, offset: usize, order: Ordering) -> u64;

    /// Stores the word at `offset`.
    fn store(&self, offset: usize, word: u64, order: Ordering);

    /// `fence(SeqCst)`, or what stands for it in a model.
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }

    /// Copies bytes from `offset` on into `buf`, each word once.
    fn read(&self, offset: usize, buf: &mut [u8]) {
        for (index, part) in buf.chunks_mut(8).enumerate() {
            let word = self.load(offset + index * 8, Ordering::Relaxed).to_le_bytes();
            // `part` has at most eight bytes.
            if let Some(bytes) = word.get(..part.len()) {
                part.copy_from_slice(bytes);
            }
        }
    }

    /// Copies `bytes` to `offset`; the last word is padded with zeros.
    fn write(&self, offset: usize, bytes: &[u8]) {
        for (index, part) in bytes.chunks(8).enumerate() {
            let mut word = [0; 8];
            if let Some(bytes) = word.get_mut(..part.len()) {
                bytes.copy_from_slice(part);
            }
            self.store(offset + index * 8, u64::from_le_bytes(word), Ordering::Relaxed);
        }
    }
}

/// Smaller parts of shared memory, for protocols of others that have them ([`crate::vchan`]).
///
/// A caller uses one size for one place, or is the only thread of this side that uses it.
#[cfg(feature = "vchan")]
pub trait Fields: Memory {
    /// Loads the 32 bits at `offset`, a multiple of four, once.
    fn load_u32(&self, offset: usize, order: Ordering) -> u32;

    /// Stores them.
    fn store_u32(&self, offset: usize, value: u32, order: Ordering);

    /// Loads the byte at `offset`, once.
    fn load_u8(&self, offset: usize, order: Ordering) -> u8;

    /// Stores it.
    fn store_u8(&self, offset: usize, value: u8, order: Ordering);

    /// Sets bits of it and returns what it was, in one step that the peer cannot interrupt.
    fn fetch_or_u8(&self, offset: usize, bits: u8) -> u8;

    /// Clears the other bits, likewise.
    fn fetch_and_u8(&self, offset: usize, bits: u8) -> u8;
}

/// Shared pages, what keeps them mapped or allocated (`K`), and what is to be dropped after that (`E`).
#[derive(Debug)]
pub struct Pages<K, E = ()> {
    base: NonNull<u8>,
    size: usize,
    keeper: K,
    extra: E,
}

// SAFETY: the pages are reached through atomic operations only, from any thread; `new` demands that they are
// valid for as long as the keeper lives, wherever that is. Its own properties are demanded by the bounds.
unsafe impl<K: Send, E: Send> Send for Pages<K, E> {}
// SAFETY: as above.
unsafe impl<K: Sync, E: Sync> Sync for Pages<K, E> {}

impl<K> Pages<K> {
    /// Takes charge of shared pages.
    ///
    /// # Safety
    /// `base` is page aligned, and `size` bytes from there on, whole pages, stay mapped for as long as `keeper`
    /// lives: readable, and writable too if anything is going to be stored. No reference to them exists, ever.
    pub unsafe fn new(base: NonNull<u8>, size: usize, keeper: K) -> Pages<K> {
        Pages { base, size, keeper, extra: () }
    }
}

impl<K, E> Pages<K, E> {
    /// What is dropped after the pages.
    pub fn extra(&self) -> &E {
        &self.extra
    }

    /// The same pages with something else to be dropped after them.
    pub fn map_extra<N>(self, make: impl FnOnce(E) -> N) -> Pages<K, N> {
        Pages { base: self.base, size: self.size, keeper: self.keeper, extra: make(self.extra) }
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset <= self.size - 8, "an access outside the shared window");
        // SAFETY: the assertion keeps the word inside the pages (`size` is at least a page), which are aligned
        // and mapped (`new`); all accesses on this side are atomic. The other side is no part of this program:
        // its stores are like those of a device. A load of 64 bits from read-only memory is a plain load on
        // x86-64 (see `core::sync::atomic`, "Atomic accesses to read-only memory").
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// Checks that `len` bytes, rounded up to words, lie inside the window.
    #[inline]
    fn check(&self, offset: usize, len: usize) {
        let end = len.checked_next_multiple_of(8).and_then(|len| len.checked_add(offset));
        assert!(
            offset.is_multiple_of(8) && end.is_some_and(|end| end <= self.size),
            "a copy outside the shared window"
        );
    }
}

impl<K, E> Memory for Pages<K, E> {
    fn size(&self) -> usize {
        self.size
    }

    #[inline]
    fn load(&self, offset: usize, order: Ordering) -> u64 {
        u64::from_le(self.word(offset).load(order))
    }

    #[inline]
    fn store(&self, offset: usize, word: u64, order: Ordering) {
        self.word(offset).store(word.to_le(), order);
    }

    fn read(&self, offset: usize, buf: &mut [u8]) {
        self.check(offset, buf.len());
        let (blocks, tail) = buf.as_chunks_mut::<BLOCK>();
        // SAFETY: `check` covers the whole copy on the shared side, `blocks` is the private side.
        unsafe { copy_blocks(self.base.as_ptr().add(offset), blocks.as_mut_ptr().cast(), blocks.len()) };
        let at = offset + blocks.len() * BLOCK;
        for (index, part) in tail.chunks_mut(8).enumerate() {
            let word = self.load(at + index * 8, Ordering::Relaxed).to_le_bytes();
            if let Some(bytes) = word.get(..part.len()) {
                part.copy_from_slice(bytes);
            }
        }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        let (blocks, tail) = bytes.as_chunks::<BLOCK>();
        // SAFETY: as in `read`.
        unsafe { copy_blocks(blocks.as_ptr().cast(), self.base.as_ptr().add(offset), blocks.len()) };
        let at = offset + blocks.len() * BLOCK;
        for (index, part) in tail.chunks(8).enumerate() {
            let mut word = [0; 8];
            if let Some(target) = word.get_mut(..part.len()) {
                target.copy_from_slice(part);
            }
            self.store(at + index * 8, u64::from_le_bytes(word), Ordering::Relaxed);
        }
    }
}

#[cfg(feature = "vchan")]
impl<K, E> Pages<K, E> {
    fn half(&self, offset: usize) -> &core::sync::atomic::AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset <= self.size - 4, "an access outside the shared window");
        // SAFETY: as in `word`.
        unsafe { core::sync::atomic::AtomicU32::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    fn byte(&self, offset: usize) -> &core::sync::atomic::AtomicU8 {
        assert!(offset < self.size, "an access outside the shared window");
        // SAFETY: as in `word`.
        unsafe { core::sync::atomic::AtomicU8::from_ptr(self.base.as_ptr().add(offset)) }
    }
}

#[cfg(feature = "vchan")]
impl<K, E> Fields for Pages<K, E> {
    fn load_u32(&self, offset: usize, order: Ordering) -> u32 {
        u32::from_le(self.half(offset).load(order))
    }

    fn store_u32(&self, offset: usize, value: u32, order: Ordering) {
        self.half(offset).store(value.to_le(), order);
    }

    fn load_u8(&self, offset: usize, order: Ordering) -> u8 {
        self.byte(offset).load(order)
    }

    fn store_u8(&self, offset: usize, value: u8, order: Ordering) {
        self.byte(offset).store(value, order);
    }

    fn fetch_or_u8(&self, offset: usize, bits: u8) -> u8 {
        self.byte(offset).fetch_or(bits, Ordering::SeqCst)
    }

    fn fetch_and_u8(&self, offset: usize, bits: u8) -> u8 {
        self.byte(offset).fetch_and(bits, Ordering::SeqCst)
    }
}

/// Bytes that are copied in one go.
const BLOCK: usize = 64;

/// Copies whole blocks between shared and private memory.
///
/// It is assembly because the compiler must neither copy twice nor read the shared side again later, as it may
/// do with a copy that it understands; and because sixteen bytes at a time keep up with the cache, which eight
/// do not.
///
/// # Safety
/// `from` is readable and `to` writable for `count` blocks; they do not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn copy_blocks(from: *const u8, to: *mut u8, count: usize) {
    if count == 0 {
        return;
    }
    // SAFETY: loads and stores in the two ranges only; SSE2 is part of x86-64.
    unsafe {
        core::arch::asm!(
            "2:",
            "movups xmm0, [{from}]",
            "movups xmm1, [{from} + 16]",
            "movups xmm2, [{from} + 32]",
            "movups xmm3, [{from} + 48]",
            "movups [{to}], xmm0",
            "movups [{to} + 16], xmm1",
            "movups [{to} + 32], xmm2",
            "movups [{to} + 48], xmm3",
            "add {from}, 64",
            "add {to}, 64",
            "dec {count}",
            "jnz 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            count = inout(reg) count => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            options(nostack),
        );
    }
}

/// The same in plain Rust, word by word.
///
/// # Safety
/// As above.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn copy_blocks(from: *const u8, to: *mut u8, count: usize) {
    for index in 0..count * (BLOCK / 8) {
        // SAFETY: inside the ranges. The private side may be unaligned, so both sides are accessed as such.
        unsafe {
            let word = from.cast::<u64>().add(index).read_unaligned();
            to.cast::<u64>().add(index).write_unaligned(word);
        }
    }
}
