/* A failed assertion is printed and ends the program as crashed (status 134). */
#include <assert.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	(void)argv;
	assert(argc < 100);
	assert(argc == 100);
	printf("not reached\n");
	return 0;
}
