/* Clocks, sleeping and the calendar. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static long long now(clockid_t clock)
{
	struct timespec t = {0};
	CHECK(clock_gettime(clock, &t) == 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void clocks(void)
{
	long long last = now(CLOCK_MONOTONIC), first = last;
	int backwards = 0;
	for (int i = 0; i < 10000; i++) {
		struct timespec t;
		clock_gettime(CLOCK_MONOTONIC, &t);
		long long next = t.tv_sec * 1000000000LL + t.tv_nsec;
		backwards += next < last;
		last = next;
	}
	/* A processor whose clock is behind may stand still for a while, but not for ever. */
	while (last <= first) last = now(CLOCK_MONOTONIC);
	CHECK(backwards == 0);
	/* After 2024 and before 2100: a wall clock that somebody has set. */
	CHECK(time(0) > 1704067200 && time(0) < 4102444800);
	struct timeval tv;
	CHECK(gettimeofday(&tv, 0) == 0 && llabs(tv.tv_sec - (long long)time(0)) <= 1);
	struct timespec resolution;
	CHECK(clock_getres(CLOCK_MONOTONIC, &resolution) == 0 && resolution.tv_sec == 0);
	FAILS(clock_gettime(12345, &resolution), EINVAL);
}

static void sleeping(void)
{
	struct timespec nap = {0, 20000000};
	long long start = now(CLOCK_MONOTONIC);
	CHECK(nanosleep(&nap, 0) == 0);
	CHECK(now(CLOCK_MONOTONIC) - start >= 20000000);
	start = now(CLOCK_MONOTONIC);
	long long end = start + 20000000;
	struct timespec until = {end / 1000000000, end % 1000000000};
	CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0) == 0 && now(CLOCK_MONOTONIC) >= end);
	/* A moment that has passed. */
	CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0) == 0);
	start = now(CLOCK_REALTIME);
	CHECK(usleep(5000) == 0 && now(CLOCK_REALTIME) - start >= 4000000);
	nap.tv_nsec = 1000000000;
	FAILS(nanosleep(&nap, 0), EINVAL);
}

static void *compute(void *arg)
{
	/* Its own time only: less than what the program has used by now and than the time it takes by the wall. */
	long long start = now(CLOCK_MONOTONIC), own = now(CLOCK_THREAD_CPUTIME_ID);
	struct timespec nap = {0, 50000000};
	while (now(CLOCK_THREAD_CPUTIME_ID) - own < 20000000) {}
	long long used = now(CLOCK_THREAD_CPUTIME_ID);
	nanosleep(&nap, 0);
	CHECK(now(CLOCK_THREAD_CPUTIME_ID) - own < now(CLOCK_MONOTONIC) - start - 25000000);
	CHECK(now(CLOCK_THREAD_CPUTIME_ID) >= used && used - own >= 20000000);
	return arg;
}

static void used(void)
{
	pthread_t thread;
	long long own = now(CLOCK_THREAD_CPUTIME_ID), all = now(CLOCK_PROCESS_CPUTIME_ID);
	CHECK(pthread_create(&thread, 0, compute, 0) == 0 && pthread_join(thread, 0) == 0);
	CHECK(now(CLOCK_PROCESS_CPUTIME_ID) - all >= 20000000 && now(CLOCK_THREAD_CPUTIME_ID) >= own);
	CHECK(clock() != (clock_t)-1);
}

static void calendar(void)
{
	char text[64];
	time_t t = 951782400;	/* 2000-02-29 00:00:00 UTC */
	struct tm *tm = gmtime(&t);
	CHECK(tm && tm->tm_year == 100 && tm->tm_mon == 1 && tm->tm_mday == 29 && tm->tm_wday == 2);
	CHECK(tm && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %j %a", tm) > 0);
	SAME(text, "2000-02-29 00:00:00 060 Tue");
	struct tm given = {.tm_year = 124, .tm_mon = 13, .tm_mday = 31, .tm_hour = 25};
	CHECK(timegm(&given) == 1741050000 && given.tm_mon == 2 && given.tm_mday == 4 && given.tm_hour == 1);
	SAME(asctime(gmtime(&t)), "Tue Feb 29 00:00:00 2000\n");
	t = -1;
	CHECK(gmtime(&t)->tm_year == 69 && gmtime(&t)->tm_sec == 59);
	t = 4102444800;
	CHECK(gmtime(&t)->tm_year == 200);
	struct tm parsed = {0};
	CHECK(strptime("2024-12-31T23:59:59", "%Y-%m-%dT%H:%M:%S", &parsed) && timegm(&parsed) == 1735689599);
	CHECK(setenv("TZ", "XYZ-2", 1) == 0);
	tzset();
	t = 0;
	CHECK(localtime(&t)->tm_hour == 2 && mktime(localtime(&t)) == 0);
}

int main(void)
{
	clocks();
	sleeping();
	used();
	calendar();
	return DONE();
}
