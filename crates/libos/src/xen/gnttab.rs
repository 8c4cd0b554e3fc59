//! Grant table: our pages for others, their pages for us. Version 1 of the table.
//!
//! Source: `xen/grant_table.h`. An entry is made valid by its flags, written last, and withdrawn by one
//! compare-and-swap of the flags, which fails while the peer has the page mapped.

use crate::arch::cell::Global;
use crate::mm::raw::Shared;
use crate::mm::{self, window};
use libos_sys::{GRANT_READONLY, errno};
use xen_abi::gnttab::*;

/// Frames of the grant table that we use at most: 8,192 grants.
const MAX_FRAMES: usize = 16;
const WORDS: usize = MAX_FRAMES * ENTRIES_PER_FRAME as usize / 64;

struct Grants {
    frames: [Shared; MAX_FRAMES],
    count: usize,
    used: [u64; WORDS],
}

static GRANTS: Global<Grants> =
    Global::new(Grants { frames: [Shared::none(); MAX_FRAMES], count: 0, used: [0; WORDS] });

const FLAGS: usize = core::mem::offset_of!(GrantEntryV1, flags);
const FRAME: usize = core::mem::offset_of!(GrantEntryV1, frame);

impl Grants {
    /// The frame that holds entry `gref`, and the entry's offset.
    fn entry(&self, gref: u32) -> Option<(Shared, usize)> {
        let frame = (gref / ENTRIES_PER_FRAME) as usize;
        let offset = (gref % ENTRIES_PER_FRAME) as usize * size_of::<GrantEntryV1>();
        (frame < self.count).then(|| (self.frames[frame], offset))
    }

    fn take(&mut self) -> Option<u32> {
        if self.count == 0 {
            self.used[0] = (1 << GNTTAB_NR_RESERVED_ENTRIES) - 1;
        }
        let words = self.count * ENTRIES_PER_FRAME as usize / 64;
        if let Some(word) = self.used[..words].iter().position(|w| *w != u64::MAX) {
            let bit = self.used[word].trailing_ones();
            self.used[word] |= 1 << bit;
            return Some(word as u32 * 64 + bit);
        }
        if self.count == MAX_FRAMES {
            return None;
        }
        self.frames[self.count] = window::map_grant_table(self.count as u64)?;
        self.count += 1;
        self.take()
    }
}

/// Grants `peer` access to our page at `page`; the grant reference or a negative `errno`.
pub fn access(peer: u16, page: u64, flags: u32) -> i64 {
    if !page.is_multiple_of(4096) || flags & !GRANT_READONLY != 0 {
        return -i64::from(errno::EINVAL);
    }
    let Ok(frame) = u32::try_from(mm::frame_of(page)) else { return -i64::from(errno::EFAULT) };
    let Some(gref) = GRANTS.with(Grants::take) else { return -i64::from(errno::ENOMEM) };
    let Some((table, offset)) = GRANTS.with(|g| g.entry(gref)) else { return -i64::from(errno::ENOMEM) };
    let mode = GTF_PERMIT_ACCESS | if flags & GRANT_READONLY != 0 { GTF_READONLY } else { 0 };
    table.store32(offset + FRAME, frame);
    // The domain id shares a word with the flags: the entry becomes valid in one store.
    table.store32(offset + FLAGS, u32::from(peer) << 16 | u32::from(mode));
    gref.into()
}

/// Withdraws a grant: 0, or `-EBUSY` while it is mapped.
pub fn end(gref: u32) -> i32 {
    let ours = GRANTS.with(|g| {
        let used = g.used.get(gref as usize / 64).is_some_and(|w| w >> (gref % 64) & 1 == 1);
        if used && gref >= GNTTAB_NR_RESERVED_ENTRIES { g.entry(gref) } else { None }
    });
    let Some((table, offset)) = ours else { return -errno::EINVAL };
    loop {
        let flags = table.load32(offset + FLAGS) as u16;
        if flags & (GTF_READING | GTF_WRITING) != 0 {
            return -errno::EBUSY;
        }
        if table.compare_exchange16(offset + FLAGS, flags, GTF_INVALID) == flags {
            break;
        }
    }
    GRANTS.with(|g| g.used[gref as usize / 64] &= !(1 << (gref % 64)));
    0
}

/// Maps granted pages of `peer`; the address of the first or a negative `errno`.
pub fn map(peer: u16, grefs: &[u32], flags: u32, handles: &mut [u32]) -> isize {
    if grefs.is_empty() || flags & !GRANT_READONLY != 0 {
        return -errno::EINVAL as isize;
    }
    match window::map_grants(peer, grefs, flags & GRANT_READONLY != 0, handles) {
        Ok(address) => address as isize,
        Err(status) => -isize::try_from(to_errno(status)).unwrap_or(1),
    }
}

fn to_errno(status: i16) -> i32 {
    match status {
        GNTST_BAD_DOMAIN => errno::ENOENT,
        GNTST_BAD_GNTREF => errno::EINVAL,
        GNTST_PERMISSION_DENIED => errno::EACCES,
        GNTST_NO_SPACE | GNTST_NO_DEVICE_SPACE => errno::ENOSPC,
        GNTST_EAGAIN => errno::EAGAIN,
        _ => errno::EIO,
    }
}
