//! Processor registers and instructions.

#![expect(unsafe_code, reason = "instructions that Rust has no words for")]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};
use libos_sys::BootMode;

static MODE: AtomicU32 = AtomicU32::new(0);

/// Remembers how the domain was booted. Called once, first thing.
pub fn set_mode(mode: BootMode) {
    MODE.store(mode as u32, Ordering::Relaxed);
}

/// Whether this is a PV domain; otherwise it is PVH.
pub fn is_pv() -> bool {
    MODE.load(Ordering::Relaxed) == BootMode::Pv as u32
}

/// The time-stamp counter.
pub fn rdtsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// CPUID as the hardware or, in PVH, Xen shows it: eax, ebx, ecx, edx. PV sees the host's leaves here; use
/// [`cpuid_pv`].
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// CPUID as Xen means it for a PV domain: the forced-emulation prefix `ud2; "xen"` before the instruction.
pub fn cpuid_pv(leaf: u32, subleaf: u32) -> [u32; 4] {
    let (a, b, c, d): (u32, u64, u32, u32);
    // SAFETY: changes only the four registers named; rbx, which LLVM keeps for itself, is saved by xchg.
    unsafe {
        asm!(
            "xchg {save:r}, rbx",
            ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2",
            "xchg {save:r}, rbx",
            save = inout(reg) 0u64 => b,
            inout("eax") leaf => a,
            inout("ecx") subleaf => c,
            out("edx") d,
        );
    }
    [a, b as u32, c, d]
}

/// CPUID as Xen means it for this domain, in either mode.
pub fn cpuid_domain(leaf: u32, subleaf: u32) -> [u32; 4] {
    if is_pv() { cpuid_pv(leaf, subleaf) } else { cpuid(leaf, subleaf) }
}

/// Address of the last page fault (PVH; PV keeps it in the shared info).
pub fn read_cr2() -> u64 {
    let value;
    // SAFETY: reads a register; only called in ring 0.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Drops the translation of one page. PVH only.
pub fn invlpg(address: u64) {
    // SAFETY: a missing translation is only slower; the page tables decide what is reachable.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) };
}

/// Drops all translations by reloading CR3. PVH only.
pub fn flush_tlb() {
    // SAFETY: as for `invlpg`; the root stays the same.
    unsafe { asm!("mov {t}, cr3", "mov cr3, {t}", t = out(reg) _, options(nostack, preserves_flags)) };
}

/// Sets the base of FS.
pub fn set_fs_base(base: u64) {
    if is_pv() {
        super::hypercall::set_fs_base(base);
        return;
    }
    const IA32_FS_BASE: u32 = 0xc000_0100;
    // SAFETY: only in ring 0; the kernel itself uses no FS.
    unsafe {
        asm!("wrmsr", in("ecx") IA32_FS_BASE, in("eax") base as u32, in("edx") (base >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

/// A value and the frame pointer of the caller, for backtraces.
#[inline(always)]
pub fn frame_pointer() -> usize {
    let value;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// A random number from RDRAND, where the processor has it and it answers.
pub fn random() -> Option<u64> {
    if cpuid_domain(1, 0)[2] >> 30 & 1 == 0 {
        return None;
    }
    HardwareRandom { rdseed: false }.word()
}

/// The processor's random number generator; a value is proof that the instruction is there.
#[derive(Clone, Copy)]
pub struct HardwareRandom {
    rdseed: bool,
}

impl HardwareRandom {
    /// Looks for it (Intel SDM, CPUID leaves 1 and 7).
    pub fn find() -> Option<Self> {
        let rdseed = || cpuid_domain(0, 0)[0] >= 7 && cpuid_domain(7, 0)[1] >> 18 & 1 == 1;
        (cpuid_domain(1, 0)[2] >> 30 & 1 == 1).then(|| Self { rdseed: rdseed() })
    }

    /// A word from RDSEED, which may have run dry for a moment; or from RDRAND, where there is no RDSEED or it stays
    /// dry.
    pub fn word(self) -> Option<u64> {
        let seed = || {
            let (value, ok): (u64, u8);
            // SAFETY: the instruction is there (CPUID) and changes only its target and the flags.
            unsafe {
                asm!("rdseed {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack))
            };
            if ok == 0 {
                relax();
            }
            (ok != 0).then_some(value)
        };
        let random = || {
            let (value, ok): (u64, u8);
            // SAFETY: as above.
            unsafe {
                asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) ok, options(nomem, nostack))
            };
            (ok != 0).then_some(value)
        };
        let seeded = if self.rdseed { (0..100).find_map(|_| seed()) } else { None };
        seeded.or_else(|| (0..10).find_map(|_| random()))
    }
}

/// Hint that the processor waits in a loop.
pub fn relax() {
    core::hint::spin_loop();
}

/// Stops for good, when not even the shutdown hypercall helped.
pub fn halt() -> ! {
    loop {
        relax();
    }
}
