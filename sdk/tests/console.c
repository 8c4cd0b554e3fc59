/* The console as standard input: scanf, lines, the end of input. The test bed types the text of the case. */
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>
#include "check.h"

int main(void)
{
	int number = 0;
	double real = 0;
	char word[16] = "", line[64] = "";
	struct pollfd pollfd = {.fd = 0, .events = POLLIN};
	CHECK(poll(&pollfd, 1, -1) == 1 && (pollfd.revents & POLLIN));
	CHECK(scanf("%d %lf %15s", &number, &real, word) == 3);
	CHECK(number == 42 && real == -1.5);
	SAME(word, "word");
	CHECK(getchar() == '\n');
	CHECK(fgets(line, sizeof line, stdin) == line);
	SAME(line, "the second line\n");
	CHECK(fgets(line, sizeof line, stdin) == 0 && feof(stdin) && !ferror(stdin));
	return DONE();
}
