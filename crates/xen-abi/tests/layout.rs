//! Compares every structure, field and constant of this crate with Xen's own headers.
//!
//! A C program that prints sizes, offsets and values is made from the tables below, compiled with `cc`
//! against the headers of the package `libxen-dev`, and run. Adding a structure or a constant to the crate
//! means adding one line here: `nothing_is_left_out` fails otherwise.

mod support;

use std::collections::BTreeSet;
use support::{Table, consts, structs};

/// Constants that no header of Xen defines, and where they come from instead.
const NOT_IN_HEADERS: &[(&str, &str)] = &[
    ("lib", "PAGE_SHIFT PAGE_SIZE"),  // architecture
    ("sched", "POLL_MAX_PORTS"),      // limit in Xen's scheduler
    ("domctl", "INTERFACE_VERSIONS"), // versions with the same beginning; that of the header is one
    ("gnttab", "ENTRIES_PER_FRAME"),  // PAGE_SIZE / size of an entry
    ("mmu", "PTE_PRESENT PTE_RW PTE_USER PTE_PWT PTE_PCD PTE_ACCESSED PTE_DIRTY PTE_PSE PTE_PAT"), // Intel SDM
    ("mmu", "PTE_GLOBAL PTE_NX PTE_ADDR_MASK PTES_PER_TABLE"), // Intel SDM
    ("trap", "XEN_EMULATE_PREFIX"), // a string of assembler in the header; tested below
    ("hypercall", "HYPERCALL_PAGE_STRIDE"), // comment in arch-x86/xen-x86_64.h
    ("cpuid", "XEN_CPUID_LEAF_STRIDE XEN_CPUID_LEAF_END"), // comment in arch-x86/cpuid.h
    ("cpuid", "LEAF_SIGNATURE LEAF_VERSION LEAF_HYPERCALL_PAGE LEAF_TIME LEAF_HVM LEAF_PV"), // comments there
    ("elfnote", "NAME NOTE_HEADER_LEN"), // ELF
    ("console", "IN OUT"),          // rings of the sizes that are checked
    ("xenstore", "REQ RSP"),        // rings of the sizes that are checked
    ("xenstore::reply", "ERRORS"),  // checked entry by entry
    ("xenstore::request", "EMPTY"), // docs/misc/xenstore.txt
];

/// Structures that no header of Xen defines.
const STRUCTS_NOT_IN_HEADERS: &[&str] = &["memory::E820Entry"]; // BIOS call INT 15h AX=E820h

fn table() -> Table {
    let mut t = Table::default();

    structs! { t;
        hypercall::MulticallEntry = "struct multicall_entry" { op, result, args }
        sched::Shutdown = "struct sched_shutdown" { reason }
        sched::Poll = "struct sched_poll" { ports, nr_ports, timeout }
        sched::RemoteShutdown = "struct sched_remote_shutdown" { domain_id, reason }
        sched::Watchdog = "struct sched_watchdog" { id, timeout }
        domctl::GetDomainInfo = "struct xen_domctl" {
            cmd, interface_version, domain, info_domain = "u.getdomaininfo.domain", flags = "u.getdomaininfo.flags" }
        evtchn::AllocUnbound = "struct evtchn_alloc_unbound" { dom, remote_dom, port }
        evtchn::BindInterdomain = "struct evtchn_bind_interdomain" { remote_dom, remote_port, local_port }
        evtchn::BindVirq = "struct evtchn_bind_virq" { virq, vcpu, port }
        evtchn::BindPirq = "struct evtchn_bind_pirq" { pirq, flags, port }
        evtchn::BindIpi = "struct evtchn_bind_ipi" { vcpu, port }
        evtchn::Close = "struct evtchn_close" { port }
        evtchn::Send = "struct evtchn_send" { port }
        evtchn::Status = "struct evtchn_status" { dom, port, status, vcpu, u }
        evtchn::BindVcpu = "struct evtchn_bind_vcpu" { port, vcpu }
        evtchn::Unmask = "struct evtchn_unmask" { port }
        evtchn::Reset = "struct evtchn_reset" { dom }
        gnttab::GrantEntryV1 = "struct grant_entry_v1" { flags, domid, frame }
        gnttab::MapGrantRef = "struct gnttab_map_grant_ref" {
            host_addr, flags, gref = "ref", dom, status, handle, dev_bus_addr }
        gnttab::UnmapGrantRef = "struct gnttab_unmap_grant_ref" { host_addr, dev_bus_addr, handle, status }
        gnttab::SetupTable = "struct gnttab_setup_table" { dom, nr_frames, status, frame_list }
        gnttab::QuerySize = "struct gnttab_query_size" { dom, nr_frames, max_nr_frames, status }
        gnttab::SetVersion = "struct gnttab_set_version" { version }
        gnttab::GetVersion = "struct gnttab_get_version" { dom, pad, version }
        memory::Reservation = "struct xen_memory_reservation" {
            extent_start, nr_extents, extent_order, mem_flags, domid }
        memory::MemoryDomain = "struct xen_memory_domain" { domid }
        memory::MachphysMapping = "struct xen_machphys_mapping" { v_start, v_end, max_mfn }
        memory::AddToPhysmap = "struct xen_add_to_physmap" { domid, size, space, idx, gpfn }
        memory::RemoveFromPhysmap = "struct xen_remove_from_physmap" { domid, gpfn }
        memory::MemoryMap = "struct xen_memory_map" { nr_entries, buffer }
        mmu::MmuUpdate = "struct mmu_update" { ptr, val }
        mmu::MmuextOp = "struct mmuext_op" { cmd, arg1, arg2 }
        trap::TrapInfo = "struct trap_info" { vector, flags, cs, address }
        trap::IretContext = "struct iret_context" { rax, r11, rcx, flags, rip, cs, rflags, rsp, ss }
        callback::CallbackRegister = "struct callback_register" { kind = "type", flags, address }
        vcpu::SetPeriodicTimer = "struct vcpu_set_periodic_timer" { period_ns }
        vcpu::SetSingleshotTimer = "struct vcpu_set_singleshot_timer" { timeout_abs_ns, flags }
        vcpu::RegisterVcpuInfo = "struct vcpu_register_vcpu_info" { mfn, offset, rsvd }
        version::PlatformParameters = "struct xen_platform_parameters" { virt_start }
        version::FeatureInfo = "struct xen_feature_info" { submap_idx, submap }
        hvm::HvmParam = "struct xen_hvm_param" { domid, pad, index, value }
        start_info::StartInfo = "struct start_info" {
            magic, nr_pages, shared_info, flags, store_mfn, store_evtchn,
            console_mfn = "console.domU.mfn", console_evtchn = "console.domU.evtchn",
            pt_base, nr_pt_frames, mfn_list, mod_start, mod_len, cmd_line, first_p2m_pfn, nr_p2m_frames }
        start_info::HvmStartInfo = "struct hvm_start_info" {
            magic, version, flags, nr_modules, modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr,
            memmap_entries, reserved }
        start_info::HvmModlistEntry = "struct hvm_modlist_entry" { paddr, size, cmdline_paddr, reserved }
        start_info::HvmMemmapTableEntry = "struct hvm_memmap_table_entry" { addr, size, kind = "type", reserved }
        shared_info::VcpuTimeInfo = "struct vcpu_time_info" {
            version, pad0, tsc_timestamp, system_time, tsc_to_system_mul, tsc_shift, flags, pad1 }
        shared_info::ArchVcpuInfo = "struct arch_vcpu_info" { cr2, pad }
        shared_info::VcpuInfo = "struct vcpu_info" {
            evtchn_upcall_pending, evtchn_upcall_mask, evtchn_pending_sel, arch, time }
        shared_info::ArchSharedInfo = "struct arch_shared_info" {
            max_pfn, pfn_to_mfn_frame_list_list, nmi_reason, p2m_cr3, p2m_vaddr, p2m_generation }
        shared_info::SharedInfo = "struct shared_info" {
            vcpu_info, evtchn_pending, evtchn_mask, wc_version, wc_sec, wc_nsec, wc_sec_hi, arch }
    }

    // A name alone stands for the C constant with the same name, compared without regard to case and
    // leading underscores. Where C has no such constant, its expression follows.
    consts! { t; "lib" xen_abi;
        DOMID_FIRST_RESERVED DOMID_SELF DOMID_IO DOMID_XEN DOMID_INVALID DOMID_IDLE DOMID_MASK
    }
    consts! { t; "hypercall" xen_abi::hypercall;
        HYPERVISOR_SET_TRAP_TABLE HYPERVISOR_MMU_UPDATE HYPERVISOR_SET_GDT HYPERVISOR_STACK_SWITCH
        HYPERVISOR_SET_CALLBACKS HYPERVISOR_FPU_TASKSWITCH HYPERVISOR_PLATFORM_OP HYPERVISOR_SET_DEBUGREG
        HYPERVISOR_GET_DEBUGREG HYPERVISOR_UPDATE_DESCRIPTOR HYPERVISOR_MEMORY_OP HYPERVISOR_MULTICALL
        HYPERVISOR_UPDATE_VA_MAPPING HYPERVISOR_SET_TIMER_OP HYPERVISOR_XEN_VERSION HYPERVISOR_CONSOLE_IO
        HYPERVISOR_GRANT_TABLE_OP HYPERVISOR_VM_ASSIST HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN
        HYPERVISOR_IRET HYPERVISOR_VCPU_OP HYPERVISOR_SET_SEGMENT_BASE HYPERVISOR_MMUEXT_OP
        HYPERVISOR_XSM_OP HYPERVISOR_NMI_OP HYPERVISOR_SCHED_OP HYPERVISOR_CALLBACK_OP
        HYPERVISOR_XENOPROF_OP HYPERVISOR_EVENT_CHANNEL_OP HYPERVISOR_PHYSDEV_OP HYPERVISOR_HVM_OP
        HYPERVISOR_SYSCTL HYPERVISOR_DOMCTL HYPERVISOR_KEXEC_OP HYPERVISOR_ARGO_OP HYPERVISOR_XENPMU_OP
        HYPERVISOR_DM_OP HYPERVISOR_HYPFS_OP
        CONSOLEIO_WRITE CONSOLEIO_READ
        SEGBASE_FS
        VMASST_CMD_ENABLE VMASST_CMD_DISABLE VMASST_TYPE_WRITABLE_PAGETABLES VMASST_TYPE_ARCHITECTURAL_IOPL
    }
    consts! { t; "domctl" xen_abi::domctl;
        DOMCTL_GETDOMAININFO = "XEN_DOMCTL_getdomaininfo"
        DOMINF_DYING = "XEN_DOMINF_dying"
        DOMINF_SHUTDOWN = "XEN_DOMINF_shutdown"
    }
    let known = xen_abi::domctl::INTERFACE_VERSIONS;
    let version = format!(
        "XEN_DOMCTL_INTERFACE_VERSION >= {} && XEN_DOMCTL_INTERFACE_VERSION <= {}",
        known.start(),
        known.end()
    );
    t.value("the header's version is one of ours".into(), version, 1);
    consts! { t; "sched" xen_abi::sched;
        SCHEDOP_YIELD SCHEDOP_BLOCK SCHEDOP_SHUTDOWN SCHEDOP_POLL SCHEDOP_REMOTE_SHUTDOWN
        SCHEDOP_SHUTDOWN_CODE SCHEDOP_WATCHDOG SCHEDOP_PIN_OVERRIDE
        SHUTDOWN_POWEROFF SHUTDOWN_REBOOT SHUTDOWN_SUSPEND SHUTDOWN_CRASH SHUTDOWN_WATCHDOG
        SHUTDOWN_SOFT_RESET
    }
    consts! { t; "evtchn" xen_abi::evtchn;
        EVTCHNOP_BIND_INTERDOMAIN EVTCHNOP_BIND_VIRQ EVTCHNOP_BIND_PIRQ EVTCHNOP_CLOSE EVTCHNOP_SEND
        EVTCHNOP_STATUS EVTCHNOP_ALLOC_UNBOUND EVTCHNOP_BIND_IPI EVTCHNOP_BIND_VCPU EVTCHNOP_UNMASK
        EVTCHNOP_RESET EVTCHNOP_INIT_CONTROL EVTCHNOP_EXPAND_ARRAY EVTCHNOP_SET_PRIORITY
        EVTCHNSTAT_CLOSED EVTCHNSTAT_UNBOUND EVTCHNSTAT_INTERDOMAIN EVTCHNSTAT_PIRQ EVTCHNSTAT_VIRQ
        EVTCHNSTAT_IPI EVTCHN_2L_NR_CHANNELS
        VIRQ_TIMER VIRQ_DEBUG VIRQ_CONSOLE VIRQ_DOM_EXC VIRQ_CON_RING VIRQ_ARGO NR_VIRQS
    }
    consts! { t; "gnttab" xen_abi::gnttab;
        GNTTAB_NR_RESERVED_ENTRIES GNTTAB_RESERVED_CONSOLE GNTTAB_RESERVED_XENSTORE
        GTF_INVALID GTF_PERMIT_ACCESS GTF_ACCEPT_TRANSFER GTF_TRANSITIVE GTF_TYPE_MASK GTF_READONLY
        GTF_READING GTF_WRITING GTF_PWT GTF_PCD GTF_PAT GTF_SUB_PAGE
        GNTTABOP_MAP_GRANT_REF GNTTABOP_UNMAP_GRANT_REF GNTTABOP_SETUP_TABLE GNTTABOP_DUMP_TABLE
        GNTTABOP_TRANSFER GNTTABOP_COPY GNTTABOP_QUERY_SIZE GNTTABOP_UNMAP_AND_REPLACE
        GNTTABOP_SET_VERSION GNTTABOP_GET_STATUS_FRAMES GNTTABOP_GET_VERSION GNTTABOP_SWAP_GRANT_REF
        GNTTABOP_CACHE_FLUSH
        GNTMAP_DEVICE_MAP GNTMAP_HOST_MAP GNTMAP_READONLY GNTMAP_APPLICATION_MAP GNTMAP_CONTAINS_PTE
        GNTST_OKAY GNTST_GENERAL_ERROR GNTST_BAD_DOMAIN GNTST_BAD_GNTREF GNTST_BAD_HANDLE
        GNTST_BAD_VIRT_ADDR GNTST_BAD_DEV_ADDR GNTST_NO_DEVICE_SPACE GNTST_PERMISSION_DENIED
        GNTST_BAD_PAGE GNTST_BAD_COPY_ARG GNTST_ADDRESS_TOO_BIG GNTST_EAGAIN GNTST_NO_SPACE
    }
    consts! { t; "memory" xen_abi::memory;
        XENMEM_INCREASE_RESERVATION XENMEM_DECREASE_RESERVATION XENMEM_MAXIMUM_RAM_PAGE
        XENMEM_CURRENT_RESERVATION XENMEM_MAXIMUM_RESERVATION XENMEM_MACHPHYS_MFN_LIST
        XENMEM_POPULATE_PHYSMAP XENMEM_ADD_TO_PHYSMAP XENMEM_MEMORY_MAP XENMEM_MACHINE_MEMORY_MAP
        XENMEM_EXCHANGE XENMEM_MACHPHYS_MAPPING XENMEM_SET_MEMORY_MAP XENMEM_MAXIMUM_GPFN
        XENMEM_REMOVE_FROM_PHYSMAP XENMEM_ADD_TO_PHYSMAP_BATCH XENMEM_ACQUIRE_RESOURCE
        XENMAPSPACE_SHARED_INFO XENMAPSPACE_GRANT_TABLE XENMAPSPACE_GMFN XENMAPSPACE_GMFN_RANGE
        XENMAPSPACE_GMFN_FOREIGN
    }
    consts! { t; "mmu" xen_abi::mmu;
        MMU_NORMAL_PT_UPDATE MMU_MACHPHYS_UPDATE MMU_PT_UPDATE_PRESERVE_AD MMU_PT_UPDATE_NO_TRANSLATE
        MMUEXT_PIN_L1_TABLE MMUEXT_PIN_L2_TABLE MMUEXT_PIN_L3_TABLE MMUEXT_PIN_L4_TABLE MMUEXT_UNPIN_TABLE
        MMUEXT_NEW_BASEPTR MMUEXT_TLB_FLUSH_LOCAL MMUEXT_INVLPG_LOCAL MMUEXT_TLB_FLUSH_MULTI
        MMUEXT_INVLPG_MULTI MMUEXT_TLB_FLUSH_ALL MMUEXT_INVLPG_ALL MMUEXT_FLUSH_CACHE MMUEXT_SET_LDT
        MMUEXT_NEW_USER_BASEPTR MMUEXT_CLEAR_PAGE MMUEXT_COPY_PAGE MMUEXT_FLUSH_CACHE_GLOBAL
        UVMF_NONE UVMF_TLB_FLUSH UVMF_INVLPG UVMF_FLUSHTYPE_MASK UVMF_LOCAL UVMF_ALL
    }
    consts! { t; "trap" xen_abi::trap;
        TI_MASK_EVENTS = "({ struct trap_info ti = { 0 }; TI_SET_IF(&ti, 1); ti.flags; })"
        FLAT_RING3_CS64 FLAT_RING3_SS64 FLAT_RING3_DS64 FLAT_KERNEL_CS FLAT_KERNEL_DS
        FLAT_KERNEL_SS SEGBASE_FS SEGBASE_GS_USER SEGBASE_GS_KERNEL SEGBASE_GS_USER_SEL VGCF_IN_SYSCALL
    }
    consts! { t; "callback" xen_abi::callback;
        CALLBACKOP_REGISTER CALLBACKOP_UNREGISTER CALLBACKTYPE_EVENT CALLBACKTYPE_FAILSAFE
        CALLBACKTYPE_SYSCALL CALLBACKTYPE_NMI CALLBACKF_MASK_EVENTS
    }
    consts! { t; "vcpu" xen_abi::vcpu;
        VCPUOP_IS_UP VCPUOP_SET_PERIODIC_TIMER VCPUOP_STOP_PERIODIC_TIMER VCPUOP_SET_SINGLESHOT_TIMER
        VCPUOP_STOP_SINGLESHOT_TIMER VCPUOP_REGISTER_VCPU_INFO VCPU_SSHOTTMR_FUTURE
    }
    consts! { t; "version" xen_abi::version;
        XENVER_VERSION XENVER_EXTRAVERSION XENVER_CAPABILITIES XENVER_PLATFORM_PARAMETERS
        XENVER_GET_FEATURES XENVER_PAGESIZE XENVER_GUEST_HANDLE XEN_EXTRAVERSION_LEN
        XENFEAT_NR_SUBMAPS XENFEAT_WRITABLE_PAGE_TABLES XENFEAT_WRITABLE_DESCRIPTOR_TABLES
        XENFEAT_AUTO_TRANSLATED_PHYSMAP XENFEAT_SUPERVISOR_MODE_KERNEL XENFEAT_PAE_PGDIR_ABOVE_4GB
        XENFEAT_MMU_PT_UPDATE_PRESERVE_AD XENFEAT_HIGHMEM_ASSIST XENFEAT_GNTTAB_MAP_AVAIL_BITS
        XENFEAT_HVM_CALLBACK_VECTOR XENFEAT_HVM_SAFE_PVCLOCK XENFEAT_HVM_PIRQS XENFEAT_DOM0
        XENFEAT_MEMORY_OP_VNODE_SUPPORTED XENFEAT_LINUX_RSDP_UNRESTRICTED XENFEAT_NOT_DIRECT_MAPPED
        XENFEAT_DIRECT_MAPPED
    }
    consts! { t; "hvm" xen_abi::hvm;
        HVMOP_SET_PARAM HVMOP_GET_PARAM HVM_PARAM_CALLBACK_IRQ HVM_PARAM_STORE_PFN HVM_PARAM_STORE_EVTCHN
        HVM_PARAM_CONSOLE_PFN HVM_PARAM_CONSOLE_EVTCHN HVM_PARAM_TRIPLE_FAULT_REASON
        HVM_PARAM_CALLBACK_IRQ_TYPE_MASK HVM_PARAM_CALLBACK_TYPE_GSI HVM_PARAM_CALLBACK_TYPE_PCI_INTX
        HVM_PARAM_CALLBACK_TYPE_VECTOR XEN_HVM_DEBUGCONS_IOPORT
    }
    consts! { t; "start_info" xen_abi::start_info;
        MAX_GUEST_CMDLINE SIF_PRIVILEGED SIF_INITDOMAIN SIF_MULTIBOOT_MOD SIF_MOD_START_PFN
        SIF_VIRT_P2M_4TOOLS SIF_PM_MASK XEN_HVM_START_MAGIC_VALUE
        HVM_START_INFO_V0_SIZE = "offsetof(struct hvm_start_info, memmap_paddr)"
        XEN_HVM_MEMMAP_TYPE_RAM XEN_HVM_MEMMAP_TYPE_RESERVED XEN_HVM_MEMMAP_TYPE_ACPI
        XEN_HVM_MEMMAP_TYPE_NVS XEN_HVM_MEMMAP_TYPE_UNUSABLE XEN_HVM_MEMMAP_TYPE_DISABLED
        XEN_HVM_MEMMAP_TYPE_PMEM
    }
    consts! { t; "shared_info" xen_abi::shared_info;
        XEN_LEGACY_MAX_VCPUS XEN_PVCLOCK_TSC_STABLE_BIT XEN_PVCLOCK_GUEST_STOPPED
        SHARED_INFO_VCPU_INFO_OFFSET = "offsetof(struct shared_info, vcpu_info)"
        SHARED_INFO_EVTCHN_PENDING_OFFSET = "offsetof(struct shared_info, evtchn_pending)"
        SHARED_INFO_EVTCHN_MASK_OFFSET = "offsetof(struct shared_info, evtchn_mask)"
        SHARED_INFO_WC_VERSION_OFFSET = "offsetof(struct shared_info, wc_version)"
        SHARED_INFO_WC_SEC_OFFSET = "offsetof(struct shared_info, wc_sec)"
        SHARED_INFO_WC_NSEC_OFFSET = "offsetof(struct shared_info, wc_nsec)"
        SHARED_INFO_WC_SEC_HI_OFFSET = "offsetof(struct shared_info, wc_sec_hi)"
        SHARED_INFO_ARCH_OFFSET = "offsetof(struct shared_info, arch)"
        VCPU_INFO_UPCALL_PENDING_OFFSET = "offsetof(struct vcpu_info, evtchn_upcall_pending)"
        VCPU_INFO_UPCALL_MASK_OFFSET = "offsetof(struct vcpu_info, evtchn_upcall_mask)"
        VCPU_INFO_PENDING_SEL_OFFSET = "offsetof(struct vcpu_info, evtchn_pending_sel)"
        VCPU_INFO_CR2_OFFSET = "offsetof(struct vcpu_info, arch.cr2)"
        VCPU_INFO_TIME_OFFSET = "offsetof(struct vcpu_info, time)"
        TIME_INFO_VERSION_OFFSET = "offsetof(struct vcpu_time_info, version)"
        TIME_INFO_TSC_TIMESTAMP_OFFSET = "offsetof(struct vcpu_time_info, tsc_timestamp)"
        TIME_INFO_SYSTEM_TIME_OFFSET = "offsetof(struct vcpu_time_info, system_time)"
        TIME_INFO_TSC_TO_SYSTEM_MUL_OFFSET = "offsetof(struct vcpu_time_info, tsc_to_system_mul)"
        TIME_INFO_TSC_SHIFT_OFFSET = "offsetof(struct vcpu_time_info, tsc_shift)"
        TIME_INFO_FLAGS_OFFSET = "offsetof(struct vcpu_time_info, flags)"
    }
    consts! { t; "cpuid" xen_abi::cpuid;
        XEN_CPUID_FIRST_LEAF XEN_CPUID_SIGNATURE_EBX XEN_CPUID_SIGNATURE_ECX XEN_CPUID_SIGNATURE_EDX
        XEN_HVM_CPUID_APIC_ACCESS_VIRT XEN_HVM_CPUID_X2APIC_VIRT XEN_HVM_CPUID_IOMMU_MAPPINGS
        XEN_HVM_CPUID_VCPU_ID_PRESENT XEN_HVM_CPUID_DOMID_PRESENT
    }
    consts! { t; "elfnote" xen_abi::elfnote;
        XEN_ELFNOTE_INFO XEN_ELFNOTE_ENTRY XEN_ELFNOTE_HYPERCALL_PAGE XEN_ELFNOTE_VIRT_BASE
        XEN_ELFNOTE_PADDR_OFFSET XEN_ELFNOTE_XEN_VERSION XEN_ELFNOTE_GUEST_OS XEN_ELFNOTE_GUEST_VERSION
        XEN_ELFNOTE_LOADER XEN_ELFNOTE_PAE_MODE XEN_ELFNOTE_FEATURES XEN_ELFNOTE_BSD_SYMTAB
        XEN_ELFNOTE_HV_START_LOW XEN_ELFNOTE_L1_MFN_VALID XEN_ELFNOTE_SUSPEND_CANCEL XEN_ELFNOTE_INIT_P2M
        XEN_ELFNOTE_MOD_START_PFN XEN_ELFNOTE_SUPPORTED_FEATURES XEN_ELFNOTE_PHYS32_ENTRY
    }
    consts! { t; "console" xen_abi::console;
        IN_SIZE = "sizeof(((struct xencons_interface *)0)->in)"
        OUT_SIZE = "sizeof(((struct xencons_interface *)0)->out)"
        IN_OFFSET = "offsetof(struct xencons_interface, in)"
        OUT_OFFSET = "offsetof(struct xencons_interface, out)"
        IN_CONS_OFFSET = "offsetof(struct xencons_interface, in_cons)"
        IN_PROD_OFFSET = "offsetof(struct xencons_interface, in_prod)"
        OUT_CONS_OFFSET = "offsetof(struct xencons_interface, out_cons)"
        OUT_PROD_OFFSET = "offsetof(struct xencons_interface, out_prod)"
        INTERFACE_SIZE = "sizeof(struct xencons_interface)"
    }
    consts! { t; "xenstore" xen_abi::xenstore;
        XENSTORE_PAYLOAD_MAX XENSTORE_ABS_PATH_MAX XENSTORE_REL_PATH_MAX XENSTORE_RING_SIZE
        REQ_OFFSET = "offsetof(struct xenstore_domain_interface, req)"
        RSP_OFFSET = "offsetof(struct xenstore_domain_interface, rsp)"
        REQ_CONS_OFFSET = "offsetof(struct xenstore_domain_interface, req_cons)"
        REQ_PROD_OFFSET = "offsetof(struct xenstore_domain_interface, req_prod)"
        RSP_CONS_OFFSET = "offsetof(struct xenstore_domain_interface, rsp_cons)"
        RSP_PROD_OFFSET = "offsetof(struct xenstore_domain_interface, rsp_prod)"
        SERVER_FEATURES_OFFSET = "offsetof(struct xenstore_domain_interface, server_features)"
        CONNECTION_OFFSET = "offsetof(struct xenstore_domain_interface, connection)"
        ERROR_OFFSET = "offsetof(struct xenstore_domain_interface, error)"
        INTERFACE_SIZE = "sizeof(struct xenstore_domain_interface)"
        XENSTORE_SERVER_FEATURE_RECONNECTION XENSTORE_SERVER_FEATURE_ERROR
        XENSTORE_CONNECTED XENSTORE_RECONNECT
        XENSTORE_ERROR_NONE XENSTORE_ERROR_COMM XENSTORE_ERROR_RINGIDX XENSTORE_ERROR_PROTO
    }
    consts! { t; "xenstore::wire" xen_abi::xenstore;
        HEADER_LEN = "sizeof(struct xsd_sockmsg)"
    }

    for (number, name) in xen_abi::errno::ALL {
        t.value(format!("errno::{name}"), format!("XEN_{name}"), i64::from(*number) as u64);
    }
    for kind in xen_abi::xenstore::MsgType::ALL {
        let c_name = support::screaming_snake_case(&format!("{kind:?}"));
        t.value(format!("MsgType::{kind:?}"), format!("XS_{c_name}"), kind.number().into());
    }
    for (index, (number, name)) in xen_abi::xenstore::reply::ERRORS.iter().enumerate() {
        // The Linux values of errno.h are the ones of Xen.
        t.value(format!("ERRORS[{index}].0"), format!("xsd_errors[{index}].errnum"), *number as u64);
        t.value(
            format!("ERRORS[{index}].1"),
            format!("!strcmp(xsd_errors[{index}].errstring, \"{name}\")"),
            1,
        );
    }
    for (at, byte) in xen_abi::trap::XEN_EMULATE_PREFIX.into_iter().enumerate() {
        // The header spells it as assembler, ".byte 0x0f,0x0b,...".
        t.value(
            format!("XEN_EMULATE_PREFIX[{at}]"),
            format!("strtoul(strstr(XEN_EMULATE_PREFIX, \"0x\") + 5 * {at}, 0, 16)"),
            byte.into(),
        );
    }
    for (at, (field, offset)) in
        [("type", 0), ("req_id", 4), ("tx_id", 8), ("len", 12)].into_iter().enumerate()
    {
        t.value(format!("Header field {at}"), format!("offsetof(struct xsd_sockmsg, {field})"), offset);
    }
    t
}

#[test]
fn layout_and_values_match_the_headers() {
    let mismatches = table().compare_with_c();
    assert!(mismatches.is_empty(), "differences from Xen's headers:\n{}", mismatches.join("\n"));
}

#[test]
fn nothing_is_left_out() {
    let table = table();
    let source = support::scan_source();
    let mut exempt = BTreeSet::new();
    for (module, names) in NOT_IN_HEADERS {
        exempt.extend(names.split_whitespace().map(|name| format!("{module}::{name}")));
    }
    exempt.extend(STRUCTS_NOT_IN_HEADERS.iter().map(|name| (*name).to_owned()));

    assert!(source.len() > 500, "the scanner found only {} items", source.len());
    let missing: Vec<_> = source
        .iter()
        .filter(|item| {
            !table.has(item) && !exempt.iter().any(|e| *item == e || item.starts_with(&format!("{e}.")))
        })
        .collect();
    assert!(missing.is_empty(), "in the source but not compared with Xen's headers: {missing:#?}");
    let stale: Vec<_> = exempt.iter().filter(|item| !source.contains(*item)).collect();
    assert!(stale.is_empty(), "exempt but not in the source: {stale:#?}");
}

#[test]
fn the_comparison_can_fail() {
    let mut table = Table::default();
    table.value("wrong".into(), "SCHEDOP_poll".into(), 4);
    table.size("wrong size", "struct sched_poll", 20, 8);
    table.value("right".into(), "SCHEDOP_poll".into(), 3);
    let mismatches = table.compare_with_c();
    assert_eq!(mismatches.len(), 2, "{mismatches:?}");
}
