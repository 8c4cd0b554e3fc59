/* Functions that objects compiled against glibc's headers call and musl does not have, so that static
 * libraries built for another distribution link unchanged (proved with Debian's libtpms.a).
 *
 * They are the checked variants behind _FORTIFY_SOURCE: names and argument order are glibc's ABI (Linux
 * Standard Base, "libc fortify" interfaces). `dest_len` is what the compiler knew about the destination; a
 * call that would write more ends the program. `flag` above 0 asks glibc to distrust %n in writable memory;
 * musl has no such check, so it is ignored. Part of libc.a: an image that needs none of them has none. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void overflow(const char *function)
{
	fprintf(stderr, "%s: buffer overflow detected\n", function);
	abort();
}

void *__memcpy_chk(void *dest, const void *src, size_t n, size_t dest_len)
{
	if (n > dest_len) overflow("memcpy");
	return memcpy(dest, src, n);
}

void *__memset_chk(void *dest, int c, size_t n, size_t dest_len)
{
	if (n > dest_len) overflow("memset");
	return memset(dest, c, n);
}

int __vsnprintf_chk(char *dest, size_t n, int flag, size_t dest_len, const char *format, va_list args)
{
	(void)flag;
	if (n > dest_len) overflow("vsnprintf");
	return vsnprintf(dest, n, format, args);
}

int __snprintf_chk(char *dest, size_t n, int flag, size_t dest_len, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int result = __vsnprintf_chk(dest, n, flag, dest_len, format, args);
	va_end(args);
	return result;
}

int __asprintf_chk(char **dest, int flag, const char *format, ...)
{
	(void)flag;
	va_list args;
	va_start(args, format);
	int result = vasprintf(dest, format, args);
	va_end(args);
	return result;
}

int __vdprintf_chk(int fd, int flag, const char *format, va_list args)
{
	(void)flag;
	return vdprintf(fd, format, args);
}

int __dprintf_chk(int fd, int flag, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int result = __vdprintf_chk(fd, flag, format, args);
	va_end(args);
	return result;
}

/* glibc's check that the jump goes up the stack is left out: longjmp to a dead frame is undefined anyway. */
_Noreturn void __longjmp_chk(jmp_buf env, int value)
{
	longjmp(env, value);
}
