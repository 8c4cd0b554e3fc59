//! From an address in a domain to an address of the machine, by the domain's own page tables.
//!
//! QEMU translates with the page tables of whatever a processor runs at the moment, and not at all through the nested
//! tables of a PVH domain; and a domain that waits is on no processor. So the tables are walked here: in PV they hold
//! machine addresses, in PVH the domain's, which the nested tables (AMD's, of the same form) lead on.
//! Source: AMD APM volume 2, chapters 5 and 15.25.

/// Bits of an entry.
const PRESENT: u64 = 1;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// CR3, unless paging is off.
    pub domain: Option<u64>,
    /// Root of the nested tables, in PVH.
    pub nested: Option<u64>,
}

impl Roots {
    /// The machine address for an address in the domain; `None` when nothing is mapped there. `read` reads a word at a
    /// machine address.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn machine<E>(
        &self,
        address: u64,
        read: &mut dyn FnMut(u64) -> Result<u64, E>,
    ) -> Result<Option<u64>, E> {
        match self.domain {
            None => self.beyond(address, read),
            Some(root) => match walk(root, address, &mut |at| self.word(at, read))? {
                Some(address) => self.beyond(address, read),
                None => Ok(None),
            },
        }
    }

    /// The second step: from what the domain takes for an address of memory to the machine's.
    fn beyond<E>(&self, address: u64, read: &mut dyn FnMut(u64) -> Result<u64, E>) -> Result<Option<u64>, E> {
        match self.nested {
            None => Ok(Some(address)),
            Some(root) => walk(root, address, read),
        }
    }

    /// A word of one of the domain's tables; an entry that is not present when the table itself is nowhere.
    fn word<E>(&self, at: u64, read: &mut dyn FnMut(u64) -> Result<u64, E>) -> Result<u64, E> {
        match self.beyond(at, read)? {
            Some(at) => read(at),
            None => Ok(0),
        }
    }
}

/// Walks four levels of tables.
fn walk<E>(root: u64, address: u64, read: &mut dyn FnMut(u64) -> Result<u64, E>) -> Result<Option<u64>, E> {
    let mut table = root & ADDRESS;
    for shift in [39, 30, 21, 12] {
        let entry = read(table + (address >> shift & 511) * 8)?;
        if entry & PRESENT == 0 {
            return Ok(None);
        }
        if shift == 12 || (shift < 39 && entry & LARGE != 0) {
            let inside = (1 << shift) - 1;
            return Ok(Some((entry & ADDRESS & !inside) | (address & inside)));
        }
        table = entry & ADDRESS;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, convert::Infallible};

    use super::*;

    fn look(memory: &HashMap<u64, u64>, roots: Roots, address: u64) -> Option<u64> {
        let mut read = |at: u64| Ok::<_, Infallible>(memory.get(&at).copied().unwrap_or(0));
        roots.machine(address, &mut read).unwrap()
    }

    #[test]
    fn small_and_large_pages() {
        let memory = HashMap::from([
            (0x1000, 0x2003),
            (0x2000, 0x3003),
            (0x3000, 0x4003),
            (0x3008, 0x8000_0000_0060_0083),
            (0x4000 + 5 * 8, 0x8000_0000_0000_9001),
        ]);
        let roots = Roots { domain: Some(0x1018), nested: None };
        assert_eq!(look(&memory, roots, 0x5123), Some(0x9123));
        assert_eq!(look(&memory, roots, 0x20_1234), Some(0x60_1234));
        for nowhere in [0x6000, 0x40_0000, 1 << 30, 1 << 39] {
            assert_eq!(look(&memory, roots, nowhere), None, "{nowhere:#x}");
        }
    }

    #[test]
    fn nested_tables_lead_on() {
        // The nested tables map the domain's first 2 MiB to 0x800000, where its own tables lie.
        let memory = HashMap::from([
            (0x1000, 0x2003),
            (0x2000, 0x3003),
            (0x3000, 0x80_0083),
            (0x80_5000, 0x6003),
            (0x80_6000, 0x7003),
            (0x80_7000, 0x8003),
            (0x80_7008, 0xff_f003),
            (0x80_8000 + 3 * 8, 0x9003),
        ]);
        let roots = Roots { domain: Some(0x5000), nested: Some(0x1000) };
        assert_eq!(look(&memory, roots, 0x3456), Some(0x80_9456));
        // A table that lies outside of the domain's memory.
        assert_eq!(look(&memory, roots, 0x20_0000), None);
        let off = Roots { domain: None, ..roots };
        assert_eq!(look(&memory, off, 0x3456), Some(0x80_3456));
        assert_eq!(look(&memory, off, 0x20_0000), None);
    }
}
