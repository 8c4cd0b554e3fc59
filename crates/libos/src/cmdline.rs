//! The words of a domain's command line.

/// The words of a command line. Double quotes keep spaces in a word (they stay in it here and are dropped
/// when the word is copied).
pub fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    core::iter::from_fn(move || {
        let start = rest.iter().position(|b| !b.is_ascii_whitespace())?;
        rest = &rest[start..];
        let mut quoted = false;
        let end = rest.iter().position(|b| {
            quoted ^= *b == b'"';
            b.is_ascii_whitespace() && !quoted
        });
        let (word, tail) = rest.split_at(end.unwrap_or(rest.len()));
        rest = tail;
        Some(word)
    })
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn words_of_a_command_line() {
        let all = |line: &'static str| words(line.as_bytes()).collect::<Vec<_>>();
        assert_eq!(all(""), Vec::<&[u8]>::new());
        assert_eq!(all("  a  bc "), [&b"a"[..], b"bc"]);
        assert_eq!(all("x \"a b\"c d"), [&b"x"[..], b"\"a b\"c", b"d"]);
        assert_eq!(all("\"open"), [&b"\"open"[..]]);
    }
}
