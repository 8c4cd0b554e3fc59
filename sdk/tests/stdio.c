/* printf, scanf and streams: on memory, on the console, on a pipe. */
#define _GNU_SOURCE
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>
#include <wchar.h>
#include "check.h"

static char text[256];
#define PRINTS(expected, ...) (snprintf(text, sizeof text, __VA_ARGS__), SAME(text, expected))

static void formats(void)
{
	PRINTS("0", "%d", 0);
	PRINTS("-2147483648", "%d", -2147483647 - 1);
	PRINTS("+5| 5|00005|5    |    5", "%+d|% d|%05d|%-5d|%5d", 5, 5, 5, 5, 5);
	PRINTS("ffffffff FF 0xff 0377", "%x %X %#x %#o", -1, 255, 255, 255);
	PRINTS("18446744073709551615", "%" PRIu64, UINT64_MAX);
	PRINTS("-9223372036854775808", "%" PRId64, INT64_MIN);
	PRINTS("255 65535", "%hhu %hu", 255 + 256, 65535 + 65536);
	PRINTS("c%s%", "%c%%s%%", 'c');
	PRINTS("abc|  abc|abc  |ab", "%s|%5s|%-5s|%.2s", "abc", "abc", "abc", "abc");
	PRINTS("   ab|00007", "%*.*s|%0*d", 5, 2, "abc", 5, 7);
	PRINTS("2 1", "%2$d %1$d", 1, 2);
	PRINTS("1.500000 1.5 1.50 2 0.1", "%f %g %.2f %.0f %g", 1.5, 1.5, 1.5, 1.5, 0.1);
	PRINTS("1.234568e+10 1.23457e+10 1E-05", "%e %g %G", 12345678901.0, 12345678901.0, 0.00001);
	PRINTS("0x1.8p+1 0x1p-1074", "%a %a", 3.0, 4.9406564584124654e-324);
	PRINTS("inf -inf nan INF", "%f %f %f %F", INFINITY, -INFINITY, NAN, INFINITY);
	PRINTS("0.1000000000000000055511151231257827", "%.34f", 0.1);
	PRINTS("3.14159265358979323851", "%.20Lf", 3.14159265358979323851L);
	/* The 309 digits of DBL_MAX = 2^1024 - 2^971, of which 70 are compared. */
	CHECK(snprintf(text, 71, "%f", DBL_MAX) == 316);
	SAME(text, "1797693134862315708145274237317043567980705675258449965989174768031572");
	CHECK(snprintf(text, 4, "%s", "abcdef") == 6 && strcmp(text, "abc") == 0);
	CHECK(snprintf(0, 0, "%d", 12345) == 5);
	int n = -1;
	CHECK(snprintf(text, sizeof text, "abc%ndef", &n) == 6 && n == 3);
	char *made = 0;
	CHECK(asprintf(&made, "%s-%d", "x", 7) == 3);
	SAME(made, "x-7");
	free(made);
	wchar_t wide[16];
	CHECK(swprintf(wide, 16, L"%ls %d", L"w", 3) == 3 && wcscmp(wide, L"w 3") == 0);
}

static void scanning(void)
{
	int a = 0, b = 0, n = 0;
	unsigned x = 0;
	double d = 0;
	float f = 0;
	long double ld = 0;
	char word[16], set[16], c = 0;
	CHECK(sscanf("12 -7 0x1f", "%d %d %x", &a, &b, &x) == 3 && a == 12 && b == -7 && x == 31);
	CHECK(sscanf("3.25 1e-3 0x1p4", "%lf %f %Lf", &d, &f, &ld) == 3 && d == 3.25 && f == 1e-3f && ld == 16);
	CHECK(sscanf("word [set]!", "%15s [%15[a-z]]%c", word, set, &c) == 3 && c == '!');
	SAME(word, "word");
	SAME(set, "set");
	CHECK(sscanf("123456", "%3d%n%d", &a, &n, &b) == 2 && a == 123 && n == 3 && b == 456);
	CHECK(sscanf("x", "%d", &a) == 0);
	CHECK(sscanf("", "%d", &a) == EOF);
	CHECK(sscanf("010 010", "%i %d", &a, &b) == 2 && a == 8 && b == 10);
	CHECK(sscanf("1,2", "%d,%*d", &a) == 1 && a == 1);
	char *allocated = 0;
	CHECK(sscanf("hello", "%ms", &allocated) == 1);
	SAME(allocated, "hello");
	free(allocated);
}

static void memory_streams(void)
{
	char buffer[32] = "";
	FILE *f = fmemopen(buffer, sizeof buffer, "w+");
	if (CHECK(f)) {
		CHECK(fprintf(f, "line %d\nline %d\n", 1, 2) == 14);
		rewind(f);
		char line[16];
		SAME(fgets(line, sizeof line, f), "line 1\n");
		CHECK(fgetc(f) == 'l' && ungetc('L', f) == 'L' && fgetc(f) == 'L');
		CHECK(fseek(f, 5, SEEK_SET) == 0 && ftell(f) == 5 && fgetc(f) == '1');
		CHECK(fclose(f) == 0);
	}
	char *made = 0;
	size_t size = 0;
	f = open_memstream(&made, &size);
	if (CHECK(f)) {
		for (int i = 0; i < 1000; i++) fprintf(f, "%04d", i);
		CHECK(fclose(f) == 0 && size == 4000 && memcmp(made + 3996, "0999", 4) == 0);
		free(made);
	}
}

static void pipe_stream(void)
{
	int ends[2];
	if (!CHECK(pipe(ends) == 0)) return;
	FILE *in = fdopen(ends[0], "r"), *out = fdopen(ends[1], "w");
	if (!CHECK(in && out)) return;
	int a = 0, b = 0;
	CHECK(fprintf(out, "17 4 rest of line\nnext\n") > 0 && fflush(out) == 0);
	CHECK(fscanf(in, "%d %d", &a, &b) == 2 && a == 17 && b == 4);
	char *line = 0;
	size_t room = 0;
	CHECK(getline(&line, &room, in) == 14);
	SAME(line, " rest of line\n");
	CHECK(fclose(out) == 0);
	CHECK(getline(&line, &room, in) == 5);
	CHECK(getline(&line, &room, in) == -1 && feof(in) && !ferror(in));
	free(line);
	CHECK(fclose(in) == 0);
}

static void console(void)
{
	/* More than any ring buffer of a console holds. */
	for (int i = 0; i < 200; i++) CHECK(printf("console line %03d\n", i) == 17);
	CHECK(fflush(stdout) == 0);
	CHECK(puts("puts") >= 0 && putchar('c') == 'c' && putchar('\n') == '\n');
	CHECK(fputs("stderr\n", stderr) >= 0);
	CHECK(write(1, "write\n", 6) == 6);
	CHECK(setvbuf(stdout, 0, _IONBF, 0) == 0 && printf("unbuffered\n") == 11);
	errno = ENOENT;
	perror("perror");
}

int main(void)
{
	formats();
	scanning();
	memory_streams();
	pipe_stream();
	console();
	return DONE();
}
