/* Where a domain is stricter than Linux: nothing becomes executable, nobody changes the image or frees what is not
 * theirs; wild pointers are errors; and a call that is not there is named once. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define WILD ((void *)0x123456789000)

int main(void);

static const char constant[PAGE * 2] = "constant";
static char variable[PAGE * 2];

static void pointers(void)
{
	int ends[2];
	struct iovec vector[2] = {{"abc", 3}, {WILD, 5}};
	struct timespec never = {1L << 60, 0};
	FAILS(syscall(SYS_write, 1, WILD, 5), EFAULT);
	FAILS(syscall(SYS_write, 1, 0, 5), EFAULT);
	FAILS(syscall(SYS_write, 1, "abc", (size_t)1 << 50), EFAULT);
	FAILS(syscall(SYS_read, 0, constant, 1), EFAULT);
	FAILS(syscall(SYS_read, 0, main, 1), EFAULT);
	FAILS(syscall(SYS_clock_gettime, CLOCK_REALTIME, 8), EFAULT);
	FAILS(syscall(SYS_clock_gettime, CLOCK_REALTIME, -8L), EFAULT);
	FAILS(syscall(SYS_pipe, WILD), EFAULT);
	FAILS(syscall(SYS_pipe, (char *)ends + 1), EFAULT);
	FAILS(syscall(SYS_getrandom, WILD, 8, 0), EFAULT);
	FAILS(syscall(SYS_futex, WILD, 0, 0, 0, 0, 0), EFAULT);
	FAILS(syscall(SYS_poll, WILD, 1, 0), EFAULT);
	FAILS(syscall(SYS_poll, 0, 65, 0), EINVAL);
	FAILS(syscall(SYS_rt_sigaction, 10, WILD, 0, 8), EFAULT);
	FAILS(syscall(SYS_writev, 1, vector, -1L), EINVAL);
	CHECK(pipe(ends) == 0 && writev(ends[1], vector, 2) == 3);
	FAILS(syscall(SYS_nanosleep, WILD, 0), EFAULT);
	never.tv_nsec = -1;
	FAILS(syscall(SYS_nanosleep, &never, 0), EINVAL);
	FAILS(syscall(SYS_clone, 0, 0, 0, 0, 0), ENOSYS);
}

static void rights(void)
{
	char *p = mmap(0, 4 * PAGE, RW, ANON, -1, 0);
	FAILS(mmap(0, PAGE, PROT_READ | PROT_EXEC, ANON, -1, 0), EACCES);
	FAILS(mmap(0, PAGE, RW | PROT_EXEC, ANON, -1, 0), EACCES);
	FAILS(mmap(0, PAGE, RW, MAP_PRIVATE, 3, 0), ENODEV);
	FAILS(mmap(0, PAGE, 64, ANON, -1, 0), EINVAL);
	FAILS(mprotect(p, PAGE, PROT_READ | PROT_EXEC), EACCES);
	FAILS(mprotect((void *)((uintptr_t)main & -PAGE), PAGE, RW), EACCES);
	FAILS(mprotect((void *)((uintptr_t)(constant + PAGE) & -PAGE), PAGE, RW), EACCES);
	FAILS(mprotect((void *)((uintptr_t)(variable + PAGE) & -PAGE), PAGE, PROT_NONE), EACCES);
	FAILS(mprotect(WILD, PAGE, PROT_NONE), ENOMEM);
	FAILS(mmap((void *)((uintptr_t)variable & -PAGE), PAGE, RW, ANON | MAP_FIXED, -1, 0), ENOMEM);
	FAILS(mmap(p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST);
	p[PAGE] = 1;
	CHECK(mmap(p + PAGE, PAGE, RW, ANON | MAP_FIXED, -1, 0) == p + PAGE && p[PAGE] == 0);
	/* Giving back what is not one's own changes nothing. */
	CHECK(munmap((void *)((uintptr_t)main & -PAGE), PAGE) == 0);
	CHECK(munmap((void *)((uintptr_t)variable & -PAGE), 2 * PAGE) == 0);
	variable[0] = constant[0];
	CHECK(munmap(WILD, (size_t)1 << 40) == 0 && variable[0] == 'c');
	p = malloc(100000);
	CHECK(p != 0);
	free(p);
}

static void memory(void)
{
	/* Three quarters of memory at once, again and again: freed memory is really free. */
	struct sysinfo info;
	CHECK(sysinfo(&info) == 0 && info.mem_unit == 1 && info.totalram >= 4 << 20);
	size_t size = info.totalram / 4 * 3 & -PAGE;
	int bad = 0;
	for (int i = 0; i < 20; i++) {
		char *p = mmap(0, size, RW, ANON, -1, 0);
		if (p == MAP_FAILED) {
			bad++;
			continue;
		}
		bad += p[0] != 0 || p[size - 1] != 0;
		p[0] = p[size - 1] = 1;
		bad += mprotect(p + PAGE, PAGE, PROT_NONE) != 0 || munmap(p, size) != 0;
	}
	CHECK(bad == 0);
	/* Emptied pages are zero. */
	char *p = mmap(0, 8 * PAGE, RW, ANON, -1, 0);
	memset(p, 1, 8 * PAGE);
	CHECK(madvise(p + PAGE, PAGE, MADV_DONTNEED) == 0 && p[PAGE] == 0 && p[2 * PAGE - 1] == 0);
	CHECK(p[PAGE - 1] == 1 && p[2 * PAGE] == 1 && munmap(p, 8 * PAGE) == 0);
	/* The heap of brk. */
	char *end = (char *)syscall(SYS_brk, 0);
	char *more = (char *)syscall(SYS_brk, end + 3 * PAGE + 5);
	if (more == end + 3 * PAGE + 5) {
		memset(end, 1, 3 * PAGE + 5);
		CHECK((char *)syscall(SYS_brk, end + 10) == end + 10 && end[9] == 1);
		CHECK((char *)syscall(SYS_brk, end + 2 * PAGE) == end + 2 * PAGE && end[16] == 0 && end[2 * PAGE - 1] == 0);
		CHECK((char *)syscall(SYS_brk, end) == end);
	} else CHECK(more == end);
	CHECK((char *)syscall(SYS_brk, 1L << 45) == end);
}

static void *body(void *arg)
{
	return arg;
}

static void threads(void)
{
	/* More threads than there can be: an error, and none is lost. */
	enum { MANY = 200 };
	static pthread_t thread[MANY];
	pthread_attr_t attr;
	int made = 0, joined = 0;
	CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_setstacksize(&attr, 16384) == 0);
	while (made < MANY && pthread_create(&thread[made], &attr, body, 0) == 0) made++;
	CHECK(made >= 100 && made < MANY);
	while (joined < made && pthread_join(thread[joined], 0) == 0) joined++;
	CHECK(joined == made && pthread_create(&thread[0], 0, body, 0) == 0 && pthread_join(thread[0], 0) == 0);
	void *base;
	size_t size;
	CHECK(pthread_getattr_np(pthread_self(), &attr) == 0 && pthread_attr_getstack(&attr, &base, &size) == 0);
	CHECK((char *)&size > (char *)base && (char *)&size < (char *)base + size && size >= 65536);
}

int main(void)
{
	pointers();
	rights();
	memory();
	threads();
	FAILS(syscall(SYS_ptrace, 0, 0, 0, 0), ENOSYS);
	FAILS(syscall(SYS_ptrace, 0, 0, 0, 0), ENOSYS);
	return DONE();
}
