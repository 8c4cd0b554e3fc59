//! The reader of ELF notes, with images as they should be and as they should not.

use proptest::prelude::*;
use xen_abi::elfnote::{self, Note, TruncatedNote, notes};

/// Appends a note as an assembler would.
fn push(segment: &mut Vec<u8>, name: &[u8], kind: u32, desc: &[u8]) {
    for word in [name.len() as u32, desc.len() as u32, kind] {
        segment.extend(word.to_le_bytes());
    }
    for part in [name, desc] {
        segment.extend(part);
        segment.resize(segment.len().next_multiple_of(4), 0);
    }
}

#[test]
fn reads_the_notes_of_a_kernel() {
    let mut segment = Vec::new();
    push(&mut segment, b"Xen\0", elfnote::XEN_ELFNOTE_GUEST_OS, b"Casemate\0");
    push(&mut segment, b"Xen\0", elfnote::XEN_ELFNOTE_ENTRY, &0x10_0000u64.to_le_bytes());
    push(&mut segment, b"Xen\0", elfnote::XEN_ELFNOTE_PHYS32_ENTRY, &0x10_1000u32.to_le_bytes());
    push(&mut segment, b"GNU\0", 3, &[0xab; 20]);
    let found: Vec<Note> = notes(&segment).collect::<Result<_, _>>().unwrap();
    assert_eq!(found.len(), 4);
    assert_eq!(found[0].text(), Some("Casemate"));
    assert_eq!(found[0].number(), None);
    assert_eq!((found[1].kind, found[1].number()), (elfnote::XEN_ELFNOTE_ENTRY, Some(0x10_0000)));
    assert_eq!(found[2].number(), Some(0x10_1000));
    assert!(found[..3].iter().all(Note::is_xen) && !found[3].is_xen());
    assert_eq!(found[3].name, b"GNU");
}

#[test]
fn padding_at_the_end_is_no_note() {
    let mut segment = Vec::new();
    push(&mut segment, b"Xen\0", 9, b"yes\0");
    segment.extend([0; 8]);
    assert_eq!(notes(&segment).count(), 1);
    assert!(notes(&segment).all(|note| note.is_ok()));
    assert_eq!(notes(&[]).count(), 0);
}

#[test]
fn a_last_note_may_lack_its_padding() {
    let mut segment = Vec::new();
    push(&mut segment, b"Xen\0", 9, b"yes\0");
    segment.extend([4, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, b'X', b'e', b'n', 0, 7]);
    let found: Vec<Note> = notes(&segment).collect::<Result<_, _>>().unwrap();
    assert_eq!(found[1], Note { name: b"Xen", kind: 1, desc: &[7] });
}

#[test]
fn damage_is_reported_once_with_its_place() {
    let mut good = Vec::new();
    push(&mut good, b"Xen\0", 9, b"yes\0");
    let at = good.len();
    for bad in [
        // The name, the content, then each with the largest length: an overflow if it were added up.
        [0x1000, 4, 1],
        [4, 0x1000, 1],
        [u32::MAX, 4, 1],
        [4, u32::MAX, 1],
        [u32::MAX, u32::MAX, u32::MAX],
    ] {
        let mut segment = good.clone();
        segment.extend(bad.into_iter().flat_map(u32::to_le_bytes));
        segment.extend(b"Xen\0data");
        let found: Vec<_> = notes(&segment).collect();
        assert_eq!(found.len(), 2, "{bad:x?}");
        assert_eq!(found[1], Err(TruncatedNote { offset: at }));
    }
    // A header cut in two.
    let mut segment = good.clone();
    segment.extend([4, 0, 0, 0, 4]);
    assert_eq!(notes(&segment).last(), Some(Err(TruncatedNote { offset: at })));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        list in prop::collection::vec((prop::collection::vec(1u8.., 0..9), any::<u32>(),
            prop::collection::vec(any::<u8>(), 0..30)), 0..8),
    ) {
        let mut segment = Vec::new();
        for (name, kind, desc) in &list {
            let mut terminated = name.clone();
            terminated.push(0);
            push(&mut segment, &terminated, *kind, desc);
        }
        let found: Vec<Note> = notes(&segment).collect::<Result<_, _>>().unwrap();
        prop_assert_eq!(found.len(), list.len());
        for (note, (name, kind, desc)) in found.iter().zip(&list) {
            prop_assert_eq!((note.name, note.kind, note.desc), (&name[..], *kind, &desc[..]));
        }
    }

    #[test]
    fn any_bytes_end_soon_and_stay_in_bounds(
        bytes in prop::collection::vec(prop_oneof![3 => Just(0u8), 2 => 0u8..24, 1 => any::<u8>()], 0..400),
    ) {
        let mut count = 0;
        let mut errors = 0;
        for note in notes(&bytes) {
            count += 1;
            match note {
                Ok(note) => {
                    prop_assert!(note.name.len() + note.desc.len() + 12 <= bytes.len());
                    let _ = (note.number(), note.text(), note.is_xen());
                }
                Err(error) => {
                    errors += 1;
                    prop_assert!(error.offset < bytes.len());
                }
            }
        }
        prop_assert!(count <= bytes.len() / 12 + 1 && errors <= 1);
    }
}
