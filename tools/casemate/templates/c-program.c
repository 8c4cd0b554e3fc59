/* @NAME@: a program in a domain of its own. */
#include <stdio.h>

int main(int argc, char **argv)
{
	printf("Hello from @NAME@, with %d words:", argc - 1);
	for (int i = 1; i < argc; i++)
		printf(" %s", argv[i]);
	printf("\n");
	return 0;
}
