/* mmap, munmap, mprotect and mremap, as a program sees them. */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
#include "check.h"

#define PAGE 4096
#define MAP(n) mmap(0, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)

int main(void)
{
	CHECK(sysconf(_SC_PAGESIZE) == PAGE && getpagesize() == PAGE);
	unsigned char *p = MAP(16 * PAGE);
	if (CHECK(p != MAP_FAILED && (uintptr_t)p % PAGE == 0)) {
		int bad = 0;
		for (int i = 0; i < 16 * PAGE; i++) bad += p[i] != 0;
		CHECK(bad == 0);
		memset(p, 0xab, 16 * PAGE);
		/* A hole; both sides stay. */
		CHECK(munmap(p + 4 * PAGE, 4 * PAGE) == 0);
		CHECK(p[4 * PAGE - 1] == 0xab && p[8 * PAGE] == 0xab);
		CHECK(mprotect(p + 8 * PAGE, PAGE, PROT_READ) == 0 && p[8 * PAGE] == 0xab);
		CHECK(mprotect(p + 8 * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
		p[8 * PAGE] = 1;
		CHECK(p[8 * PAGE] == 1 && munmap(p, 16 * PAGE) == 0);
	}
	/* Fresh pages are zero, also when they were used before. */
	int bad = 0;
	for (int i = 0; i < 5000; i++) {
		p = MAP(256 * PAGE);
		if (p == MAP_FAILED) {
			bad++;
			continue;
		}
		bad += p[0] != 0 || p[200 * PAGE + 5] != 0;
		p[0] = p[200 * PAGE + 5] = 0xff;
		bad += munmap(p, 256 * PAGE) != 0;
	}
	CHECK(bad == 0);

	p = MAP(2 * PAGE);
	if (CHECK(p != MAP_FAILED)) {
		memset(p, 0x5a, 2 * PAGE);
		unsigned char *q = mremap(p, 2 * PAGE, 64 * PAGE, MREMAP_MAYMOVE);
		if (CHECK(q != MAP_FAILED)) {
			for (int i = 0; i < 64 * PAGE; i++) bad += q[i] != (i < 2 * PAGE ? 0x5a : 0);
			CHECK(bad == 0);
			unsigned char *r = mremap(q, 64 * PAGE, PAGE, 0);
			CHECK(r == q && r[PAGE - 1] == 0x5a && munmap(r, PAGE) == 0);
		}
	}
	FAILS(MAP(0), EINVAL);
	FAILS(MAP((size_t)1 << 46), ENOMEM);
	FAILS(munmap((void *)1, PAGE), EINVAL);
	CHECK(madvise(p, 0, MADV_NORMAL) == 0);
	return DONE();
}
