# Where a signal handler returns to. The stack pointer is at the kernel's signal frame, so this is a jump.
# The nop belongs to the symbol's predecessor: unwinders look up the return address minus one.
.text
	nop
.global __restore_rt
.hidden __restore_rt
.hidden libos_sigreturn
.type __restore_rt,@function
__restore_rt:
	jmp libos_sigreturn
.size __restore_rt,.-__restore_rt
