//! The seed that the toolstack leaves in xenstore, at `data/entropy-seed` below the domain's home.
//!
//! Hexadecimal digits and nothing else, for [`MIN`] to [`MAX`] bytes. It is read and removed, so that nobody, not
//! even a restarted kernel, uses it twice; one that cannot be removed does not count.

use super::health::{BYTES, Health};

/// Fewest bytes: 256 bits.
pub const MIN: usize = 32;
/// Most bytes.
pub const MAX: usize = 256;

/// Bytes as a seed, or what is wrong with them.
pub fn judge(bytes: &[u8]) -> Result<&[u8], &'static str> {
    if !(MIN..=MAX).contains(&bytes.len()) {
        return Err("malformed: 32 to 256 bytes are wanted");
    }
    let mut health = Health::new();
    bytes.iter().try_for_each(|byte| health.check(&BYTES, (*byte).into()))?;
    Ok(bytes)
}

/// Decodes the digits in place; the bytes, or what is wrong with them.
pub fn decode(text: &mut [u8]) -> Result<&[u8], &'static str> {
    let len = text.len() / 2;
    if !text.len().is_multiple_of(2) || !(MIN..=MAX).contains(&len) {
        return Err("malformed: 64 to 512 hexadecimal digits are wanted");
    }
    let digit = |c: u8| char::from(c).to_digit(16).ok_or("malformed: not a hexadecimal number");
    for i in 0..len {
        let byte = digit(text[2 * i])? << 4 | digit(text[2 * i + 1])?;
        text[i] = byte as u8;
    }
    judge(&text[..len])
}

/// Takes the seed out of xenstore into `text`: its digits, or why it cannot be had; `None` when there is none.
/// Switches.
#[cfg(not(test))]
pub fn take(text: &mut [u8; 2 * MAX]) -> Option<Result<usize, &'static str>> {
    use crate::xen::xenstore;
    use libos_sys::errno;
    use xen_abi::xenstore::MsgType;

    const NOT_FOUND: isize = -errno::ENOENT as isize;
    const TOO_LONG: isize = -errno::ERANGE as isize;
    const PATH: &[u8] = b"data/entropy-seed\0";
    let len = xenstore::request(MsgType::Read.number(), 0, PATH, text);
    if len == NOT_FOUND {
        return None;
    }
    // The answer is the word `OK`.
    let removed = xenstore::request(MsgType::Rm.number(), 0, PATH, &mut [0; 16]) >= 0;
    Some(match usize::try_from(len) {
        Ok(len) if removed => Ok(len),
        Ok(_) => Err("not to be removed from xenstore"),
        Err(_) if len == TOO_LONG => Err("malformed: too long"),
        Err(_) => Err("not to be read from xenstore"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<u8>, &'static str> {
        decode(&mut text.as_bytes().to_vec()).map(<[u8]>::to_vec)
    }

    #[test]
    fn digits_become_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(decoded(&text).unwrap(), bytes);
        assert_eq!(decoded(&text.to_uppercase()).unwrap(), bytes);
        assert_eq!(decoded(&text[..64]).unwrap(), bytes[..32]);
    }

    #[test]
    fn anything_else_is_refused() {
        let good: String = (0..32).map(|b| format!("{b:02x}")).collect();
        assert!(decoded(&good).is_ok());
        let bad = |text: &str| assert!(decoded(text).is_err_and(|e| e.starts_with("malformed")), "{text}");
        for text in ["", "0", &good[..62], &good[..63], &good.repeat(9)] {
            bad(text);
        }
        for part in ["0x", " 1", "1\n", "g0", "+1", "\u{e9}", "\0\0"] {
            bad(&format!("{}{part}", good));
            bad(&format!("{part}{}", good));
        }
    }

    #[test]
    fn a_seed_that_is_no_noise_is_refused() {
        assert_eq!(decoded(&"00".repeat(48)), Err("stuck"));
        assert_eq!(decoded(&"0f1e".repeat(120)), Err("biased"));
    }
}
