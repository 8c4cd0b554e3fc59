//! A hostile peer behind a vchan, as the server and as the client.
#![no_main]

use casemate_fuzz::{PEER, World, is_the_peers};
use idc::{EvtchnPort, GrantRef, Idc, vchan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let world = World::new(data);
    let idc = Idc::with_platform(world.clone());
    let deadline = |time| idc.deadline(std::time::Duration::from_millis(time));
    let channel = match world.byte().unwrap_or(0) % 4 {
        0 => {
            let config = vchan::Config { read_size: 1000, write_size: 70_000 };
            vchan::Server::new(&idc, PEER, &config).and_then(|server| server.accept_by(deadline(200)))
        }
        _ => vchan::Vchan::attach(&idc, PEER, GrantRef(8), EvtchnPort(3)),
    };
    let mut channel = match channel {
        Ok(channel) => channel,
        Err(error) => return assert!(is_the_peers(&error), "{error}"),
    };
    let (mut buf, bytes) = ([0; 3000], [7; 3000]);
    for _ in 0..100 {
        let len = usize::from(world.byte().unwrap_or(0)) * 11;
        let result = match world.byte().unwrap_or(0) % 5 {
            0 => channel.read_by(&mut buf[..len], deadline(100)),
            1 => channel.write_by(&bytes[..len], deadline(100)),
            2 => channel.readable(),
            3 => channel.writable(),
            _ => channel.is_open().map(usize::from),
        };
        match result {
            Ok(len) => assert!(len <= 1 << 20),
            Err(error) => assert!(is_the_peers(&error), "{error}"),
        }
        if world.is_over() {
            break;
        }
    }
});
