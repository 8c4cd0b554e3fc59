//! Reading link maps: which input section of which file went where. GNU ld's and lld's forms.

/// A piece of an input file in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'map> {
    /// Address in the image.
    pub(crate) address: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Name of the input section, e.g. `.text.main`; `*fill*` for padding.
    pub(crate) section: &'map str,
    /// `path/file.o` or `path/libx.a(member.o)`; empty for padding.
    pub(crate) file: &'map str,
}

/// The pieces that a map lists. Lines that are not understood are passed over: both linkers mix theirs with
/// symbols, assignments and patterns.
pub(crate) fn pieces(map: &str) -> Vec<Piece<'_>> {
    match map.split_once("Linker script and memory map") {
        Some((_, rest)) => gnu(rest),
        None => lld(map),
    }
}

/// GNU ld: ` .section  0xADDRESS  0xSIZE file`, with a line break after a long section name.
fn gnu(map: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut section = "";
    for line in map.lines() {
        let input = line.starts_with(' ');
        let line_section = line.trim_start();
        let mut rest = line_section;
        if input && line.starts_with(" .") || line.starts_with(" *fill*") || line.starts_with(" COMMON") {
            let end = line_section.find(' ').unwrap_or(line_section.len());
            section = &line_section[..end];
            rest = line_section[end..].trim_start();
        } else if !input {
            section = "";
            continue;
        }
        let Some((address, after)) = hex(rest) else {
            if !rest.is_empty() {
                section = "";
            }
            continue;
        };
        let Some((size, file)) = hex(after) else { continue };
        if !section.is_empty() {
            pieces.push(Piece { address, size, section, file: file.trim() });
            section = "";
        }
    }
    pieces
}

/// A number with `0x` at the start of the text, and what follows.
fn hex(text: &str) -> Option<(u64, &str)> {
    let digits = text.trim_start().strip_prefix("0x")?;
    let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
    Some((u64::from_str_radix(&digits[..end], 16).ok()?, &digits[end..]))
}

/// lld: `VMA LMA SIZE ALIGN file:(.section)`.
fn lld(map: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for line in map.lines() {
        let mut rest = line;
        let mut numbers = [0_u64; 4];
        let numbers_read = numbers.iter_mut().all(|number| {
            rest = rest.trim_start();
            let end = rest.find(' ').unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            rest = tail;
            u64::from_str_radix(word, 16).is_ok_and(|value| {
                *number = value;
                true
            })
        });
        let Some((file, section)) = rest.trim().strip_suffix(')').and_then(|text| text.rsplit_once(":("))
        else {
            continue;
        };
        if numbers_read {
            pieces.push(Piece { address: numbers[0], size: numbers[2], section, file });
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    const GNU: &str = "\
Discarded input sections

 .text.unused   0x0000000000000000       0x20 a.o

Linker script and memory map

LOAD a.o
.text           0x0000000000401000      0x100
 *(.text.unlikely .text.*_unlikely)
 .text.main     0x0000000000401000       0x2a a.o
                0x0000000000401000                main
 *fill*         0x000000000040102a        0x6 
 .text._ZN4core9panicking5panic17h0123456789abcdefE
                0x0000000000401030       0x40 /lib/libcore-0.rlib(core.o)
                0x0000000000401030                _ZN4core9panicking5panic17h0123456789abcdefE
 .rodata.str1.1
                0x0000000000402000       0x12 /lib/libc.a(vfprintf.o)
                                         0x14 (size before relaxing)
 COMMON         0x0000000000403000        0x8 a.o
";

    const LLD: &str = "\
             VMA              LMA     Size Align Out     In      Symbol
          100000           100000     1234    16 .text
          100040           100040       2a    16         a.o:(.text.main)
          100040           100040       2a     1                 main
          100070           100070       40    16         /lib/libcore-0.rlib(core.o):(.text._ZN4core)
";

    #[test]
    fn gnu_maps() {
        let found = pieces(GNU);
        let text: Vec<_> = found.iter().map(|p| (p.address, p.size, p.section, p.file)).collect();
        assert_eq!(
            text,
            [
                (0x401000, 0x2a, ".text.main", "a.o"),
                (0x40102a, 6, "*fill*", ""),
                (
                    0x401030,
                    0x40,
                    ".text._ZN4core9panicking5panic17h0123456789abcdefE",
                    "/lib/libcore-0.rlib(core.o)"
                ),
                (0x402000, 0x12, ".rodata.str1.1", "/lib/libc.a(vfprintf.o)"),
                (0x403000, 8, "COMMON", "a.o"),
            ]
        );
    }

    #[test]
    fn lld_maps() {
        let found = pieces(LLD);
        let text: Vec<_> = found.iter().map(|p| (p.address, p.size, p.section, p.file)).collect();
        assert_eq!(
            text,
            [
                (0x100040, 0x2a, ".text.main", "a.o"),
                (0x100070, 0x40, ".text._ZN4core", "/lib/libcore-0.rlib(core.o)"),
            ]
        );
    }

    #[test]
    fn rubbish_has_no_pieces() {
        assert!(pieces("").is_empty());
        assert!(pieces("Linker script and memory map\n .x 0xzz 0x1 f\n .y\n 0x").is_empty());
        assert!(pieces("1 2 3 4 no section\n:()\n").is_empty());
    }
}
