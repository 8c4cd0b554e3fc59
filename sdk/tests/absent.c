/* What a domain does not have answers ENOSYS (processes, network, unknown calls) or ENOENT (files), and the
 * program goes on. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <netdb.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

int main(void)
{
	char *argv[] = {"/bin/true", 0};
	pid_t pid;
	FAILS(fork(), ENOSYS);
	FAILS(vfork(), ENOSYS);
	FAILS(execve(argv[0], argv, argv + 1), ENOSYS);
	CHECK(posix_spawn(&pid, argv[0], 0, 0, argv, argv + 1) == ENOSYS);
	FAILS(system("true"), ENOSYS);
	errno = 0;
	CHECK(popen("true", "r") == 0 && errno == ENOSYS);
	FAILS(wait(0), ENOSYS);

	int pair[2];
	FAILS(socket(AF_INET, SOCK_STREAM, 0), ENOSYS);
	FAILS(socket(AF_UNIX, SOCK_DGRAM, 0), ENOSYS);
	FAILS(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), ENOSYS);
	struct addrinfo *found = 0;
	CHECK(getaddrinfo("host.invalid", "80", 0, &found) != 0);

	struct stat st;
	char buffer[64];
	FAILS(open("/etc/passwd", O_RDONLY), ENOENT);
	FAILS(open("/dev/urandom", O_RDONLY), ENOENT);
	FAILS(open("new", O_CREAT | O_RDWR, 0600), ENOENT);
	FAILS(stat("/", &st), ENOENT);
	FAILS(lstat("/", &st), ENOENT);
	FAILS(access("/", R_OK), ENOENT);
	FAILS(unlink("file"), ENOENT);
	FAILS(rename("a", "b"), ENOENT);
	FAILS(mkdir("d", 0700), ENOENT);
	FAILS(rmdir("d"), ENOENT);
	FAILS(chdir("/"), ENOENT);
	FAILS(readlink("/proc/self/exe", buffer, sizeof buffer), ENOENT);
	errno = 0;
	CHECK(fopen("/etc/passwd", "r") == 0 && errno == ENOENT);
	errno = 0;
	CHECK(opendir("/") == 0 && errno == ENOENT);
	errno = 0;
	CHECK(tmpfile() == 0 && errno == ENOENT);
	errno = 0;
	CHECK(getcwd(buffer, sizeof buffer) == 0 && errno == ENOENT);
	errno = 0;
	CHECK(realpath("/etc", 0) == 0 && errno == ENOENT);

	/* Unknown calls: reported once each, then quiet. */
	FAILS(syscall(SYS_ptrace, 0, 0, 0, 0), ENOSYS);
	FAILS(syscall(SYS_ptrace, 0, 0, 0, 0), ENOSYS);
	FAILS(syscall(100000), ENOSYS);
	FAILS(syscall(-5), ENOSYS);
	return DONE();
}
