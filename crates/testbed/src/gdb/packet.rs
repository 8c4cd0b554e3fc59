//! Packets of gdb's remote protocol: `$BODY#CC`, with `CC` the sum of the body's bytes in hexadecimal.
//!
//! Both sides are local streams, which lose nothing, so every packet is acknowledged and none is sent again.

use std::io::{self, BufRead, Write};

/// Longest body that is accepted, in bytes.
const MAX_BODY: usize = 1 << 20;

/// What comes over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// The body of a packet.
    Packet(Vec<u8>),
    /// The byte by which gdb asks for a stop (Ctrl-C).
    Interrupt,
}

/// The next item; `None` at the end of the stream. Acknowledgements are skipped.
///
/// # Errors
/// Those of the reader; `InvalidData` for what is no packet.
pub fn read(input: &mut impl BufRead) -> io::Result<Option<Item>> {
    loop {
        match byte(input)? {
            None => return Ok(None),
            Some(b'+' | b'-') => {}
            Some(3) => return Ok(Some(Item::Interrupt)),
            Some(b'$') => break,
            Some(_) => return Err(invalid("a byte outside of packets")),
        }
    }
    let mut body = Vec::new();
    loop {
        match byte(input)? {
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(b'#') => break,
            Some(_) if body.len() == MAX_BODY => return Err(invalid("a packet without an end")),
            Some(b) => body.push(b),
        }
    }
    let mut sum = [0; 2];
    input.read_exact(&mut sum)?;
    if number(&sum) != Some(u64::from(checksum(&body))) {
        return Err(invalid("a packet with a wrong checksum"));
    }
    Ok(Some(Item::Packet(body)))
}

/// Writes a packet.
///
/// # Errors
/// Those of the writer.
pub fn write(out: &mut impl Write, body: &[u8]) -> io::Result<()> {
    let mut packet = Vec::with_capacity(body.len() + 4);
    packet.push(b'$');
    packet.extend_from_slice(body);
    packet.extend_from_slice(format!("#{:02x}", checksum(body)).as_bytes());
    out.write_all(&packet)?;
    out.flush()
}

/// A hexadecimal number that fills the text.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.first() == Some(&b'+') {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// Bytes written as pairs of hexadecimal digits.
pub fn bytes(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks(2).map(|pair| number(pair).and_then(|n| u8::try_from(n).ok())).collect()
}

/// Bytes as pairs of hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn checksum(body: &[u8]) -> u8 {
    body.iter().fold(0, |sum, b| sum.wrapping_add(*b))
}

fn byte(input: &mut impl BufRead) -> io::Result<Option<u8>> {
    let first = input.fill_buf()?.first().copied();
    if first.is_some() {
        input.consume(1);
    }
    Ok(first)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} in gdb's protocol"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_survive_the_way() {
        let mut wire = b"+".to_vec();
        write(&mut wire, b"m1000,8").unwrap();
        wire.push(3);
        write(&mut wire, b"").unwrap();
        let mut input = wire.as_slice();
        assert_eq!(read(&mut input).unwrap(), Some(Item::Packet(b"m1000,8".to_vec())));
        assert_eq!(read(&mut input).unwrap(), Some(Item::Interrupt));
        assert_eq!(read(&mut input).unwrap(), Some(Item::Packet(Vec::new())));
        assert_eq!(read(&mut input).unwrap(), None);
    }

    #[test]
    fn damage_is_noticed() {
        for wire in [b"$OK#9b".as_slice(), b"$OK", b"$OK#9", b"OK", b"$OK#zz", b"$OK#+9"] {
            assert!(read(&mut &wire[..]).is_err(), "{wire:?}");
        }
        let endless = [b"$".as_slice(), &vec![b'a'; MAX_BODY + 1]].concat();
        assert!(read(&mut endless.as_slice()).is_err());
    }

    #[test]
    fn numbers_and_bytes() {
        assert_eq!(number(b"1f"), Some(31));
        assert_eq!(bytes(b"00ff"), Some(vec![0, 255]));
        assert_eq!(hex(&[0, 255]), "00ff");
        for bad in [b"".as_slice(), b"x", b"-1", b"+1", b"11111111111111111"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
        assert!(bytes(b"0").is_none() && bytes(b"0x").is_none());
    }
}
