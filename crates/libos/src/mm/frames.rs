//! Which page frames are free: one bit a frame, set when in use.
//!
//! The map is a slice that boot carves out of RAM, so its size follows the domain's memory. Search is first
//! fit from the lowest frame: the paging layer maps RAM lazily from below, and so a small service in a big
//! domain never pays for memory that it does not use.

/// Bitmap of page frames. Frame `n` is the page at address `n << 12`.
pub struct Frames {
    used: &'static mut [u64],
    free: u64,
    /// No frame below this word is free: where a search begins.
    hint: usize,
}

impl Frames {
    /// An empty map; every request fails.
    pub const fn empty() -> Self {
        Self { used: &mut [], free: 0, hint: 0 }
    }

    /// Words that a map of `frames` frames needs.
    pub const fn words(frames: u64) -> usize {
        frames.div_ceil(64) as usize
    }

    /// Takes over `used`, with every frame in use; [`Self::release`] then gives RAM to it.
    pub fn new(used: &'static mut [u64]) -> Self {
        used.fill(u64::MAX);
        Self { used, free: 0, hint: 0 }
    }

    /// The first frame number behind the map.
    pub fn limit(&self) -> u64 {
        self.used.len() as u64 * 64
    }

    /// Number of free frames.
    pub fn free(&self) -> u64 {
        self.free
    }

    fn is_used(&self, frame: u64) -> bool {
        match self.used.get((frame / 64) as usize) {
            Some(word) => word >> (frame % 64) & 1 == 1,
            None => true,
        }
    }

    /// Frees `count` frames from `first`. Returns false, and changes nothing, when the range is not
    /// entirely in use or lies outside the map.
    pub fn release(&mut self, first: u64, count: u64) -> bool {
        let Some(end) = first.checked_add(count) else { return false };
        if end > self.limit() || !self.all(first, end, true) {
            return false;
        }
        self.set(first, end, false);
        self.free += count;
        self.hint = self.hint.min((first / 64) as usize);
        true
    }

    /// Takes the lowest run of `count` free frames; the first of them.
    pub fn take(&mut self, count: u64) -> Option<u64> {
        if count == 0 || count > self.free {
            return None;
        }
        let mut word = self.hint;
        while word < self.used.len() && self.used[word] == u64::MAX {
            word += 1;
        }
        self.hint = word;
        let limit = self.limit();
        let mut frame = word as u64 * 64;
        let mut run = 0;
        while frame < limit {
            if frame.is_multiple_of(64) && self.used[(frame / 64) as usize] == u64::MAX {
                run = 0;
                frame += 64;
                continue;
            }
            if frame.is_multiple_of(64) && self.used[(frame / 64) as usize] == 0 && run + 64 < count {
                run += 64;
                frame += 64;
                continue;
            }
            run = if self.is_used(frame) { 0 } else { run + 1 };
            frame += 1;
            if run == count {
                self.set(frame - count, frame, true);
                self.free -= count;
                return Some(frame - count);
            }
        }
        None
    }

    /// Takes these frames if all are free.
    pub fn take_at(&mut self, first: u64, count: u64) -> bool {
        let Some(end) = first.checked_add(count) else { return false };
        if !self.all_free(first, count) {
            return false;
        }
        self.set(first, end, true);
        self.free -= count;
        true
    }

    /// Whether all of these frames are free.
    pub fn all_free(&self, first: u64, count: u64) -> bool {
        first.checked_add(count).is_some_and(|end| end <= self.limit() && self.all(first, end, false))
    }

    /// Whether every frame of the range is in use (or none is).
    fn all(&self, first: u64, end: u64, used: bool) -> bool {
        masks(first, end).all(|(word, mask)| self.used[word] & mask == if used { mask } else { 0 })
    }

    fn set(&mut self, first: u64, end: u64, used: bool) {
        for (word, mask) in masks(first, end) {
            if used { self.used[word] |= mask } else { self.used[word] &= !mask }
        }
    }
}

/// The words of the map that a range touches, each with the bits that belong to it.
fn masks(first: u64, end: u64) -> impl Iterator<Item = (usize, u64)> {
    let mut frame = first;
    core::iter::from_fn(move || {
        let bits = (64 - frame % 64).min(end.checked_sub(frame).filter(|rest| *rest > 0)?);
        let item = ((frame / 64) as usize, (u64::MAX >> (64 - bits)) << (frame % 64));
        frame += bits;
        Some(item)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(count: u64) -> Frames {
        Frames::new(vec![0; Frames::words(count)].leak())
    }

    #[test]
    fn takes_the_lowest_run_that_fits() {
        let mut f = frames(256);
        assert!(f.release(1, 3));
        assert!(f.release(10, 200));
        assert_eq!(f.free(), 203);
        assert_eq!(f.take(4), Some(10));
        assert_eq!(f.take(3), Some(1));
        assert_eq!(f.take(1), Some(14));
        assert_eq!(f.take(195), Some(15));
        assert_eq!(f.take(1), None);
        assert_eq!(f.free(), 0);
    }

    #[test]
    fn runs_cross_words() {
        let mut f = frames(512);
        assert!(f.release(60, 400));
        assert_eq!(f.take(300), Some(60));
        assert_eq!(f.take(100), Some(360));
        assert!(f.release(60, 300));
        assert_eq!(f.take(301), None);
        assert_eq!(f.take(300), Some(60));
    }

    #[test]
    fn refuses_double_release_and_strangers() {
        let mut f = frames(128);
        assert!(f.release(8, 8));
        assert!(!f.release(15, 2));
        assert!(!f.release(127, 2));
        assert!(!f.release(u64::MAX, 2));
        assert_eq!(f.free(), 8);
        assert!(f.take_at(9, 2));
        assert!(!f.take_at(10, 1));
        assert_eq!(f.free(), 6);
    }

    /// Against a naive model: the same answers for a long random history.
    #[test]
    fn agrees_with_a_model() {
        let mut f = frames(300);
        let mut model = [true; 300];
        assert!(f.release(0, 300));
        model.fill(false);
        let mut seed = 1u64;
        let mut random = |n: u64| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) % n
        };
        let mut held: Vec<(u64, u64)> = Vec::new();
        for _ in 0..5000 {
            if random(2) == 0 || held.is_empty() {
                let count = 1 + random(90);
                let want = (0..=300 - count as usize)
                    .find(|&s| model[s..s + count as usize].iter().all(|u| !u))
                    .map(|s| s as u64);
                assert_eq!(f.take(count), want);
                if let Some(s) = want {
                    model[s as usize..(s + count) as usize].fill(true);
                    held.push((s, count));
                }
            } else {
                let (s, count) = held.swap_remove(random(held.len() as u64) as usize);
                assert!(f.release(s, count));
                model[s as usize..(s + count) as usize].fill(false);
            }
            assert_eq!(f.free(), model.iter().filter(|u| !**u).count() as u64);
        }
    }
}
