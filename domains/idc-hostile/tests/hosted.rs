//! The roles between hosted domains.

use std::{sync::mpsc, thread, time::Duration};

use idc::{DomId, HostedConfig, Idc, platform::Platform};
use idc_hostile::{assault, attack::script, trap, victim, visit, witness};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_service_withstands_hostile_clients_and_serves_on() {
    let directory = tempfile::tempdir().unwrap();
    let open = |domid| Idc::hosted(HostedConfig::new(DomId(domid)).directory(directory.path())).unwrap();
    let (honest, evil, other) = (open(5), open(6), open(7));
    let (ready, wait) = mpsc::channel();
    thread::scope(|scope| {
        let spawn = |work: Box<dyn FnOnce() + Send>| {
            thread::spawn(work);
            Ok(())
        };
        let begun = ready.clone();
        let served = scope.spawn(move || {
            victim(&honest, LIMIT, &spawn, |line| println!("{line}"), move || begun.send(()).unwrap())
        });
        wait.recv().unwrap();
        let seen = scope.spawn(move || witness(&other, DomId(5), LIMIT, || ready.send(()).unwrap()));
        wait.recv().unwrap();
        let attacked = assault(&evil, DomId(5), LIMIT, &mut |_, _| (), |name| println!("{name} is done"));
        assert_eq!(attacked, Ok(()));
        println!("{}", seen.join().unwrap().unwrap());
        assert_eq!(served.join().unwrap(), Ok(()));
    });
}

#[test]
fn a_client_withstands_hostile_services() {
    let directory = tempfile::tempdir().unwrap();
    let open = |domid| Idc::hosted(HostedConfig::new(DomId(domid)).directory(directory.path())).unwrap();
    let (evil, honest) = (open(5), open(6));
    let (ready, wait) = mpsc::channel();
    thread::scope(|scope| {
        let trapped = scope.spawn(move || trap(&evil, LIMIT, move || ready.send(()).unwrap(), |_| ()));
        wait.recv().unwrap();
        let visited = visit(&honest, DomId(5), LIMIT, |name| println!("{name} is found"));
        assert_eq!((visited, trapped.join().unwrap()), (Ok(()), Ok(())));
    });
}

#[test]
fn names_of_attacks_are_their_own() {
    fn names<P: Platform>() -> Vec<&'static str> {
        script::<P>().iter().map(|attack| attack.name).collect()
    }
    let mut all = names::<idc::Native>();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}
