/* Pipes and poll between threads, and the descriptors of the console. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "check.h"

enum { TOTAL = 1 << 20 };
static int ends[2];

static void *feed(void *arg)
{
	static unsigned char block[5000];
	unsigned value = 0;
	for (int left = TOTAL; left > 0;) {
		int n = left < (int)sizeof block ? left : (int)sizeof block;
		for (int i = 0; i < n; i++) block[i] = value++ * 31 >> 3;
		for (int done = 0; done < n;) {
			ssize_t w = write(ends[1], block + done, n - done);
			if (!CHECK(w > 0)) return 0;
			done += w;
		}
		left -= n;
	}
	close(ends[1]);
	return arg;
}

int main(void)
{
	char buffer[8192];
	struct pollfd pollfd;
	CHECK(pipe(ends) == 0);
	pollfd = (struct pollfd){.fd = ends[0], .events = POLLIN};
	CHECK(poll(&pollfd, 1, 0) == 0);
	CHECK(poll(&pollfd, 1, 20) == 0);
	CHECK(write(ends[1], "abc", 3) == 3);
	CHECK(poll(&pollfd, 1, -1) == 1 && pollfd.revents == POLLIN);
	CHECK(read(ends[0], buffer, sizeof buffer) == 3 && memcmp(buffer, "abc", 3) == 0);
	CHECK(fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 && (fcntl(ends[0], F_GETFL) & O_NONBLOCK));
	FAILS(read(ends[0], buffer, 1), EAGAIN);
	CHECK(fcntl(ends[0], F_SETFL, 0) == 0);
	FAILS(lseek(ends[0], 0, SEEK_CUR), ESPIPE);

	pthread_t thread;
	CHECK(pthread_create(&thread, 0, feed, 0) == 0);
	unsigned value = 0;
	long total = 0, bad = 0;
	ssize_t n;
	while ((n = read(ends[0], buffer, sizeof buffer)) > 0) {
		for (ssize_t i = 0; i < n; i++) bad += (unsigned char)buffer[i] != (unsigned char)(value++ * 31 >> 3);
		total += n;
	}
	CHECK(n == 0 && total == TOTAL && bad == 0 && pthread_join(thread, 0) == 0);
	CHECK(poll(&pollfd, 1, 0) == 1 && (pollfd.revents & POLLHUP));
	CHECK(close(ends[0]) == 0);
	FAILS(close(ends[0]), EBADF);
	FAILS(read(ends[0], buffer, 1), EBADF);

	CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
	signal(SIGPIPE, SIG_IGN);
	CHECK(close(ends[0]) == 0);
	FAILS(write(ends[1], "x", 1), EPIPE);
	CHECK(close(ends[1]) == 0);

	struct stat st;
	CHECK(fstat(1, &st) == 0);
	CHECK(write(1, buffer, 0) == 0);
	FAILS(write(77, "x", 1), EBADF);
	FAILS(fstat(77, &st), EBADF);
	return DONE();
}
