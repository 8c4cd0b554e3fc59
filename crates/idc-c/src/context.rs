//! Opening, and everything that makes channels.
#![expect(unsafe_code, reason = "exported names")]

use core::ffi::{c_char, c_int};
use core::time::Duration;

use idc::{Channel, Config, Deadline, DomId, GrantRef, Idc, ListenConfig, Listener, Spin};

use crate::channel::{End, idc_channel};
use crate::code::{Fail, OK, idc_status::*, number, status};
use crate::handle::{self, Handle, Pool};
use crate::memory;

/// Access to inter-domain communication. May be used by several threads at once.
pub struct idc_context {
    _private: (),
}

/// A service under a name. For one thread at a time.
pub struct idc_listener {
    _private: (),
}

impl Handle for idc_context {
    type Value = Idc;
    fn pool() -> &'static Pool<Idc> {
        static POOL: Pool<Idc> = Pool::new();
        &POOL
    }
}

impl Handle for idc_listener {
    type Value = Listener;
    fn pool() -> &'static Pool<Listener> {
        static POOL: Pool<Listener> = Pool::new();
        &POOL
    }
}

/// Properties of one end of a channel. All zeros is the default.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct idc_config {
    /// Data pages of the ring that this side writes, 1 to 256; 0: 64.
    pub pages: u32,
    /// Pool pages for messages that do not go into the ring in one piece, 0 to 256.
    pub pool: u32,
    /// Slots in the one data page: 8, 32 or 128; 0: a ring without slots, which is faster.
    pub slots: u32,
    /// Most data and pool pages of the peer's ring that this side maps; 0: 512.
    pub max_peer_pages: u32,
    /// Longest message that this side receives; 0: 16 MiB.
    pub max_message: u64,
    /// Not 0: sleep at once, do not spin before.
    pub never_spin: u32,
    /// Must be 0.
    pub reserved: u32,
}

/// Properties of a service. All zeros is the default.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct idc_listen_config {
    /// This side's end of each channel.
    pub channel: idc_config,
    /// Most channels that are open at once; 0: 64.
    pub max_clients: u32,
    /// Most channels that are open at once to one domain; 0: 16.
    pub max_clients_per_peer: u32,
}

fn size(number: u32, default: usize) -> usize {
    if number == 0 { default } else { number as usize }
}

fn config_of(config: &idc_config) -> Result<Config, Fail> {
    let default = Config::default();
    if config.reserved != 0 {
        return Err(IDC_E_BAD_CONFIG.into());
    }
    let longest = usize::try_from(config.max_message).map_err(|_| IDC_E_BAD_CONFIG)?;
    Ok(Config {
        pages: size(config.pages, default.pages),
        pool: config.pool as usize,
        slots: config.slots as usize,
        max_peer_pages: size(config.max_peer_pages, default.max_peer_pages),
        max_message: if longest == 0 { default.max_message } else { longest },
        spin: if config.never_spin != 0 { Spin::Never } else { Spin::Adaptive },
    })
}

fn config(config: *const idc_config) -> Result<Config, Fail> {
    memory::optional(config)?.map_or_else(|| Ok(Config::default()), config_of)
}

fn domid(number: c_int) -> Result<DomId, Fail> {
    u16::try_from(number).map(DomId).map_err(|_| IDC_E_INVALID.into())
}

/// A time limit in milliseconds as `poll` takes it: negative for none.
pub fn deadline(timeout_ms: c_int, after: impl FnOnce(Duration) -> Deadline) -> Deadline {
    match u64::try_from(timeout_ms) {
        Ok(millis) => after(Duration::from_millis(millis)),
        Err(_) => Deadline::NEVER,
    }
}

/// Other threads hold the context only while they copy what it holds.
fn context(handle: *mut idc_context) -> Result<Idc, Fail> {
    loop {
        match handle::with(handle, |idc| Ok(idc.clone())) {
            Err(Fail::Here(IDC_E_BUSY)) => core::hint::spin_loop(),
            result => return result,
        }
    }
}

#[cfg(not(casemate))]
fn open() -> Result<Idc, Fail> {
    match std::env::var("IDC_HOSTED") {
        Ok(text) if text == "any" => hosted(None, std::env::var_os("IDC_DIRECTORY")),
        Ok(text) => {
            let domid = text.parse().map(DomId).map_err(|_| IDC_E_INVALID)?;
            hosted(Some(domid), std::env::var_os("IDC_DIRECTORY"))
        }
        Err(_) => Ok(Idc::open()?),
    }
}

#[cfg(not(casemate))]
fn hosted(domid: Option<DomId>, directory: Option<std::ffi::OsString>) -> Result<Idc, Fail> {
    use idc::HostedConfig;
    let config = domid.map_or_else(HostedConfig::any, HostedConfig::new);
    Ok(Idc::hosted(match directory {
        Some(directory) => config.directory(directory),
        None => config,
    })?)
}

#[cfg(casemate)]
fn open() -> Result<Idc, Fail> {
    Ok(Idc::open()?)
}

/// The version of this interface: 0x00MMmmpp.
#[unsafe(no_mangle)]
pub extern "C" fn idc_version() -> u32 {
    0x0000_0100
}

/// The paper's *Init*: opens inter-domain communication.
///
/// In a domain of the library OS that is the kernel's; in Linux it is Xen's devices, or, with `IDC_HOSTED=N` in the
/// environment, the hosted platform, in which this process plays domain N (`any`: some free number) for other
/// processes of this user. `IDC_DIRECTORY` is the folder that they share.
#[unsafe(no_mangle)]
pub extern "C" fn idc_open(out: *mut *mut idc_context) -> c_int {
    status((|| {
        memory::place(out)?;
        memory::store(out, handle::make(open()?)).and(OK)
    })())
}

/// Opens the hosted platform: plays domain `domid` (-1: some free number) among the processes that use this
/// directory (null: the user's usual one). `IDC_E_NO_PLATFORM` in a domain.
#[unsafe(no_mangle)]
pub extern "C" fn idc_open_hosted(
    number: c_int,
    directory: *const c_char,
    out: *mut *mut idc_context,
) -> c_int {
    status((|| {
        memory::place(out)?;
        let id = if number == -1 { None } else { Some(domid(number)?) };
        let directory = if directory.is_null() { None } else { Some(memory::text(directory)?) };
        #[cfg(not(casemate))]
        return memory::store(out, handle::make(hosted(id, directory.map(Into::into))?)).and(OK);
        #[cfg(casemate)]
        {
            let _ = (id, directory);
            Err(IDC_E_NO_PLATFORM.into())
        }
    })())
}

/// The paper's *Close*. Channels and listeners stay open.
#[unsafe(no_mangle)]
pub extern "C" fn idc_close(idc: *mut idc_context) -> c_int {
    status(loop {
        match handle::close(idc) {
            Err(Fail::Here(IDC_E_BUSY)) => core::hint::spin_loop(),
            result => break result.and(OK),
        }
    })
}

/// This domain's id.
#[unsafe(no_mangle)]
pub extern "C" fn idc_domid(idc: *mut idc_context) -> c_int {
    status(context(idc).and_then(|idc| Ok(idc.domid()?.0.into())))
}

/// Counters of all channels of this context, as a JSON object: violations by reason, peers that died, refused clients.
/// Writes at most `room` bytes with the final zero, and returns the length of the whole text without it.
#[unsafe(no_mangle)]
pub extern "C" fn idc_counters_json(idc: *mut idc_context, buffer: *mut c_char, room: usize) -> i64 {
    number(context(idc).and_then(|idc| memory::copy_text(&idc.counters().to_json(), buffer, room)))
}

/// The paper's *Create*: makes a ring that domain `peer` may read. The channel writes. The peer connects with the
/// number that is stored in `gref`.
#[unsafe(no_mangle)]
pub extern "C" fn idc_create(
    idc: *mut idc_context,
    peer: c_int,
    settings: *const idc_config,
    out: *mut *mut idc_channel,
    gref: *mut u32,
) -> c_int {
    status((|| {
        memory::place(out)?;
        memory::place(gref)?;
        let (writer, grant) = context(idc)?.create(domid(peer)?, &config(settings)?)?;
        memory::store(gref, grant.0)?;
        memory::store(out, handle::make(End::Writer(writer))).and(OK)
    })())
}

/// The paper's *Connect*: opens the ring that domain `peer` made. The channel reads.
#[unsafe(no_mangle)]
pub extern "C" fn idc_connect(
    idc: *mut idc_context,
    peer: c_int,
    gref: u32,
    settings: *const idc_config,
    out: *mut *mut idc_channel,
) -> c_int {
    status((|| {
        memory::place(out)?;
        let reader = context(idc)?.connect_with(domid(peer)?, GrantRef(gref), &config(settings)?)?;
        memory::store(out, handle::make(End::Reader(reader))).and(OK)
    })())
}

/// Starts a channel in both directions: as `idc_create`, and the peer calls `idc_answer` with the number. The channel
/// is of use after `idc_complete`.
#[unsafe(no_mangle)]
pub extern "C" fn idc_offer(
    idc: *mut idc_context,
    peer: c_int,
    settings: *const idc_config,
    out: *mut *mut idc_channel,
    gref: *mut u32,
) -> c_int {
    status((|| {
        memory::place(out)?;
        memory::place(gref)?;
        let pending = context(idc)?.offer(domid(peer)?, &config(settings)?)?;
        memory::store(gref, pending.grant_ref().0)?;
        memory::store(out, handle::make(End::Pending(pending))).and(OK)
    })())
}

/// The other end of `idc_offer`. The channel can be used at once.
#[unsafe(no_mangle)]
pub extern "C" fn idc_answer(
    idc: *mut idc_context,
    peer: c_int,
    gref: u32,
    settings: *const idc_config,
    out: *mut *mut idc_channel,
) -> c_int {
    status((|| {
        memory::place(out)?;
        let channel = context(idc)?.answer(domid(peer)?, GrantRef(gref), &config(settings)?)?;
        memory::store(out, handle::make(End::Both(channel))).and(OK)
    })())
}

/// Connects to a service of domain `peer` by its name; waits until it is there and accepts, at most `timeout_ms`
/// milliseconds (negative: for ever).
#[unsafe(no_mangle)]
pub extern "C" fn idc_dial(
    idc: *mut idc_context,
    peer: c_int,
    service: *const c_char,
    settings: *const idc_config,
    timeout_ms: c_int,
    out: *mut *mut idc_channel,
) -> c_int {
    status((|| {
        memory::place(out)?;
        let idc = context(idc)?;
        let limit = deadline(timeout_ms, |timeout| idc.deadline(timeout));
        let channel = Channel::dial(&idc, domid(peer)?, memory::text(service)?, &config(settings)?, limit)?;
        memory::store(out, handle::make(End::Both(channel))).and(OK)
    })())
}

/// Connects anew to the service after it has gone: with the pages of this channel, which has to be one of `idc_dial` that
/// was not split, so that nothing is allocated for the direction in which this side writes. If it fails, close the channel.
#[unsafe(no_mangle)]
pub extern "C" fn idc_redial(
    idc: *mut idc_context,
    channel: *mut idc_channel,
    service: *const c_char,
    settings: *const idc_config,
    timeout_ms: c_int,
) -> c_int {
    status((|| {
        let idc = context(idc)?;
        let (service, settings) = (memory::text(service)?, config(settings)?);
        let limit = deadline(timeout_ms, |timeout| idc.deadline(timeout));
        handle::with(channel, |end| match core::mem::replace(end, End::Changing) {
            End::Both(old) => {
                *end = End::Both(old.redial(&idc, service, &settings, limit)?);
                OK
            }
            other => {
                *end = other;
                Err(IDC_E_DIRECTION.into())
            }
        })
    })())
}

/// Pages of this side that domain `peer` (-1: any) still has mapped although their channels are closed. Linux keeps such
/// pages by itself; there it is 0.
#[unsafe(no_mangle)]
pub extern "C" fn idc_quarantined(idc: *mut idc_context, peer: c_int) -> i64 {
    number((|| {
        let peer = if peer == -1 { None } else { Some(domid(peer)?) };
        i64::try_from(context(idc)?.quarantined(peer)).map_err(|_| IDC_E_INVALID.into())
    })())
}

/// Offers a service under a name of 1 to 32 small letters, digits and `-`.
#[unsafe(no_mangle)]
pub extern "C" fn idc_listen(
    idc: *mut idc_context,
    service: *const c_char,
    settings: *const idc_listen_config,
    out: *mut *mut idc_listener,
) -> c_int {
    status((|| {
        memory::place(out)?;
        let default = ListenConfig::default();
        let settings = match memory::optional(settings)? {
            None => default,
            Some(given) => ListenConfig {
                channel: config_of(&given.channel)?,
                max_clients: size(given.max_clients, default.max_clients),
                max_clients_per_peer: size(given.max_clients_per_peer, default.max_clients_per_peer),
            },
        };
        let listener = Listener::bind(&context(idc)?, memory::text(service)?, settings)?;
        memory::store(out, handle::make(listener)).and(OK)
    })())
}

/// The next client, waited for at most `timeout_ms` milliseconds (negative: for ever). Nothing that a client does
/// makes this fail.
#[unsafe(no_mangle)]
pub extern "C" fn idc_accept(
    listener: *mut idc_listener,
    timeout_ms: c_int,
    out: *mut *mut idc_channel,
) -> c_int {
    status((|| {
        memory::place(out)?;
        let channel = handle::with(listener, |listener| {
            let limit = deadline(timeout_ms, |timeout| listener.deadline(timeout));
            Ok(listener.accept_by(limit)?)
        })?;
        memory::store(out, handle::make(End::Both(channel))).and(OK)
    })())
}

/// Takes the name back. Channels stay open.
#[unsafe(no_mangle)]
pub extern "C" fn idc_listener_close(listener: *mut idc_listener) -> c_int {
    status(handle::close(listener).and(OK))
}
