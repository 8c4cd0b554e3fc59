/* The stand-in kernel: lets a program that was built for a domain run as an ordinary static Linux process.
 *
 * It is for fast tests and for first debugging (gdb, strace, valgrind, perf). It gives the answers that a
 * domain gives where a domain differs from Linux: no processes and no sockets (ENOSYS), no files (ENOENT).
 * With STANDIN_FILES the file calls reach Linux, for test suites that write scratch files.
 *
 * Every system call number has a policy: STANDIN_FORWARD, an errno to answer, or 0 for standin_special(), which
 * answers ENOSYS and reports the number once (as a domain does) unless it knows the call. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include "standin.h"

#define HIDDEN __attribute__((visibility("hidden")))
#define FORWARD STANDIN_FORWARD
#ifdef STANDIN_FILES
#define FILES FORWARD
#else
#define FILES ENOENT
#endif

HIDDEN long standin_linux(long n, long a, long b, long c, long d, long e, long f);
HIDDEN extern char standin_window_begin[], standin_window_end[];
/* musl's, only there when the program can cancel threads. */
HIDDEN extern char __cp_begin[] __attribute__((weak)), __cp_end[] __attribute__((weak));

HIDDEN const unsigned char standin_policy[STANDIN_POLICY_LEN] = {
	/* memory */
	[SYS_brk] = FORWARD, [SYS_mmap] = FORWARD, [SYS_munmap] = FORWARD, [SYS_mprotect] = FORWARD,
	[SYS_mremap] = FORWARD, [SYS_madvise] = FORWARD,
	/* descriptors: console and pipes */
	[SYS_read] = FORWARD, [SYS_readv] = FORWARD, [SYS_write] = FORWARD, [SYS_writev] = FORWARD,
	[SYS_close] = FORWARD, [SYS_fstat] = FORWARD, [SYS_lseek] = FORWARD, [SYS_ioctl] = FORWARD,
	[SYS_fcntl] = FORWARD, [SYS_dup] = FORWARD, [SYS_dup2] = FORWARD, [SYS_dup3] = FORWARD,
	[SYS_pipe] = FORWARD, [SYS_pipe2] = FORWARD, [SYS_poll] = FORWARD, [SYS_ppoll] = FORWARD,
	/* threads */
	[SYS_exit] = FORWARD, [SYS_exit_group] = FORWARD, [SYS_futex] = FORWARD, [SYS_gettid] = FORWARD,
	[SYS_getpid] = FORWARD, [SYS_set_tid_address] = FORWARD, [SYS_set_robust_list] = FORWARD,
	[SYS_get_robust_list] = FORWARD, [SYS_sched_yield] = FORWARD, [SYS_sched_getaffinity] = FORWARD,
	[SYS_arch_prctl] = FORWARD, [SYS_prctl] = FORWARD, [SYS_membarrier] = FORWARD,
	/* signals, as far as raise and abort (SYS_rt_sigaction, SYS_kill, SYS_tkill and SYS_tgkill are special) */
	[SYS_rt_sigprocmask] = FORWARD, [SYS_rt_sigreturn] = FORWARD,
	[SYS_rt_sigpending] = FORWARD, [SYS_rt_sigtimedwait] = FORWARD, [SYS_rt_sigsuspend] = FORWARD,
	[SYS_sigaltstack] = FORWARD,
	/* time and entropy */
	[SYS_nanosleep] = FORWARD, [SYS_clock_nanosleep] = FORWARD, [SYS_clock_gettime] = FORWARD,
	[SYS_clock_getres] = FORWARD, [SYS_gettimeofday] = FORWARD, [SYS_time] = FORWARD,
	[SYS_getrandom] = FORWARD,
	/* identity */
	[SYS_uname] = FORWARD, [SYS_getuid] = FORWARD, [SYS_geteuid] = FORWARD, [SYS_getgid] = FORWARD,
	[SYS_getegid] = FORWARD, [SYS_getppid] = FORWARD, [SYS_getrlimit] = FORWARD, [SYS_prlimit64] = FORWARD,
	[SYS_getrusage] = FORWARD,

	/* no processes */
	[SYS_fork] = ENOSYS, [SYS_vfork] = ENOSYS, [SYS_clone] = ENOSYS, [SYS_clone3] = ENOSYS,
	[SYS_execve] = ENOSYS, [SYS_execveat] = ENOSYS, [SYS_wait4] = ENOSYS, [SYS_waitid] = ENOSYS,
	/* no network */
	[SYS_socket ... SYS_getsockopt] = ENOSYS, [SYS_accept4] = ENOSYS, [SYS_recvmmsg] = ENOSYS,
	[SYS_sendmmsg] = ENOSYS,

	/* no files */
	[SYS_open] = FILES, [SYS_openat] = FILES, [SYS_creat] = FILES, [SYS_stat] = FILES,
	[SYS_lstat] = FILES, [SYS_newfstatat] = FILES, [SYS_statx] = FILES, [SYS_access] = FILES,
	[SYS_faccessat] = FILES, [SYS_faccessat2] = FILES, [SYS_readlink] = FILES, [SYS_readlinkat] = FILES,
	[SYS_unlink] = FILES, [SYS_unlinkat] = FILES, [SYS_rename] = FILES, [SYS_renameat] = FILES,
	[SYS_renameat2] = FILES, [SYS_mkdir] = FILES, [SYS_mkdirat] = FILES, [SYS_rmdir] = FILES,
	[SYS_chdir] = FILES, [SYS_getcwd] = FILES, [SYS_chmod] = FILES, [SYS_fchmodat] = FILES,
	[SYS_link] = FILES, [SYS_linkat] = FILES, [SYS_symlink] = FILES, [SYS_symlinkat] = FILES,
	[SYS_truncate] = FILES, [SYS_utimensat] = FILES, [SYS_statfs] = FILES,
#ifdef STANDIN_FILES
	[SYS_ftruncate] = FORWARD, [SYS_fsync] = FORWARD, [SYS_pread64] = FORWARD, [SYS_pwrite64] = FORWARD,
	[SYS_getdents64] = FORWARD, [SYS_fchmod] = FORWARD, [SYS_umask] = FORWARD, [SYS_fstatfs] = FORWARD,
#endif
};

/* What the rt_sigaction system call takes. */
struct kernel_sigaction {
	void (*handler)(int, siginfo_t *, void *);
	unsigned long flags;
	void (*restorer)(void);
	unsigned long mask;
};

/* musl's signal for pthread_cancel, and its handler. */
#define SIGCANCEL 33
static void (*musl_cancel_handler)(int, siginfo_t *, void *);

/* Bytes of the call instruction at __cp_end (see the overlay's syscall_cp.s). */
#define CALL_LEN 5

/* Runs for SIGCANCEL in place of musl's handler, which only knows the range [__cp_begin, __cp_end) and not
 * that a cancellation point now blocks inside libos_syscall. When the interrupted thread is there on behalf
 * of __syscall_cp_asm, musl's handler is asked about __cp_begin instead; if it wants to cancel, the blocked
 * call returns -EINTR, upon which musl cancels. That is also what the kernel of a domain does. */
static void cancel_shim(int sig, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
	uintptr_t pc = regs[REG_RIP];
	uintptr_t begin = (uintptr_t)__cp_begin, end = (uintptr_t)__cp_end;
	int before_call = pc == end;
	int inside = pc >= (uintptr_t)standin_window_begin && pc < (uintptr_t)standin_window_end
		&& *(uintptr_t *)regs[REG_RSP] == end + CALL_LEN;
	if (!before_call && !inside) {
		musl_cancel_handler(sig, info, context);
		return;
	}
	regs[REG_RIP] = begin;
	musl_cancel_handler(sig, info, context);
	if ((uintptr_t)regs[REG_RIP] == begin) {
		regs[REG_RIP] = pc;	/* cancellation is disabled: the call goes on */
		return;
	}
	regs[REG_RIP] = before_call ? end + CALL_LEN : (uintptr_t)standin_window_end;
	regs[REG_RAX] = -EINTR;
}

static long set_cancel_handler(long new, long old, long size)
{
	struct kernel_sigaction action = *(const struct kernel_sigaction *)new;
	musl_cancel_handler = action.handler;
	action.handler = cancel_shim;
	return standin_linux(SYS_rt_sigaction, SIGCANCEL, (long)&action, old, size, 0, 0);
}

static void report(long n)
{
	static unsigned char reported[STANDIN_POLICY_LEN];
	static const char head[] = "libos: system call ", tail[] = " is not available (ENOSYS)\n";
	char text[sizeof head + sizeof tail + 20], digits[20];
	unsigned long rest = n, len = 0, count = 0;
	if (rest < STANDIN_POLICY_LEN && __atomic_exchange_n(&reported[rest], 1, __ATOMIC_RELAXED)) return;
	do digits[count++] = '0' + rest % 10; while ((rest /= 10) != 0);
	for (const char *p = head; *p; p++) text[len++] = *p;
	while (count > 0) text[len++] = digits[--count];
	for (const char *p = tail; *p; p++) text[len++] = *p;
	standin_linux(SYS_write, 2, (long)text, len, 0, 0, 0);
}

/* There is one process: signals reach its own threads, and no other process of the machine. */
static long send_signal(long process, long thread, long sig)
{
	long self = standin_linux(SYS_getpid, 0, 0, 0, 0, 0, 0);
	if (process != 0 && process != -1 && process != self) return -ESRCH;
	if (thread == 0) return standin_linux(SYS_kill, self, sig, 0, 0, 0, 0);
	return standin_linux(SYS_tgkill, self, thread, sig, 0, 0, 0);
}

/* The calls that are neither forwarded nor answered with a constant. */
HIDDEN long standin_special(long n, long a, long b, long c, long d, long e, long f)
{
	if (n == SYS_rt_sigaction) {
		if (a == SIGCANCEL && b != 0) return set_cancel_handler(b, c, d);
		return standin_linux(n, a, b, c, d, e, f);
	}
	switch (n) {
	case SYS_kill: return send_signal(a, 0, b);
	case SYS_tkill: return a > 0 ? send_signal(0, a, b) : -EINVAL;
	case SYS_tgkill: return a > 0 && b > 0 ? send_signal(a, b, c) : -EINVAL;
	}
	report(n);
	return -ENOSYS;
}
