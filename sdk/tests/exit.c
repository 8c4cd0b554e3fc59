/* Start and end: constructors, atexit in reverse order, destructors, buffers flushed, status 42. */
#include <stdlib.h>
#include <unistd.h>
#include "check.h"

static int constructed, order;

__attribute__((constructor(101))) static void first(void)
{
	constructed = constructed * 10 + 1;
}

__attribute__((constructor(102))) static void second(void)
{
	constructed = constructed * 10 + 2;
}

static void registered_first(void)
{
	/* 2 and 3 ran before. */
	order = order * 10 + 1;
	printf("order %d", order);
	if (order != 321) _exit(1);
}

static void registered_second(void)
{
	order = order * 10 + 2;
}

static void registered_third(void)
{
	order = order * 10 + 3;
}

__attribute__((destructor)) static void last(void)
{
	/* No newline: exit must flush it. */
	printf(" destructor");
}

int main(void)
{
	CHECK(constructed == 12);
	CHECK(atexit(registered_first) == 0 && atexit(registered_second) == 0 && atexit(registered_third) == 0);
	if (DONE()) return 1;
	exit(42);
}
