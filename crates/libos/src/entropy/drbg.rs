//! HMAC_DRBG with SHA-256.
//!
//! Source: NIST SP 800-90A Rev. 1, 10.1.2. Strength 256 bits; no prediction resistance, no additional input.

use sha2::{Digest, Sha256};

/// Most bytes of one request (2^19 bits).
pub const MAX_REQUEST: usize = 1 << 16;

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// HMAC-SHA-256 (FIPS 198-1) of the joined parts.
fn hmac(key: &[u8; 32], parts: [&[u8]; 5]) -> [u8; 32] {
    let (mut inner, mut outer) = ([0x36; 64], [0x5c; 64]);
    for (i, byte) in key.iter().enumerate() {
        inner[i] ^= byte;
        outer[i] ^= byte;
    }
    let [a, b, c, d, e] = parts;
    let digest = sha256(&[&inner, a, b, c, d, e]);
    sha256(&[&outer, &digest])
}

/// The generator's state.
pub struct Drbg {
    key: [u8; 32],
    value: [u8; 32],
    requests: u64,
}

impl Drbg {
    /// Instantiates from entropy input (at least 32 bytes of entropy), nonce and personalisation.
    pub fn new(entropy: &[u8], nonce: &[u8], personalisation: &[u8]) -> Self {
        let mut drbg = Self { key: [0; 32], value: [1; 32], requests: 0 };
        drbg.update([entropy, nonce, personalisation]);
        drbg
    }

    fn update(&mut self, data: [&[u8]; 3]) {
        let [a, b, c] = data;
        for round in [0u8, 1] {
            self.key = hmac(&self.key, [&self.value, &[round], a, b, c]);
            self.value = hmac(&self.key, [&self.value, &[], &[], &[], &[]]);
            if data.iter().all(|part| part.is_empty()) {
                break;
            }
        }
    }

    /// Mixes fresh entropy in.
    pub fn reseed(&mut self, entropy: &[u8]) {
        self.update([entropy, &[], &[]]);
        self.requests = 0;
    }

    /// Requests since the last seed.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Fills `out`; more than [`MAX_REQUEST`] bytes count as several requests.
    pub fn fill(&mut self, out: &mut [u8]) {
        for request in out.chunks_mut(MAX_REQUEST) {
            for block in request.chunks_mut(32) {
                self.value = hmac(&self.key, [&self.value, &[], &[], &[], &[]]);
                block.copy_from_slice(&self.value[..block.len()]);
            }
            self.update([&[]; 3]);
            self.requests += 1;
        }
    }
}

/// Hashes what a noise source delivered into 32 bytes (a vetted conditioning component, SP 800-90B 3.1.5.1.1).
#[derive(Clone)]
pub struct Conditioner(Sha256);

impl Conditioner {
    /// Nothing hashed yet.
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Takes a sample.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The result.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    #[test]
    fn hmac_of_rfc_4231() {
        // Test case 2, whose key is padded with zeros to a block either way.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let mac = hmac(&key, [b"what do ya ", b"want ", b"for", b" nothing?", b""]);
        assert_eq!(
            mac.to_vec(),
            hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        );
    }

    /// CAVS 14.3, HMAC_DRBG.rsp, [SHA-256], no prediction resistance, COUNT 0: instantiate, generate twice, the
    /// second output counts.
    #[test]
    fn known_answer_without_reseed() {
        let mut drbg = Drbg::new(
            &hex("ca851911349384bffe89de1cbdc46e6831e44d34a4fb935ee285dd14b71a7488"),
            &hex("659ba96c601dc69fc902940805ec0ca8"),
            &[],
        );
        let mut out = [0; 128];
        drbg.fill(&mut out);
        drbg.fill(&mut out);
        let want = "e528e9abf2dece54d47c7e75e5fe302149f817ea9fb4bee6f4199697d04d5b89\
                    d54fbb978a15b5c443c9ec21036d2460b6f73ebad0dc2aba6e624abf07745bc1\
                    07694bb7547bb0995f70de25d6b29e2d3011bb19d27676c07162c8b5ccde0668\
                    961df86803482cb37ed6d5c0bb8d50cf1f50d476aa0458bdaba806f48be9dcb8";
        assert_eq!(out.to_vec(), hex(want));
    }

    /// The same file, with one reseed between instantiation and the two outputs.
    #[test]
    fn known_answer_with_reseed() {
        let mut drbg = Drbg::new(
            &hex("06032cd5eed33f39265f49ecb142c511da9aff2af71203bffaf34a9ca5bd9c0d"),
            &hex("0e66f71edc43e42a45ad3c6fc6cdc4df"),
            &[],
        );
        drbg.reseed(&hex("01920a4e669ed3a85ae8a33b35a74ad7fb2a6bb4cf395ce00334a9c9a5a5d552"));
        let mut out = [0; 128];
        drbg.fill(&mut out);
        drbg.fill(&mut out);
        let want = "76fc79fe9b50beccc991a11b5635783a83536add03c157fb30645e611c2898bb\
                    2b1bc215000209208cd506cb28da2a51bdb03826aaf2bd2335d576d519160842\
                    e7158ad0949d1a9ec3e66ea1b1a064b005de914eac2e9d4f2d72a8616a802254\
                    22918250ff66a41bd2f864a6a38cc5b6499dc43f7f2bd09e1e0f8f5885935124";
        assert_eq!(out.to_vec(), hex(want));
    }

    #[test]
    fn requests_of_odd_sizes_differ_and_count() {
        let mut drbg = Drbg::new(&[7; 64], &[1; 16], b"test");
        let (mut a, mut b) = ([0; 33], [0; 33]);
        drbg.fill(&mut a);
        drbg.fill(&mut b);
        assert_ne!(a, b);
        assert_eq!(drbg.requests(), 2);
        drbg.fill(&mut vec![0; MAX_REQUEST + 1]);
        assert_eq!(drbg.requests(), 4);
        drbg.reseed(&[8; 32]);
        assert_eq!(drbg.requests(), 0);
        drbg.fill(&mut []);
        assert_eq!(drbg.requests(), 0);
    }
}
