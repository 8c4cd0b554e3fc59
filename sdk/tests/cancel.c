/* Cancellation: at every kind of blocking call, not while disabled, with cleanup handlers in order. */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

static int ends[2];
static sem_t never, ready;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_t sleeper;
static int cleaned, late;

static void clean(void *digit)
{
	cleaned = cleaned * 10 + (int)(intptr_t)digit;
}

static void unlock(void *arg)
{
	/* The mutex must be held again when a condition wait is cancelled. */
	CHECK(pthread_mutex_trylock(&mutex) == EBUSY);
	pthread_mutex_unlock(&mutex);
	(void)arg;
}

static void *block(void *how)
{
	char byte;
	struct timespec day = {86400, 0};
	struct pollfd pollfd = {.fd = ends[0], .events = POLLIN};
	pthread_cleanup_push(clean, (void *)1);
	pthread_cleanup_push(clean, (void *)2);
	sem_post(&ready);
	switch ((intptr_t)how) {
	case 0: sem_wait(&never); break;
	case 1: read(ends[0], &byte, 1); break;
	case 2: nanosleep(&day, 0); break;
	case 3:
		pthread_mutex_lock(&mutex);
		pthread_cleanup_push(unlock, 0);
		for (;;) pthread_cond_wait(&cond, &mutex);
		pthread_cleanup_pop(1);
		break;
	case 4: pthread_join(sleeper, 0); break;
	case 5: poll(&pollfd, 1, -1); break;
	case 6: for (;;) { pthread_testcancel(); sched_yield(); }
	case 7: clock_nanosleep(CLOCK_MONOTONIC, 0, &day, 0); break;
	}
	__atomic_fetch_add(&late, 1, __ATOMIC_RELAXED);
	pthread_cleanup_pop(0);
	pthread_cleanup_pop(0);
	return 0;
}

static void *disabled(void *arg)
{
	int old;
	struct timespec nap = {0, 20000000};
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	sem_post(&ready);
	sem_wait(&never);	/* posted after the cancellation */
	nanosleep(&nap, 0);
	__atomic_fetch_add(&late, 1, __ATOMIC_RELAXED);
	pthread_setcancelstate(old, 0);
	pthread_testcancel();
	__atomic_fetch_add(&late, 100, __ATOMIC_RELAXED);
	return arg;
}

static void *sleep_for_ever(void *arg)
{
	struct timespec day = {86400, 0};
	for (;;) nanosleep(&day, 0);
	return arg;
}

static void cancelled(void *(*body)(void *), intptr_t how)
{
	pthread_t thread;
	void *result = 0;
	if (!CHECK(pthread_create(&thread, 0, body, (void *)how) == 0)) return;
	sem_wait(&ready);
	sched_yield();
	CHECK(pthread_cancel(thread) == 0);
	if (body == disabled) sem_post(&never);
	CHECK(pthread_join(thread, &result) == 0 && result == PTHREAD_CANCELED);
}

int main(void)
{
	CHECK(pipe(ends) == 0 && sem_init(&never, 0, 0) == 0 && sem_init(&ready, 0, 0) == 0);
	CHECK(pthread_create(&sleeper, 0, sleep_for_ever, 0) == 0);
	/* Often: the signal must not slip in between the check and the wait. */
	for (int round = 0; round < 50; round++)
		for (intptr_t how = 0; how < 8; how++) {
			cleaned = 0;
			cancelled(block, how);
			if (cleaned != 21) CHECK(cleaned == 21);
		}
	CHECK(late == 0);
	cancelled(disabled, 0);
	CHECK(late == 1);
	/* A mutex is not a cancellation point, and the cancelled cond_wait gave it back. */
	CHECK(pthread_mutex_trylock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
	void *result = 0;
	CHECK(pthread_cancel(sleeper) == 0 && pthread_join(sleeper, &result) == 0 && result == PTHREAD_CANCELED);
	return DONE();
}
