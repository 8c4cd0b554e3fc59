/* String and memory functions, every length and alignment near the word sizes; conversions and sorting. */
#define _GNU_SOURCE
#include <ctype.h>
#include <limits.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <wchar.h>
#include "check.h"

static unsigned char source[512], target[512], model[512];

static void blocks(void)
{
	for (size_t i = 0; i < sizeof source; i++) source[i] = i * 7 + 1;
	int bad = 0;
	for (size_t from = 0; from < 17; from++)
		for (size_t to = 0; to < 17; to++)
			for (size_t n = 0; n < 140; n++) {
				memset(target, 0xee, sizeof target);
				memset(model, 0xee, sizeof model);
				for (size_t i = 0; i < n; i++) model[to + i] = source[from + i];
				bad += memcpy(target + to, source + from, n) != target + to;
				bad += memcmp(target, model, sizeof target) != 0;
				/* Overlap, both directions. */
				memcpy(target, source, 300);
				memcpy(model, source, 300);
				for (size_t i = n; i-- > 0;) model[to + i] = source[from + i];
				memmove(target + to, target + from, n);
				bad += memcmp(target, model, 300) != 0;
			}
	CHECK(bad == 0);
	for (size_t n = 0; n < 140; n++) {
		memset(target, 0, sizeof target);
		memset(target + 3, 0x5a, n);
		bad += target[2] != 0 || target[3 + n] != 0;
		for (size_t i = 0; i < n; i++) bad += target[3 + i] != 0x5a;
		target[3 + n] = 0x77;
		bad += memchr(target + 3, 0x77, 200) != target + 3 + n;
		target[3 + n] = 0;
		bad += strlen((char *)target + 3) != n;
	}
	CHECK(bad == 0);
	CHECK(memcmp("abc", "abd", 3) < 0 && memcmp("b", "a", 1) > 0 && memcmp("\xff", "\x01", 1) > 0);
	CHECK(memmem("haystack", 8, "sta", 3) != 0 && memrchr("abca", 'a', 4) != 0);
}

static void strings(void)
{
	char buffer[64];
	SAME(strcpy(buffer, "one"), "one");
	SAME(strcat(buffer, " two"), "one two");
	SAME(strncat(buffer, " three", 3), "one two th");
	memset(buffer, 'x', sizeof buffer);
	strncpy(buffer, "ab", 5);
	CHECK(buffer[2] == 0 && buffer[4] == 0 && buffer[5] == 'x');
	CHECK(strcmp("a", "b") < 0 && strcmp("b", "a") > 0 && strcmp("", "") == 0 && strncmp("abX", "abY", 2) == 0);
	CHECK(strcasecmp("HeLLo", "hEllO") == 0 && strncasecmp("ABc", "abD", 2) == 0);
	SAME(strchr("a.b.c", '.'), ".b.c");
	SAME(strrchr("a.b.c", '.'), ".c");
	SAME(strstr("needle in a haystack", "in a"), "in a haystack");
	CHECK(strstr("abc", "abcd") == 0 && strcspn("abc,def", ",") == 3 && strspn("aabbc", "ab") == 4);
	SAME(strpbrk("key=value", "=:"), "=value");
	char list[] = "a,,b c", *state;
	SAME(strtok_r(list, ", ", &state), "a");
	SAME(strtok_r(0, ", ", &state), "b");
	SAME(strtok_r(0, ", ", &state), "c");
	CHECK(strtok_r(0, ", ", &state) == 0);
	char *copy = strdup("copy");
	SAME(copy, "copy");
	free(copy);
	SAME(strerror(ENOENT), "No such file or directory");
	CHECK(strlcpy(buffer, "truncated", 5) == 9);
	SAME(buffer, "trun");
}

static int ascending(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	return (x > y) - (x < y);
}

static void numbers(void)
{
	char *end;
	CHECK(strtol("  -42xyz", &end, 10) == -42 && strcmp(end, "xyz") == 0);
	CHECK(strtol("0x7f", 0, 0) == 127 && strtol("0777", 0, 0) == 511 && strtol("zz", 0, 36) == 1295);
	errno = 0;
	CHECK(strtol("99999999999999999999", 0, 10) == LONG_MAX && errno == ERANGE);
	errno = 0;
	CHECK(strtoull("18446744073709551615", 0, 10) == ULLONG_MAX && errno == 0);
	CHECK(strtod("0x1.8p3", &end) == 12.0 && *end == 0);
	CHECK(strtod("1e-320", 0) > 0 && strtod("2.2250738585072011e-308", 0) == 0x0.fffffffffffffp-1022);
	CHECK(strtod("inf", 0) > 1e308 && strtod("nan", 0) != strtod("nan", 0));
	CHECK(atoi("17") == 17 && abs(-3) == 3 && labs(LONG_MIN + 1) == LONG_MAX && div(-7, 2).rem == -1);
	static int values[1000];
	unsigned seed = 1;
	for (int i = 0; i < 1000; i++) values[i] = (int)(seed = seed * 1664525 + 1013904223);
	qsort(values, 1000, sizeof *values, ascending);
	int bad = 0;
	for (int i = 1; i < 1000; i++) bad += values[i - 1] > values[i];
	CHECK(bad == 0);
	CHECK(bsearch(&values[777], values, 1000, sizeof *values, ascending) != 0);
}

static void characters(void)
{
	int letters = 0, digits = 0, blanks = 0;
	for (int c = 0; c < 256; c++) letters += !!isalpha(c), digits += !!isdigit(c), blanks += !!isspace(c);
	CHECK(letters == 52 && digits == 10 && blanks == 6);
	CHECK(toupper('z') == 'Z' && tolower('A') == 'a' && toupper('1') == '1');
	CHECK(setlocale(LC_ALL, "C.UTF-8") != 0);
	wchar_t wide[8];
	CHECK(mbstowcs(wide, "a\xc3\xa4\xe2\x82\xac", 8) == 3 && wide[1] == 0xe4 && wide[2] == 0x20ac);
	char narrow[8];
	CHECK(wcstombs(narrow, wide, 8) == 6 && strcmp(narrow, "a\xc3\xa4\xe2\x82\xac") == 0);
	CHECK(mblen("\xff", 1) == -1 && wcslen(L"wide") == 4);
}

int main(void)
{
	blocks();
	strings();
	numbers();
	characters();
	return DONE();
}
