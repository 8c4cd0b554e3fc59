/* musl's system calls, as calls of the library OS kernel.
 *
 * A domain image is one program in one protection ring: the kernel is linked below libc and is called like
 * any function. (In a para-virtualised domain the instruction `syscall` would reach the hypervisor.)
 * The result follows the Linux convention: -4095 to -1 is a negated errno.
 *
 * A real C call, not an asm statement: the compiler must know that the red zone is overwritten. */

#define __SYSCALL_LL_E(x) (x)
#define __SYSCALL_LL_O(x) (x)

__attribute__((__visibility__("hidden")))
long libos_syscall(long, long, long, long, long, long, long);

static __inline long __syscall0(long n)
{
	return libos_syscall(n, 0, 0, 0, 0, 0, 0);
}

static __inline long __syscall1(long n, long a)
{
	return libos_syscall(n, a, 0, 0, 0, 0, 0);
}

static __inline long __syscall2(long n, long a, long b)
{
	return libos_syscall(n, a, b, 0, 0, 0, 0);
}

static __inline long __syscall3(long n, long a, long b, long c)
{
	return libos_syscall(n, a, b, c, 0, 0, 0);
}

static __inline long __syscall4(long n, long a, long b, long c, long d)
{
	return libos_syscall(n, a, b, c, d, 0, 0);
}

static __inline long __syscall5(long n, long a, long b, long c, long d, long e)
{
	return libos_syscall(n, a, b, c, d, e, 0);
}

static __inline long __syscall6(long n, long a, long b, long c, long d, long e, long f)
{
	return libos_syscall(n, a, b, c, d, e, f);
}

/* No VDSO: the kernel reads the clock itself, and a call costs no change of ring. */

#define IPC_64 0
