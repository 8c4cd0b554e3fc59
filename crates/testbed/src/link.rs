//! The connection with an agent: many requests at once over one byte stream.
//!
//! The test bed uses it to talk with the agent in dom0, and that one to talk with the agents of Linux guests.

use std::{
    collections::HashMap,
    io::{Read, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use crate::proto::{Event, Hello, Job, Outcome, Request, Stream, read_frame, write_frame};

/// Why a call has no result.
#[derive(Debug)]
pub enum Failure {
    /// The agent says that it could not be done.
    Job(String),
    /// The connection has ended.
    Closed,
    /// The time limit passed; the request goes on.
    Late(Duration),
    /// The agent did not answer a ping in this time.
    Hangs(Duration),
}

/// How long a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Limit of the whole call.
    pub limit: Option<Duration>,
    /// When nothing was heard for this time, the agent is pinged, and has the same time to answer.
    pub quiet: Duration,
}

#[derive(Debug)]
enum Message {
    Output(Stream, Vec<u8>),
    Done(Result<Outcome, String>, Vec<u8>),
}

type Pending = Arc<Mutex<Option<HashMap<u32, Sender<Message>>>>>;

/// One connection.
pub struct Link {
    out: Mutex<Box<dyn Write + Send>>,
    /// Requests that wait for answers; `None` when the connection has ended.
    pending: Pending,
    next: AtomicU32,
}

impl Link {
    /// Begins to listen; the greeting of the agent comes through the receiver, which is dropped without one
    /// when the connection ends before.
    pub fn new(
        mut input: impl Read + Send + 'static,
        output: impl Write + Send + 'static,
    ) -> (Self, Receiver<Hello>) {
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let (greeting, greeted) = mpsc::channel();
        let waiting = Arc::clone(&pending);
        thread::spawn(move || {
            while let Ok(Some((event, body))) = read_frame::<Event>(&mut input) {
                let (id, message) = match event {
                    Event::Hello(hello) => {
                        let _ = greeting.send(hello);
                        continue;
                    }
                    Event::Output { id, stream } => (id, Message::Output(stream, body)),
                    Event::Done { id, result } => (id, Message::Done(result, body)),
                };
                // Nobody waits for it any more: the caller gave up.
                if let Some(Some(to)) = lock(&waiting).as_ref().map(|p| p.get(&id)) {
                    let _ = to.send(message);
                }
            }
            // Dropping the senders wakes every caller.
            *lock(&waiting) = None;
        });
        (Self { out: Mutex::new(Box::new(output)), pending, next: AtomicU32::new(1) }, greeted)
    }

    /// Sends a request and waits for its end. `started` learns the number of the request.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn call(
        &self,
        job: Job,
        body: &[u8],
        patience: Patience,
        started: impl FnOnce(u32),
        mut output: impl FnMut(Stream, &[u8]),
    ) -> Result<(Outcome, Vec<u8>), Failure> {
        let (id, answers) = self.send(job, body)?;
        started(id);
        let result = self.wait(&answers, patience, &mut output);
        if let Some(pending) = lock(&self.pending).as_mut() {
            pending.remove(&id);
        }
        result
    }

    fn send(&self, job: Job, body: &[u8]) -> Result<(u32, Receiver<Message>), Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (to, answers) = mpsc::channel();
        lock(&self.pending).as_mut().ok_or(Failure::Closed)?.insert(id, to);
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *out, &Request { id, job }, body).map_err(|_| Failure::Closed)?;
        Ok((id, answers))
    }

    fn wait(
        &self,
        answers: &Receiver<Message>,
        patience: Patience,
        output: &mut impl FnMut(Stream, &[u8]),
    ) -> Result<(Outcome, Vec<u8>), Failure> {
        let began = Instant::now();
        loop {
            let left = patience.limit.map(|limit| limit.saturating_sub(began.elapsed()));
            if let (Some(limit), Some(Duration::ZERO)) = (patience.limit, left) {
                return Err(Failure::Late(limit));
            }
            match answers.recv_timeout(left.unwrap_or(patience.quiet).min(patience.quiet)) {
                Ok(Message::Output(stream, piece)) => output(stream, &piece),
                Ok(Message::Done(Ok(outcome), body)) => return Ok((outcome, body)),
                Ok(Message::Done(Err(why), _)) => return Err(Failure::Job(why)),
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Closed),
                Err(RecvTimeoutError::Timeout) => self.ping(patience.quiet)?,
            }
        }
    }

    /// Sends a request whose answer nobody wants.
    ///
    /// # Errors
    /// [`Failure::Closed`].
    pub fn post(&self, job: Job) -> Result<(), Failure> {
        let (id, _) = self.send(job, &[])?;
        if let Some(pending) = lock(&self.pending).as_mut() {
            pending.remove(&id);
        }
        Ok(())
    }

    /// Ends every call that waits, and those to come, with [`Failure::Closed`]: the other side will not answer.
    pub fn close(&self) {
        *lock(&self.pending) = None;
    }

    /// Asks whether the agent still lives.
    fn ping(&self, limit: Duration) -> Result<(), Failure> {
        let (id, answers) = self.send(Job::Ping, &[])?;
        let answer = answers.recv_timeout(limit);
        if let Some(pending) = lock(&self.pending).as_mut() {
            pending.remove(&id);
        }
        match answer {
            Ok(_) => Ok(()),
            Err(RecvTimeoutError::Timeout) => Err(Failure::Hangs(limit)),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::Closed),
        }
    }
}

fn lock(pending: &Pending) -> MutexGuard<'_, Option<HashMap<u32, Sender<Message>>>> {
    pending.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const PATIENCE: Patience = Patience { limit: None, quiet: Duration::from_secs(60) };

    /// A connection, the agent's end of it.
    fn pair() -> (Link, UnixStream) {
        let (host, agent) = UnixStream::pair().unwrap();
        (Link::new(host.try_clone().unwrap(), host).0, agent)
    }

    fn next(agent: &mut UnixStream) -> Request {
        read_frame(agent).unwrap().unwrap().0
    }

    #[test]
    fn answers_find_their_callers() {
        let (link, mut agent) = pair();
        thread::scope(|scope| {
            let call = |job| link.call(job, &[], PATIENCE, |_| (), |_, _| ()).unwrap().1;
            let first = scope.spawn(move || call(Job::XenLog));
            let one = next(&mut agent);
            let second = scope.spawn(move || call(Job::Ping));
            let two = next(&mut agent);
            for (id, body) in [(two.id, b"two"), (one.id, b"one")] {
                write_frame(&mut agent, &Event::Done { id, result: Ok(Outcome::Done) }, body).unwrap();
            }
            assert_eq!((first.join().unwrap(), second.join().unwrap()), (b"one".to_vec(), b"two".to_vec()));
        });
    }

    #[test]
    fn a_hang_up_wakes_the_caller() {
        let (link, agent) = pair();
        thread::scope(|scope| {
            let caller = scope.spawn(|| link.call(Job::XenLog, &[], PATIENCE, |_| (), |_, _| ()));
            let mut agent = agent;
            next(&mut agent);
            drop(agent);
            assert!(matches!(caller.join().unwrap(), Err(Failure::Closed)));
        });
        assert!(matches!(link.call(Job::Ping, &[], PATIENCE, |_| (), |_, _| ()), Err(Failure::Closed)));
    }

    #[test]
    fn a_closed_link_waits_for_nobody() {
        let (link, mut agent) = pair();
        thread::scope(|scope| {
            let caller = scope.spawn(|| link.call(Job::XenLog, &[], PATIENCE, |_| (), |_, _| ()));
            next(&mut agent);
            link.close();
            assert!(matches!(caller.join().unwrap(), Err(Failure::Closed)));
            assert!(matches!(link.post(Job::Ping), Err(Failure::Closed)));
        });
        let (link, mut agent) = pair();
        link.post(Job::Kill { id: 5 }).unwrap();
        assert!(matches!(next(&mut agent).job, Job::Kill { id: 5 }));
    }

    #[test]
    fn silence_is_told_from_slowness() {
        let (link, mut agent) = pair();
        let short = Duration::from_millis(20);
        // Nobody answers the ping.
        let hung = link.call(Job::XenLog, &[], Patience { limit: None, quiet: short }, |_| (), |_, _| ());
        assert!(matches!(hung, Err(Failure::Hangs(_))));
        while !matches!(next(&mut agent).job, Job::Ping) {}
        // Somebody answers pings, but the job goes on.
        thread::scope(|scope| {
            let patience = Patience { limit: Some(10 * short), quiet: short };
            let link = &link;
            let slow = scope.spawn(move || link.call(Job::XenLog, &[], patience, |_| (), |_, _| ()));
            let mut answering = agent.try_clone().unwrap();
            scope.spawn(move || {
                while let Ok(Some((Request { id, job }, _))) = read_frame::<Request>(&mut answering) {
                    if matches!(job, Job::Ping) {
                        let done = Event::Done { id, result: Ok(Outcome::Done) };
                        write_frame(&mut answering, &done, &[]).unwrap();
                    }
                }
            });
            assert!(matches!(slow.join().unwrap(), Err(Failure::Late(_))));
            agent.shutdown(std::net::Shutdown::Both).unwrap();
        });
    }
}
