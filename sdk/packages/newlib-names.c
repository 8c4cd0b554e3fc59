/* Names of newlib's that its mathematics tests use and musl does not have, for linking those tests. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int __issignaling(double x)
{
	uint64_t bits;
	memcpy(&bits, &x, sizeof bits);
	return (bits & 0x7ff8000000000000) == 0x7ff0000000000000 && (bits & 0x7ffffffffffff) != 0;
}

int __issignalingf(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return (bits & 0x7fc00000) == 0x7f800000 && (bits & 0x3fffff) != 0;
}

int issignaling(double x)
{
	return __issignaling(x);
}

float atoff(const char *text)
{
	return strtof(text, 0);
}

char *ecvtf(float x, int digits, int *point, int *sign)
{
	return ecvt(x, digits, point, sign);
}

char *fcvtf(float x, int digits, int *point, int *sign)
{
	return fcvt(x, digits, point, sign);
}

char *gcvtf(float x, int digits, char *text)
{
	return gcvt(x, digits, text);
}
