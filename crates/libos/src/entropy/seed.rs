//! The toolstack's seed as text.

/// Bytes at least, and at most.
const MIN: usize = 32;
const MAX: usize = 64;

/// Bytes that `text` names in hexadecimal, and how many. `None` unless there are 32 to 64 of them and they could
/// be random (no value more than half of the time).
pub fn parse(text: &[u8]) -> Option<([u8; MAX], usize)> {
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    let count = text.len() / 2;
    if !text.len().is_multiple_of(2) || !(MIN..=MAX).contains(&count) {
        return None;
    }
    let mut bytes = [0; MAX];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    let seed = &bytes[..count];
    let plausible = seed.iter().all(|b| seed.iter().filter(|other| *other == b).count() <= count / 2);
    plausible.then_some((bytes, count))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn takes_good_seeds_only() {
        let good: String = (0..32u8).map(|b| format!("{:02x}", b.wrapping_mul(73))).collect();
        let (bytes, count) = parse(good.as_bytes()).unwrap();
        assert_eq!((count, bytes[1], bytes[31], bytes[32]), (32, 73, 31u8.wrapping_mul(73), 0));
        assert!(parse(good.to_uppercase().as_bytes()).is_some());
        assert!(parse(&good.as_bytes()[2..]).is_none(), "too short");
        assert!(parse(&good.as_bytes()[1..]).is_none(), "half a byte");
        assert!(parse(good.replace('0', "g").as_bytes()).is_none(), "not hexadecimal");
        assert!(parse(&good.as_bytes().repeat(3)).is_none(), "too long");
        assert!(parse("00".repeat(32).as_bytes()).is_none(), "not random");
        assert!(parse(b"").is_none());
    }
}
