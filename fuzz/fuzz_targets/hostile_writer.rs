//! An honest reader of a ring whose writer is hostile: headers, fragments, descriptors, control words, events.
#![no_main]

use casemate_fuzz::{PEER, WithSetup, World, is_the_peers};
use idc::{
    Config, EvtchnPort, GrantRef, Idc, Reader,
    setup::{PAGE_SIZE, SLOTS, Setup, features},
};
use libfuzzer_sys::fuzz_target;

const MAX_MESSAGE: usize = 100_000;

/// An honest setup page of some geometry, so that what is behind it has its turn.
fn setup_page(geometry: u8) -> [u8; PAGE_SIZE] {
    let geometry = usize::from(geometry);
    let pages = [1, 1, 2, 64][geometry % 4];
    let pool = [0, 3, 4, 0][geometry / 4 % 4];
    let slots = if pages == 1 && geometry & 0x40 != 0 { SLOTS[geometry / 16 % 3] } else { 0 };
    let refs = |from: u32, count: usize| (from..).take(count).map(GrantRef).collect();
    let setup = Setup {
        features: if geometry & 0x80 != 0 { features::DUPLEX } else { 0 },
        epoch: 0,
        nonce: 5,
        port: Some(EvtchnPort(3)),
        writer_ref: GrantRef(9),
        reader_ref: GrantRef(10),
        slots,
        data_refs: refs(20, pages),
        pool_refs: refs(500, pool),
    };
    setup.encode()
}

fuzz_target!(|data: &[u8]| {
    let world = World::new(data);
    let geometry = world.byte().unwrap_or(0);
    let idc = Idc::with_platform(WithSetup::new(&world, setup_page(geometry)));
    let config = Config::default().with_pages(1).with_pool(2).with_max_message(MAX_MESSAGE);
    let reader = match geometry & 0x80 {
        0 => idc.connect_with(PEER, GrantRef(8), &config),
        _ => idc.answer(PEER, GrantRef(8), &config).map(|channel| channel.split().1),
    };
    match reader {
        Ok(reader) => read(&world, &idc, reader),
        Err(error) => assert!(is_the_peers(&error), "{error}"),
    }
});

fn read(world: &World, idc: &Idc<WithSetup>, mut reader: Reader<WithSetup>) {
    let mut ended = None;
    for _ in 0..200 {
        let deadline = idc.deadline(std::time::Duration::from_millis(100));
        let mut buf = [0; 3000];
        let len = |message: Option<Vec<u8>>| message.map_or(0, |message| message.len());
        let result = match world.byte().unwrap_or(0) % 7 {
            0 => reader.recv_by(deadline).map(len),
            1 => reader.recv_into_by(&mut buf, deadline).map(|len| len.unwrap_or(0)),
            2 => reader.peek_by(deadline).map(|message| message.map_or(0, <[u8]>::len)),
            3 => reader.try_recv().map(len),
            4 => reader.peek_len().map(|len| len.unwrap_or(0)),
            5 => reader.arm().map(|_| 0),
            _ => reader.check_peer().map(|()| 0),
        };
        match result {
            Ok(len) => assert!(len <= MAX_MESSAGE, "a message is longer than the limit"),
            Err(error) => {
                assert!(is_the_peers(&error), "{error}");
                if let Some(first) = ended {
                    assert_eq!(first, error, "what has ended stays so");
                }
                if matches!(error, idc::Error::PeerMisbehaved { .. }) {
                    ended = Some(error);
                    assert_eq!(idc.counters().all_violations(), 1);
                }
            }
        }
        if world.is_over() {
            break;
        }
    }
}
