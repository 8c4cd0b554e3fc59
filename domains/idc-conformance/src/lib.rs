//! What every pair of IDC peers has to do alike, written once for two roles: [`serve`] and [`check`].
//!
//! The client dials the service [`NAME`] for a control channel that stays for the whole run. For each case it says
//! there which one comes, both play their half, and the server says there how its half went. A case makes its own
//! channels, by name or by grant reference alone.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod cases;

use alloc::{format, string::String, vec::Vec};
use core::time::Duration;

use idc::platform::Platform;
use idc::{Channel, Config, Deadline, DomId, Idc, ListenConfig, Listener};

pub use cases::CASES;

/// Name of the service.
pub const NAME: &str = "conformance";

/// The server's answer for a half that went well.
const GOOD: &[u8] = b"ok";

/// Outcome of a case, with a text that says what is wrong.
pub type Outcome<T = ()> = Result<T, String>;

/// What a half of a case uses.
#[derive(Debug)]
pub struct Side<'a, P: Platform> {
    idc: &'a Idc<P>,
    control: &'a mut Channel<P>,
    /// Only the server has one.
    listener: Option<&'a mut Listener<P>>,
    peer: DomId,
    /// Most time for one step. Emulated machines need more of it.
    limit: Duration,
}

impl<P: Platform> Side<'_, P> {
    fn deadline(&self) -> Deadline {
        self.idc.deadline(self.limit)
    }

    fn dial(&self, config: &Config) -> Outcome<Channel<P>> {
        say("dial", Channel::dial(self.idc, self.peer, NAME, config, self.deadline()))
    }

    fn accept(&mut self) -> Outcome<Channel<P>> {
        let deadline = self.deadline();
        let listener = self.listener.as_mut().ok_or("the client cannot accept")?;
        say("accept", listener.accept_by(deadline))
    }

    fn tell(&mut self, message: &[u8]) -> Outcome {
        let deadline = self.deadline();
        say("control channel", self.control.send_by(message, deadline))
    }

    fn hear(&mut self) -> Outcome<Vec<u8>> {
        let deadline = self.deadline();
        say("control channel", self.control.recv_by(deadline))?.ok_or_else(|| "the peer has ended".into())
    }

    fn tell_number(&mut self, number: u64) -> Outcome {
        self.tell(&number.to_le_bytes())
    }

    fn hear_number(&mut self) -> Outcome<u64> {
        let message = self.hear()?;
        let bytes = message.as_slice().try_into();
        bytes.map(u64::from_le_bytes).map_err(|_| format!("a number was expected, not {message:?}"))
    }
}

/// Adds to an error where it happened.
fn say<T>(step: &str, result: idc::Result<T>) -> Outcome<T> {
    result.map_err(|error| format!("{step}: {error}"))
}

/// The service, for one client.
///
/// # Errors
/// The first half of a case that failed; the client hears it too.
pub fn serve<P: Platform>(idc: &Idc<P>, limit: Duration, ready: impl FnOnce()) -> Outcome {
    let mut listener = say("bind", Listener::bind(idc, NAME, ListenConfig::default()))?;
    ready();
    let mut control = say("accept", listener.accept_by(idc.deadline(limit)))?;
    let peer = control.peer();
    loop {
        let next = say("control channel", control.recv_by(idc.deadline(limit)))?;
        let Some(name) = next else {
            return say("finish", control.finish());
        };
        let case = CASES.iter().position(|known| known.as_bytes() == name.as_slice());
        let case = case.ok_or("the client is of another version")?;
        let mut side = Side { idc, control: &mut control, listener: Some(&mut listener), peer, limit };
        let result = cases::server(case, &mut side);
        let answer = result.as_ref().map_or_else(|text| text.as_bytes(), |()| GOOD);
        side.tell(answer)?;
        result.map_err(|text| format!("{}: {text}", CASES.get(case).unwrap_or(&"")))?;
    }
}

/// The client: runs all cases with the service of that domain, and calls `passed` after each.
///
/// # Errors
/// The first case that failed, with what each half says.
pub fn check<P: Platform>(
    idc: &Idc<P>,
    peer: DomId,
    limit: Duration,
    mut passed: impl FnMut(&str),
) -> Outcome {
    let config = Config::default().with_pages(1);
    let mut control = say("dial", Channel::dial(idc, peer, NAME, &config, idc.deadline(limit)))?;
    for (case, name) in CASES.iter().enumerate() {
        let mut side = Side { idc, control: &mut control, listener: None, peer, limit };
        side.tell(name.as_bytes())?;
        cases::client(case, &mut side).map_err(|text| format!("{name}: {text}"))?;
        let answer = side.hear().map_err(|text| format!("{name}: {text}"))?;
        if answer != GOOD {
            return Err(format!("{name}: the server says: {}", String::from_utf8_lossy(&answer)));
        }
        passed(name);
    }
    if idc.counters().all_violations() != 0 {
        return Err(format!("violations between honest peers: {}", idc.counters().to_json()));
    }
    say("finish", control.finish())?;
    match say("the end", control.recv_by(idc.deadline(limit)))? {
        None => Ok(()),
        Some(more) => Err(format!("{} bytes after the end", more.len())),
    }
}
