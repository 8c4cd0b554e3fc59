/* The kernel's random numbers. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>
#include "check.h"

int main(void)
{
	static unsigned char a[4096], b[4096];
	CHECK(getrandom(a, sizeof a, 0) == sizeof a && getrandom(b, sizeof b, 0) == sizeof b);
	CHECK(memcmp(a, b, sizeof a) != 0);
	/* 32,768 fair bits: the number of ones is within 6 standard deviations (of 90.5) of the half. */
	int ones = 0;
	for (size_t i = 0; i < sizeof a; i++) ones += __builtin_popcount(a[i]);
	CHECK(ones > 16384 - 543 && ones < 16384 + 543);
	/* Every byte of a short request is written. */
	unsigned char seen = 0, small[9];
	for (int i = 0; i < 64; i++) {
		memset(small, 0, sizeof small);
		CHECK(getrandom(small, 8, GRND_NONBLOCK) == 8 && small[8] == 0);
		for (int k = 0; k < 8; k++) seen |= (small[k] != 0) << k;
	}
	CHECK(seen == 0xff);
	CHECK(getrandom(a, 0, 0) == 0);
	FAILS(getrandom(a, 1, 0x100), EINVAL);
	CHECK(getentropy(a, 256) == 0);
	FAILS(getentropy(a, 257), EIO);
	return DONE();
}
