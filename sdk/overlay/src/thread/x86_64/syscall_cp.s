# long __syscall_cp_asm(volatile int *cancel, long n, long a, long b, long c, long d, long e, long f)
#
# A system call that is a cancellation point. musl's signal handler for cancellation turns an interruption
# inside [__cp_begin, __cp_end) into a jump to __cp_cancel, so the stack must not have moved there: the
# range ends before the call. From the call on, the kernel answers -EINTR when the thread is cancelled, and
# the caller (__syscall_cp_c) acts on that; it knows by the name of the entry that this is such a call.
.text
.global __cp_begin
.hidden __cp_begin
.global __cp_end
.hidden __cp_end
.global __cp_cancel
.hidden __cp_cancel
.hidden __cancel
.hidden libos_syscall_cp
.global __syscall_cp_asm
.hidden __syscall_cp_asm
.type __syscall_cp_asm,@function
__syscall_cp_asm:
__cp_begin:
	mov (%rdi),%eax
	test %eax,%eax
	jnz __cp_cancel
	mov %rsi,%rdi
	mov %rdx,%rsi
	mov %rcx,%rdx
	mov %r8,%rcx
	mov %r9,%r8
	mov 8(%rsp),%r9
	pushq 16(%rsp)
__cp_end:
	call libos_syscall_cp
	pop %rcx
	ret
__cp_cancel:
	jmp __cancel
.size __syscall_cp_asm,.-__syscall_cp_asm
