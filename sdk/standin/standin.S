/* The stand-in kernel's entry points: what musl (with our overlay) calls, on top of Linux.
 * The rest is in standin.c; both become one object of the kernel directory `standin`.
 *
 * Invariant: between standin_window_begin and standin_window_end nothing moves the stack, so a signal
 * handler that finds the program counter there can make libos_syscall return -EINTR (see cancel_shim). */
#include "standin.h"

/* How tools tell an image over the stand-in from a domain, also after it was stripped: a note "Casemate", type 1,
 * with the kind of kernel as text. */
	.section .note.casemate,"a",@note
	.balign 4
	.long 9, 9, 1
	.asciz "Casemate"
	.balign 4
	.asciz "stand-in"
	.balign 4

	.section .text.libos_syscall,"ax",@progbits
	.global libos_syscall
	.type libos_syscall,@function
	.global libos_syscall_cp
	.type libos_syscall_cp,@function
/* long libos_syscall(n, a, b, c, d, e, f), and the same for a cancellation point: the shim for cancellation tells
 * them apart by the return address. */
libos_syscall:
libos_syscall_cp:
	.global standin_window_begin
	.hidden standin_window_begin
standin_window_begin:
	cmp $STANDIN_POLICY_LEN,%rdi
	jae standin_special
	movzbl standin_policy(%rdi),%eax
	cmp $STANDIN_FORWARD,%eax
	jne 1f
	mov %rdi,%rax
	mov %rsi,%rdi
	mov %rdx,%rsi
	mov %rcx,%rdx
	mov %r8,%r10
	mov %r9,%r8
	mov 8(%rsp),%r9
	syscall
	.global standin_window_end
	.hidden standin_window_end
standin_window_end:
	ret
1:	test %eax,%eax
	jz standin_special
	neg %rax
	ret
	.size libos_syscall,.-libos_syscall

/* The bare Linux system call with the same arguments, for standin.c. */
	.section .text.standin_linux,"ax",@progbits
	.global standin_linux
	.hidden standin_linux
	.type standin_linux,@function
standin_linux:
	mov %rdi,%rax
	mov %rsi,%rdi
	mov %rdx,%rsi
	mov %rcx,%rdx
	mov %r8,%r10
	mov %r9,%r8
	mov 8(%rsp),%r9
	syscall
	ret
	.size standin_linux,.-standin_linux

/* int libos_clone(fn, stack, flags, arg, ptid, tls, ctid): threads only, processes answer -ENOSYS. */
	.section .text.libos_clone,"ax",@progbits
	.global libos_clone
	.type libos_clone,@function
libos_clone:
	mov $-38,%eax			/* ENOSYS */
	test $0x10000,%edx		/* CLONE_THREAD */
	jz 1f
	and $-16,%rsi
	sub $16,%rsi
	mov %rdi,(%rsi)			/* fn and arg wait on the new stack */
	mov %rcx,8(%rsi)
	mov %rdx,%rdi			/* flags; the stack is in rsi already */
	mov %r8,%rdx			/* ptid */
	mov 8(%rsp),%r10		/* ctid */
	mov %r9,%r8			/* tls */
	mov $56,%eax
	syscall
	test %eax,%eax
	jnz 1f
	xor %ebp,%ebp			/* the outermost frame of the new thread */
	pop %rax
	pop %rdi
	call *%rax
	mov %eax,%edi
	mov $60,%eax			/* exit */
	syscall
	ud2
1:	ret
	.size libos_clone,.-libos_clone

/* void libos_unmapself(base, size): munmap of this very stack, then exit; no stack in between. */
	.section .text.libos_unmapself,"ax",@progbits
	.global libos_unmapself
	.type libos_unmapself,@function
libos_unmapself:
	mov $11,%eax
	syscall
	xor %edi,%edi
	mov $60,%eax
	syscall
	ud2
	.size libos_unmapself,.-libos_unmapself

/* void libos_sigreturn(void): the stack pointer is at the signal frame. */
	.section .text.libos_sigreturn,"ax",@progbits
	.global libos_sigreturn
	.type libos_sigreturn,@function
libos_sigreturn:
	mov $15,%eax
	syscall
	ud2
	.size libos_sigreturn,.-libos_sigreturn

	.section .note.GNU-stack,"",@progbits
