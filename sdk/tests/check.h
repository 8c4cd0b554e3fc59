/* Checks of a conformance program. A failed check is printed and counted; the program goes on. The exit
 * status is 0 when all checks passed, 1 otherwise. Programs run as Linux processes and as domains. */
#ifndef CHECK_H
#define CHECK_H
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int check_count, check_failures;

static inline int check_that(int good, const char *file, int line, const char *what)
{
	__atomic_fetch_add(&check_count, 1, __ATOMIC_RELAXED);
	if (!good) {
		__atomic_fetch_add(&check_failures, 1, __ATOMIC_RELAXED);
		printf("%s:%d: failed: %s (errno %d, %s)\n", file, line, what, errno, strerror(errno));
	}
	return good;
}

/* CHECK(condition) */
#define CHECK(condition) check_that(!!(condition), __FILE__, __LINE__, #condition)

/* FAILS(call, error): the call returns -1 (or a null pointer cast to -1) and sets errno. */
#define FAILS(call, error) \
	(errno = 0, check_that((long)(call) == -1 && errno == (error), __FILE__, __LINE__, #call " fails with " #error))

/* SAME(string, expected) */
#define SAME(string, expected) check_same(string, expected, __FILE__, __LINE__)
static inline int check_same(const char *string, const char *expected, const char *file, int line)
{
	__atomic_fetch_add(&check_count, 1, __ATOMIC_RELAXED);
	if (string && strcmp(string, expected) == 0) return 1;
	__atomic_fetch_add(&check_failures, 1, __ATOMIC_RELAXED);
	printf("%s:%d: failed: \"%s\", expected \"%s\"\n", file, line, string ? string : "(null)", expected);
	return 0;
}

/* return DONE(); at the end of main. */
#define DONE() check_done(__FILE__)
static inline int check_done(const char *file)
{
	const char *name = strrchr(file, '/');
	printf("%s: %d checks, %d failed\n", name ? name + 1 : file, check_count, check_failures);
	return check_failures != 0;
}
#endif
