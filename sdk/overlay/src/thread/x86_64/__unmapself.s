# void __unmapself(void *base, size_t size)
# End of a detached thread: the kernel leaves this stack, unmaps it and ends the thread.
.text
.global __unmapself
.hidden libos_unmapself
.type __unmapself,@function
__unmapself:
	jmp libos_unmapself
.size __unmapself,.-__unmapself
