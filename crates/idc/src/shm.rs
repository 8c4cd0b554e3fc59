//! Every access to bytes that another domain can read or write.
//!
//! Shared bytes change at any moment. So no reference to them is ever made, not even inside this module: a
//! word is loaded or stored by one atomic operation of 64 bits, and bulk data is copied once, in assembly, between
//! shared memory and private memory. What a caller gets is a private copy.
//!
//! # Invariants
//! - Offsets are multiples of eight, and an access lies inside the window. Callers compute offsets from their
//!   own, checked numbers, so a violation is a bug on this side; it is an assertion, never an access.
//! - The last word of a bulk write is padded with zeros: nothing private leaks into shared memory.
//! - Bulk words have no order among each other. The header that publishes them is stored with `Release` and loaded with
//!   `Acquire`.
#![expect(unsafe_code, reason = "the one place where shared bytes are touched")]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use crate::setup::PAGE_SIZE;

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
    /// `base` is page aligned, and `size` bytes from there on, one whole page or more, stay mapped for as long as `keeper`
    /// lives: readable, and writable too if anything is going to be stored. No reference to them exists, ever.
    pub unsafe fn new(base: NonNull<u8>, size: usize, keeper: K) -> Pages<K> {
        debug_assert!(size >= PAGE_SIZE, "shared pages are one or more");
        Pages { base, size, keeper, extra: () }
    }
}

impl<K, E> Pages<K, E> {
    /// What keeps the pages.
    #[cfg(casemate)]
    pub fn keeper(&self) -> &K {
        &self.keeper
    }

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
        // There is one page at least (`new`). Said here, it saves the comparison for the words of a control page, whose
        // offsets are constants.
        let size = self.size.max(PAGE_SIZE);
        assert!(offset.is_multiple_of(8) && offset < size, "an access outside the shared window");
        // SAFETY: the assertion keeps the word inside the pages (whole pages, so a word that begins inside ends
        // inside), which are aligned and mapped (`new`); all accesses on this side are atomic, or bulk copies in
        // assembly. The other side is no part of this program: its stores are like those of a device. A load of 64
        // bits from read-only memory is a plain load on x86-64 (see `core::sync::atomic`, "Atomic accesses to
        // read-only memory").
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }

    /// Checks that `len` bytes, rounded up to words, lie inside the window.
    #[inline]
    fn check(&self, offset: usize, len: usize) {
        // The size is a multiple of eight too, so the rounding never leads outside.
        assert!(
            offset.is_multiple_of(8) && offset.saturating_add(len) <= self.size,
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

    #[inline]
    fn fence(&self) {
        full_fence();
    }

    #[inline]
    fn read(&self, offset: usize, buf: &mut [u8]) {
        self.check(offset, buf.len());
        let (words, tail) = buf.as_chunks_mut::<8>();
        // SAFETY: `check` covers the whole copy on the shared side, `words` is the private side.
        unsafe { copy_words(self.base.as_ptr().add(offset), words.as_mut_ptr().cast(), words.len()) };
        if !tail.is_empty() {
            let word = self.load(offset + words.len() * 8, Ordering::Relaxed).to_le_bytes();
            tail.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
    }

    #[inline]
    fn write(&self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        let (words, tail) = bytes.as_chunks::<8>();
        // SAFETY: as in `read`.
        unsafe {
            let to = self.base.as_ptr().add(offset);
            let through = cfg!(any(not(target_arch = "x86_64"), miri)) || words.len() < PAST_CACHE;
            if through {
                copy_words(words.as_ptr().cast(), to, words.len());
            }
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            if !through {
                copy_past_cache(words.as_ptr().cast(), to, words.len());
            }
        }
        if !tail.is_empty() {
            let mut word = [0; 8];
            word.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
            self.store(offset + words.len() * 8, u64::from_le_bytes(word), Ordering::Relaxed);
        }
    }
}

/// A full fence: what is stored before is visible before anything is loaded after it.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
fn full_fence() {
    let mut word = 0u64;
    // SAFETY: a locked operation on a word of our own. On x86-64 it is a full fence for ordinary memory (AMD64
    // manual, volume 2, 7.1.2), and cheaper than `mfence`, which is what `fence` becomes.
    unsafe {
        core::arch::asm!("lock or qword ptr [{word}], 0", word = in(reg) &raw mut word, options(nostack));
    }
}

/// A full fence.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
fn full_fence() {
    fence(Ordering::SeqCst);
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

/// Copies words between shared and private memory, each once.
///
/// It is assembly because the compiler must neither copy twice nor read the shared side again later, as it may
/// do with a copy that it understands; and because sixteen bytes at a time keep up with the cache, which eight
/// do not. Less than a line goes through general registers: an emulator keeps the wide ones in memory, as halves that are
/// stored apart and loaded together, and such a load waits for every store before it.
///
/// # Safety
/// `from` is readable and `to` writable for `count` words; they do not overlap.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn copy_words(from: *const u8, to: *mut u8, count: usize) {
    // SAFETY: loads and stores in the two ranges only; SSE2 is part of x86-64.
    unsafe {
        core::arch::asm!(
            "cmp {count}, 8",
            "jb 3f",
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {count}, 8",
            "cmp {count}, 8",
            "jae 2b",
            "3:",
            "test {count:l}, 4",
            "jz 4f",
            "mov {x}, qword ptr [{from}]",
            "mov {y}, qword ptr [{from} + 8]",
            "mov qword ptr [{to}], {x}",
            "mov qword ptr [{to} + 8], {y}",
            "mov {x}, qword ptr [{from} + 16]",
            "mov {y}, qword ptr [{from} + 24]",
            "mov qword ptr [{to} + 16], {x}",
            "mov qword ptr [{to} + 24], {y}",
            "add {from}, 32",
            "add {to}, 32",
            "4:",
            "test {count:l}, 2",
            "jz 5f",
            "mov {x}, qword ptr [{from}]",
            "mov {y}, qword ptr [{from} + 8]",
            "mov qword ptr [{to}], {x}",
            "mov qword ptr [{to} + 8], {y}",
            "add {from}, 16",
            "add {to}, 16",
            "5:",
            "test {count:l}, 1",
            "jz 6f",
            "mov {x}, qword ptr [{from}]",
            "mov qword ptr [{to}], {x}",
            "6:",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            count = inout(reg_abcd) count => _,
            x = out(reg) _, y = out(reg) _,
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Words from which on a write goes past the cache: 4 KiB.
///
/// A line that the reader has read is in its processor's cache. To store into it the usual way, the writer's processor
/// has to fetch it and to take it away from there first: 8.5 GB/s between two cores that share a cache, 2 GB/s between
/// two that do not, whatever instruction does it (measured between two processes on an EPYC). Stores of whole lines past
/// the cache fetch nothing: 13 to 16 GB/s in both cases. For shorter messages the fence costs more than that saves.
const PAST_CACHE: usize = 512;

/// Copies many words into shared memory as [`copy_words`] does, in whole lines that do not go through the cache. Such
/// stores keep no order, so a fence ends them: all are visible before anything that is stored later.
///
/// # Safety
/// As for [`copy_words`]; `to` is a multiple of eight, and `count` at least 16.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline(never)]
unsafe fn copy_past_cache(from: *const u8, to: *mut u8, count: usize) {
    // Up to the start of a line.
    let head = (to.addr() / 8).wrapping_neg() % 8;
    let lines = (count - head) / 8;
    // SAFETY: loads and stores in the two ranges only, in three parts; SSE2 is part of x86-64.
    unsafe {
        copy_words(from, to, head);
        let (from, to) = (from.add(head * 8), to.add(head * 8));
        core::arch::asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movntps [{to}], {a}",
            "movntps [{to} + 16], {b}",
            "movntps [{to} + 32], {c}",
            "movntps [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "dec {lines}",
            "jnz 2b",
            "sfence",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            lines = inout(reg) lines => _,
            a = out(xmm_reg) _, b = out(xmm_reg) _, c = out(xmm_reg) _, d = out(xmm_reg) _,
            options(nostack),
        );
        copy_words(from.add(lines * 64), to.add(lines * 64), count - head - lines * 8);
    }
}

/// The same in plain Rust.
///
/// # Safety
/// As above.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
unsafe fn copy_words(from: *const u8, to: *mut u8, count: usize) {
    for index in 0..count {
        // SAFETY: inside the ranges. The private side may be unaligned, so both sides are accessed as such.
        unsafe {
            let word = from.cast::<u64>().add(index).read_unaligned();
            to.cast::<u64>().add(index).write_unaligned(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;

    const SIZE: usize = 8192;

    fn pages() -> Pages<Vec<u64>> {
        // Twice the size, for the alignment.
        let mut words = vec![0u64; SIZE / 4];
        let base = words.as_mut_ptr().cast::<u8>();
        let base = NonNull::new(base.wrapping_add(base.align_offset(SIZE))).expect("no address is zero");
        // SAFETY: a page inside of the vector, which the keeper keeps and nobody else uses.
        unsafe { Pages::new(base, SIZE, words) }
    }

    #[test]
    fn copies_of_all_lengths_at_all_offsets() {
        let shared = pages();
        for offset in (0..136).step_by(8) {
            for len in (0..300).chain([1000, 4095, 4096, 4103, SIZE - 136]) {
                // A frame of ones, which only the padding of the last word may change.
                for at in (0..SIZE).step_by(8) {
                    shared.store(at, u64::MAX, Ordering::Relaxed);
                }
                let bytes: Vec<u8> = (0..len).map(|at| (at * 7 + offset) as u8).collect();
                shared.write(offset, &bytes);
                let mut all = vec![0; SIZE];
                shared.read(0, &mut all);
                let end = offset + len.next_multiple_of(8);
                assert!(all[..offset].iter().chain(&all[end..]).all(|byte| *byte == 0xff), "{offset} {len}");
                assert!(all[offset + len..end].iter().all(|byte| *byte == 0), "{offset} {len}");
                let mut copy = vec![0; len];
                shared.read(offset, &mut copy);
                assert!(copy == bytes && all[offset..offset + len] == bytes, "{offset} {len}");
            }
            if cfg!(miri) && offset > 64 {
                break;
            }
        }
    }

    #[test]
    fn an_access_outside_is_no_access() {
        let outside = |op: fn(&Pages<Vec<u64>>)| {
            let shared = pages();
            assert!(std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| op(&shared))).is_err());
        };
        outside(|shared| _ = shared.load(SIZE, Ordering::Relaxed));
        outside(|shared| _ = shared.load(4, Ordering::Relaxed));
        outside(|shared| shared.store(usize::MAX - 7, 0, Ordering::Relaxed));
        outside(|shared| shared.write(SIZE - 8, &[0; 9]));
        outside(|shared| shared.read(SIZE - 64, &mut [0; 65]));
        outside(|shared| shared.read(usize::MAX - 7, &mut [0; 64]));
        outside(|shared| shared.write(1, &[0]));
    }
}
