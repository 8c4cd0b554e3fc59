/* Jumps out of nested calls, out of a thread's calls, and with the signal mask. */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include "check.h"

static jmp_buf env;
static sigjmp_buf sigenv;

__attribute__((noinline)) static void deep(jmp_buf to, int n)
{
	volatile char frame[64];
	frame[0] = n;
	if (n == 0) longjmp(to, 5);
	deep(to, n - 1);
	frame[1] = frame[0];
}

static void *in_thread(void *arg)
{
	jmp_buf own;
	volatile int rounds = 0;
	int value = setjmp(own);
	if (value == 0 || rounds < 100) {
		rounds++;
		deep(own, 20);
	}
	CHECK(value == 5 && rounds == 100);
	return arg;
}

int main(void)
{
	volatile int count = 0;
	volatile double kept = 2.5;
	int value = setjmp(env);
	if (value == 0) {
		count++;
		kept *= 2;
		deep(env, 100);
		CHECK(!"reached");
	}
	CHECK(value == 5 && count == 1 && kept == 5);
	value = setjmp(env);
	if (value == 0) longjmp(env, 0);
	CHECK(value == 1);

	sigset_t set, now;
	sigemptyset(&set);
	CHECK(pthread_sigmask(SIG_SETMASK, &set, 0) == 0);
	if (sigsetjmp(sigenv, 1) == 0) {
		sigaddset(&set, SIGUSR1);
		CHECK(pthread_sigmask(SIG_BLOCK, &set, 0) == 0);
		siglongjmp(sigenv, 1);
	}
	CHECK(pthread_sigmask(SIG_SETMASK, 0, &now) == 0 && !sigismember(&now, SIGUSR1));

	pthread_t thread;
	if (CHECK(pthread_create(&thread, 0, in_thread, 0) == 0)) CHECK(pthread_join(thread, 0) == 0);
	in_thread(0);
	return DONE();
}
