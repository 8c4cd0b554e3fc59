//! The service between hosted processes.
#![cfg(not(casemate))]

use std::thread;
use std::time::Duration;

use echo_service::{MESSAGE_MAX, NAME, Served, listen_config, serve};
use idc::{Channel, Config, DomId, Error, HostedConfig, Idc, Listener};

const SERVICE: DomId = DomId(10);

#[test]
fn what_is_sent_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let idc = Idc::hosted(HostedConfig::new(SERVICE).directory(directory.path())).unwrap();
    let mut listener = Listener::bind(&idc, NAME, listen_config()).unwrap();
    let service = thread::spawn(move || {
        let mut channel = listener.accept().unwrap();
        let mut served = Served::default();
        (serve(&mut channel, &mut served), served)
    });
    let idc = Idc::hosted(HostedConfig::any().directory(directory.path())).unwrap();
    let deadline = idc.deadline(Duration::from_secs(60));
    let mut channel = Channel::dial(&idc, SERVICE, NAME, &Config::default(), deadline).unwrap();
    let mut bytes = 0;
    // Growing and shrinking again, so that the service's buffer is too large as well as too small.
    for len in [0, 1, 1000, 5, MESSAGE_MAX, 16_377, 0, 70_000] {
        let message = vec![len as u8; len];
        channel.send(&message).unwrap();
        assert!(channel.recv().unwrap() == Some(message), "{len} bytes");
        bytes += len as u64;
    }
    let max = MESSAGE_MAX as u64;
    let too_long = vec![0; MESSAGE_MAX + 1];
    assert_eq!(channel.send(&too_long), Err(Error::MessageTooLarge { len: max + 1, max }));
    channel.finish().unwrap();
    assert_eq!(channel.recv(), Ok(None));
    assert_eq!(service.join().unwrap(), (Ok(()), Served { messages: 8, bytes }));
}
