//! The suite between two hosted domains.

use std::{sync::mpsc, thread, time::Duration};

use idc::{DomId, HostedConfig, Idc};
use idc_conformance::{CASES, check, serve};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn hosted_pair_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let open = |domid| Idc::hosted(HostedConfig::new(DomId(domid)).directory(directory.path())).unwrap();
    let (server, client) = (open(5), open(6));
    let (ready, wait) = mpsc::channel();
    thread::scope(|scope| {
        let served = scope.spawn(move || serve(&server, LIMIT, move || ready.send(()).unwrap()));
        wait.recv().unwrap();
        let mut passed = Vec::new();
        let checked = check(&client, DomId(5), LIMIT, |name| passed.push(name.to_owned()));
        assert_eq!((checked, served.join().unwrap()), (Ok(()), Ok(())), "after {passed:?}");
        assert_eq!(passed, CASES);
    });
}
