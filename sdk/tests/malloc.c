/* The heap: contents kept, memory really given back, and refusal where there is no memory. */
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include "check.h"

static unsigned seed = 12345;
static unsigned next(void)
{
	return (seed = seed * 1103515245 + 12345) >> 8;
}

static void churn(void)
{
	enum { SLOTS = 256 };
	static struct { unsigned char *p; size_t n; unsigned char fill; } slot[SLOTS];
	int bad = 0;
	for (int round = 0; round < 40000; round++) {
		int i = next() % SLOTS;
		if (slot[i].p) {
			for (size_t k = 0; k < slot[i].n; k += 61) bad += slot[i].p[k] != slot[i].fill;
			if (slot[i].n) bad += slot[i].p[slot[i].n - 1] != slot[i].fill;
		}
		size_t n = next() % (next() % 16 ? 512 : 20000);
		if (next() % 3 == 0) {
			free(slot[i].p);
			slot[i].p = malloc(n);
		} else {
			size_t keep = n < slot[i].n ? n : slot[i].n;
			unsigned char *p = realloc(slot[i].p, n ? n : 1);
			for (size_t k = 0; k < keep; k++) bad += p[k] != slot[i].fill;
			slot[i].p = p;
		}
		if (!slot[i].p) {
			bad++;
			slot[i].n = 0;
			continue;
		}
		bad += (uintptr_t)slot[i].p % 16 != 0;
		slot[i].n = n;
		slot[i].fill = next();
		memset(slot[i].p, slot[i].fill, n);
	}
	CHECK(bad == 0);
	for (int i = 0; i < SLOTS; i++) free(slot[i].p);
}

static void *worker(void *arg)
{
	long bad = 0;
	for (int i = 0; i < 2000; i++) {
		size_t n = 1 + i % 3000;
		unsigned char *p = malloc(n);
		if (!p) {
			bad++;
			continue;
		}
		memset(p, i, n);
		bad += p[0] != (unsigned char)i || p[n - 1] != (unsigned char)i;
		free(p);
	}
	(void)arg;
	return (void *)bad;
}

int main(void)
{
	churn();

	/* 2,000 times 1 MiB is more than the domain has: freed blocks must be used again. */
	int bad = 0;
	for (int i = 0; i < 2000; i++) {
		char *p = malloc(1 << 20);
		if (!p) {
			bad++;
			continue;
		}
		p[0] = p[(1 << 20) - 1] = 1;
		free(p);
	}
	CHECK(bad == 0);

	unsigned char *zeroed = calloc(1000, 100);
	if (CHECK(zeroed)) {
		for (int i = 0; i < 100000; i++) bad += zeroed[i];
		CHECK(bad == 0);
	}
	free(zeroed);
	volatile size_t huge = SIZE_MAX / 2;
	errno = 0;
	CHECK(malloc(huge) == 0 && errno == ENOMEM);
	errno = 0;
	CHECK(calloc(huge, 4) == 0 && errno == ENOMEM);
	errno = 0;
	CHECK(malloc((size_t)1 << 46) == 0 && errno == ENOMEM);

	for (size_t alignment = 16; alignment <= 65536; alignment *= 2) {
		void *p = aligned_alloc(alignment, alignment), *q = 0;
		CHECK(p && (uintptr_t)p % alignment == 0);
		CHECK(posix_memalign(&q, alignment, 100) == 0 && (uintptr_t)q % alignment == 0);
		free(p);
		free(q);
	}
	char *small = malloc(100);
	CHECK(small && malloc_usable_size(small) >= 100);
	free(small);
	free(0);

	pthread_t thread[4];
	for (int i = 0; i < 4; i++) CHECK(pthread_create(&thread[i], 0, worker, 0) == 0);
	for (int i = 0; i < 4; i++) {
		void *result = (void *)1;
		CHECK(pthread_join(thread[i], &result) == 0 && result == 0);
	}
	return DONE();
}
