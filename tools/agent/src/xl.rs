//! Xen's toolstack `xl`, as far as the agent needs it.

use std::{
    fs, io,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use rustix::rand::{GetRandomFlags, getrandom};
use testbed::proto::{DomainSpec, DomainState, Reason};

use xenstore::Xenstore;

/// At most this many lines of Xen's log are reported for one crash.
const LOG_LINES: usize = 60;

/// Bytes of a domain's seed of randomness.
const SEED_BYTES: usize = 48;

/// Creates a domain from a specification, seeds it and lets it run, unless it is to stay paused; returns its id and the time it took.
///
/// # Errors
/// What `xl` or xenstored says; then there is no such domain.
pub fn create(spec: &DomainSpec, config_path: &str) -> Result<(u16, Duration), String> {
    fs::write(config_path, config(spec)?).map_err(|e| format!("{config_path}: {e}"))?;
    let began = Instant::now();
    // `-e`: nobody but this agent reacts to the end of the domain. `-p`: the seed has to be there before the first
    // instruction.
    let created = xl(&["create", "-e", "-p", "-q", config_path])?;
    if !created.status.success() {
        return Err(format!("xl create failed:\n{}", text(&created.stderr)));
    }
    let started = start(&spec.name, spec.paused);
    if started.is_err() {
        xl(&["destroy", &spec.name])?;
    }
    Ok((started?, began.elapsed()))
}

/// Seeds a domain that is still paused, and lets it run unless it is to stay so; its id.
fn start(name: &str, paused: bool) -> Result<u16, String> {
    let mut store = Xenstore::open().map_err(|e| e.to_string())?;
    let found = store.domain_named(name).map_err(|e| e.to_string())?;
    let domid = found.ok_or_else(|| format!("xenstore does not know the domain {name} that xl created"))?;
    seed(&mut store, domid).map_err(|e| format!("domain {domid} cannot be given a seed: {e}"))?;
    if paused {
        return Ok(domid);
    }
    let output = xl(&["unpause", &domid.to_string()])?;
    if !output.status.success() {
        return Err(format!("xl unpause failed:\n{}", text(&output.stderr)));
    }
    Ok(domid)
}

/// Leaves fresh random bytes from this kernel where the domain's kernel looks for a seed (`libos::entropy`).
fn seed(store: &mut Xenstore, domid: u16) -> io::Result<()> {
    let mut bytes = [0; SEED_BYTES];
    let got = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if got < SEED_BYTES {
        return Err(io::Error::other("getrandom gave too little"));
    }
    let digits: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let path = format!("/local/domain/{domid}/data/entropy-seed");
    store.write_private(&path, digits.as_bytes(), domid)
}

/// Destroys a domain; one that is gone already is fine.
///
/// # Errors
/// What `xl` says.
pub fn destroy(domid: u16) -> Result<(), String> {
    let output = xl(&["destroy", &domid.to_string()])?;
    if output.status.success() || state(domid)?.is_none() {
        return Ok(());
    }
    Err(format!("xl destroy failed:\n{}", text(&output.stderr)))
}

/// State of a domain; `None` when there is no such domain. One that was destroyed is no more, even if Xen lists it for
/// as long as somebody has its pages mapped; that may be this program, which lets go of them when it hears of the end.
///
/// # Errors
/// What `xl` says.
pub fn state(domid: u16) -> Result<Option<DomainState>, String> {
    let output = xl(&["list", "-v", &domid.to_string()])?;
    let stdout = text(&output.stdout);
    if !output.status.success() {
        let stderr = text(&output.stderr);
        // What xl says depends on whether the domain has ever been.
        if stderr.contains("invalid domain identifier") || stderr.contains("does not exist") {
            return Ok(None);
        }
        return Err(format!("xl list failed:\n{stderr}"));
    }
    let state = stdout.lines().nth(1).and_then(parse_state);
    let state = state.ok_or_else(|| format!("xl list printed something unknown:\n{stdout}"))?;
    Ok((!is_dying(&state)).then_some(state))
}

/// The last flag: destroyed, and not all of it has gone yet.
fn is_dying(state: &DomainState) -> bool {
    state.flags.ends_with('d')
}

/// Xen's log.
///
/// # Errors
/// What `xl` says.
pub fn log() -> Result<Vec<u8>, String> {
    let output = xl(&["dmesg"])?;
    if output.status.success() { Ok(output.stdout) } else { Err(text(&output.stderr)) }
}

/// The lines of Xen's log that belong to a domain: what names it, and the register dump of its crash without the
/// empty part of its stack.
pub fn log_about(log: &str, domid: u16) -> Vec<String> {
    let crash = format!("Domain {domid} (vcpu#");
    let marks = [format!("d{domid}v"), format!("d{domid} "), format!("d{domid}:"), format!("dom{domid} ")];
    let mut in_dump = false;
    let mut lines = Vec::new();
    for line in log.lines() {
        let line = line.strip_prefix("(XEN) ").unwrap_or(line).trim_end();
        let named = line.starts_with(&crash);
        if named || marks.iter().any(|m| line.starts_with(m.as_str())) {
            in_dump = named;
            lines.push(line.to_owned());
        } else if in_dump {
            // The dump ends where Xen speaks of a domain again or starts another subject.
            in_dump = !line.starts_with("Domain ") && !is_domain_mark(line);
            let empty = line.split_whitespace().all(|word| word.bytes().all(|b| b == b'0'));
            if in_dump && !empty {
                lines.push(line.to_owned());
            }
        }
    }
    lines.truncate(LOG_LINES);
    lines
}

/// Does a line begin like `d12v0 ...`?
fn is_domain_mark(line: &str) -> bool {
    line.strip_prefix('d').is_some_and(|rest| {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        digits.len() < rest.len() && digits.starts_with(['v', ' ', ':'])
    })
}

/// The configuration file of a domain (`xl.cfg(5)`).
fn config(spec: &DomainSpec) -> Result<String, String> {
    let mut text = format!(
        "name = {}\ntype = \"{}\"\nkernel = {}\nmemory = {}\nvcpus = 1\n\
         on_poweroff = \"preserve\"\non_reboot = \"preserve\"\non_crash = \"preserve\"\n",
        quote(&spec.name)?,
        spec.mode,
        quote(&spec.image)?,
        spec.memory_mib
    );
    if !spec.cmdline.is_empty() {
        text.push_str(&format!("cmdline = {}\n", quote(&spec.cmdline)?));
    }
    for line in &spec.extra {
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

/// A string of `xl.cfg(5)`: in double quotes, with backslash escapes.
fn quote(value: &str) -> Result<String, String> {
    if value.contains(['\n', '\r', '\0']) {
        return Err(format!("a line break in {value:?} cannot be passed to a domain"));
    }
    Ok(format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")))
}

/// One line of `xl list -v`: name, id, memory, vcpus, flags, seconds, uuid, reason, label.
fn parse_state(line: &str) -> Option<DomainState> {
    let fields: Vec<_> = line.split_whitespace().collect();
    Some(DomainState {
        memory_mib: fields.get(2)?.parse().ok()?,
        flags: (*fields.get(4)?).to_owned(),
        cpu_seconds: fields.get(5)?.parse().ok()?,
        reason: match *fields.get(7)? {
            "-" => None,
            code => Some(match code.parse().ok()? {
                0 => Reason::PowerOff,
                1 => Reason::Reboot,
                2 => Reason::Suspend,
                3 => Reason::Crash,
                4 => Reason::Watchdog,
                other => Reason::Other(other),
            }),
        },
    })
}

fn xl(args: &[&str]) -> Result<Output, String> {
    Command::new("xl").args(args).stdin(Stdio::null()).output().map_err(|e| format!("xl: {e}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_lines() {
        let line = "xpv  1  32  1  ---s--  0.4 27b0019e-32c8-46bc-b2a3-061039f6739e  3  -";
        let state = parse_state(line).unwrap();
        assert_eq!(state.flags, "---s--");
        assert_eq!((state.memory_mib, state.cpu_seconds, state.reason), (32, 0.4, Some(Reason::Crash)));
        assert!(!is_dying(&state));
        let line = "(null) 7 0 1 --p--d 3.1 27b0019e-32c8-46bc-b2a3-061039f6739e - -";
        assert!(is_dying(&parse_state(line).unwrap()));
        assert!(parse_state("xpv 1 32").is_none());
    }

    #[test]
    fn configuration_is_quoted() {
        assert_eq!(quote(r#"a "b" \c"#).unwrap(), r#""a \"b\" \\c""#);
        assert!(quote("a\nb").is_err());
    }

    #[test]
    fn crash_log_is_cut_out() {
        let log = "(XEN) Freed\n(XEN) d1v0 fault\n(XEN) d12v0 Unhandled page fault\n\
                   (XEN) Domain 12 (vcpu#0) crashed on cpu#1:\n(XEN) RIP: e033:[<0000000000101234>]\n\
                   (XEN) Guest stack trace\n(XEN)    0000000000000000 0000000000000000\n(XEN) d13v0 other\n(XEN) tail\n";
        let lines = log_about(log, 12);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[2].starts_with("RIP:"));
    }
}
