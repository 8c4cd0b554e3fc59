//! Names and source lines for the addresses in a domain's last words.
//!
//! The kernel prints one frame a line, `  #N 0xADDRESS`; a panic of Rust's std with `RUST_BACKTRACE=full` prints
//! `  N:  0xADDRESS - <unknown>`; Xen's register dumps say `RIP: e033:[<ADDRESS>]`. Text in any other form passes
//! unchanged.

use std::path::Path;

use addr2line::Loader;
use anyhow::anyhow;

/// Looks addresses up in an image with symbols.
pub struct Symbolizer {
    loader: Loader,
}

impl Symbolizer {
    /// Reads the symbols of an image (`NAME.debug`).
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(image: &Path) -> anyhow::Result<Self> {
        let loader =
            Loader::new(image).map_err(|e| anyhow!("cannot read symbols from {}: {e}", image.display()))?;
        Ok(Self { loader })
    }

    /// One line of text, with what is known about the address in it.
    pub fn line(&self, line: &str) -> String {
        let Some((address, is_return)) = find_address(line) else {
            return line.to_owned();
        };
        // A return address is behind the call, maybe in the next line or even the next function.
        let probe = if is_return { address.saturating_sub(1) } else { address };
        let places = self.places(probe);
        if places.is_empty() {
            return line.to_owned();
        }
        format!("{line}  {}", places.join("\n        inlined into "))
    }

    /// Functions at an address, the innermost first, each with its place.
    fn places(&self, address: u64) -> Vec<String> {
        let mut found = Vec::new();
        if let Ok(mut frames) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame.function.as_ref().and_then(|f| f.demangle().ok().map(|n| n.into_owned()));
                let place = frame.location.and_then(|l| Some((l.file?.to_owned(), l.line?)));
                found.push((name, place));
            }
        }
        if found.is_empty() {
            found.push((None, None));
        }
        // The outermost is the function that the symbol table knows. Line tables alone do not name it, or without its
        // path.
        if let Some((name, _)) = found.last_mut()
            && let Some(symbol) = self.loader.find_symbol(address)
        {
            *name = Some(addr2line::demangle_auto(symbol.into(), None).into_owned());
        }
        let place = |(name, place): (Option<String>, Option<(String, u32)>)| match (name, place) {
            (Some(name), Some((file, line))) => Some(format!("{} at {file}:{line}", short(&name))),
            (Some(name), None) => Some(short(&name)),
            (None, Some((file, line))) => Some(format!("{file}:{line}")),
            (None, None) => None,
        };
        found.into_iter().filter_map(place).collect()
    }
}

/// A name without the hash of older mangling.
fn short(name: &str) -> String {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.chars().all(|c| c.is_ascii_hexdigit()) => {
            path.to_owned()
        }
        _ => name.to_owned(),
    }
}

/// The address in a line, and whether it is a return address.
fn find_address(line: &str) -> Option<(u64, bool)> {
    let hex = |text: &str| {
        let digits = text.trim_start_matches("0x");
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
        u64::from_str_radix(&digits[..end], 16).ok()
    };
    let trimmed = line.trim_start();
    if let Some(rest) = trimmed.strip_prefix('#') {
        let (number, rest) = rest.split_once(char::is_whitespace)?;
        let number: u32 = number.parse().ok()?;
        let rest = rest.trim_start();
        return rest.starts_with("0x").then(|| hex(rest)).flatten().map(|a| (a, number > 0));
    }
    if let Some((number, rest)) = trimmed.split_once(": ")
        && let Ok(number) = number.parse::<u32>()
    {
        let rest = rest.trim_start();
        let is_frame = rest.starts_with("0x") && rest.contains(" - ");
        return is_frame.then(|| hex(rest)).flatten().map(|a| (a, number > 0));
    }
    let (_, rest) = trimmed.split_once("RIP:")?;
    let (_, rest) = rest.split_once("[<")?;
    hex(rest).map(|a| (a, false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_frames_and_register_dumps() {
        assert_eq!(find_address("  #0 0x1002f3"), Some((0x10_02f3, false)));
        assert_eq!(find_address("#12 0xffff800000000000 "), Some((0xffff_8000_0000_0000, true)));
        assert_eq!(find_address("RIP:    e033:[<0000000000100007>]"), Some((0x10_0007, false)));
        assert_eq!(find_address("   0:           0x10abcd - <unknown>"), Some((0x10_abcd, false)));
        assert_eq!(find_address("  12:           0x10abcd - <unknown>"), Some((0x10_abcd, true)));
        for other in [
            "3: 0x10",
            "3: main - x",
            "x: 0x10 - <unknown>",
            "#x 0x10",
            "# 0x10",
            "#1 somewhere",
            "rax: 0x1",
            "",
            "RIP: [<zz>]",
        ] {
            assert_eq!(find_address(other), None, "{other:?}");
        }
    }

    #[test]
    fn this_program_is_symbolized() {
        let symbols = Symbolizer::new(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(symbols.line("nothing to see"), "nothing to see");
        assert_eq!(symbols.line("  #1 0xffffffffffff"), "  #1 0xffffffffffff");
        assert!(Symbolizer::new(Path::new("/nowhere")).is_err());
    }
}
