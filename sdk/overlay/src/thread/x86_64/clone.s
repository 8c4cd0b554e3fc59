# int __clone(int (*fn)(void *), void *stack, int flags, void *arg, pid_t *ptid, void *tls, pid_t *ctid)
# The kernel takes the same arguments and calls fn(arg) on the new stack.
.text
.global __clone
.hidden __clone
.hidden libos_clone
.type __clone,@function
__clone:
	jmp libos_clone
.size __clone,.-__clone
