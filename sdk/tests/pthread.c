/* Threads: creation and end, mutexes, conditions, read-write locks, barriers, semaphores, once, own data. */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "check.h"

enum { THREADS = 8, ROUNDS = 2000 };

static struct timespec in_ms(long ms)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += ms * 1000000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

/* ---- mutexes ---- */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static long counter;

static void *count(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&mutex);
		long seen = counter;
		if (i % 16 == 0) sched_yield();
		counter = seen + 1;
		pthread_mutex_unlock(&mutex);
	}
	return arg;
}

static void *try_locked(void *arg)
{
	struct timespec soon = in_ms(20);
	CHECK(pthread_mutex_trylock(arg) == EBUSY);
	CHECK(pthread_mutex_timedlock(arg, &soon) == ETIMEDOUT);
	return 0;
}

static void mutexes(void)
{
	pthread_t thread[THREADS];
	for (intptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&thread[i], 0, count, (void *)i) == 0);
	for (intptr_t i = 0; i < THREADS; i++) {
		void *result = 0;
		CHECK(pthread_join(thread[i], &result) == 0 && (intptr_t)result == i);
	}
	CHECK(counter == THREADS * ROUNDS);

	pthread_mutexattr_t attr;
	pthread_mutex_t special;
	CHECK(pthread_mutexattr_init(&attr) == 0 && pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_RECURSIVE) == 0);
	CHECK(pthread_mutex_init(&special, &attr) == 0);
	CHECK(pthread_mutex_lock(&special) == 0 && pthread_mutex_lock(&special) == 0);
	CHECK(pthread_create(thread, 0, try_locked, &special) == 0 && pthread_join(thread[0], 0) == 0);
	CHECK(pthread_mutex_unlock(&special) == 0 && pthread_mutex_unlock(&special) == 0);
	CHECK(pthread_mutex_unlock(&special) == EPERM && pthread_mutex_destroy(&special) == 0);
	pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ERRORCHECK);
	CHECK(pthread_mutex_init(&special, &attr) == 0 && pthread_mutex_lock(&special) == 0);
	CHECK(pthread_mutex_lock(&special) == EDEADLK && pthread_mutex_unlock(&special) == 0);
}

/* ---- conditions ---- */

static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;
static int queue[4], queued;
static long consumed;

static void *produce(void *arg)
{
	for (int i = 1; i <= ROUNDS; i++) {
		pthread_mutex_lock(&mutex);
		while (queued == 4) pthread_cond_wait(&not_full, &mutex);
		queue[queued++] = i;
		pthread_cond_signal(&not_empty);
		pthread_mutex_unlock(&mutex);
	}
	return arg;
}

static void *consume(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&mutex);
		while (queued == 0) pthread_cond_wait(&not_empty, &mutex);
		consumed += queue[--queued];
		pthread_cond_signal(&not_full);
		pthread_mutex_unlock(&mutex);
	}
	return arg;
}

static int gate_open, gate_passed;
static pthread_cond_t gate = PTHREAD_COND_INITIALIZER;

static void *pass_gate(void *arg)
{
	pthread_mutex_lock(&mutex);
	while (!gate_open) pthread_cond_wait(&gate, &mutex);
	gate_passed++;
	pthread_mutex_unlock(&mutex);
	return arg;
}

static void conditions(void)
{
	pthread_t thread[THREADS];
	for (int i = 0; i < 4; i += 2) {
		CHECK(pthread_create(&thread[i], 0, produce, 0) == 0);
		CHECK(pthread_create(&thread[i + 1], 0, consume, 0) == 0);
	}
	for (int i = 0; i < 4; i++) CHECK(pthread_join(thread[i], 0) == 0);
	CHECK(queued == 0 && consumed == 2L * ROUNDS * (ROUNDS + 1) / 2);

	for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&thread[i], 0, pass_gate, 0) == 0);
	sched_yield();
	pthread_mutex_lock(&mutex);
	gate_open = 1;
	CHECK(pthread_cond_broadcast(&gate) == 0);
	pthread_mutex_unlock(&mutex);
	for (int i = 0; i < THREADS; i++) CHECK(pthread_join(thread[i], 0) == 0);
	CHECK(gate_passed == THREADS);

	struct timespec soon = in_ms(20);
	pthread_mutex_lock(&mutex);
	CHECK(pthread_cond_timedwait(&gate, &mutex, &soon) == ETIMEDOUT);
	pthread_mutex_unlock(&mutex);

	pthread_condattr_t attr;
	pthread_cond_t monotonic;
	CHECK(pthread_condattr_init(&attr) == 0 && pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	CHECK(pthread_cond_init(&monotonic, &attr) == 0);
	clock_gettime(CLOCK_MONOTONIC, &soon);
	soon.tv_sec -= 1;
	pthread_mutex_lock(&mutex);
	CHECK(pthread_cond_timedwait(&monotonic, &mutex, &soon) == ETIMEDOUT);
	pthread_mutex_unlock(&mutex);
	CHECK(pthread_cond_destroy(&monotonic) == 0);
}

/* ---- other locks ---- */

static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static long pair[2];
static int torn, serial;

static void *readers_and_writers(void *arg)
{
	int writer = (intptr_t)arg % 4 == 0;
	for (int i = 0; i < ROUNDS / 4; i++) {
		if (writer) {
			pthread_rwlock_wrlock(&rwlock);
			pair[0]++;
			if (i % 16 == 0) sched_yield();
			pair[1]++;
		} else {
			pthread_rwlock_rdlock(&rwlock);
			if (pair[0] != pair[1]) __atomic_fetch_add(&torn, 1, __ATOMIC_RELAXED);
		}
		pthread_rwlock_unlock(&rwlock);
	}
	if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
		__atomic_fetch_add(&serial, 1, __ATOMIC_RELAXED);
	return 0;
}

static void other_locks(void)
{
	pthread_t thread[THREADS];
	CHECK(pthread_barrier_init(&barrier, 0, THREADS) == 0);
	for (intptr_t i = 0; i < THREADS; i++)
		CHECK(pthread_create(&thread[i], 0, readers_and_writers, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++) CHECK(pthread_join(thread[i], 0) == 0);
	CHECK(torn == 0 && serial == 1 && pair[0] == 2 * (ROUNDS / 4));
	CHECK(pthread_barrier_destroy(&barrier) == 0);
	pthread_spinlock_t spin;
	CHECK(pthread_spin_init(&spin, 0) == 0 && pthread_spin_lock(&spin) == 0);
	CHECK(pthread_spin_trylock(&spin) == EBUSY && pthread_spin_unlock(&spin) == 0);
}

/* ---- semaphores ---- */

static sem_t ping, pong;

static void *answer(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		sem_wait(&ping);
		sem_post(&pong);
	}
	return arg;
}

static void semaphores(void)
{
	pthread_t thread;
	int value = -1;
	CHECK(sem_init(&ping, 0, 0) == 0 && sem_init(&pong, 0, 0) == 0);
	FAILS(sem_trywait(&ping), EAGAIN);
	struct timespec soon = in_ms(20);
	FAILS(sem_timedwait(&ping, &soon), ETIMEDOUT);
	CHECK(pthread_create(&thread, 0, answer, 0) == 0);
	for (int i = 0; i < ROUNDS; i++) {
		sem_post(&ping);
		sem_wait(&pong);
	}
	CHECK(pthread_join(thread, 0) == 0);
	CHECK(sem_getvalue(&ping, &value) == 0 && value == 0);
	CHECK(sem_post(&ping) == 0 && sem_getvalue(&ping, &value) == 0 && value == 1);
	CHECK(sem_destroy(&ping) == 0 && sem_destroy(&pong) == 0);
}

/* ---- data of one's own ---- */

static pthread_key_t key;
static int destroyed, initialised;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static __thread int own = 7;
static __thread char own_zeroed[300];
static __thread int own_aligned __attribute__((aligned(64))) = 9;

static void destroy(void *value)
{
	__atomic_fetch_add(&destroyed, (int)(intptr_t)value, __ATOMIC_RELAXED);
}

static void initialise(void)
{
	initialised++;
}

static void *with_data(void *arg)
{
	pthread_once(&once, initialise);
	CHECK(pthread_getspecific(key) == 0 && pthread_setspecific(key, arg) == 0);
	CHECK(own == 7 && own_zeroed[299] == 0 && own_aligned == 9 && (uintptr_t)&own_aligned % 64 == 0);
	own = (int)(intptr_t)arg;
	own_zeroed[299] = 1;
	errno = own;
	sched_yield();
	CHECK(own == (intptr_t)arg && errno == own && pthread_getspecific(key) == arg);
	return 0;
}

static void own_data(void)
{
	pthread_t thread[THREADS];
	CHECK(pthread_key_create(&key, destroy) == 0);
	for (intptr_t i = 0; i < THREADS; i++) CHECK(pthread_create(&thread[i], 0, with_data, (void *)(i + 1)) == 0);
	for (int i = 0; i < THREADS; i++) CHECK(pthread_join(thread[i], 0) == 0);
	CHECK(destroyed == THREADS * (THREADS + 1) / 2 && initialised == 1 && own == 7);
	CHECK(pthread_key_delete(key) == 0);
}

/* ---- creation and end ---- */

static void *use_stack(void *size)
{
	size_t n = (size_t)size - 16384;
	volatile char *frame = __builtin_alloca(n);
	for (size_t i = 0; i < n; i += 1024) frame[i] = 1;
	return (void *)(intptr_t)frame[0];
}

static void *leave(void *value)
{
	pthread_exit(value);
}

static sem_t detached_done;
static int detached_count;

static void *detached(void *arg)
{
	if (arg) pthread_detach(pthread_self());
	__atomic_fetch_add(&detached_count, 1, __ATOMIC_RELAXED);
	sem_post(&detached_done);
	return 0;
}

static void lives(void)
{
	pthread_t thread;
	pthread_attr_t attr;
	void *result = 0;
	CHECK(pthread_create(&thread, 0, leave, &attr) == 0 && pthread_join(thread, &result) == 0 && result == &attr);

	size_t size = 0;
	CHECK(pthread_attr_init(&attr) == 0 && pthread_attr_getstacksize(&attr, &size) == 0 && size >= 65536);
	CHECK(pthread_create(&thread, 0, use_stack, (void *)size) == 0);
	CHECK(pthread_join(thread, &result) == 0 && result == (void *)1);
	CHECK(pthread_attr_setstacksize(&attr, 1 << 20) == 0);
	CHECK(pthread_create(&thread, &attr, use_stack, (void *)(1 << 20)) == 0);
	CHECK(pthread_join(thread, &result) == 0 && result == (void *)1);
	CHECK(pthread_attr_setstacksize(&attr, 1) == EINVAL);

	/* More detached threads than stacks fit into a small domain at once. */
	CHECK(sem_init(&detached_done, 0, 0) == 0 && pthread_attr_destroy(&attr) == 0 && pthread_attr_init(&attr) == 0);
	CHECK(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED) == 0);
	int failed = 0;
	for (int i = 0; i < 500; i++) {
		failed += pthread_create(&thread, i % 2 ? &attr : 0, detached, (void *)(intptr_t)(i % 2 == 0)) != 0;
		sem_wait(&detached_done);
	}
	CHECK(failed == 0 && detached_count == 500);
	CHECK(pthread_equal(pthread_self(), pthread_self()) && gettid() > 0);
	char name[16] = "";
	CHECK(pthread_setname_np(pthread_self(), "main-thread") == 0);
	(void)name;
}

int main(void)
{
	mutexes();
	conditions();
	other_locks();
	semaphores();
	own_data();
	lives();
	return DONE();
}
