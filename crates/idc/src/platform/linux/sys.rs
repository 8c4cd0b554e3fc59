//! System calls on Xen's devices. The structures are those of `xen/sys/{gntalloc,gntdev,evtchn,privcmd}.h`
//! (Linux: `include/uapi/xen`), and so are the names.
#![expect(unsafe_code, reason = "ioctl on Xen's devices")]

use core::ffi::c_void;
use core::mem::size_of;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

use crate::setup::MAX_PAGES;
use crate::{DomId, EvtchnPort, GrantRef};

/// Most pages that are granted or mapped by one call: a ring's data, its setup page and a control page.
pub(super) const MAX_GRANTS: usize = MAX_PAGES + 2;

/// `_IOC(_IOC_NONE, group, number, size)`.
const fn opcode(group: u8, number: u8, size: usize) -> Opcode {
    ((size as Opcode) << 16) | ((group as Opcode) << 8) | number as Opcode
}

/// A call that hands the kernel a structure to read and write, and returns the call's own result.
///
/// # Safety
/// The kernel, asked for [`OPCODE`](Argument::OPCODE), reads and writes no more than this type has.
unsafe trait Argument: Sized {
    /// The request.
    const OPCODE: Opcode;
}

struct Request<'a, T>(&'a mut T);

// SAFETY: whoever implements `Argument` promises that the kernel stays inside the structure.
unsafe impl<T: Argument> Ioctl for Request<'_, T> {
    type Output = i32;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        T::OPCODE
    }

    fn as_ptr(&mut self) -> *mut c_void {
        core::ptr::from_mut(self.0).cast()
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> rustix::io::Result<i32> {
        Ok(output)
    }
}

fn request<T: Argument>(fd: &OwnedFd, argument: &mut T) -> Result<i32, Errno> {
    // SAFETY: `Argument` says that the kernel stays inside the structure, which is borrowed for the call.
    unsafe { ioctl(fd, Request(argument)) }
}

// ---- gntalloc ----

#[repr(C)]
struct AllocGref {
    domid: u16,
    flags: u16,
    count: u32,
    index: u64,
    gref_ids: [u32; MAX_GRANTS],
}

// SAFETY: `IOCTL_GNTALLOC_ALLOC_GREF` writes `count` elements of `gref_ids`, which `alloc_grefs` limits. The
// size in the request is that of the C structure, with one element and padding.
unsafe impl Argument for AllocGref {
    const OPCODE: Opcode = opcode(b'G', 5, 24);
}

/// Index and count of pages of a device: `IOCTL_GNTALLOC_DEALLOC_GREF`.
#[repr(C)]
struct DeallocGref {
    index: u64,
    count: u32,
}

// SAFETY: only read by the kernel.
unsafe impl Argument for DeallocGref {
    const OPCODE: Opcode = opcode(b'G', 6, size_of::<Self>());
}

/// `IOCTL_GNTALLOC_SET_UNMAP_NOTIFY` and `IOCTL_GNTDEV_SET_UNMAP_NOTIFY` are the same number.
#[repr(C)]
struct UnmapNotify {
    index: u64,
    action: u32,
    event_channel_port: u32,
}

// SAFETY: only read by the kernel.
unsafe impl Argument for UnmapNotify {
    const OPCODE: Opcode = opcode(b'G', 7, size_of::<Self>());
}

/// Allocates and grants pages; fills `refs` and returns the index to map.
pub(super) fn alloc_grefs(
    gntalloc: &OwnedFd,
    peer: DomId,
    writable: bool,
    refs: &mut [GrantRef],
) -> Result<u64, Errno> {
    if refs.len() > MAX_GRANTS {
        return Err(Errno::INVAL);
    }
    let mut argument = AllocGref {
        domid: peer.0,
        flags: writable.into(),
        count: refs.len() as u32,
        index: 0,
        gref_ids: [0; MAX_GRANTS],
    };
    request(gntalloc, &mut argument)?;
    for (gref, id) in refs.iter_mut().zip(argument.gref_ids) {
        *gref = GrantRef(id);
    }
    Ok(argument.index)
}

/// Withdraws grants. The kernel keeps the pages for as long as the peer has them mapped.
pub(super) fn dealloc_grefs(gntalloc: &OwnedFd, index: u64, count: usize) -> Result<(), Errno> {
    request(gntalloc, &mut DeallocGref { index, count: count as u32 }).map(|_| ())
}

/// Has the kernel clear the byte at `index` and send an event when the pages are given back, by us or because
/// this process has died. `device` is gntalloc or gntdev. Until then, the kernel keeps the port open.
pub(super) fn set_unmap_notify(device: &OwnedFd, index: u64, port: EvtchnPort) -> Result<(), Errno> {
    const CLEAR_BYTE: u32 = 1;
    const SEND_EVENT: u32 = 2;
    let mut argument = UnmapNotify { index, action: CLEAR_BYTE | SEND_EVENT, event_channel_port: port.0 };
    request(device, &mut argument).map(|_| ())
}

/// Takes that back, for the page of `index`.
pub(super) fn clear_unmap_notify(device: &OwnedFd, index: u64) -> Result<(), Errno> {
    request(device, &mut UnmapNotify { index, action: 0, event_channel_port: 0 }).map(|_| ())
}

// ---- gntdev ----

#[repr(C)]
#[derive(Clone, Copy)]
struct GntdevRef {
    domid: u32,
    gref: u32,
}

#[repr(C)]
struct MapGrantRef {
    count: u32,
    pad: u32,
    index: u64,
    refs: [GntdevRef; MAX_GRANTS],
}

// SAFETY: `IOCTL_GNTDEV_MAP_GRANT_REF` reads `count` elements of `refs`, which `map_grefs` limits.
unsafe impl Argument for MapGrantRef {
    const OPCODE: Opcode = opcode(b'G', 0, 24);
}

#[repr(C)]
struct UnmapGrantRef {
    index: u64,
    count: u32,
    pad: u32,
}

// SAFETY: only read by the kernel.
unsafe impl Argument for UnmapGrantRef {
    const OPCODE: Opcode = opcode(b'G', 1, size_of::<Self>());
}

/// Announces grants that are going to be mapped; returns the index to map.
pub(super) fn map_grefs(gntdev: &OwnedFd, peer: DomId, refs: &[GrantRef]) -> Result<u64, Errno> {
    if refs.len() > MAX_GRANTS {
        return Err(Errno::INVAL);
    }
    let empty = GntdevRef { domid: peer.0.into(), gref: 0 };
    let mut argument = MapGrantRef { count: refs.len() as u32, pad: 0, index: 0, refs: [empty; MAX_GRANTS] };
    for (slot, gref) in argument.refs.iter_mut().zip(refs) {
        slot.gref = gref.0;
    }
    request(gntdev, &mut argument)?;
    Ok(argument.index)
}

/// Forgets what `map_grefs` announced; the mapping must be gone.
pub(super) fn unmap_grefs(gntdev: &OwnedFd, index: u64, count: usize) -> Result<(), Errno> {
    request(gntdev, &mut UnmapGrantRef { index, count: count as u32, pad: 0 }).map(|_| ())
}

// ---- evtchn ----

#[repr(C)]
struct BindInterdomain {
    remote_domain: u32,
    remote_port: u32,
}

// SAFETY: only read by the kernel.
unsafe impl Argument for BindInterdomain {
    const OPCODE: Opcode = opcode(b'E', 1, size_of::<Self>());
}

#[repr(C)]
struct BindUnbound {
    remote_domain: u32,
}

// SAFETY: only read by the kernel.
unsafe impl Argument for BindUnbound {
    const OPCODE: Opcode = opcode(b'E', 2, size_of::<Self>());
}

#[repr(C)]
struct Notify {
    port: u32,
}

// SAFETY: only read by the kernel.
unsafe impl Argument for Notify {
    const OPCODE: Opcode = opcode(b'E', 4, size_of::<Self>());
}

/// Allocates a port for `peer`.
pub(super) fn alloc_unbound(evtchn: &OwnedFd, peer: DomId) -> Result<EvtchnPort, Errno> {
    request(evtchn, &mut BindUnbound { remote_domain: peer.0.into() }).map(|port| EvtchnPort(port as u32))
}

/// Binds to a port of `peer`.
pub(super) fn bind_interdomain(evtchn: &OwnedFd, peer: DomId, port: EvtchnPort) -> Result<EvtchnPort, Errno> {
    let mut argument = BindInterdomain { remote_domain: peer.0.into(), remote_port: port.0 };
    request(evtchn, &mut argument).map(|port| EvtchnPort(port as u32))
}

/// Sends an event.
pub(super) fn notify(evtchn: &OwnedFd, port: EvtchnPort) -> Result<(), Errno> {
    request(evtchn, &mut Notify { port: port.0 }).map(|_| ())
}

// ---- privcmd ----

#[repr(C)]
struct Hypercall {
    op: u64,
    arg: [u64; 5],
}

// SAFETY: `IOCTL_PRIVCMD_HYPERCALL` only reads the structure; what the hypercall itself does with its
// arguments is answered for where it is made.
unsafe impl Argument for Hypercall {
    const OPCODE: Opcode = opcode(b'P', 0, size_of::<Self>());
}

/// `EVTCHNOP_status` of a port of this domain; an unprivileged hypercall.
pub(super) fn event_status(privcmd: &OwnedFd, port: EvtchnPort) -> Result<u32, Errno> {
    use xen_abi::evtchn::{EVTCHNOP_STATUS, Status};
    use xen_abi::hypercall::HYPERVISOR_EVENT_CHANNEL_OP;
    let mut status = Status { dom: xen_abi::DOMID_SELF, port, ..Status::default() };
    // Xen writes to this address: the pointer is exposed for it.
    let address = core::ptr::from_mut(&mut status).expose_provenance() as u64;
    let op = HYPERVISOR_EVENT_CHANNEL_OP;
    let mut argument = Hypercall { op, arg: [u64::from(EVTCHNOP_STATUS), address, 0, 0, 0] };
    // The page has just been written, so Xen finds it; if it has been taken away since, it says `EFAULT`.
    request(privcmd, &mut argument)?;
    Ok(core::hint::black_box(status).status)
}

/// `XEN_DOMCTL_getdomaininfo` of a domain: whether it has ended. Only for dom0, and only if this is Xen's version of the
/// interface (`EACCES` if not).
pub(super) fn has_ended(privcmd: &OwnedFd, version: u32, peer: DomId) -> Result<bool, Errno> {
    use xen_abi::domctl::GetDomainInfo;
    /// A version that is not known here might write more.
    #[repr(C)]
    struct Roomy(GetDomainInfo, [u64; 16]);
    let mut info = Roomy(GetDomainInfo::new(version, peer), [0; 16]);
    let address = core::ptr::from_mut(&mut info).expose_provenance() as u64;
    let mut argument = Hypercall { op: xen_abi::hypercall::HYPERVISOR_DOMCTL, arg: [address, 0, 0, 0, 0] };
    // As in `event_status`. Xen writes no more than the structure has.
    match request(privcmd, &mut argument) {
        Ok(_) => Ok(core::hint::black_box(info).0.has_ended(peer)),
        Err(Errno::SRCH) => Ok(true),
        Err(error) => Err(error),
    }
}
