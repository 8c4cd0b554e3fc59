//! The power goes at every write, in every way that a write can be torn. No acknowledged change is lost, no change
//! appears twice, and the state is always readable.

mod common;

use common::{Disk, INCREMENT, READ, Torn, boot, command, create, value};
use proptest::prelude::*;

const TORN: [Torn; 12] = [
    Torn::Nothing,
    Torn::Prefix(1),
    Torn::Prefix(300),
    Torn::Prefix(700),
    Torn::Prefix(999),
    Torn::Cut(0),
    Torn::Cut(500),
    Torn::Cut(999),
    Torn::Garbage(0),
    Torn::Garbage(500),
    Torn::Garbage(999),
    Torn::All,
];

/// Runs increments until the power goes, restarts, and checks. Returns whether the power had gone.
fn life(disk: &Disk, acknowledged: &mut u64, commands: u64) -> bool {
    if let Ok(mut instance) = boot(disk, true) {
        for _ in 0..commands {
            match value(&instance.execute(0, &command(INCREMENT))) {
                Ok(count) => {
                    assert_eq!(count, *acknowledged + 1, "an acknowledged write came back, or was lost");
                    *acknowledged = count;
                }
                Err(code) => {
                    assert_eq!(code, 0x101, "it halts");
                    break;
                }
            }
        }
    }
    let cut = disk.power_comes();
    if cut {
        let mut instance = boot(disk, true).expect("readable after a power cut");
        let count = value(&instance.execute(0, &command(READ))).unwrap();
        assert!(
            count == *acknowledged || count == *acknowledged + 1,
            "{count} after {acknowledged} were acknowledged"
        );
        // The one that was under way may have arrived.
        *acknowledged = count;
    }
    cut
}

#[test]
fn every_write_point_in_every_way() {
    let mut cuts = 0;
    // A life of 12 increments has 2 writes for its lease, 3 for the first state and 3 for each increment.
    for torn in TORN {
        for point in 0..45 {
            let disk = Disk::default();
            create(&disk).unwrap();
            let mut acknowledged = 0;
            assert!(!life(&disk, &mut acknowledged, 3), "no power cut yet");
            disk.power_goes_in(point, torn);
            cuts += u64::from(life(&disk, &mut acknowledged, 12));
            assert!(!life(&disk, &mut acknowledged, 2));
            // 2 and 3 for the life before, and whatever the middle one was granted.
            assert!((5..=17).contains(&acknowledged), "{acknowledged}");
        }
    }
    assert!(cuts >= 400, "{cuts} power cuts");
}

#[test]
fn ten_thousand_cuts_of_one_tpm() {
    let disk = Disk::default();
    create(&disk).unwrap();
    let mut acknowledged = 0;
    let mut cuts = 0u32;
    let mut seed = 0x1234_5678_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    while cuts < 10_000 {
        let torn = TORN[random(TORN.len() as u64) as usize];
        disk.power_goes_in(random(20), torn);
        cuts += u32::from(life(&disk, &mut acknowledged, 6));
    }
    assert!(acknowledged > 5_000, "{acknowledged}");
}

#[test]
fn power_cuts_while_the_state_is_repaired() {
    // The power goes at a write, and again at each write of the start that follows.
    for torn in TORN {
        for point in 0..9 {
            for second in 0..6 {
                for torn_again in TORN {
                    let disk = Disk::default();
                    create(&disk).unwrap();
                    let mut acknowledged = 0;
                    life(&disk, &mut acknowledged, 1);
                    disk.power_goes_in(point, torn);
                    if let Ok(mut instance) = boot(&disk, true) {
                        while let Ok(count) = value(&instance.execute(0, &command(INCREMENT))) {
                            acknowledged = count;
                        }
                    }
                    disk.power_comes();
                    disk.power_goes_in(second, torn_again);
                    life(&disk, &mut acknowledged, 0);
                    disk.power_comes();
                    let mut instance = boot(&disk, true).expect("readable");
                    let count = value(&instance.execute(0, &command(READ))).unwrap();
                    assert!(count == acknowledged || count == acknowledged + 1);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_sequence_of_lives(lives in prop::collection::vec((0u64..30, 0usize..TORN.len(), 0u64..8), 1..8)) {
        let disk = Disk::default();
        create(&disk).unwrap();
        let mut acknowledged = 0;
        for (point, torn, commands) in lives {
            disk.power_goes_in(point, TORN[torn]);
            life(&disk, &mut acknowledged, commands);
            disk.power_comes();
        }
    }
}
