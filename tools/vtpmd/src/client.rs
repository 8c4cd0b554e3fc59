//! IDC A from the client's side: requests to a vTPM domain, over a channel that is made anew when it breaks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use idc::{Channel, Config, DomId, Idc, Native, Spin};
use vtpm::frame::{Answer, FRAME_MAX, Kind, Request, Status};
use vtpm::service::NAME;

use crate::place::Place;

/// Two pages hold the longest frame. As the vTPM does it, spinning is for domains.
fn config(platform: &Native) -> Config {
    let spin = match platform {
        Native::Linux(_) => Spin::Adaptive,
        Native::Hosted(_) => Spin::Never,
    };
    Config { pages: 2, slots: 0, pool: 0, max_peer_pages: 16, max_message: FRAME_MAX, spin }
}

/// A channel that was silent for longer is looked at before it is used: its peer may have died meanwhile, and a command
/// that was put into a dead channel has to be reported as lost, though it never ran.
const SILENCE: Duration = Duration::from_millis(1);

/// How long a vTPM that may be elsewhere is waited for at first.
const FIRST_SLICE: Duration = Duration::from_secs(2);

/// A client of one vTPM domain.
#[derive(Debug)]
pub struct Client {
    idc: Idc,
    place: Place,
    /// The domain that was connected with last.
    domid: DomId,
    /// How long to wait for the service.
    patience: Duration,
    channel: Option<Channel>,
    /// When the channel was last known to work, and how long that is believed.
    proven: Instant,
    silence: Duration,
    sequence: u32,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it ended.
    pub status: Status,
    /// Answer or result.
    pub contents: Vec<u8>,
}

impl Client {
    /// A client that connects when it is first needed.
    pub fn new(idc: &Idc, domid: DomId, patience: Duration) -> Client {
        Client::at(idc, Place::Fixed(domid), domid, patience)
    }

    /// A client of whatever domain dom0 names, which may change.
    ///
    /// # Errors
    /// There is no xenstore, or dom0 names none in time.
    pub fn told(idc: &Idc, patience: Duration) -> Result<Client> {
        let mut place = Place::told()?;
        let domid = place.find(Instant::now() + patience)?;
        Ok(Client::at(idc, place, domid, patience))
    }

    fn at(idc: &Idc, place: Place, domid: DomId, patience: Duration) -> Client {
        Client {
            idc: idc.clone(),
            place,
            domid,
            patience,
            channel: None,
            proven: Instant::now(),
            silence: SILENCE,
            sequence: 0,
        }
    }

    /// The vTPM's domain.
    pub fn domid(&self) -> DomId {
        self.domid
    }

    /// From now on the vTPM is in this domain (it was restarted).
    pub fn move_to(&mut self, domid: DomId) {
        self.place = Place::Fixed(domid);
        if self.domid != domid {
            self.domid = domid;
            self.channel = None;
        }
    }

    /// The number that the next request will have.
    pub fn next_sequence(&self) -> u32 {
        self.sequence.wrapping_add(1)
    }

    /// Connects, if there is no channel.
    ///
    /// # Errors
    /// IDC's.
    pub fn connect(&mut self) -> Result<&mut Channel> {
        if self.channel.is_none() {
            let deadline = Instant::now() + self.patience;
            let mut slice = FIRST_SLICE;
            let config = config(self.idc.platform());
            let channel = loop {
                self.domid = self.place.find(deadline)?;
                let left = deadline.saturating_duration_since(Instant::now());
                // A vTPM that may move is not waited for in one place only: this domain cannot see that another one is
                // gone before it has talked with it.
                let wait = if self.place.may_move() { slice.min(left) } else { left };
                let began = Instant::now();
                match Channel::dial(&self.idc, self.domid, NAME, &config, self.idc.deadline(wait)) {
                    Ok(channel) => break channel,
                    Err(error) if !self.place.may_move() || wait == left => return Err(error.into()),
                    Err(_) => self.place.wait((began + wait).min(deadline))?,
                }
                slice *= 2;
            };
            self.channel = Some(channel);
        }
        self.channel.as_mut().context("no channel")
    }

    /// Looks at a silent channel only in [`revive`](Self::revive), and not before every request: for a domU, where the look
    /// goes through xenstore, and for one whose requests must not wait.
    #[must_use]
    pub fn believing(mut self) -> Client {
        self.silence = Duration::MAX;
        self
    }

    /// Sees that there is a channel, and that its peer lives if it was silent for so long; makes a new one if not.
    ///
    /// # Errors
    /// IDC's.
    pub fn revive(&mut self, silence: Duration) -> Result<()> {
        self.drop_if_dead(silence);
        self.connect()?;
        self.proven = Instant::now();
        Ok(())
    }

    /// Asks for something. A channel that was dead before is made anew; if it dies while the request is under way, that
    /// is an error, since nobody knows whether the TPM ran the command.
    ///
    /// # Errors
    /// IDC's, and an answer that is none.
    pub fn request(&mut self, kind: Kind, locality: u8, contents: &[u8]) -> Result<Reply> {
        let sequence = self.next_sequence();
        let request = Request { kind, locality, sequence, contents };
        let bytes = request.to_bytes();
        self.drop_if_dead(self.silence);
        // Nothing was sent if the send fails, so it can be made again, once.
        if self.connect()?.send(&bytes).is_err() {
            self.channel = None;
            self.connect()?.send(&bytes)?;
        }
        self.sequence = sequence;
        let reply = self.reply(&request);
        if reply.is_err() {
            self.channel = None;
        }
        self.proven = Instant::now();
        reply
    }

    /// Looks whether the peer of a silent channel still lives.
    fn drop_if_dead(&mut self, silence: Duration) {
        let Some(channel) = &self.channel else { return };
        if self.proven.elapsed() < silence {
            return;
        }
        if !matches!(channel.peer_has_gone(), Ok(false)) {
            self.channel = None;
        }
    }

    fn reply(&mut self, request: &Request<'_>) -> Result<Reply> {
        let domid = self.domid;
        let bytes = match self.connect()?.recv() {
            Ok(Some(bytes)) => bytes,
            Ok(None) | Err(idc::Error::PeerClosed { .. }) => {
                bail!(
                    "the vTPM in domain {domid} ended the channel: may this domain use it? Its console says why"
                )
            }
            Err(error) => return Err(error.into()),
        };
        let Answer { status, contents, .. } = Answer::parse(&bytes, request)?;
        Ok(Reply { status, contents: contents.to_vec() })
    }

    /// Asks for something that has to succeed.
    ///
    /// # Errors
    /// See [`request`](Self::request), and every status but success.
    pub fn demand(&mut self, kind: Kind, contents: &[u8]) -> Result<Vec<u8>> {
        match self.request(kind, 0, contents)? {
            Reply { status: Status::Ok, contents } => Ok(contents),
            Reply { status, .. } => bail!("{status}"),
        }
    }

    /// What the instance says about itself.
    ///
    /// # Errors
    /// See [`demand`](Self::demand).
    pub fn info(&mut self) -> Result<Vec<(String, String)>> {
        let text = String::from_utf8(self.demand(Kind::Info, &[])?).context("the information is no text")?;
        let pair = |line: &str| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
        Ok(text.lines().filter_map(pair).collect())
    }
}
