/* A page without rights cannot be read: the domain ends with a report. */
#include <sys/mman.h>
#include "check.h"

int main(void)
{
	volatile char *p = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(p[4096] == 0 && mprotect((char *)p + 4096, 4096, PROT_NONE) == 0);
	printf("the read gave %d\n", p[4096]);
	return 0;
}
