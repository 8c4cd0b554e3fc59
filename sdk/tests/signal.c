/* Signals as far as raise and abort: handlers, masks, pending signals, alternate stacks. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
#include "check.h"

static volatile int handled, last, on_stack;
static char stack[SIGSTKSZ * 2];

static void handler(int sig)
{
	handled++;
	last = sig;
	errno = EIO;
}

static void with_info(int sig, siginfo_t *info, void *context)
{
	char here;
	handled++;
	last = sig;
	on_stack = &here >= stack && &here < stack + sizeof stack;
	CHECK(info && info->si_signo == sig && context);
}

int main(void)
{
	struct sigaction action = {.sa_handler = handler}, old;
	CHECK(sigaction(SIGUSR1, &action, &old) == 0 && old.sa_handler == SIG_DFL);
	CHECK(raise(SIGUSR1) == 0 && handled == 1 && last == SIGUSR1);
	CHECK(pthread_kill(pthread_self(), SIGUSR1) == 0 && handled == 2);
	CHECK(kill(getpid(), SIGUSR1) == 0 && handled == 3);
	FAILS(kill(1, 0), ESRCH);	/* there is no other process */
	CHECK(signal(SIGUSR2, handler) == SIG_DFL && raise(SIGUSR2) == 0 && handled == 4 && last == SIGUSR2);
	CHECK(signal(SIGUSR2, SIG_IGN) == handler && raise(SIGUSR2) == 0 && handled == 4);
	CHECK(raise(SIGCHLD) == 0 && raise(SIGURG) == 0);	/* ignored by default */

	/* Blocked signals wait. */
	sigset_t set, pending;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	CHECK(sigprocmask(SIG_BLOCK, &set, 0) == 0 && raise(SIGUSR1) == 0 && handled == 4);
	CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
	CHECK(sigprocmask(SIG_UNBLOCK, &set, 0) == 0 && handled == 5);
	CHECK(sigpending(&pending) == 0 && !sigismember(&pending, SIGUSR1));

	/* Saved registers survive a handler. */
	double x = 1.5;
	long y = 42;
	for (int i = 0; i < 100; i++) {
		x = x * 2 - 1.5;
		y += i;
		raise(SIGUSR1);
	}
	CHECK(x == 1.5 && y == 42 + 4950 && handled == 105);

	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
	CHECK(sigaltstack(&alternate, 0) == 0);
	action = (struct sigaction){.sa_sigaction = with_info, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESETHAND};
	CHECK(sigaction(SIGUSR2, &action, 0) == 0 && raise(SIGUSR2) == 0 && last == SIGUSR2 && on_stack);
	CHECK(sigaction(SIGUSR2, 0, &old) == 0 && old.sa_handler == SIG_DFL);
	FAILS(sigaction(SIGKILL, &action, 0), EINVAL);
	FAILS(raise(1000), EINVAL);
	return DONE();
}
