//! What a program with std expects of a domain. Started with the words "one" and "two words", the variable
//! COLOUR=green and RUST_BACKTRACE=1; prints "std: good" and ends with status 3.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::{ErrorKind, Write as _};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Condvar, LazyLock, Mutex, OnceLock, RwLock, mpsc};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, net, panic, process, thread};

thread_local! {
    static OWN: Cell<u32> = const { Cell::new(7) };
}

static LAZY: LazyLock<String> = LazyLock::new(|| "made once".repeat(2));
static DROPPED: AtomicU32 = AtomicU32::new(0);

struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

fn threads() {
    let (sender, receiver) = mpsc::sync_channel(4);
    let sum = Arc::new(Mutex::new(0u64));
    let barrier = Arc::new(Barrier::new(4));
    let workers: Vec<_> = (0..4u64)
        .map(|number| {
            let (sender, sum, barrier) = (sender.clone(), Arc::clone(&sum), Arc::clone(&barrier));
            let work = move || {
                OWN.with(|own| own.set(own.get() + number as u32));
                barrier.wait();
                for i in 0..250 {
                    *sum.lock().unwrap() += i;
                    sender.send(number).unwrap();
                }
                OWN.with(Cell::get)
            };
            thread::Builder::new().name(format!("worker {number}")).spawn(work).unwrap()
        })
        .collect();
    drop(sender);
    assert_eq!(receiver.iter().count(), 1000);
    let own: u32 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert_eq!((own, *sum.lock().unwrap(), OWN.with(Cell::get)), (4 * 7 + 6, 4 * 249 * 250 / 2, 7));
    assert!(receiver.recv_timeout(Duration::from_millis(1)).is_err());

    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let other = Arc::clone(&pair);
    let waiter = thread::spawn(move || {
        let mut ready = other.0.lock().unwrap();
        while !*ready {
            ready = other.1.wait(ready).unwrap();
        }
    });
    *pair.0.lock().unwrap() = true;
    pair.1.notify_all();
    waiter.join().unwrap();
    let waited = pair.1.wait_timeout(pair.0.lock().unwrap(), Duration::from_millis(5)).unwrap();
    assert!(waited.1.timed_out());
    drop(waited);
    let shared = RwLock::new(vec![1]);
    thread::scope(|scope| {
        scope.spawn(|| shared.write().unwrap().push(2));
        scope.spawn(|| assert!(!shared.read().unwrap().is_empty()));
    });
    assert_eq!(shared.into_inner().unwrap(), [1, 2]);
    assert_eq!(thread::available_parallelism().unwrap().get(), 1);
}

fn panics() {
    let caught = panic::catch_unwind(|| {
        let _guard = Guard;
        let nothing: Option<u8> = None;
        nothing.expect("this panic is caught")
    });
    assert!(caught.unwrap_err().downcast_ref::<&str>().is_none_or(|text| text.contains("caught")));
    let ended = thread::spawn(|| {
        let _guard = Guard;
        panic!("this one ends a thread");
    });
    assert!(ended.join().is_err());
    assert_eq!(DROPPED.load(Ordering::SeqCst), 2);
    let poisoned = Mutex::new(0);
    let _ = panic::catch_unwind(panic::AssertUnwindSafe(|| {
        let _lock = poisoned.lock().unwrap();
        panic!("this one poisons");
    }));
    assert!(poisoned.is_poisoned());
}

fn time() {
    let start = Instant::now();
    thread::sleep(Duration::from_millis(20));
    assert!(start.elapsed() >= Duration::from_millis(20));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(now > Duration::from_secs(1_704_067_200), "{now:?}");
}

fn collections() {
    let mut map = HashMap::new();
    for i in 0..10_000u32 {
        map.insert(i, i.to_string());
    }
    assert!(map.iter().all(|(i, text)| text.parse() == Ok(*i)));
    // Two maps order the same keys differently: their seeds are random.
    let order = || (0..100).collect::<HashSet<u32>>().into_iter().collect::<Vec<_>>();
    assert_ne!(order(), order());
    let sorted: BTreeMap<_, _> = map.into_iter().collect();
    assert!(sorted.keys().is_sorted());
    let mut queue: VecDeque<_> = (0..100).collect();
    queue.rotate_left(30);
    assert_eq!(queue.front(), Some(&30));
    assert_eq!(vec![0u8; 5 << 20].len(), 5 << 20);
    static ONCE: OnceLock<u32> = OnceLock::new();
    assert_eq!((ONCE.get_or_init(|| 5), LAZY.len()), (&5, 18));
}

fn system() {
    let words: Vec<_> = env::args().skip(1).collect();
    assert_eq!(words, ["one", "two words"]);
    assert_eq!(env::var("COLOUR").as_deref(), Ok("green"));
    assert_eq!(fs::read("/etc/passwd").unwrap_err().kind(), ErrorKind::NotFound);
    assert!(net::TcpStream::connect("127.0.0.1:1").is_err());
    assert!(process::Command::new("/bin/true").status().is_err());
    std::io::stderr().write_all(b"to standard error\n").unwrap();
}

fn main() {
    threads();
    panics();
    time();
    collections();
    system();
    println!("std: good");
    process::exit(3);
}
