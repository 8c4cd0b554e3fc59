/* abort ends the program as crashed (status 134), even when a handler for SIGABRT returns. */
#include <signal.h>
#include <stdlib.h>
#include "check.h"

static void handler(int sig)
{
	printf("handler for %s\n", sig == SIGABRT ? "SIGABRT" : "another signal");
	fflush(stdout);
}

static void at_exit(void)
{
	/* abort does not run these. */
	printf("reached atexit\n");
	_Exit(3);
}

int main(void)
{
	atexit(at_exit);
	signal(SIGABRT, handler);
	abort();
}
