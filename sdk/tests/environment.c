/* Arguments and environment. The test bed starts it with the arguments "alpha" and "beta=2" and the variable
 * CASEMATE_TEST=value (in a domain, words of its command line). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "check.h"

extern char **environ;

int main(int argc, char **argv)
{
	CHECK(argc == 3 && argv[argc] == 0 && argv[0] != 0);
	if (argc == 3) {
		SAME(argv[1], "alpha");
		SAME(argv[2], "beta=2");
	}
	SAME(getenv("CASEMATE_TEST"), "value");
	CHECK(getenv("CASEMATE_ABSENT") == 0);
	CHECK(setenv("NEW", "1", 0) == 0 && setenv("NEW", "2", 0) == 0);
	SAME(getenv("NEW"), "1");
	CHECK(setenv("NEW", "2", 1) == 0);
	SAME(getenv("NEW"), "2");
	CHECK(unsetenv("NEW") == 0 && getenv("NEW") == 0);
	FAILS(setenv("A=B", "", 1), EINVAL);
	static char assignment[] = "PUT=put";
	CHECK(putenv(assignment) == 0);
	SAME(getenv("PUT"), "put");
	CHECK(clearenv() == 0 && getenv("CASEMATE_TEST") == 0);

	CHECK(getauxval(AT_PAGESZ) == 4096 && getauxval(AT_PHDR) != 0 && getauxval(AT_PHNUM) > 0);
	CHECK(getauxval(AT_RANDOM) != 0 && !getauxval(AT_SECURE));
	CHECK(getpid() > 0 && sysconf(_SC_NPROCESSORS_ONLN) >= 1 && sysconf(_SC_PAGESIZE) == 4096);
	struct utsname name;
	CHECK(uname(&name) == 0 && name.sysname[0] && name.machine[0]);
	int option, seen = 0;
	char *options[] = {"program", "-a", "-bvalue", "rest", 0};
	while ((option = getopt(4, options, "ab:")) != -1) seen += option == 'a' ? 1 : option == 'b' ? 10 : 100;
	CHECK(seen == 11 && optind == 3);
	return DONE();
}
