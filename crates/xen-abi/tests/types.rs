//! The few functions of the plain types.

use xen_abi::evtchn::{
    EVTCHNSTAT_CLOSED, EVTCHNSTAT_INTERDOMAIN, EVTCHNSTAT_UNBOUND, EVTCHNSTAT_VIRQ, Status,
};
use xen_abi::start_info::{MAX_GUEST_CMDLINE, StartInfo};
use xen_abi::{DOMID_SELF, DomId, EvtchnPort, Mfn, cpuid, gnttab, hvm, memory};

#[test]
fn status_of_a_port() {
    // The high half of the first word is padding and may hold anything.
    let status = |status| Status { status, u: [0xabcd_0007, 9], ..Status::default() };
    assert_eq!(status(EVTCHNSTAT_CLOSED).peer(), None);
    assert_eq!(status(EVTCHNSTAT_UNBOUND).peer(), Some((DomId(7), None)));
    assert_eq!(status(EVTCHNSTAT_INTERDOMAIN).peer(), Some((DomId(7), Some(EvtchnPort(9)))));
    assert_eq!(status(EVTCHNSTAT_INTERDOMAIN).irq(), None);
    assert_eq!(status(EVTCHNSTAT_VIRQ).irq(), Some(0xabcd_0007));
}

#[test]
fn command_line() {
    let mut info = StartInfo {
        magic: [0; 32],
        nr_pages: 0,
        shared_info: 0,
        flags: 0,
        store_mfn: Mfn(0),
        store_evtchn: EvtchnPort(0),
        console_mfn: Mfn(0x0000_0020_0000_0010),
        console_evtchn: EvtchnPort(0),
        pt_base: 0,
        nr_pt_frames: 0,
        mfn_list: 0,
        mod_start: 0,
        mod_len: 0,
        cmd_line: [b'x'; MAX_GUEST_CMDLINE],
        first_p2m_pfn: 0,
        nr_p2m_frames: 0,
    };
    assert_eq!(info.dom0_console(), (0x10, 0x20));
    assert_eq!(info.command_line().len(), MAX_GUEST_CMDLINE, "an unterminated line ends with the field");
    info.cmd_line[2] = 0;
    assert_eq!(info.command_line(), b"xx");
    info.cmd_line[0] = 0;
    assert_eq!(info.command_line(), b"");
}

#[test]
fn small_functions() {
    assert!(DomId(0).is_ordinary() && DomId(0x7fef).is_ordinary());
    assert!(!DOMID_SELF.is_ordinary() && !DomId(0xffff).is_ordinary());
    assert_eq!(DomId(12).to_string(), "12");
    assert_eq!(Mfn(3).address(), 0x3000);
    assert_eq!(hvm::callback_via_vector(0xf3), 0x0200_0000_0000_00f3);
    assert_eq!(gnttab::ENTRIES_PER_FRAME, 512);
    assert_eq!(gnttab::status_name(gnttab::GNTST_BAD_GNTREF), "bad grant reference");
    assert_eq!(gnttab::status_name(1), "unknown grant status");
    assert_eq!(size_of::<memory::E820Entry>(), 20);
    let signature = *b"XenVMMXenVMM";
    let word = |at: usize| u32::from_le_bytes(signature[at..at + 4].try_into().unwrap());
    assert!(cpuid::is_xen(word(0), word(4), word(8)));
    assert!(!cpuid::is_xen(word(4), word(4), word(8)));
}
