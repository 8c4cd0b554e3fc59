//! ELF notes, the PV and PVH entry points, and the trap entries.
//!
//! Invariants: upcalls stay masked for ever (PV: `evtchn_upcall_mask` is 1 from the builder; PVH: IF is 0),
//! so every trap is a fault of the running code and none returns. The boot stack has a guard page below it;
//! after boot it serves PVH as the stack of the exception handlers (IST 1).
//!
//! Sources: `xen/elfnote.h`, `xen/arch-x86/hvm/start_info.h`, `xen/arch-x86_64.h` (the frame of a PV trap),
//! AMD APM volume 2, chapter 14 (the way to long mode).

#![expect(unsafe_code, reason = "the entry points are assembly")]

use core::arch::global_asm;

/// Bytes of the boot stack. Also the stack of PVH's exception handlers.
pub const BOOT_STACK_SIZE: usize = 16384;

global_asm!(
    r#"
    .macro XEN_NOTE type, directive, value:vararg
    .pushsection .note.Xen, "a", @note
    .balign 4
    .long 4, 3f - 2f, \type
    .asciz "Xen"
2:  \directive \value
3:  .balign 4
    .popsection
    .endm

    XEN_NOTE 6,  .asciz, "casemate"
    XEN_NOTE 7,  .asciz, "1"
    XEN_NOTE 8,  .asciz, "generic"
    XEN_NOTE 5,  .asciz, "xen-3.0"
    XEN_NOTE 3,  .quad, 0                        // VIRT_BASE
    XEN_NOTE 4,  .quad, 0                        // PADDR_OFFSET
    XEN_NOTE 1,  .quad, libos_pv_entry           // ENTRY
    XEN_NOTE 9,  .asciz, "yes"                   // PAE_MODE
    XEN_NOTE 10, .asciz, "auto_translated_physmap|hvm_callback_vector|pae_pgdir_above_4gb"
    XEN_NOTE 13, .quad, 1, 1                     // L1_MFN_VALID: mask, value
    XEN_NOTE 14, .long, 1                        // SUSPEND_CANCEL
    XEN_NOTE 16, .long, 1                        // MOD_START_PFN
    XEN_NOTE 18, .long, libos_pvh_entry          // PHYS32_ENTRY

    .pushsection .text.entry, "ax", @progbits
    .globl libos_pv_entry
    .code64
libos_pv_entry:                                  // rsi = start_info, rsp = top of the builder's stack
    cld
    rdtsc
    shl  $32, %rdx
    or   %rax, %rdx
    mov  %rsi, %rdi
    mov  %rdx, %rsi
    mov  %rsp, %rdx
    lea  libos_boot_stack_end(%rip), %rsp
    xor  %ebp, %ebp
    call libos_boot_pv
    ud2

    .globl libos_pvh_entry
    .code32
libos_pvh_entry:                                 // ebx = start_info, paging off, flat segments
    cld
    cli
    rdtsc
    mov  %eax, %esi
    mov  %edx, %edi
    // The first GiB one to one in 2 MiB pages; mm::pvh replaces this before anything else runs.
    mov  $libos_pvh_l2, %eax
    or   $0x3, %eax
    mov  %eax, libos_pvh_l3
    mov  $libos_pvh_l3, %eax
    or   $0x3, %eax
    mov  %eax, libos_pvh_l4
    mov  $0x83, %eax
    xor  %ecx, %ecx
1:  mov  %eax, libos_pvh_l2(,%ecx,8)
    add  $0x200000, %eax
    inc  %ecx
    cmp  $512, %ecx
    jne  1b
    mov  $libos_pvh_l4, %eax
    mov  %eax, %cr3
    mov  %cr4, %eax
    or   $0x620, %eax                            // PAE | OSFXSR | OSXMMEXCPT
    mov  %eax, %cr4
    mov  $0xc0000080, %ecx                       // EFER
    rdmsr
    or   $0x900, %eax                            // LME | NXE
    wrmsr
    mov  %cr0, %eax
    and  $~0xc, %eax                             // not EM, not TS
    or   $0x80010022, %eax                       // PG | WP | NE | MP
    mov  %eax, %cr0
    lgdt libos_pvh_gdt_ptr
    ljmp $0x8, $2f
    .code64
2:  mov  $0x10, %eax
    mov  %eax, %ds
    mov  %eax, %es
    mov  %eax, %ss
    xor  %eax, %eax
    mov  %eax, %fs
    mov  %eax, %gs
    fninit
    mov  %esi, %esi
    shl  $32, %rdi
    or   %rdi, %rsi
    mov  %ebx, %edi
    lea  libos_boot_stack_end(%rip), %rsp
    xor  %ebp, %ebp
    call libos_boot_pvh
    ud2
    .popsection

    .pushsection .data.libos_gdt, "aw", @progbits
    .balign 8
    .globl libos_pvh_gdt
libos_pvh_gdt:
    .quad 0
    .quad 0x00af9b000000ffff                     // 0x08 code
    .quad 0x00cf93000000ffff                     // 0x10 data
    .quad 0, 0                                   // 0x18 task state, filled at boot
libos_pvh_gdt_ptr:
    .word libos_pvh_gdt_ptr - libos_pvh_gdt - 1
    .quad libos_pvh_gdt
    .popsection

    .pushsection .bss.libos_boot, "aw", @nobits
    .balign 4096
    .globl libos_pvh_l4, libos_pvh_l2
libos_pvh_l4: .skip 4096
libos_pvh_l3: .skip 4096
libos_pvh_l2: .skip 4096
    .globl libos_boot_guard, libos_boot_stack_end, libos_shared_info
libos_boot_guard: .skip 4096
    .skip {boot_stack}
libos_boot_stack_end:
libos_shared_info: .skip 4096
    .popsection

    // The vectors that the processor pushes an error code for are marked 1.
    .pushsection .text.libos_traps, "ax", @progbits
    .code64
    .macro TRAP n, has_error
libos_pv_trap_\n:                                // PV: rcx and r11 lie on top of the frame
    pop  %rcx
    pop  %r11
libos_pvh_trap_\n:
    .if \has_error == 0
    push $0
    .endif
    push $\n
    jmp  libos_trap_common
    .endm
    .irp n, 0,1,2,3,4,5,6,7,9,15,16,18,19
    TRAP \n, 0
    .endr
    .irp n, 8,10,11,12,13,14,17
    TRAP \n, 1
    .endr
libos_trap_common:
    push %rax; push %rcx; push %rdx; push %rbx; push %rbp; push %rsi; push %rdi
    push %r8; push %r9; push %r10; push %r11; push %r12; push %r13; push %r14; push %r15
    mov  %rsp, %rdi
    xor  %ebp, %ebp
    and  $-16, %rsp
    cld
    call libos_trap
    ud2
    .popsection

    .pushsection .rodata.libos_traps, "a", @progbits
    .balign 8
    .globl libos_pv_traps, libos_pvh_traps
libos_pv_traps:
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19
    .quad libos_pv_trap_\n
    .endr
libos_pvh_traps:
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19
    .quad libos_pvh_trap_\n
    .endr
    .popsection

    // Where musl's cancellation points begin; 0 in a program that has none.
    .pushsection .rodata.libos_cancellation, "a", @progbits
    .balign 8
    .weak __cp_begin
    .hidden __cp_begin
    .globl libos_cancellation_point
libos_cancellation_point:
    .quad __cp_begin
    .popsection

    // usize libos_switch(rdi: *mut usize save, rsi: usize to): changes stacks. Upcalls are masked and calls
    // are cooperative, so only what the psABI calls callee-saved is kept.
    .pushsection .text.libos_switch, "ax", @progbits
    .globl libos_switch, libos_thread_begin
libos_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    sub  $8, %rsp
    stmxcsr (%rsp)
    fnstcw 4(%rsp)
    mov  %rsp, (%rdi)
    mov  %rsi, %rsp
    ldmxcsr (%rsp)
    fldcw 4(%rsp)
    add  $8, %rsp
    pop  %r15
    pop  %r14
    pop  %r13
    pop  %r12
    pop  %rbx
    pop  %rbp
    ret
    // libos_call_on(rdi: u64 stack, rsi: u64 function, rdx: *const [u64; 3] arguments)
    .globl libos_call_on
libos_call_on:
    push %rbp
    mov  %rsp, %rbp
    test %rdi, %rdi
    cmovnz %rdi, %rsp
    and  $-16, %rsp
    mov  %rsi, %rax
    mov  %rdx, %rcx
    mov  (%rcx), %rdi
    mov  8(%rcx), %rsi
    mov  16(%rcx), %rdx
    call *%rax
    mov  %rbp, %rsp
    pop  %rbp
    ret
libos_thread_begin:                              // r12 = argument, r13 = function (see sched::first_frame)
    mov  %r12, %rdi
    xor  %ebp, %ebp
    call *%r13
    ud2
    // !libos_enter(rdi: usize stack): the way into the application, as Linux enters a program.
    .globl libos_enter
libos_enter:
    mov  %rdi, %rsp
    xor  %ebp, %ebp
    xor  %edx, %edx
    jmp  _start
    .popsection
"#,
    boot_stack = const BOOT_STACK_SIZE,
    options(att_syntax)
);
