# pid_t vfork(void): there is one process and there will be no other. errno = ENOSYS.
.text
.global vfork
.type vfork,@function
vfork:
	mov $-38,%rdi
	.hidden __syscall_ret
	jmp __syscall_ret
.size vfork,.-vfork
