//! Xen's error numbers (`xen/errno.h`): a hypercall that fails returns one of them, negated.
//!
//! The values are those of Linux on x86. Xenstore sends the names instead of the numbers (see
//! [`crate::xenstore`]).

macro_rules! errno {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: i32 = $value;)*

        /// Every error number with its name, in ascending order.
        pub const ALL: &[(i32, &str)] = &[$(($value, stringify!($name))),*];
    };
}

errno! {
    /// Operation not permitted.
    EPERM = 1;
    /// No such entry.
    ENOENT = 2;
    /// No such domain or vCPU.
    ESRCH = 3;
    /// I/O error.
    EIO = 5;
    /// No such device or address.
    ENXIO = 6;
    /// Argument list too long.
    E2BIG = 7;
    /// Image format error.
    ENOEXEC = 8;
    /// Bad file number.
    EBADF = 9;
    /// No child.
    ECHILD = 10;
    /// Try again.
    EAGAIN = 11;
    /// Out of memory.
    ENOMEM = 12;
    /// Permission denied.
    EACCES = 13;
    /// Bad address.
    EFAULT = 14;
    /// Device or resource busy.
    EBUSY = 16;
    /// Already exists.
    EEXIST = 17;
    /// Link across devices.
    EXDEV = 18;
    /// No such device.
    ENODEV = 19;
    /// Not a directory.
    ENOTDIR = 20;
    /// Is a directory.
    EISDIR = 21;
    /// Invalid argument.
    EINVAL = 22;
    /// Table overflow.
    ENFILE = 23;
    /// Too many open files.
    EMFILE = 24;
    /// No space left, or quota used up.
    ENOSPC = 28;
    /// Read-only.
    EROFS = 30;
    /// Too many links.
    EMLINK = 31;
    /// Argument out of domain.
    EDOM = 33;
    /// Result does not fit.
    ERANGE = 34;
    /// Deadlock would occur.
    EDEADLK = 35;
    /// Name too long.
    ENAMETOOLONG = 36;
    /// No locks available.
    ENOLCK = 37;
    /// Not implemented.
    ENOSYS = 38;
    /// Not empty.
    ENOTEMPTY = 39;
    /// No data available.
    ENODATA = 61;
    /// Timer expired.
    ETIME = 62;
    /// Not a data message.
    EBADMSG = 74;
    /// Value too large.
    EOVERFLOW = 75;
    /// Illegal byte sequence.
    EILSEQ = 84;
    /// Not a socket.
    ENOTSOCK = 88;
    /// Message too large.
    EMSGSIZE = 90;
    /// Operation not supported.
    EOPNOTSUPP = 95;
    /// Address in use.
    EADDRINUSE = 98;
    /// Address not available.
    EADDRNOTAVAIL = 99;
    /// No buffer space.
    ENOBUFS = 105;
    /// Already connected.
    EISCONN = 106;
    /// Not connected.
    ENOTCONN = 107;
    /// Timed out.
    ETIMEDOUT = 110;
    /// Connection refused.
    ECONNREFUSED = 111;
}

/// Name of an error number; `value` may be positive or, as hypercalls return it, negated. `None` when Xen
/// has no such error.
pub fn name(value: i32) -> Option<&'static str> {
    let wanted = value.checked_abs()?;
    ALL.iter().find(|(number, _)| *number == wanted).map(|(_, name)| *name)
}

/// The (positive) error number with this name.
pub fn number(name: &str) -> Option<i32> {
    ALL.iter().find(|(_, known)| *known == name).map(|(number, _)| *number)
}
