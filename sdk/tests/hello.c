/* The smallest program that uses the C library. */
#include <stdio.h>

int main(void)
{
	printf("hello, world\n");
	return 0;
}
