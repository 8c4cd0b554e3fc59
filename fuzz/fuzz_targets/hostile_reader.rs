//! An honest writer of a ring whose reader is hostile: states, positions, counts, the answer to an offer, events.
#![no_main]

use casemate_fuzz::{PEER, World, is_the_peers};
use idc::{Config, Idc, Writer};
use libfuzzer_sys::fuzz_target;

static MESSAGE: [u8; 40_000] = [7; 40_000];

fuzz_target!(|data: &[u8]| {
    let world = World::new(data);
    let idc = Idc::with_platform(world.clone());
    let byte = world.byte().unwrap_or(0);
    let config = match byte % 4 {
        0 => Config::default().with_pages(1),
        1 => Config::default().with_pages(2).with_pool(3),
        2 => Config::paper([8, 32, 128][usize::from(byte) / 4 % 3]).with_pool(3),
        _ => Config::default().with_pages(4),
    };
    let writer = if byte & 0x80 == 0 {
        idc.create(PEER, &config).map(|(writer, _)| writer)
    } else {
        let deadline = idc.deadline(std::time::Duration::from_millis(200));
        idc.offer(PEER, &config)
            .and_then(|offer| offer.complete_by(deadline))
            .map(|channel| channel.split().0)
    };
    match writer {
        Ok(writer) => write(&world, &idc, writer),
        Err(error) => assert!(is_the_peers(&error), "{error}"),
    }
});

fn write(world: &World, idc: &Idc<World>, mut writer: Writer<World>) {
    let mut ended = None;
    for _ in 0..200 {
        let deadline = idc.deadline(std::time::Duration::from_millis(100));
        let len = usize::from(world.byte().unwrap_or(0)) << (world.byte().unwrap_or(0) % 8);
        let message = &MESSAGE[..len];
        let choice = world.byte().unwrap_or(0) % 9;
        let result = match choice {
            0 => writer.send_by(message, deadline),
            1 => writer.try_send(message),
            2 => writer.send_batch_by(&[message, b"x", message], deadline),
            3 => writer.try_send_batch(&[b"x", message]).map(drop),
            4 => writer.try_reserve(len % 1000).and_then(|mut loan| {
                loan.append(&MESSAGE[..len % 1000 / 2])?;
                loan.commit()
            }),
            5 => writer.arm(len).map(drop),
            6 => writer.check_peer(),
            7 => writer.wait_drained_by(deadline),
            // For another reader; the one that misbehaved may be there still.
            _ => {
                let result = writer.renew();
                ended = ended.filter(|_| result.is_err());
                result
            }
        };
        if let Err(error) = result {
            assert!(is_the_peers(&error), "{error}");
            if let Some(first) = ended.filter(|_| choice != 8) {
                assert_eq!(first, error, "what has ended stays so");
            }
            if matches!(error, idc::Error::PeerMisbehaved { .. }) {
                ended = Some(error);
            }
        }
        if world.is_over() {
            break;
        }
    }
}
