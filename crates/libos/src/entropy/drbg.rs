//! HMAC_DRBG with SHA-256 (NIST SP 800-90A revision 1, 10.1.2), 256 bits strong, without additional input.
//!
//! HMAC_DRBG and not Hash_DRBG, since it needs no arithmetic on 440-bit numbers: half the code. After each request
//! the state is replaced by a one-way function of itself, so that what was handed out cannot be computed from
//! what memory holds later (backtracking resistance).

use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// Most bytes of one request (2^19 bits, table 2).
pub const MAX_REQUEST: usize = 1 << 16;

/// The working state, wiped when it is dropped.
pub struct Drbg {
    key: [u8; 32],
    value: [u8; 32],
}

impl Drop for Drbg {
    fn drop(&mut self) {
        self.key.zeroize();
        self.value.zeroize();
    }
}

/// SHA-256 with one copy of its code in the kernel: not inlined, it is ten times smaller than where it is.
#[derive(Clone)]
pub struct Hash(Sha256);

impl Hash {
    /// Nothing hashed yet.
    #[inline(never)]
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Hashes more.
    #[inline(never)]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of it.
    #[inline(never)]
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// HMAC-SHA-256 (FIPS 198-1) of the parts, one behind the other. The crate `hmac` would be three more dependencies
/// of the kernel for these lines.
fn hmac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    let mut pad = [0x36; 64];
    pad.iter_mut().zip(key).for_each(|(p, k)| *p ^= k);
    let mut inner = Hash::new();
    inner.update(&pad);
    parts.iter().for_each(|part| inner.update(part));
    pad.iter_mut().for_each(|p| *p ^= 0x36 ^ 0x5c);
    let mut outer = Hash::new();
    outer.update(&pad);
    outer.update(&inner.finish());
    pad.zeroize();
    outer.finish()
}

impl Drbg {
    /// Instantiates it. `seed` is entropy input, nonce and personalisation string, one behind the other: at least
    /// 384 bits of entropy.
    pub fn new(seed: &[u8]) -> Self {
        let mut drbg = Self { key: [0; 32], value: [1; 32] };
        drbg.reseed(seed);
        drbg
    }

    /// Mixes in fresh entropy, at least 256 bits.
    pub fn reseed(&mut self, entropy: &[u8]) {
        self.update(0, entropy);
        self.update(1, entropy);
    }

    /// Fills `out`, at most [`MAX_REQUEST`] bytes.
    pub fn generate(&mut self, out: &mut [u8]) {
        assert!(out.len() <= MAX_REQUEST);
        for piece in out.chunks_mut(32) {
            self.value = hmac(&self.key, &[&self.value]);
            piece.copy_from_slice(&self.value[..piece.len()]);
        }
        self.update(0, &[]);
    }

    /// One round of `HMAC_DRBG_Update`.
    fn update(&mut self, round: u8, data: &[u8]) {
        self.key = hmac(&self.key, &[&self.value, &[round], data]);
        self.value = hmac(&self.key, &[&self.value]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    /// A case of NIST's `HMAC_DRBG.rsp`: the second of two requests counts.
    fn case(seed: [&str; 3], reseed: &str, want: &str) {
        let mut drbg = Drbg::new(&unhex(&seed.concat()));
        if !reseed.is_empty() {
            drbg.reseed(&unhex(reseed));
        }
        let want = unhex(want);
        let mut got = vec![0; want.len()];
        drbg.generate(&mut got);
        drbg.generate(&mut got);
        assert_eq!(got, want);
    }

    /// RFC 4231, test cases 1 and 2 (shorter keys are padded with zeros).
    #[test]
    fn hmac_vectors() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let want = unhex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        assert_eq!(hmac(&key, &[b"Hi ", b"There"]).as_slice(), want);
        key.fill(0);
        key[..4].copy_from_slice(b"Jefe");
        let want = unhex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(hmac(&key, &[b"what do ya want ", b"for nothing?"]).as_slice(), want);
    }

    /// CAVS 14.3, no reseed, SHA-256: COUNT 0 without, COUNT 4 with a personalisation string.
    #[test]
    fn nist_vectors_without_reseed() {
        case(
            [
                "ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488",
                "659ba96c601dc69fc902940805ec0ca8",
                "",
            ],
            "",
            "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89\
             d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1\
             07694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668\
             961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8",
        );
        case(
            [
                "8009eb2cb49fdf16403bcdfd4a9f952191062acb9cc111eca019f957fb9f4451",
                "355598866952394b1eddd85d59f81c9d",
                "09ff1d4b97d83b223d002e05f754be480d13ba968e5aac306d71cc9fc49cc2dd",
            ],
            "",
            "9550903c2f02cf77c8f9c9a37041d0040ee1e3ef65ba1a1fbbcf44fb7a2172bd\
             6b3aaabe850281c3a1778277bacd09614dfefececac64338ae24a1bf150cbf9d\
             9541173a82ecba08aa19b75abb779eb10efa4257d5252e8afcac414bc3bb5d30\
             06b6f36fb9daea4c8c359ef6cdbeff27c1068571dd3c89dc87eda9190086888d",
        );
    }

    /// CAVS 14.3, prediction resistance false, SHA-256: COUNT 0 and 2.
    #[test]
    fn nist_vectors_with_reseed() {
        case(
            [
                "06032cd5eed33f39265f49ecb142c511da9aff2af71203bffaf34a9ca5bd9c0d",
                "0e66f71edc43e42a45ad3c6fc6cdc4df",
                "",
            ],
            "01920a4e669ed3a85ae8a33b35a74ad7fb2a6bb4cf395ce00334a9c9a5a5d552",
            "76fc79fe9b50beccc991a11b5635783a83536add03c157fb30645e611c2898bb\
             2b1bc215000209208cd506cb28da2a51bdb03826aaf2bd2335d576d519160842\
             e7158ad0949d1a9ec3e66ea1b1a064b005de914eac2e9d4f2d72a8616a802254\
             22918250ff66a41bd2f864a6a38cc5b6499dc43f7f2bd09e1e0f8f5885935124",
        );
        case(
            [
                "62cda441dd802c7652c00b99cac3652a64fc75388dc9adcf763530ac31df9214",
                "5fdc897a0c1c482204ef07e0805c014b",
                "",
            ],
            "bd9bbf717467bf4b5db2aa344dd0d90997c8201b2265f4451270128f5ac05a1a",
            "7e41f9647a5e6750eb8acf13a02f23f3be77611e51992cedb6602c314531aff2\
             a6e4c557da0777d4e85faefcb143f1a92e0dbac8de8b885ced62a124f0b10620\
             f1409ae87e228994b830eca638ccdceedd3fcd07d024b646704f44d5d9c4c3a7\
             b705f37104b45b9cfc2d933ae43c12f53e3e6f798c51be5f640115d45cf919a4",
        );
    }

    #[test]
    fn pieces_of_any_length() {
        let mut long = [0; 100];
        Drbg::new(b"seed").generate(&mut long);
        for len in [0, 1, 31, 32, 33, 99] {
            let mut short = vec![0; len];
            Drbg::new(b"seed").generate(&mut short);
            assert_eq!(short, long[..len]);
        }
    }
}
