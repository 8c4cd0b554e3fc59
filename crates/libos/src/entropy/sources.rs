//! Where entropy comes from.
//!
//! Every source hashes what it delivers into 32 bytes, for which it is asked twice to sixteen times the entropy
//! that they can hold, and tests each sample on the way.

use super::drbg::Conditioner;
use super::health::Health;
use crate::arch::cell::Global;
use crate::arch::x86_64::cpu;
use crate::xen::xenstore;
use xen_abi::xenstore::MsgType;

/// Samples for one seed; also what the start-up test wants (SP 800-90B, 4.3).
const SAMPLES: usize = 1024;
/// The node with the toolstack's seed, below the domain's home.
const SEED_NODE: &[u8] = b"data/entropy-seed\0";
/// Bytes of the toolstack's seed at least, and at most.
const SEED_BYTES: (usize, usize) = (32, 64);

/// Draws from one of the processor's generators. `None` when there is none or it did not answer.
pub fn processor(next: impl Fn() -> Option<u64>, health: &mut Health) -> Option<[u8; 32]> {
    let mut out = Conditioner::new();
    for _ in 0..SAMPLES / 8 {
        let word = next()?.to_le_bytes();
        word.iter().for_each(|byte| health.feed((*byte).into()));
        out.add(&word);
    }
    Some(out.finish())
}

/// Bytes that the timing loop writes to: more than a few cache lines.
const PLAYGROUND: usize = 4096;
static BYTES: Global<[u8; PLAYGROUND]> = Global::new([0; PLAYGROUND]);

/// Times a loop of memory accesses and hashing again and again, in ticks of the time-stamp counter.
pub fn jitter(health: &mut Health) -> [u8; 32] {
    let mut out = Conditioner::new();
    let (mut last, mut place) = (cpu::rdtsc(), 0usize);
    BYTES.with(|bytes| {
        for _ in 0..SAMPLES {
            for _ in 0..32 {
                place = (place.wrapping_mul(1_103_515_245).wrapping_add(last as usize | 1)) % PLAYGROUND;
                bytes[place] = core::hint::black_box(bytes[place].wrapping_add(1));
            }
            let now = cpu::rdtsc();
            health.feed(now.wrapping_sub(last));
            out.add(&now.to_le_bytes());
            last = now;
        }
    });
    out.finish()
}

/// Reads and removes the seed that the toolstack left, if there is one: its bytes and their number. Switches.
pub fn toolstack() -> Option<([u8; SEED_BYTES.1], usize)> {
    let mut text = [0; 2 * SEED_BYTES.1 + 2];
    let len = xenstore::request(MsgType::Read as u32, 0, SEED_NODE, &mut text);
    let text = text.get(..usize::try_from(len).ok()?)?.trim_ascii();
    xenstore::request(MsgType::Rm as u32, 0, SEED_NODE, &mut []);
    super::seed::parse(text)
}
