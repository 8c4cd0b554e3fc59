/* A page that mprotect made read-only cannot be written: the domain ends with a report. */
#include <sys/mman.h>
#include "check.h"

int main(void)
{
	volatile char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	p[4096] = 1;
	CHECK(mprotect((char *)p + 4096, 4096, PROT_READ) == 0 && p[4096] == 1);
	p[4096] = 2;
	printf("the write went through\n");
	return 0;
}
