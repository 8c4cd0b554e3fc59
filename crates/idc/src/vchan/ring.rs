//! One direction of a vchan: bytes and two indices.
//!
//! # Invariants
//! - Our index, and the last good value of the peer's, live in private memory. The shared copy of ours is output
//!   only; the peer's is loaded once for each decision, and may only advance, and only as far as the ring allows.
//! - Bytes are copied in whole words. A word that holds only some of the bytes is completed with what is there: no
//!   byte outside of what was asked for changes, and since only one side writes a ring, no byte of an honest peer is
//!   lost. What a peer writes where it must not is its own loss.

use core::sync::atomic::Ordering;

use crate::error::Violation;
use crate::shm::{Fields, Memory};

/// Offsets of the indices from where those of a ring begin.
const CONSUMED: usize = 0;
const PRODUCED: usize = 4;

/// Our end of a ring. `data` of the functions is the memory that holds the bytes, `page` that with the indices.
#[derive(Debug)]
pub(super) struct Ring {
    /// Where the indices are in the page.
    indices: usize,
    /// Where the bytes are in their memory.
    base: usize,
    size: u32,
    writes: bool,
    /// Our index.
    own: u32,
    /// The last good value of the peer's.
    peer: u32,
}

impl Ring {
    /// A fresh ring of 1 << `order` bytes; this side writes or reads it.
    pub(super) fn new(indices: usize, base: usize, order: u16, writes: bool) -> Ring {
        Ring { indices, base, size: 1 << order, writes, own: 0, peer: 0 }
    }

    /// Begins where the shared indices stand, as the client of a server that others were connected to.
    pub(super) fn resume(&mut self, page: &impl Fields) -> Result<(), Violation> {
        let load = |at| page.load_u32(self.indices + at, Ordering::Acquire);
        let (consumed, produced) = (load(CONSUMED), load(PRODUCED));
        if produced.wrapping_sub(consumed) > self.size {
            return Err(Violation::VchanIndex);
        }
        (self.own, self.peer) = if self.writes { (produced, consumed) } else { (consumed, produced) };
        Ok(())
    }

    pub(super) fn size(&self) -> usize {
        self.size as usize
    }

    /// Bytes that can be read or written now.
    pub(super) fn ready(&mut self, page: &impl Fields) -> Result<usize, Violation> {
        let at = self.indices + if self.writes { CONSUMED } else { PRODUCED };
        let index = page.load_u32(at, Ordering::Acquire);
        let advance = index.wrapping_sub(self.peer);
        // The peer's index is behind ours by what is in the ring if we write, ahead of it if we read.
        let (room, ready) = if self.writes {
            let unread = self.own.wrapping_sub(self.peer);
            (unread, self.size.wrapping_sub(unread.wrapping_sub(advance)))
        } else {
            let unread = self.peer.wrapping_sub(self.own);
            (self.size.wrapping_sub(unread), unread.wrapping_add(advance))
        };
        if advance > room {
            return Err(Violation::VchanIndex);
        }
        self.peer = index;
        Ok(ready as usize)
    }

    /// Copies bytes out; there are as many ([`ready`](Self::ready)).
    pub(super) fn read(&mut self, page: &impl Fields, data: &impl Memory, buf: &mut [u8]) {
        let (first, second) = buf.split_at_mut(self.before_end(buf.len()));
        copy_out(data, self.base + self.place(), first);
        copy_out(data, self.base, second);
        self.advance(page, buf.len(), CONSUMED);
    }

    /// Copies bytes in; there is room ([`ready`](Self::ready)).
    pub(super) fn write(&mut self, page: &impl Fields, data: &impl Memory, bytes: &[u8]) {
        let (first, second) = bytes.split_at(self.before_end(bytes.len()));
        copy_in(data, self.base + self.place(), first);
        copy_in(data, self.base, second);
        self.advance(page, bytes.len(), PRODUCED);
    }

    fn place(&self) -> usize {
        (self.own & (self.size - 1)) as usize
    }

    fn before_end(&self, len: usize) -> usize {
        len.min(self.size() - self.place())
    }

    fn advance(&mut self, page: &impl Fields, len: usize, at: usize) {
        self.own = self.own.wrapping_add(len as u32);
        page.store_u32(self.indices + at, self.own, Ordering::Release);
        // The peer must see this before we look whether it wants an event.
        page.fence();
    }
}

/// Copies bytes from any offset.
fn copy_out(data: &impl Memory, offset: usize, buf: &mut [u8]) {
    let skip = offset % 8;
    if skip == 0 {
        return data.read(offset, buf);
    }
    let (head, rest) = buf.split_at_mut(buf.len().min(8 - skip));
    let word = data.load(offset - skip, Ordering::Relaxed).to_le_bytes();
    for (to, from) in head.iter_mut().zip(word.iter().skip(skip)) {
        *to = *from;
    }
    if !rest.is_empty() {
        data.read(offset - skip + 8, rest);
    }
}

/// Copies bytes to any offset.
fn copy_in(data: &impl Memory, offset: usize, bytes: &[u8]) {
    let skip = offset % 8;
    let (head, rest) = bytes.split_at(if skip == 0 { 0 } else { bytes.len().min(8 - skip) });
    merge(data, offset - skip, skip, head);
    let at = offset - skip + if skip == 0 { 0 } else { 8 };
    let (words, tail) = rest.split_at(rest.len() / 8 * 8);
    if !words.is_empty() {
        data.write(at, words);
    }
    merge(data, at + words.len(), 0, tail);
}

/// Replaces some bytes of a word.
fn merge(data: &impl Memory, offset: usize, skip: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let mut word = data.load(offset, Ordering::Relaxed).to_le_bytes();
    for (to, from) in word.iter_mut().skip(skip).zip(bytes) {
        *to = *from;
    }
    data.store(offset, u64::from_le_bytes(word), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;

    use alloc::vec::Vec;

    use super::*;

    /// Plain bytes in the role of shared ones.
    struct Bytes(RefCell<Vec<u8>>);

    impl Bytes {
        fn get<const N: usize>(&self, offset: usize) -> [u8; N] {
            *self.0.borrow()[offset..].first_chunk().unwrap()
        }

        fn put(&self, offset: usize, bytes: &[u8]) {
            self.0.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    impl Memory for Bytes {
        fn size(&self) -> usize {
            self.0.borrow().len()
        }
        fn load(&self, offset: usize, _: Ordering) -> u64 {
            assert_eq!(offset % 8, 0);
            u64::from_le_bytes(self.get(offset))
        }
        fn store(&self, offset: usize, word: u64, _: Ordering) {
            assert_eq!(offset % 8, 0);
            self.put(offset, &word.to_le_bytes());
        }
    }

    impl Fields for Bytes {
        fn load_u32(&self, offset: usize, _: Ordering) -> u32 {
            u32::from_le_bytes(self.get(offset))
        }
        fn store_u32(&self, offset: usize, value: u32, _: Ordering) {
            self.put(offset, &value.to_le_bytes());
        }
        fn load_u8(&self, offset: usize, _: Ordering) -> u8 {
            self.get::<1>(offset)[0]
        }
        fn store_u8(&self, offset: usize, value: u8, _: Ordering) {
            self.put(offset, &[value]);
        }
        fn fetch_or_u8(&self, _: usize, _: u8) -> u8 {
            unreachable!("rings have no bits")
        }
        fn fetch_and_u8(&self, _: usize, _: u8) -> u8 {
            unreachable!("rings have no bits")
        }
    }

    const ORDER: u16 = 10;
    const SIZE: usize = 1 << ORDER;
    /// What is around the ring, to see that it stays.
    const AROUND: u8 = 0xee;

    fn memory() -> Bytes {
        let bytes = Bytes(RefCell::new(alloc::vec![AROUND; 3 * SIZE]));
        bytes.put(0, &[0; 16]);
        bytes
    }

    fn ends(page: &Bytes, start: u32) -> (Ring, Ring) {
        page.store_u32(8, start, Ordering::SeqCst);
        page.store_u32(12, start, Ordering::SeqCst);
        let (mut writer, mut reader) = (Ring::new(8, SIZE, ORDER, true), Ring::new(8, SIZE, ORDER, false));
        writer.resume(page).unwrap();
        reader.resume(page).unwrap();
        (writer, reader)
    }

    #[test]
    fn bytes_survive_every_alignment_and_both_wraps() {
        let memory = memory();
        // The index wraps around 32 bits on the way, many times the ring's own size.
        let (mut writer, mut reader) = ends(&memory, u32::MAX - 5000);
        let (mut sent, mut received) = (0u32, 0u32);
        let next = |count: &mut u32| {
            *count = count.wrapping_add(1);
            (count.wrapping_mul(2_654_435_761) >> 24) as u8
        };
        for step in 0..4000 {
            let len = (step * 7 % 61).min(writer.ready(&memory).unwrap());
            let bytes: Vec<u8> = (0..len).map(|_| next(&mut sent)).collect();
            writer.write(&memory, &memory, &bytes);
            let len = (step * 11 % 53 + usize::from(step % 9 == 0) * 500).min(reader.ready(&memory).unwrap());
            let mut buf = alloc::vec![0; len];
            reader.read(&memory, &memory, &mut buf);
            assert!(buf.iter().all(|byte| *byte == next(&mut received)), "step {step}");
        }
        assert!(received > 50_000, "{received} bytes came");
        let bytes = memory.0.borrow();
        assert!(
            bytes[16..SIZE].iter().chain(&bytes[2 * SIZE..]).all(|b| *b == AROUND),
            "something else changed"
        );
    }

    #[test]
    fn a_full_ring_is_full_and_an_empty_one_empty() {
        let memory = memory();
        let (mut writer, mut reader) = ends(&memory, 3);
        assert_eq!((writer.ready(&memory), reader.ready(&memory)), (Ok(SIZE), Ok(0)));
        writer.write(&memory, &memory, &[1; SIZE]);
        assert_eq!((writer.ready(&memory), reader.ready(&memory)), (Ok(0), Ok(SIZE)));
        reader.read(&memory, &memory, &mut [0; SIZE]);
        assert_eq!((writer.ready(&memory), reader.ready(&memory)), (Ok(SIZE), Ok(0)));
    }

    #[test]
    fn an_index_that_goes_back_or_too_far_is_a_violation() {
        for start in [0, 77, u32::MAX - 20] {
            for (consumed, produced) in [(0, 0), (0, 100), (50, 100), (0, SIZE as u32)] {
                let fresh = || {
                    let memory = memory();
                    let (mut writer, mut reader) = ends(&memory, start);
                    writer.write(&memory, &memory, &alloc::vec![1; produced as usize]);
                    assert_eq!(reader.ready(&memory), Ok(produced as usize));
                    reader.read(&memory, &memory, &mut alloc::vec![0; consumed as usize]);
                    assert!(writer.ready(&memory).is_ok());
                    (memory, writer, reader)
                };
                let unread = produced - consumed;
                let room = SIZE as u32 - unread;
                for lie in [1u32, 2, 63, 1023, 1024, 1025, 4096, 1 << 31, u32::MAX - 1023, u32::MAX] {
                    let (memory, mut writer, mut reader) = fresh();
                    memory.store_u32(8, start.wrapping_add(consumed).wrapping_add(lie), Ordering::SeqCst);
                    assert_eq!(writer.ready(&memory).is_ok(), lie <= unread, "consumed {lie} more");
                    memory.store_u32(12, start.wrapping_add(produced).wrapping_add(lie), Ordering::SeqCst);
                    assert_eq!(reader.ready(&memory).is_ok(), lie <= room, "produced {lie} more");
                }
            }
        }
        let memory = memory();
        memory.store_u32(12, SIZE as u32 + 1, Ordering::SeqCst);
        assert_eq!(Ring::new(8, SIZE, ORDER, false).resume(&memory), Err(Violation::VchanIndex));
    }
}
